"""Import an open_clip model into ``models/`` once, so that no later job needs the network."""

from tgdfer.config import ahead, dependencies
from tgdfer.config.clip_models import takes_prompts
from tgdfer.config.data import DEMO_ENCODER
from tgdfer.config.params import Params
from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.core.locks import writes
from tgdfer.core.progress import log
from tgdfer.core.record import recorded


@writes(lambda params, name: [paths.encoder(name).parent])
def run(params: Params, name: str) -> None:
    """Import the open_clip model that ``encoders.<name>`` asks for into ``models/<name>/``.

    A model whose text tower takes no prompts is imported if no variant of the grid needs the tower.

    Raises:
        UserError: an unknown model, tag or tokenizer, no weights, weights of another architecture or activation, or a
            kind of model that the project cannot use; the message says what to write instead.
    """
    if name not in params.encoders:
        how = " (train-demo-encoder makes it)" if name == DEMO_ENCODER else ""
        known = ", ".join(params.encoders) or "none"
        raise UserError(f"params.yaml: encoders: no encoder '{name}'{how}; known: {known}")
    readers = ahead.text_readers(params)
    for refusal in ahead.of_encoder(params, name, readers):
        raise UserError(str(refusal))
    if (dim := params.encoders[name].dim) is not None:
        described = {"name": name, "dim": dim, "fingerprint": storage.fingerprint({"name": name, "dim": dim})}
        settings = dependencies.settings(params, "import-encoder", encoder=name)
        made_by = dependencies.made_by("import-encoder", settings, {})
        storage.write_sealed(paths.encoder(name), {**described, "files": [], "made_by": made_by})
        log.info("%s: features of %d dimensions that are made elsewhere", paths.encoder(name), dim)
        return
    # only now, because loading these libraries takes seconds
    from tgdfer.encoders import quiet_open_clip, write_encoder
    from tgdfer.encoders.importing import find_source, load_model, load_tokenizer

    where, folder = f"params.yaml: encoders.{name}", paths.encoder(name).parent
    with quiet_open_clip():
        source = find_source(params.encoders[name], where)
        if source.checkpoint.parent.resolve() == folder.resolve():
            raise UserError(f"{where}.model: {folder} is where the import is written to; move your model elsewhere")
        with_text = takes_prompts(source.model_cfg)
        if not with_text and readers:  # a model of the hub, whose configuration is known only now
            raise UserError(str(ahead.text_refusal(name, source.model, readers)))
        model = load_model(source, where)
        tokenizer = load_tokenizer(source, where) if with_text else None
    settings = dependencies.settings(params, "import-encoder", encoder=name)
    inputs = {"checkpoint": storage.file_fingerprint(source.checkpoint)}
    made_by = dependencies.made_by("import-encoder", settings, inputs)
    if (before := storage.read_object(paths.encoder(name)).get("made_by", {})) and before != made_by:
        log.warning("%s: replaces an encoder that was imported from other weights, settings or code", folder)
    if not with_text:
        log.warning("%s: its text tower takes no prompts, so only variants that read no text can use it", name)
    with recorded(made_by, encoder=name) as numbers:
        numbers["weights"] = sum(weight.numel() for weight in model.state_dict().values())
        write_encoder(folder, model, source.model_cfg, source.preprocess_cfg, made_by, tokenizer)
    log.info("%s: %s with %s", folder, source.model, source.checkpoint.name)
