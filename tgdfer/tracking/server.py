"""MLflow's server or database: where it is, its experiments, and a project that was moved."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import mlflow
from filelock import FileLock

from tgdfer.config.params import Params
from tgdfer.config.report import SQLITE
from tgdfer.core import paths
from tgdfer.core.progress import log
from tgdfer.tracking.wanted import workspace

PLACES = (
    *(("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location")),
    *(("model_versions", "source"), ("model_versions", "storage_location")),
)
"""Columns of MLflow's database that hold absolute paths."""
PAGE = "#/experiments/{id}/runs?workflowType=machine_learning&viewStateShareKey=tgdfer"
"""The UI's page of an experiment with the view that its tag describes; without it, MLflow opens pages for GenAI."""
NOTE = """Trainings of {dataset} by variant: [current runs with their results]({page}).

A row is a variant: means over its folds and seeds, which are below it. The primary selection is `{selection}`. Numbers
below `other/` are not for choosing: `best_test` looks at test clips.

Rows that the files in `runs/` no longer describe are marked superseded or outdated: ``tags.`tgdfer.current` = 'true'``
leaves them out, ``tags.`tgdfer.kind` = 'variant'`` shows a row per variant."""


def uri_of(params: Params) -> str:
    """The tracking URI: MLFLOW_TRACKING_URI if it is set, else the parameter's, with an absolute path for SQLite."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or params.tracking.uri
    return SQLITE + str(workspace() / uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else uri


def one_line(error: Exception) -> str:
    """``error`` in a line, without the user and password that a URI may hold."""
    return f"{type(error).__name__}: {re.sub(r'//[^/@ ]*@', '//', ' '.join(str(error).split()))[:300]}"


def lock() -> FileLock:
    """The lock of the one process of a workspace that writes to MLflow."""
    folder = workspace() / paths.MLFLOW
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / ".lock")


@contextmanager
def connected(params: Params) -> Iterator[Any]:
    """A client of MLflow, whose URI is MLflow's default in the block, because logging and loading a model use that."""
    uri, before = uri_of(params), os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        if uri.startswith(SQLITE):
            Path(uri.removeprefix(SQLITE)).parent.mkdir(parents=True, exist_ok=True)
        client = mlflow.MlflowClient(uri)
        client.search_experiments(max_results=1)  # migrates a new database
        if artifacts := _artifacts(uri):
            _relocate(uri.removeprefix(SQLITE), params.tracking.project, artifacts)
        yield client
    finally:
        mlflow.set_tracking_uri(None)  # which removes the variable
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before


def experiment(client: Any, params: Params, name: str) -> str:
    """The id of an experiment, made if there is none.

    One that was deleted in the UI keeps its runs there, under another name.
    """
    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "deleted":
        log.warning("tracking: the experiment %s was deleted in MLflow; the runs on disk are in a new one", name)
        client.restore_experiment(found.experiment_id)
        client.rename_experiment(found.experiment_id, f"{name} (deleted {date.today()} {found.experiment_id})")
        client.delete_experiment(found.experiment_id)
        found = None
    number: str = found.experiment_id if found else client.create_experiment(name, _artifacts(client.tracking_uri))
    for key, value in _describe(params, name, number).items():
        if found is None or found.tags.get(key) != value:
            client.set_experiment_tag(number, key, value)
    return number


def pages(params: Params) -> list[str]:
    """The UI's page of each data set, relative to the server's address."""
    with connected(params) as client:
        found = client.search_experiments(filter_string=f"name LIKE '{params.tracking.project}/%'")
    return [PAGE.format(id=experiment.experiment_id) for experiment in found]


def _describe(params: Params, name: str, number: str) -> dict[str, str]:
    """An experiment's tags, which MLflow's UI reads."""
    tags = {
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.note.content": "Stages: what each made, from what, how fast.",
    }
    if "/" in name:
        selection = params.report.selection
        columns = [f"metrics.`{selection}/uar`", f"metrics.`{selection}/war`", "metrics.`runs`", "attributes.`Models`"]
        view = {"searchFilter": "tags.`tgdfer.current` = 'true'", "selectedColumns": columns}
        dataset = name.partition("/")[2]
        tags["mlflow.note.content"] = NOTE.format(dataset=dataset, page=PAGE.format(id=number), selection=selection)
        tags["mlflow.experiment.primaryMetric.name"] = f"{selection}/uar"  # the charts begin with it
        tags["mlflow.sharedViewState.tgdfer"] = json.dumps(view)
    return tags


def _artifacts(uri: str) -> str | None:
    """Where artifacts are stored; a server knows itself."""
    return (Path(uri.removeprefix(SQLITE)).resolve().parent / "artifacts").as_uri() if uri.startswith(SQLITE) else None


def _relocate(database: str, project: str, artifacts: str) -> None:
    """Correct the paths in the database of a project that was moved or copied: MLflow stores absolute ones."""
    with closing(sqlite3.connect(database, timeout=20)) as connection, connection:
        asked = "SELECT DISTINCT artifact_location FROM experiments WHERE name LIKE ? || '%' AND artifact_location != ?"
        for (old,) in connection.execute(asked, (project, artifacts)).fetchall():
            for table, column in PLACES:
                connection.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (old, artifacts))
