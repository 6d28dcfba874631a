"""MLflow's server or database: its experiments, and a project that was moved."""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import mlflow

from tgdfer.config.params import Params
from tgdfer.config.report import SQLITE
from tgdfer.core.progress import log

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


@contextmanager
def connected(params: Params) -> Iterator[Any]:
    """A client of MLflow, whose URI is MLflow's default in the block, because logging and loading a model use that."""
    uri, before = params.tracking.place, os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        client = mlflow.MlflowClient()
        if uri.startswith(SQLITE):
            database = Path(uri.removeprefix(SQLITE))
            database.parent.mkdir(parents=True, exist_ok=True)
            client.search_experiments(max_results=1)  # makes the database, or brings it to MLflow's version
            _relocate(database, params.tracking.project, _artifacts(uri))
        yield client
    finally:
        mlflow.set_tracking_uri(before)


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
    kind, note = {"mlflow.experimentKind": "custom_model_development"}, "mlflow.note.content"
    if "/" not in name:
        return kind | {note: "Stages: what each made, from what, how fast."}
    selection = params.report.selection
    columns = [f"metrics.`{selection}/uar`", f"metrics.`{selection}/war`", "metrics.`runs`", "attributes.`Models`"]
    view = {"searchFilter": "tags.`tgdfer.current` = 'true'", "selectedColumns": columns}
    return kind | {
        note: NOTE.format(dataset=name.partition("/")[2], page=PAGE.format(id=number), selection=selection),
        "mlflow.experiment.primaryMetric.name": f"{selection}/uar",  # the charts begin with it
        "mlflow.sharedViewState.tgdfer": json.dumps(view),
    }


def _artifacts(uri: str) -> str | None:
    """Where artifacts are stored; a server knows itself."""
    return (Path(uri.removeprefix(SQLITE)).resolve().parent / "artifacts").as_uri() if uri.startswith(SQLITE) else None


def _relocate(database: Path, project: str, artifacts: str | None) -> None:
    """Correct the paths in the database of a project that was moved or copied: MLflow stores absolute ones."""
    with closing(sqlite3.connect(database, timeout=20)) as connection, connection:
        asked = "SELECT DISTINCT artifact_location FROM experiments WHERE name LIKE ? || '%' AND artifact_location != ?"
        for (old,) in connection.execute(asked, (project, artifacts)).fetchall():
            for table, column in PLACES:
                connection.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (old, artifacts))
