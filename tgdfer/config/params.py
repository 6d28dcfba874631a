"""Read params.yaml and validate it as a whole.

An unknown key, a wrong type or a value out of range is a ``UserError`` that names the key.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, model_validator

from tgdfer.config.data import (
    DEMO_ENCODER,
    DatasetParams,
    DemoParams,
    EncoderParams,
    FeaturesParams,
    FramesParams,
    RenderedParams,
    RenderParams,
)
from tgdfer.config.report import ReportParams, TrackingParams
from tgdfer.config.section import Name, Section
from tgdfer.config.training import BagsParams, ModelParams, RunParams, TrainingParams, VariantParams
from tgdfer.core import paths
from tgdfer.core.errors import UserError


class Params(Section):
    """The whole of params.yaml; its sections are in ``data``, ``training`` and ``report`` of this room."""

    datasets: Annotated[dict[Name, DatasetParams], Field(min_length=1)]
    encoders: Annotated[dict[Name, EncoderParams], Field(default_factory=dict)]
    demo: DemoParams
    renders: Annotated[dict[Name, RenderParams], Field(default_factory=dict)]
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
    transfer: Annotated[list[Name], Field(default_factory=list)]
    """Variants whose runs on each data set are also tested on the others; the data sets share an encoder."""
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
            if dataset.features == "files" and dataset.layout != "folder":
                raise ValueError(f"datasets.{name}.features: files need `layout: folder`, whose list names each file")
            named = self.encoders.get(dataset.encoder)
            if dataset.features == "frames" and named and named.model is None:
                raise ValueError(
                    f"datasets.{name}.encoder: encoders.{dataset.encoder} has no model to encode frames with; expected "
                    f"one, or `features: files` for clips that are files of features"
                )
        if paths.DEMO_ROOT.name in self.renders:
            raise ValueError(f"renders.{paths.DEMO_ROOT.name}: this is the embedded data set; choose another name")
        trainings: dict[str, tuple[str, str]] = {}
        for pair in itertools.product(self.datasets, self.variants):
            first = trainings.setdefault("-".join(pair), pair)  # the name of a training in DVC
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
        self._check_transfer()
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
            self.training_of(name)
        return self

    def _check_transfer(self) -> None:
        for name in self.transfer:
            if name not in self.grid:
                raise ValueError(f"transfer: no variant '{name}' in the grid: {', '.join(self.grid)}")
        several = "; a study can take data sets away with null" if len(self.datasets) > 2 else ""
        if self.transfer and len({dataset.encoder for dataset in self.datasets.values()}) > 1:
            raise ValueError(f"transfer: the data sets {', '.join(self.datasets)} must have one encoder{several}")
        if self.transfer and len(self.shared_classes) < 2:
            raise ValueError(f"transfer: expected two classes that {', '.join(self.datasets)} all have{several}")

    @property
    def shared_classes(self) -> list[str]:
        """The classes that all data sets have, in the order of the first."""
        first, *others = self.datasets.values()
        return [name for name in first.classes if all(name in other.classes for other in others)]

    def dataset(self, name: str) -> DatasetParams:
        """The data set called ``name``.

        Raises:
            UserError: there is none; the message lists the known ones.
        """
        if name not in self.datasets:
            raise UserError(f"params.yaml: datasets: no data set '{name}'; known: {', '.join(self.datasets)}")
        return self.datasets[name]

    @property
    def rendered(self) -> dict[Path, RenderedParams]:
        """The data sets that the project renders, by their lists of clips."""
        return {paths.DEMO_CLIPS: self.demo} | {paths.rendered(name): about for name, about in self.renders.items()}

    def frames_of(self, dataset: str) -> FramesParams:
        """The section ``frames`` with the overrides of ``dataset`` applied."""
        try:
            return FramesParams.model_validate({**self.frames.model_dump(), **self.dataset(dataset).frames})
        except ValidationError as error:
            raise ValueError(f"datasets.{dataset}.frames.{one_line(error)}") from None

    def training_of(self, dataset: str) -> TrainingParams:
        """The section ``training`` with the overrides of ``dataset`` applied."""
        try:
            return TrainingParams.model_validate({**self.training.model_dump(), **self.dataset(dataset).training})
        except ValidationError as error:
            raise ValueError(f"datasets.{dataset}.training.{one_line(error)}") from None

    def only(self, variants: Collection[str]) -> Params:
        """A copy that has only ``variants``, in the order of the file, and all of them in the grid."""
        kept = {name: about for name, about in self.variants.items() if name in variants}
        return self.model_copy(update={"variants": kept, "grid": list(kept)})

    def run(self, variant: str, dataset: str | None = None) -> RunParams:
        """The sections of a training with the overrides of ``variant`` applied; see ``ModelParams.as_read``.

        ``dataset``: with its overrides of the section ``training``, which those of ``variant`` replace.
        """
        if variant not in self.variants:
            raise UserError(f"params.yaml: variants: no variant '{variant}'; known: {', '.join(self.variants)}")
        training = self.training if dataset is None else self.training_of(dataset)
        overrides = self.variants[variant].set
        merged = {
            section: {**given.model_dump(), **getattr(overrides, section)}
            for section, given in (("bags", self.bags), ("model", self.model), ("training", training))
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


SET_VARIABLE = "TGDFER_SET"
"""The environment variable with the changes of the command line: words KEY=VALUE, quoted as in a shell."""
SHARED = ("demo", "frames", "features")
"""The sections that decide the files which all studies share."""


def load_params(path: Path | str = "params.yaml") -> Params:
    """Read and validate ``path``, with the chosen study and the changes of the command line laid over it.

    Raises:
        UserError: a file cannot be read, is not a YAML mapping, or has an unknown key, a wrong type or a bad value.
    """
    raw = _read(Path(path))
    params = base = _validated(raw, str(path))
    if paths.STUDY:
        file = paths.STUDIES / f"{paths.STUDY}.yaml"
        if not file.exists():
            known = ", ".join(sorted(one.stem for one in paths.STUDIES.glob("*.yaml"))) or "none"
            raise UserError(f"{file}: no such file; the studies here are: {known}")
        raw = laid_over(raw, _read(file))
        params = _of_study(_validated(raw, str(file)), base, str(file))
    for change in shlex.split(os.environ.get(SET_VARIABLE, "")):
        key, _, value = change.partition("=")
        where = f"--set {change}"
        try:
            new: Any = yaml.load(value, _Loader)
        except yaml.YAMLError:
            raise UserError(f"{where}: not a value in YAML") from None
        if not value or not key:
            raise UserError(f"{where}: expected KEY=VALUE, such as model.top_k=1")
        for step in reversed(key.split(".")):
            new = {step: new}
        raw = laid_over(raw, new)
        params = _validated(raw, where)
        if paths.STUDY:
            params = _of_study(params, base, where)
    return params


def laid_over(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes``: mappings are merged key by key, null takes a mapping away, all else is replaced."""
    merged = dict(base)
    for key, value in changes.items():
        before = base.get(key)
        if value is None and isinstance(before, Mapping):
            del merged[key]
        elif isinstance(value, Mapping) and isinstance(before, Mapping):
            merged[key] = laid_over(before, value)
        else:
            merged[key] = value
    return merged


def _of_study(params: Params, base: Params, where: str) -> Params:
    """Refuse what would change the files that all studies share; a study's trainings have their own names in MLflow."""
    shared = [(name, getattr(params, name), getattr(base, name)) for name in SHARED]
    for section in ("datasets", "encoders", "renders"):
        now, before = getattr(params, section), getattr(base, section)
        shared += [(f"{section}.{name}", now[name], before[name]) for name in now.keys() & before.keys()]
    for key, now, before in shared:
        for name in type(now).model_fields:
            if name != "training" and getattr(now, name) != getattr(before, name):
                raise UserError(
                    f"{where}: {key}.{name}: studies share clips, frames and features; change it in params.yaml, or "
                    "give the study a data set or an encoder with another name"
                )
    if params.tracking.project == base.tracking.project:
        project = {"project": f"{base.tracking.project}-{paths.STUDY}"}
        return params.model_copy(update={"tracking": params.tracking.model_copy(update=project)})
    return params


def _validated(raw: Mapping[str, Any], where: str) -> Params:
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{where}: {one_line(error)}") from None


def _read(path: Path) -> Mapping[str, Any]:
    """The mapping in a YAML file."""
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
    return raw
