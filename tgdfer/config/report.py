"""The sections of params.yaml about results: the report with its tables, and MLflow."""

import os
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, field_validator

from tgdfer.config.section import Name, Positive, Section
from tgdfer.config.training import BagsParams, ModelParams, TrainingParams
from tgdfer.core import paths
from tgdfer.evaluation.protocol import SELECTIONS

SQLITE = "sqlite:///"


class TableParams(Section):
    """A table that compares variants with the reference, and shows some of their parameters."""

    title: str
    """Its heading."""
    columns: dict[str, str]
    """The heading of a column for each parameter that is shown, such as `model.window: Window`."""
    ticks: bool = False
    """Whether a cell shows only that a part is there."""

    @field_validator("columns")
    @classmethod
    def _are_parameters(cls, columns: dict[str, str]) -> dict[str, str]:
        sections: dict[str, type[Section]] = {"bags": BagsParams, "model": ModelParams, "training": TrainingParams}
        known = {f"{section}.{key}" for section, keys in sections.items() for key in keys.model_fields}
        for key in columns:
            if key not in known:
                raise ValueError(f"'{key}': expected a key of bags, model or training, for example model.window")
        return columns


TABLES = {
    name: TableParams(**about)
    for name, about in yaml.safe_load(Path(__file__).with_name("tables.yaml").read_text(encoding="utf-8")).items()
}
"""The tables that every report has; ``report.tables`` adds others."""
OTHER_TABLES = ("main", "low-shot", "transfer", "relevance", "costs")
"""The tables that do not compare settings."""


class ReportParams(Section):
    """What is printed: the selection of the protocol, the settings of the statistics, and tables of your own."""

    selection: Literal[tuple(SELECTIONS)] = "last"  # type: ignore[valid-type]
    """The epoch whose results the tables show. `best_test` selects on the test fold, which is optimistic."""
    reference: Name = "tgdfer"
    """The variant that the others are compared with."""
    bootstrap: Positive = 2000
    """Bootstrap draws of an interval and draws of a test."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Level of the intervals."""
    seed: int = 0
    """Seed of the draws."""
    tables: Annotated[dict[Name, TableParams], Field(validate_default=True)] = {}
    """Tables besides the usual ones, by name."""

    @field_validator("tables")
    @classmethod
    def _with_the_usual_ones(cls, given: dict[str, TableParams]) -> dict[str, TableParams]:
        for name in OTHER_TABLES:
            if name in given:
                raise ValueError(f"'{name}' is the name of another table; choose another one")
        return TABLES | given


class TrackingParams(Section):
    """MLflow."""

    project: Name = "tgdfer"
    """First part of the names of experiments and models; choose another on a server that you share."""
    uri: str = "sqlite:///mlflow/mlflow.db"
    """The database, next to which its artifacts are, or a server. The variable MLFLOW_TRACKING_URI takes precedence."""

    @field_validator("uri")
    @classmethod
    def _without_tilde(cls, uri: str) -> str:
        return SQLITE + os.path.expanduser(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else uri  # noqa: PTH111

    @property
    def place(self) -> str:
        """MLFLOW_TRACKING_URI if it is set, else ``uri``; the path of a database is absolute."""
        uri = os.environ.get("MLFLOW_TRACKING_URI") or self.uri
        return SQLITE + str(paths.workspace() / uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else uri
