"""Import an open_clip model into ``models/``: once, with every silent fallback of open_clip turned into an error.

open_clip warns about the wrong activation, warns about missing weights, resizes position embeddings of another
architecture to fit, and takes CLIP's tokenizer for a model that it does not know. Each gives features that look right
and are not.
"""

from __future__ import annotations

import difflib
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tgdfer.config import dependencies
from tgdfer.config.params import DEMO_ENCODER, EncoderParams, Params
from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.core.progress import log
from tgdfer.core.record import recorded
from tgdfer.encoders import CONFIG, quiet_open_clip, refuse_foreign, write_encoder

OPENAI_MARKS = ("input_resolution", "context_length", "vocab_size")
"""Entries of the checkpoints that OpenAI published; they are no weights."""


@dataclass(frozen=True)
class Source:
    """Where a model comes from: what to give to open_clip, its configs, its weights."""

    model: str
    model_cfg: dict[str, Any]
    preprocess_cfg: dict[str, Any]
    checkpoint: Path


def import_encoder(params: Params, name: str) -> None:
    """Bring the open_clip model that ``encoders.<name>`` asks for to ``models/<name>/``.

    Raises:
        UserError: an unknown model, tag or tokenizer, no weights, weights of another architecture or activation, or a
            kind of model that the project cannot use; the message says what to write instead.
    """
    if name not in params.encoders:
        how = " (it is made by train-demo-encoder)" if name == DEMO_ENCODER else ""
        known = ", ".join(params.encoders) or "none"
        raise UserError(f"params.yaml: encoders: no encoder '{name}'{how}; known: {known}")
    where = f"params.yaml: encoders.{name}"
    with quiet_open_clip():
        source = _resolve(params.encoders[name], where)
        _check_kind(source.model_cfg, where)
        model = _load(source, where)
        tokenizer = _tokenizer(source, where)
    made_by = dependencies.made_by(
        "import-encoder",
        dependencies.settings(params, "import-encoder", encoder=name),
        {"checkpoint": storage.file_fingerprint(source.checkpoint)},
    )
    folder = paths.encoder(name).parent
    with recorded(made_by, encoder=name) as numbers:
        numbers["weights"] = sum(weight.numel() for weight in model.state_dict().values())
        write_encoder(folder, model, source.model_cfg, source.preprocess_cfg, made_by, tokenizer)
    log.info("%s: %s with %s", folder, source.model, source.checkpoint.name)


def _resolve(spec: EncoderParams, where: str) -> Source:
    """Find the configs and the checkpoint of a model, downloading what a tag or the hub asks for."""
    import open_clip
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    defaults = asdict(PreprocessCfg())
    prefix, _, rest = spec.model.partition(":")
    if prefix in ("local-dir", "hf-hub") and rest:
        if spec.pretrained is not None:
            raise UserError(f"{where}.pretrained: '{spec.model}' brings its own weights; leave `pretrained` out")
        config, checkpoint = _local(Path(rest), where) if prefix == "local-dir" else _hub(rest, where)
        if "model_cfg" not in config:
            raise UserError(f"{where}.model: {rest}/{CONFIG} has no `model_cfg`")
        preprocess = merge_preprocess_dict(defaults, config.get("preprocess_cfg", {}))
        return Source(spec.model, config["model_cfg"], preprocess, checkpoint)

    model = spec.model.replace("/", "-")
    config = open_clip.get_model_config(model)
    if config is None:
        near = difflib.get_close_matches(model, open_clip.list_models(), 3, 0.4)
        hint = f"; did you mean {', '.join(near)}?" if near else "; see open_clip.list_models()"
        raise UserError(f"{where}.model: open_clip has no model '{spec.model}'{hint}")
    tags = open_clip.list_pretrained_tags_by_model(model)
    advice = f"one of {', '.join(tags)}, or a checkpoint file" if tags else "a checkpoint file (it has no tags)"
    if spec.pretrained is None:
        raise UserError(f"{where}.pretrained: '{model}' without weights is random; write {advice}")
    tag = open_clip.get_pretrained_cfg(model, spec.pretrained)
    if tag:
        if bool(tag.get("quick_gelu")) != bool(config.get("quick_gelu")):
            raise UserError(
                f"{where}.model: the weights '{spec.pretrained}' were trained with the other activation than '{model}' "
                f"has; write model: {_other_activation(model)}"
            )
        try:
            checkpoint = Path(open_clip.download_pretrained(tag))
        except Exception as error:  # whatever the network, the hub or the disk may raise
            reason = " ".join(str(error).split())
            raise UserError(f"{where}: could not download '{spec.pretrained}' of '{model}': {reason}") from None
        return Source(model, config, merge_preprocess_dict(defaults, tag), checkpoint)
    if not Path(spec.pretrained).is_file():
        raise UserError(f"{where}.pretrained: '{spec.pretrained}' is no tag of '{model}' and no file; write {advice}")
    return Source(model, config, defaults, Path(spec.pretrained))


def _other_activation(model: str) -> str:
    return model.removesuffix("-quickgelu") if model.endswith("-quickgelu") else f"{model}-quickgelu"


def _local(folder: Path, where: str) -> tuple[dict[str, Any], Path]:
    from open_clip.factory import _find_checkpoint_in_dir

    if not (folder / CONFIG).is_file():
        raise UserError(
            f"{where}.model: {folder / CONFIG}: no such file; an open_clip folder has one beside its weights"
        )
    checkpoint = _find_checkpoint_in_dir(folder)
    if checkpoint is None:
        raise UserError(f"{where}.model: {folder} holds no weights (*.safetensors, *.bin or *.pth)")
    return storage.read_json(folder / CONFIG), Path(checkpoint)


def _hub(model_id: str, where: str) -> tuple[dict[str, Any], Path]:
    from open_clip.factory import _get_hf_config
    from open_clip.pretrained import download_pretrained_from_hf

    try:
        return _get_hf_config(model_id), Path(download_pretrained_from_hf(model_id))
    except Exception as error:  # as above
        reason = " ".join(str(error).split())
        raise UserError(f"{where}.model: could not get '{model_id}' from the hub: {reason}") from None


def _check_kind(config: dict[str, Any], where: str) -> None:
    if "multimodal_cfg" in config:
        raise UserError(f"{where}.model: captioning models (CoCa) are not supported; use a CLIP model")
    if config["text_cfg"].get("hf_model_name"):
        raise UserError(
            f"{where}.model: its text tower is a Hugging Face model, which takes no learnable prompts here; "
            "use a model with open_clip's own text transformer, such as ViT-B-32-quickgelu"
        )
    refuse_foreign(config, where)


def _tokenizer(source: Source, where: str) -> Any:
    """The Hugging Face tokenizer to store with the model; None for CLIP's own."""
    import open_clip
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

    try:
        tokenizer = open_clip.get_tokenizer(source.model)
    except Exception as error:  # whatever the network or the hub may raise
        raise UserError(f"{where}.model: could not get its tokenizer: {' '.join(str(error).split())}") from None
    if isinstance(tokenizer, HFTokenizer):
        return tokenizer.tokenizer
    vocabulary = int(source.model_cfg["text_cfg"].get("vocab_size", 49408))
    if not isinstance(tokenizer, SimpleTokenizer) or tokenizer.vocab_size != vocabulary:
        raise UserError(
            f"{where}.model: its tokenizer is unknown: the text tower has {vocabulary} tokens, CLIP's tokenizer "
            "49408; name the right one as `hf_tokenizer_name` under `text_cfg` in the model's config"
        )
    return None


def _load(source: Source, where: str) -> torch.nn.Module:
    """The model in float32 with the checkpoint's weights; every weight must be there and fit as it is."""
    import open_clip
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    model = open_clip.create_model(source.model, load_weights=False, pretrained_text=False).eval()
    what = f"{where}: {source.checkpoint}"
    if source.checkpoint.suffix in (".npz", ".npy"):
        try:
            open_clip.load_checkpoint(model, str(source.checkpoint))
        except Exception as error:  # numpy's, and of a file of other weights whatever comes first
            raise _unreadable(error, where, source.checkpoint) from None
    else:
        state = _read_checkpoint(source.checkpoint, where)
        from_openai = all(mark in state for mark in OPENAI_MARKS)
        state = {key: value for key, value in state.items() if key not in OPENAI_MARKS}
        state = convert_state_dict(model, state)
        if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
            state = convert_to_custom_text_state_dict(state)
        expected = model.state_dict()
        for scalar in ("logit_scale", "logit_bias"):  # stored as [] or [1]
            if scalar in state and scalar in expected and state[scalar].numel() == 1:
                state[scalar] = state[scalar].reshape(expected[scalar].shape)
        _check_architecture(state, expected, source.model, what)
        if from_openai and not source.model_cfg.get("quick_gelu"):
            raise UserError(
                f"{what}: OpenAI's weights were trained with QuickGELU, which '{source.model}' has not; "
                f"write model: {_other_activation(source.model)}"
            )
        model.load_state_dict(state)
    for key, value in model.state_dict().items():
        if not bool(torch.isfinite(value).all()):
            raise UserError(f"{what}: the weight '{key}' holds numbers that are not finite")
    return model


def _read_checkpoint(path: Path, where: str) -> dict[str, torch.Tensor]:
    """The weights in a safetensors file, a state dict or training checkpoint of torch, or a TorchScript archive."""
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        elif zipfile.is_zipfile(path) and any(n.endswith("constants.pkl") for n in zipfile.ZipFile(path).namelist()):
            state = dict(torch.jit.load(str(path), map_location="cpu").state_dict())
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers raise what their parsers meet: KeyError, EOFError, UnpicklingError, ...
        raise _unreadable(error, where, path) from None
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise UserError(f"{where}: {path}: expected a state dict of tensors, or one under the key 'state_dict'")
    return {key.removeprefix("module."): value for key, value in state.items()}


def _unreadable(error: Exception, where: str, path: Path) -> UserError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UserError(f"{where}: {path}: not a readable checkpoint ({reason})")


def _check_architecture(
    state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], model: str, what: str
) -> None:
    """Every weight is there, none is left over, and shapes are equal: open_clip would resize position embeddings."""
    for key, value in expected.items():
        if key not in state:
            raise UserError(f"{what}: weights of another architecture than '{model}': no '{key}'")
        if state[key].shape != value.shape:
            raise UserError(
                f"{what}: weights of another architecture than '{model}': '{key}' is {list(state[key].shape)}, "
                f"expected {list(value.shape)}"
            )
    left = [key for key in state if key not in expected and not key.endswith("position_ids")]
    if left:
        raise UserError(f"{what}: weights of another architecture than '{model}': unexpected '{left[0]}'")
    for key in [key for key in state if key not in expected]:
        del state[key]
