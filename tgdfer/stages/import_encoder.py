"""Import an open_clip model into ``models/`` once, so that no later job needs the network."""

from __future__ import annotations

from tgdfer.config import dependencies
from tgdfer.config.params import DEMO_ENCODER, Params
from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.core.progress import log
from tgdfer.core.record import recorded
from tgdfer.encoders import quiet_open_clip, write_encoder
from tgdfer.encoders.importing import find_source, load_model, load_tokenizer


def run(params: Params, name: str) -> None:
    """Import the open_clip model that ``encoders.<name>`` asks for into ``models/<name>/``.

    Raises:
        UserError: an unknown model, tag or tokenizer, no weights, weights of another architecture or activation, or a
            kind of model that the project cannot use; the message says what to write instead.
    """
    if name not in params.encoders:
        how = " (train-demo-encoder makes it)" if name == DEMO_ENCODER else ""
        known = ", ".join(params.encoders) or "none"
        raise UserError(f"params.yaml: encoders: no encoder '{name}'{how}; known: {known}")
    where = f"params.yaml: encoders.{name}"
    with quiet_open_clip():
        source = find_source(params.encoders[name], where)
        model = load_model(source, where)
        tokenizer = load_tokenizer(source, where)
    settings = dependencies.settings(params, "import-encoder", encoder=name)
    inputs = {"checkpoint": storage.file_fingerprint(source.checkpoint)}
    made_by = dependencies.made_by("import-encoder", settings, inputs)
    folder = paths.encoder(name).parent
    with recorded(made_by, encoder=name) as numbers:
        numbers["weights"] = sum(weight.numel() for weight in model.state_dict().values())
        write_encoder(folder, model, source.model_cfg, source.preprocess_cfg, made_by, tokenizer)
    log.info("%s: %s with %s", folder, source.model, source.checkpoint.name)
