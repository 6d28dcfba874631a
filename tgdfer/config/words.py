"""The words of the model's text branch: descriptions.yaml, and the texts that a variant reads of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from tgdfer.config.sections import ModelParams
from tgdfer.core.errors import UserError

DESCRIPTIONS = Path(__file__).with_name("descriptions.yaml")


@dataclass(frozen=True)
class Words:
    """The content of descriptions.yaml."""

    template: str
    prefix: str
    names: dict[str, str]
    descriptions: dict[str, list[str]]


def load_words(path: Path = DESCRIPTIONS) -> Words:
    """Read the text side of the model.

    Raises:
        UserError: the file is missing or not of the expected form; the message names the key.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict) or set(raw) != {"template", "prefix", "classes"}:
        raise UserError(f"{path}: expected the keys template, prefix and classes")
    for key in ("template", "prefix"):
        if not isinstance(raw[key], str):
            raise UserError(f"{path}: {key}: expected a text")
    if raw["template"].count("{name}") != 1:
        raise UserError(f"{path}: template: expected one {{name}} in {raw['template']!r}")
    if not isinstance(raw["classes"], dict):
        raise UserError(f"{path}: classes: expected a mapping of class names")
    names, descriptions = {}, {}
    for label, entry in raw["classes"].items():
        key = f"{path}: classes.{label}"
        if not isinstance(entry, dict) or set(entry) != {"name", "descriptions"}:
            raise UserError(f"{key}: expected the keys name and descriptions")
        lines = entry["descriptions"]
        if not isinstance(entry["name"], str) or not entry["name"].strip():
            raise UserError(f"{key}.name: expected a text")
        if (
            not isinstance(lines, list)
            or not lines
            or not all(isinstance(line, str) and line.strip() for line in lines)
        ):
            raise UserError(f"{key}.descriptions: expected a list of at least one text")
        names[str(label)], descriptions[str(label)] = entry["name"], lines
    return Words(raw["template"], raw["prefix"], names, descriptions)


def prompts(params: ModelParams, classes: Sequence[str], words: Words) -> list[list[str]]:
    """The K texts of each class, before context tokens; eq. (6).

    Learnt context tokens stand in the place of the descriptions' fixed prefix, from which they start.

    Raises:
        UserError: a class without words, or with fewer descriptions than are asked for.
    """
    for label in classes:
        if label not in words.names:
            raise UserError(f"{DESCRIPTIONS.name}: no words for the class '{label}'; known: {', '.join(words.names)}")
        found = len(words.descriptions[label])
        if params.text == "descriptions" and found < params.descriptions_per_class:
            raise UserError(
                f"model.descriptions_per_class: {params.descriptions_per_class}, but {DESCRIPTIONS.name} has {found} "
                f"of the class '{label}'; write more there, or ask for fewer"
            )
    if params.text == "class-name":
        return [[words.names[label]] for label in classes]
    if params.text == "template":
        return [[words.template.format(name=words.names[label])] for label in classes]
    prefix = "" if params.context_tokens else words.prefix + " "
    return [[prefix + line for line in words.descriptions[label][: params.descriptions_per_class]] for label in classes]
