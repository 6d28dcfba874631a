"""Read params.yaml and validate it as a whole.

An unknown key, a wrong type or a value out of range is a ``UserError`` that names the key.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, model_validator

from tgdfer.config.sections import (
    DEMO_ENCODER,
    BagsParams,
    DatasetParams,
    DemoParams,
    EncoderParams,
    FeaturesParams,
    FramesParams,
    ModelParams,
    Name,
    ReportParams,
    RunParams,
    Section,
    TrackingParams,
    TrainingParams,
    VariantParams,
)
from tgdfer.core.errors import UserError


class Params(Section):
    """The whole of params.yaml; its sections are in ``tgdfer.config.sections``."""

    datasets: Annotated[dict[Name, DatasetParams], Field(min_length=1)]
    encoders: Annotated[dict[Name, EncoderParams], Field(default_factory=dict)]
    demo: DemoParams
    frames: FramesParams
    features: FeaturesParams
    bags: BagsParams
    model: ModelParams
    training: TrainingParams
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    """The seeds of the trainings; every variant is trained with each."""
    variants: Annotated[dict[Name, VariantParams], Field(min_length=1)]
    grid: Annotated[list[Name], Field(min_length=1, default_factory=lambda known: list(known.get("variants", ())))]
    """The variants that run by default; all of them if it is left out."""
    report: ReportParams
    tracking: TrackingParams

    @model_validator(mode="after")
    def _references_resolve(self) -> Params:
        if DEMO_ENCODER in self.encoders:
            raise ValueError(
                f"encoders.{DEMO_ENCODER}: this is the encoder that the project trains; choose another name"
            )
        for name, dataset in self.datasets.items():
            if len(dataset.classes) < 2 or len(set(dataset.classes)) < len(dataset.classes):
                raise ValueError(f"datasets.{name}.classes: expected two or more different names")
            if dataset.encoder != DEMO_ENCODER and dataset.encoder not in self.encoders:
                known = ", ".join([DEMO_ENCODER, *self.encoders])
                raise ValueError(
                    f"datasets.{name}.encoder: no encoder '{dataset.encoder}'; known: {known}; add it under encoders, "
                    "as docs/paper-tables.md does with vit-b-32"
                )
        named: dict[str, tuple[str, str]] = {}
        for pair in itertools.product(self.datasets, self.variants):
            first = named.setdefault("-".join(pair), pair)  # the name of a training in DVC
            if first != pair:
                raise ValueError(
                    f"datasets.{pair[0]} with variants.{pair[1]} and datasets.{first[0]} with variants.{first[1]} "
                    f"have one name in DVC, train@{'-'.join(pair)}; rename a data set or a variant"
                )
        for name in self.grid:
            if name not in self.variants:
                raise ValueError(f"grid: no variant '{name}'; known: {', '.join(self.variants)}")
        for key, listed in (("grid", self.grid), ("seeds", self.seeds)):
            if len(set(listed)) < len(listed):
                raise ValueError(f"{key}: '{Counter(listed).most_common(1)[0][0]}' is listed twice")
        if self.report.reference not in self.grid:
            raise ValueError(
                f"report.reference: no variant '{self.report.reference}' in the grid: {', '.join(self.grid)}"
            )
        known_tables = ["main", *self.report.tables]
        for name, variant in self.variants.items():
            self.run(name)
            for table in variant.tables:
                if table not in known_tables:
                    raise ValueError(
                        f"variants.{name}.tables: no table '{table}'; known: {', '.join(known_tables)}; "
                        "a new table is an entry of report.tables, see docs/howto-ablation.md"
                    )
        for name in self.datasets:
            self.frames_of(name)
        return self

    def dataset(self, name: str) -> DatasetParams:
        """The data set called ``name``.

        Raises:
            UserError: there is none; the message lists the known ones.
        """
        if name not in self.datasets:
            raise UserError(f"params.yaml: datasets: no data set '{name}'; known: {', '.join(self.datasets)}")
        return self.datasets[name]

    def frames_of(self, dataset: str) -> FramesParams:
        """The section ``frames`` with the overrides of ``dataset`` applied."""
        try:
            return FramesParams.model_validate({**self.frames.model_dump(), **self.dataset(dataset).frames})
        except ValidationError as error:
            raise ValueError(f"datasets.{dataset}.frames.{one_line(error)}") from None

    def only(self, variants: Collection[str]) -> Params:
        """A copy that has only ``variants``, in the order of the file, and all of them in the grid."""
        kept = {name: about for name, about in self.variants.items() if name in variants}
        return self.model_copy(update={"variants": kept, "grid": list(kept)})

    def run(self, variant: str) -> RunParams:
        """The sections of a training with the overrides of ``variant`` applied; see ``ModelParams.as_read``."""
        if variant not in self.variants:
            raise UserError(f"params.yaml: variants: no variant '{variant}'; known: {', '.join(self.variants)}")
        overrides = self.variants[variant].set
        merged = {
            section: {**getattr(self, section).model_dump(), **getattr(overrides, section)}
            for section in ("bags", "model", "training")
        }
        try:
            run = RunParams.model_validate(merged)
        except ValidationError as error:
            raise ValueError(f"variants.{variant}.set.{one_line(error)}") from None
        return run.model_copy(update={"model": run.model.as_read()})


def one_line(error: ValidationError) -> str:
    """What is wrong, key by key, on one line."""
    parts = []
    for problem in error.errors():
        if problem["type"] == "default_factory_not_called":
            continue  # a consequence of another problem
        key = ".".join(str(step) for step in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "unknown key"
        elif problem["type"] not in ("missing", "value_error"):
            message += f", got {problem['input']!r}"
        parts.append(f"{key}: {message}" if key else message)
    return "; ".join(parts)


class _Loader(yaml.SafeLoader):
    """Reads YAML as DVC does: a key that occurs twice is a mistake, and 1e-3 is a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key '{key.value}' occurs twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def load_params(path: Path | str = "params.yaml") -> Params:
    """Read and validate ``path``.

    Raises:
        UserError: the file cannot be read, is no YAML mapping, or has an unknown key, a wrong type or a bad value.
    """
    path = Path(path)
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the project's root or give --params") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: expected text in UTF-8, got byte {error.object[error.start]:#x}") from None
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise UserError(f"{path}: {line}{error.problem or 'not valid YAML'}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, Mapping):
        raise UserError(f"{path}: expected a mapping of sections, got {type(raw).__name__}")
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{path}: {one_line(error)}") from None
