"""The words of the model's text branch: descriptions.yaml, and the texts that a variant reads of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, ValidationError

from tgdfer.config.params import one_line
from tgdfer.config.section import Section
from tgdfer.config.training import ModelParams
from tgdfer.core.errors import UserError

DESCRIPTIONS = Path(__file__).with_name("descriptions.yaml")
Text = Annotated[str, Field(pattern=r"\S")]


class ClassWords(Section):
    """The words for one class."""

    name: Text
    descriptions: Annotated[list[Text], Field(min_length=1)]


class Words(Section):
    """The content of descriptions.yaml."""

    template: Annotated[str, Field(pattern=r"^[^{}]*\{name\}[^{}]*$")]
    prefix: str
    classes: dict[str, ClassWords]


def load_words(path: Path = DESCRIPTIONS) -> Words:
    """Read the words; a UserError names the key that is not of the expected form."""
    try:
        return Words.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        raise UserError(f"{path}: {one_line(error)}") from None


def prompts(params: ModelParams, classes: Sequence[str], words: Words) -> list[list[str]]:
    """The K texts of each class, without context tokens; eq. (6).

    Learnt context tokens before the words take the place of the descriptions' fixed prefix, from which they start.

    Raises:
        UserError: a class without words, or with fewer descriptions than are asked for.
    """
    texts = []
    for label in classes:
        if label not in words.classes:
            raise UserError(f"{DESCRIPTIONS}: no words for the class '{label}'; add them under classes")
        about = words.classes[label]
        if params.text == "class-name":
            texts.append([about.name])
        elif params.text == "template":
            texts.append([words.template.format(name=about.name)])
        elif len(about.descriptions) < params.descriptions_per_class:
            raise UserError(
                f"model.descriptions_per_class: {params.descriptions_per_class}, but {DESCRIPTIONS.name} has "
                f"{len(about.descriptions)} of the class '{label}'; write more there, or ask for fewer"
            )
        else:
            replaced = params.context_tokens and params.context_place == "before"
            prefix = "" if replaced else words.prefix + " "
            texts.append([prefix + line for line in about.descriptions[: params.descriptions_per_class]])
    return texts
