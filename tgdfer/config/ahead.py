"""What a later stage would refuse, found before the first one runs: words, encoders and the models behind them."""

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

from tgdfer.config.clip_models import (
    CONTEXT,
    DEMO_CONTEXT,
    OTHER_MODEL,
    check_config,
    check_weights,
    model_config,
    takes_prompts,
    unknown_model,
)
from tgdfer.config.data import DEMO_ENCODER
from tgdfer.config.params import Params
from tgdfer.config.tokens import count_tokens
from tgdfer.config.words import DESCRIPTIONS, load_words, prompts
from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError

DEMO_BLOCKS = 4
"""The stages of the demo encoder's image tower, a ResNet."""
WITHOUT_TEXT = "leave only variants in `grid` that read no text, such as linear-probe or attention-mil"


class Refusal(NamedTuple):
    """What would be refused, why, and what to do."""

    about: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.about}: {self.problem}; {self.remedy}"

    @classmethod
    def of(cls, about: str, error: UserError | str) -> Self:
        """From a message that has its remedy after a semicolon."""
        problem, _, remedy = str(error).partition("; ")
        return cls(about, problem, remedy or "correct it in params.yaml")


def refusals(
    params: Params, variants: Collection[str] | None = None, datasets: Collection[str] | None = None
) -> list[Refusal]:
    """What a later stage would refuse of ``variants`` (by default the grid) on ``datasets`` (by default all)."""
    readers = text_readers(params, variants)
    chosen = params.datasets if datasets is None else datasets
    adapting = [name for name in variants or params.grid if params.run(name).model.adapts]
    found = [refusal for name in chosen for refusal in (*_paths(params, name), *_words(params, name, readers))]
    found += [refusal for name in chosen for refusal in _adaptation(params, name, adapting)]
    for encoder in dict.fromkeys(params.dataset(name).encoder for name in chosen):
        if encoder != DEMO_ENCODER:
            found += of_encoder(params, encoder, readers)
    return found


def text_readers(params: Params, variants: Collection[str] | None = None) -> list[str]:
    """Those of ``variants``, by default the grid, that compare frames with words."""
    return [name for name in variants or params.grid if params.run(name).model.uses_text]


def check(params: Params, dataset: str) -> None:
    """Raise the first refusal of ``dataset`` as a UserError."""
    for refusal in refusals(params, datasets=[dataset]):
        raise UserError(str(refusal))


def _paths(params: Params, dataset: str) -> Iterator[Refusal]:
    """Snakemake reads a name in braces in a path as a wildcard; there is no way to write it otherwise.

    Frames depend on what is in the root of their data set, and so must not be written into it.
    """
    about = params.dataset(dataset)
    folder = paths.clips(dataset).parent
    root, made = Path(about.root).resolve(), folder.resolve()
    if made.is_relative_to(root) or root.is_relative_to(made):
        yield Refusal(
            f"datasets.{dataset}.root",
            f"'{about.root}' overlaps {folder}, where the frames are written",
            f"keep the clips in a separate folder, such as {paths.RAW / dataset}",
        )
    for key, path in (("annotations", about.annotations), ("truth", about.truth or "")):
        if re.search(r"\{\s*\w+\s*(,.*)?\}", path):
            yield Refusal(
                f"datasets.{dataset}.{key}",
                f"'{path}' has braces, which Snakemake reads as a wildcard",
                "rename the folder, or keep this file in another one (new-dataset: --out)",
            )


def _adaptation(params: Params, dataset: str, variants: list[str]) -> Iterator[Refusal]:
    """What is wrong with the block that is cached, or missing for ``variants``, which train blocks of the encoder."""
    keep, encoder = params.features.keep, params.dataset(dataset).encoder
    about, without = f"data set {dataset}", "leave these variants out of `grid` in params.yaml"
    if params.dataset(dataset).features == "files":
        if variants:
            yield Refusal(
                about, f"its features are files, so that {_counted(variants)} have no blocks to train", without
            )
        return
    if keep is None:
        if variants:
            problem = f"{_counted(variants)} train blocks of the encoder, whose tokens are not cached"
            yield Refusal(about, problem, f"set features.keep, as docs/encoders.md says, or {without}")
        return
    count = _blocks(params, encoder)
    if count is None:
        return
    if count == 0:
        problem = f"features.keep: the image tower of encoder {encoder} is timm's, which cannot be cut at a block"
        yield Refusal(
            about, problem, "use a ViT or a ResNet of open_clip, such as ViT-B-32, or leave features.keep out"
        )
    elif keep >= count:
        problem = f"features.keep: {keep}, but the image tower of encoder {encoder} has {count} blocks"
        yield Refusal(about, problem, f"write a number from 1 to {count - 1}")
    else:
        for name in variants:
            adapted, last = params.run(name).model.adapt_blocks, count - keep
            if adapted > last:
                problem = f"model.adapt_blocks: {adapted} of variant {name}, but only {last} follow the cached tokens"
                smaller = f"features.keep: {count - adapted}" if adapted < count else "fewer blocks"
                yield Refusal(about, problem, f"write {smaller}, or {without}")


def _blocks(params: Params, encoder: str) -> int | None:
    """How many blocks the image tower of an encoder can be cut into: 0 if it cannot be cut, None if it is unknown."""
    if encoder == DEMO_ENCODER:
        return DEMO_BLOCKS
    vision = (_config(params, encoder) or {}).get("vision_cfg")
    if vision is None:
        return None
    layers = vision.get("layers", 12)
    return 0 if vision.get("timm_model_name") else layers if isinstance(layers, int) else len(layers)


def _words(params: Params, dataset: str, readers: list[str]) -> Iterator[Refusal]:
    words, classes = load_words(), params.dataset(dataset).classes
    lacking = [name for name in classes if name not in words.classes]
    if lacking and readers:
        yield Refusal(
            f"data set {dataset}",
            f"there are no words for the class{'es' * (len(lacking) > 1)} {', '.join(lacking)}, with which "
            f"{_counted(readers)} compare frames",
            f"add them under `classes` in {DESCRIPTIONS}, or leave these variants out of `grid` in params.yaml",
        )
    known = [name for name in classes if name in words.classes]
    context = _context(params, params.dataset(dataset).encoder)
    for problem in dict.fromkeys(_of_prompts(params, name, known, context) for name in readers):
        if problem:
            yield Refusal.of(f"data set {dataset}", problem)


def _of_prompts(params: Params, variant: str, classes: list[str], context: int | None) -> str | None:
    """What is wrong with the texts of the classes for an encoder that reads ``context`` tokens (None: unknown)."""
    model = params.run(variant).model
    try:
        texts = prompts(model, classes, load_words())
    except UserError as error:
        return str(error)
    counted = [(count_tokens(text), text) for group in texts for text in group] if context else []
    longest, text = max(counted, default=(0, ""))
    if not context or longest + model.context_tokens <= context:
        return None
    learnt = f" and {model.context_tokens} learnable ones" if model.context_tokens else ""
    return (
        f"'{text}' has {longest} tokens; with start and end{learnt}, at most {context} are read by its encoder; "
        f"shorten it in {DESCRIPTIONS}, or lower model.context_tokens"
    )


def _context(params: Params, encoder: str) -> int | None:
    """How many tokens the text tower of an encoder reads, if it takes prompts of CLIP's tokens."""
    if encoder == DEMO_ENCODER:
        return DEMO_CONTEXT
    config = _config(params, encoder)
    if config is None or not takes_prompts(config):
        return None
    text = config["text_cfg"]
    if text.get("hf_tokenizer_name") or text.get("tokenizer_kwargs"):
        return None
    return int(text.get("context_length", CONTEXT))


def _config(params: Params, encoder: str) -> dict[str, Any] | None:
    """The configuration of an encoder's model; None if there is none, or the hub must be asked for it."""
    model = params.encoders[encoder].model
    if model is None:
        return None
    schema, _, rest = model.partition(":")
    if schema == "local-dir" and rest:
        return storage.read_object(Path(rest) / "open_clip_config.json").get("model_cfg")
    if schema == "hf-hub" and rest:
        return storage.read_object(paths.encoder(encoder).with_name("open_clip_config.json")).get("model_cfg")
    return model_config(model)


def feature_dim(params: Params, dataset: str) -> int | None:
    """The number of dimensions of a data set's features, as far as params.yaml and open_clip say it."""
    name = params.dataset(dataset).encoder
    if name == DEMO_ENCODER:
        return None
    return params.encoders[name].dim or (_config(params, name) or {}).get("embed_dim")


def of_encoder(params: Params, name: str, readers: list[str]) -> Iterator[Refusal]:
    """What import-encoder or the training of ``readers``, the variants that read text, would refuse of an encoder."""
    spec, about = params.encoders[name], f"encoder {name}"
    if spec.model is None:
        if readers:
            yield Refusal(
                about,
                f"only the size of its features is known, so that {_counted(readers)} have no text tower to use",
                f"{WITHOUT_TEXT}, or write encoders.{name}.model instead of dim, if the features are of a CLIP model",
            )
        return
    config, imported = _config(params, name), paths.encoder(name).is_file()
    schema, _, rest = spec.model.partition(":")
    if config is None:
        if schema == "local-dir" and rest and not imported:
            problem = f"{rest}/open_clip_config.json: no such file"
            yield Refusal(about, problem, f"correct encoders.{name}.model in params.yaml")
        elif not rest:
            yield Refusal.of(about, f"{unknown_model(spec.model)} Correct encoders.{name}.model in params.yaml")
        return
    try:
        check_config(config, spec.model)
        if not rest and not (imported and is_file(spec.pretrained)):
            check_weights(spec.model.replace("/", "-"), config, spec.pretrained, f"encoders.{name}")
    except UserError as error:
        yield Refusal.of(about, error)
        return
    if readers and not takes_prompts(config):
        yield text_refusal(name, spec.model, readers)


def text_refusal(name: str, model: str, readers: list[str]) -> Refusal:
    """That the text tower of an encoder cannot be used, though ``readers`` need it."""
    return Refusal(
        f"encoder {name}",
        f"the text tower of {model} is not causal with an end-of-text token, as CLIP's is, so that "
        f"{_counted(readers)} cannot use it",
        f"{OTHER_MODEL}, or {WITHOUT_TEXT}",
    )


def is_file(pretrained: str | None) -> bool:
    """Whether ``pretrained`` names a checkpoint file and not a tag of open_clip."""
    return pretrained is not None and ("/" in pretrained or "." in pretrained)


def _counted(variants: list[str]) -> str:
    if len(variants) == 1:
        return f"the variant {variants[0]}"
    return f"{len(variants)} variants ({', '.join(variants[:3])}{', ...' if len(variants) > 3 else ''})"
