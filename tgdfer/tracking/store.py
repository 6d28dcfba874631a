"""MLflow's database or server: where it is, its experiments, and a project that was moved."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

from filelock import FileLock

from tgdfer.config.params import Params
from tgdfer.core import paths
from tgdfer.core.progress import log
from tgdfer.tracking.wanted import workspace

SQLITE = "sqlite:///"
PLACES = (
    *(("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location")),
    *(("model_versions", "source"), ("model_versions", "storage_location")),
)
"""Columns of MLflow's database that hold absolute paths."""
NOTE = """Trainings of {title}, by variant; a variant's own numbers are means over its folds and seeds.

The primary selection is `{selection}`. Numbers below `other/` are not for choosing: `best_test` looks at test clips.

Rows that the files in `runs/` no longer describe are marked superseded or outdated: ``tags.`tgdfer.current` = 'true'``
leaves them out, ``tags.`tgdfer.kind` = 'variant'`` shows a row per variant."""


def uri_of(params: Params) -> str:
    """The tracking URI: MLFLOW_TRACKING_URI if it is set, else the parameter's, with an absolute path for SQLite."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or params.tracking.uri
    return SQLITE + str(workspace() / uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else uri


def line(error: Exception) -> str:
    """``error`` in a line, without the user and password that a URI may hold."""
    return f"{type(error).__name__}: {re.sub(r'//[^/@ ]*@', '//', ' '.join(str(error).split()))[:300]}"


class Store:
    """A tracking database or server, ready for use."""

    def __init__(self, params: Params) -> None:
        # a server that is down is noticed in seconds
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        import mlflow

        self.params, self.uri = params, uri_of(params)
        self.artifacts: str | None = None  # a server knows where it keeps them
        if self.uri.startswith(SQLITE):
            database = Path(self.uri.removeprefix(SQLITE)).resolve()
            database.parent.mkdir(parents=True, exist_ok=True)
            self.artifacts = (database.parent / "artifacts").as_uri()
        self.client = mlflow.MlflowClient(self.uri)
        self.client.search_experiments(max_results=1)  # migrates a new database
        if self.artifacts:
            _relocate(database, params.tracking.project, self.artifacts)

    def experiment(self, name: str) -> str:
        """The id of an experiment, made if there is none.

        One that was deleted in the UI keeps its runs there, under another name.
        """
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "deleted":
            log.warning("tracking: the experiment %s was deleted in MLflow; the runs on disk are in a new one", name)
            self.client.restore_experiment(found.experiment_id)
            self.client.rename_experiment(found.experiment_id, f"{name} (deleted {date.today()} {found.experiment_id})")
            self.client.delete_experiment(found.experiment_id)
            found = None
        if found is None:
            try:
                self.client.create_experiment(name, artifact_location=self.artifacts)
            except MlflowException:  # another workspace was faster
                if self.client.get_experiment_by_name(name) is None:
                    raise
            found = self.client.get_experiment_by_name(name)
        dataset = name.removeprefix(f"{self.params.tracking.project}/")
        note = NOTE.format(title=dataset, selection=self.params.report.selection)
        tags = {
            "mlflow.note.content": note if dataset != name else "Stages: what each made, from what, how fast.",
            "mlflow.experimentKind": "custom_model_development",  # else the UI opens pages on language models
        }
        for key, value in tags.items():
            if found.tags.get(key) != value:
                self.client.set_experiment_tag(found.experiment_id, key, value)
        experiment: str = found.experiment_id
        return experiment

    def runs(self, experiment: str) -> dict[tuple[str, str], Any]:
        """The runs of an experiment by name and fingerprint."""
        found: dict[tuple[str, str], Any] = {}
        token: str | None = ""
        while token is not None:
            page = self.client.search_runs([experiment], "tags.`tgdfer.run` != ''", page_token=token or None)
            found |= {(run.data.tags["tgdfer.run"], run.data.tags.get("tgdfer.fingerprint", "")): run for run in page}
            token = page.token or None
        return found


def lock() -> FileLock:
    """The lock of the one process of a workspace that writes to MLflow."""
    folder = workspace() / paths.MLFLOW
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / ".lock")


def _relocate(database: Path, project: str, artifacts: str) -> None:
    """Correct the paths in the database of a project that was moved or copied: MLflow stores absolute ones."""
    with closing(sqlite3.connect(database, timeout=20)) as connection, connection:
        asked = "SELECT DISTINCT artifact_location FROM experiments WHERE name LIKE ? || '%' AND artifact_location != ?"
        for (old,) in connection.execute(asked, (project, artifacts)).fetchall():
            for table, column in PLACES:
                change = f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?"
                connection.execute(change, (artifacts, len(old) + 1, len(old) + 1, f"{old}/"))
            connection.execute(
                "UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?", (artifacts, old)
            )
