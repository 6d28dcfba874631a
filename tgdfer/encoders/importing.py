"""Import open_clip models, with each of open_clip's silent fallbacks turned into an error.

open_clip warns about the wrong activation, warns about missing weights, resizes position embeddings of another
architecture to fit, and takes CLIP's tokenizer for a model that it does not know. Each gives features that look right
and are wrong.
"""

import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tgdfer.config.clip_models import check_config, check_weights, other_activation, unknown_model
from tgdfer.config.data import EncoderParams
from tgdfer.core import storage
from tgdfer.core.errors import UserError
from tgdfer.encoders import CONFIG, or_user_error

OPENAI_MARKS = {"input_resolution", "context_length", "vocab_size"}
"""Entries of the checkpoints that OpenAI published which are not weights."""


@dataclass(frozen=True)
class Source:
    """Where a model comes from: its name for open_clip, its configs and its checkpoint."""

    model: str
    model_cfg: dict[str, Any]
    preprocess_cfg: dict[str, Any]
    checkpoint: Path


def find_source(spec: EncoderParams, where: str) -> Source:
    """Find a model's configs and checkpoint; a tag's or the hub's are downloaded.

    Args:
        spec: the entry of params.yaml.
        where: the entry's place, for messages.

    Raises:
        UserError: open_clip has no such model or tag, there are no weights, they were trained with another activation,
            or the project cannot use this kind of model.
    """
    assert spec.model is not None
    schema, _, rest = spec.model.partition(":")
    if schema in ("local-dir", "hf-hub") and rest:
        if spec.pretrained is not None:
            raise UserError(f"{where}.pretrained: '{spec.model}' brings its own weights; leave `pretrained` out")
        find = _in_folder if schema == "local-dir" else _on_hub
        source = find(spec.model, rest, f"{where}.model")
    else:
        source = _by_name(spec.model.replace("/", "-"), spec.pretrained, where)
    check_config(source.model_cfg, f"{where}.model")
    return source


def _in_folder(model: str, name: str, where: str) -> Source:
    from open_clip.factory import _find_checkpoint_in_dir

    folder = Path(name)
    if not (folder / CONFIG).is_file():
        raise UserError(f"{where}: {folder / CONFIG}: no such file; an open_clip folder has one next to its weights")
    checkpoint = _find_checkpoint_in_dir(folder)
    if checkpoint is None:
        raise UserError(f"{where}: {folder} holds no weights (*.safetensors, *.bin or *.pth)")
    return _with_config(model, storage.read_json(folder / CONFIG), checkpoint, where)


def _on_hub(model: str, name: str, where: str) -> Source:
    from open_clip.factory import _get_hf_config
    from open_clip.pretrained import download_pretrained_from_hf

    with or_user_error(f"{where}: could not get '{name}' from the hub"):
        config, checkpoint = _get_hf_config(name), download_pretrained_from_hf(name)
    return _with_config(model, config, checkpoint, where)


def _with_config(model: str, config: dict[str, Any], checkpoint: str, where: str) -> Source:
    if "model_cfg" not in config:
        raise UserError(f"{where}: {CONFIG} has no `model_cfg`")
    return Source(model, config["model_cfg"], _preprocessing(config.get("preprocess_cfg", {})), Path(checkpoint))


def _preprocessing(changes: dict[str, Any]) -> dict[str, Any]:
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    return merge_preprocess_dict(asdict(PreprocessCfg()), changes)


def _by_name(model: str, pretrained: str | None, where: str) -> Source:
    """A model that open_clip knows, with the weights of a tag or of a checkpoint file."""
    import open_clip

    config = open_clip.get_model_config(model)
    if config is None:
        raise UserError(f"{where}.model: {unknown_model(model)}")
    check_weights(model, config, pretrained, where)
    assert pretrained
    tag = open_clip.get_pretrained_cfg(model, pretrained)
    if not tag:
        return Source(model, config, _preprocessing({}), Path(pretrained))
    with or_user_error(f"{where}: could not download '{pretrained}' of '{model}'"):
        checkpoint = open_clip.download_pretrained(tag)
    return Source(model, config, _preprocessing(tag), Path(checkpoint))


def load_tokenizer(source: Source, where: str) -> Any:
    """The Hugging Face tokenizer to store with the model; None for CLIP's.

    Raises:
        UserError: the tokenizer cannot be downloaded, or it is not known which one belongs to the model.
    """
    import open_clip
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

    try:
        with or_user_error(f"{where}.model: could not get its tokenizer"):
            tokenizer = open_clip.get_tokenizer(source.model)
    except UserError as error:
        if "No module named 'transformers'" in str(error):
            raise UserError(
                f"{where}.model: its tokenizer is one of Hugging Face's, which needs the package transformers: "
                "install it (`pip install transformers` in the project's environment), or use a model with CLIP's "
                "tokenizer, such as ViT-B-32-quickgelu"
            ) from None
        raise
    if isinstance(tokenizer, HFTokenizer):
        return tokenizer.tokenizer
    vocabulary = int(source.model_cfg["text_cfg"].get("vocab_size", 49408))
    if not isinstance(tokenizer, SimpleTokenizer) or tokenizer.vocab_size != vocabulary:
        raise UserError(
            f"{where}.model: its tokenizer is unknown: the text tower has {vocabulary} tokens, CLIP's tokenizer "
            "49408; name the right one as `hf_tokenizer_name` under `text_cfg` in the model's config"
        )
    return None


def load_model(source: Source, where: str) -> torch.nn.Module:
    """The model in float32, in eval mode, with the checkpoint's weights.

    Raises:
        UserError: the checkpoint cannot be read, it is of another architecture or activation, or a weight is not
            finite.
    """
    import open_clip

    model = open_clip.create_model(source.model, load_weights=False, pretrained_text=False).eval()
    what = f"{where}: {source.checkpoint}"
    if source.checkpoint.suffix in (".npz", ".npy"):
        with or_user_error(f"{what}: not a readable checkpoint"):
            open_clip.load_checkpoint(model, str(source.checkpoint))
    else:
        state = read_checkpoint(source.checkpoint, where)
        from_openai = state.keys() >= OPENAI_MARKS
        try:
            model.load_state_dict(_converted(state, model))
        except RuntimeError as error:
            problem = str(error).split("\n")[1].strip()[:200]
            raise UserError(f"{what}: weights of another architecture than '{source.model}': {problem}") from None
        if from_openai and not source.model_cfg.get("quick_gelu"):
            raise UserError(
                f"{what}: OpenAI's weights were trained with QuickGELU, which '{source.model}' does not have; "
                f"write model: {other_activation(source.model)}"
            )
    for key, value in model.state_dict().items():
        if not torch.isfinite(value).all():
            raise UserError(f"{what}: the weight '{key}' holds numbers that are not finite")
    return model


def read_checkpoint(path: Path, where: str) -> dict[str, torch.Tensor]:
    """The weights in a safetensors file, a state dict or training checkpoint of torch, or a TorchScript archive.

    No code that the file may hold is run.
    """
    state: Any
    with or_user_error(f"{where}: {path}: not a readable checkpoint"):
        if path.suffix == ".safetensors":
            state = load_file(path)
        elif zipfile.is_zipfile(path) and any(n.endswith("constants.pkl") for n in zipfile.ZipFile(path).namelist()):
            state = torch.jit.load(str(path), map_location="cpu").state_dict()
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise UserError(f"{where}: {path}: expected a state dict of tensors, or one under the key 'state_dict'")
    return {key.removeprefix("module."): value for key, value in state.items()}


def _converted(state: dict[str, torch.Tensor], model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """``state`` with open_clip's present names and shapes, but without its resizing of position embeddings."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    state = {k: v for k, v in state.items() if k not in OPENAI_MARKS and not k.endswith("position_ids")}
    state = convert_state_dict(model, state)
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    for key, expected in model.state_dict().items():
        if key in state and expected.numel() == state[key].numel() == 1:  # logit_scale is stored as [] or [1]
            state[key] = state[key].reshape(expected.shape)
    return state
