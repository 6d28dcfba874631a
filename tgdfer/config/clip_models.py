"""Which models of open_clip the project can use, by their configurations: nothing heavy is imported."""

import ast
import difflib
import json
import sys
from collections.abc import Collection, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tgdfer.core.errors import UserError

TOKENIZER_KEYS = {"clean", "strip_sep_token", "language"}
"""The ``tokenizer_kwargs`` that cannot run code or read other files."""
DEMO_CONTEXT = 40
"""How many tokens the text tower of the demo encoder reads."""
CONTEXT = 77
"""How many tokens a text tower reads whose configuration does not say it."""
OTHER_MODEL = "use a CLIP model with a causal text tower, such as ViT-B-32-quickgelu"


def model_config(model: str) -> dict[str, Any] | None:
    """open_clip's ``model_cfg`` of a model's name; None if there is no such model."""
    name = model.replace("/", "-")
    loaded = sys.modules.get("open_clip")
    if loaded is not None:  # a program may have registered other models
        found: dict[str, Any] | None = loaded.get_model_config(name)
        return found
    file = open_clip_folder() / "model_configs" / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def unknown_model(model: str) -> str:
    """That there is no such model, and which ones have similar names."""
    loaded = sys.modules.get("open_clip")
    names: Collection[str] = (
        loaded.list_models() if loaded else [file.stem for file in open_clip_folder().glob("model_configs/*.json")]
    )
    near = difflib.get_close_matches(model, names, 3, 0.4)
    hint = f"did you mean {', '.join(near)}?" if near else "see open_clip.list_models()"
    return f"open_clip has no model '{model}'; {hint}"


def open_clip_folder() -> Path:
    """The folder of the package open_clip, found without importing it, which takes seconds."""
    spec = find_spec("open_clip")
    assert spec and spec.origin
    return Path(spec.origin).parent


def check_weights(model: str, config: Mapping[str, Any], pretrained: str | None, where: str) -> None:
    """Raise a UserError if ``pretrained`` is neither a tag of the model nor a file, or is for another activation."""
    tags = _tags(model)
    advice = f"one of {', '.join(tags)}, or a checkpoint file" if tags else "a checkpoint file (it has no tags)"
    if pretrained is None:
        raise UserError(f"{where}.pretrained: '{model}' without weights is random; write {advice}")
    quick = tags.get(pretrained.lower().replace("-", "_"))
    if quick is None:
        if not Path(pretrained).is_file():
            raise UserError(
                f"{where}.pretrained: '{model}' has no tag '{pretrained}', nor is it a file; write {advice}"
            )
    elif quick != bool(config.get("quick_gelu")):
        raise UserError(
            f"{where}.model: the weights '{pretrained}' were trained with the other activation than '{model}' has; "
            f"write model: {other_activation(model)}"
        )


def other_activation(model: str) -> str:
    """The name of the same model with the other activation."""
    return model.removesuffix("-quickgelu") if model.endswith("-quickgelu") else f"{model}-quickgelu"


def _tags(model: str) -> dict[str, bool]:
    """The tags of a model, and whether their weights were trained with QuickGELU."""
    loaded = sys.modules.get("open_clip")
    if loaded is None:
        return tags_in_source(model)
    tags = loaded.list_pretrained_tags_by_model(model)
    return {tag: bool(loaded.get_pretrained_cfg(model, tag).get("quick_gelu")) for tag in tags}


def tags_in_source(model: str) -> dict[str, bool]:
    """As open_clip's functions say it, read from its source."""
    base = model.removesuffix("-quickgelu")
    tables: dict[str, Any] = {}
    for node in ast.parse((open_clip_folder() / "pretrained.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            tables[node.targets[0].id] = node.value
    models = tables["_PRETRAINED"]
    table = {key.value: value for key, value in zip(models.keys, models.values, strict=True)}.get(base)
    table = tables[table.id] if isinstance(table, ast.Name) else table
    tags = {
        tag.arg: any(option.arg == "quick_gelu" for option in tag.value.keywords)
        for tag in getattr(table, "keywords", [])
    }
    return {tag: quick for tag, quick in tags.items() if quick or model == base}


def check_config(config: Mapping[str, Any], where: str) -> None:
    """Raise a UserError if ``model_cfg`` is of a kind that the project cannot use, or needs files or code of others."""
    text, vision = config["text_cfg"], config["vision_cfg"]
    if "multimodal_cfg" in config:
        raise UserError(f"{where}: captioning models (CoCa) are not supported; use a CLIP model")
    if text.get("hf_model_name"):
        raise UserError(
            f"{where}: its text tower is a Hugging Face model, which takes no learnable prompts here; "
            "use a model with open_clip's own text transformer, such as ViT-B-32-quickgelu"
        )
    if ":" in str(vision.get("timm_model_name", "")):
        raise UserError(f"{where}: its image tower comes from elsewhere; use a model of open_clip's own")
    forbidden = set(text.get("tokenizer_kwargs") or ()) - TOKENIZER_KEYS
    if forbidden:  # such as trust_remote_code
        raise UserError(f"{where}: text_cfg.tokenizer_kwargs.{min(forbidden)}: not allowed, for it may run code")


def takes_prompts(config: Mapping[str, Any]) -> bool:
    """Whether the text tower of ``model_cfg`` is causal and reads its result at the end-of-text token, as CLIP's."""
    text = config["text_cfg"]
    causal = not text.get("no_causal_mask") and not text.get("embed_cls")
    return causal and (text.get("pool_type") or "argmax") in ("argmax", "eos")
