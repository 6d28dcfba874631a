"""MLflow: the database or server, its experiments, and runs that are made once and continued by every retry."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock

from tgdfer.config.params import Params
from tgdfer.core import paths
from tgdfer.tracking.events import Event

SQLITE = "sqlite:///"
BATCH_PARAMETERS = 100
LONGEST_PARAMETER = 6000
OF_A_VARIANT = (
    *("tgdfer.dataset", "tgdfer.variant", "mlflow.note.content"),
    *("mlflow.source.name", "mlflow.source.git.commit", "mlflow.user"),
)
"""Tags of a run that its variant has as well."""
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Without it the UI opens an experiment with pages on language models."""


def sends(params: Params) -> bool:
    """Whether this process may send to MLflow itself.

    With ``mode: auto`` it may, except in a SLURM job with an SQLite database: its file does not belong on a network
    file system with writers on many machines, so such a job leaves its events for the import.
    """
    if params.tracking.mode == "auto":
        return not (uri_of(params).startswith(SQLITE) and "SLURM_JOB_ID" in os.environ)
    return params.tracking.mode == "live"


def uri_of(params: Params) -> str:
    """The tracking URI: MLFLOW_TRACKING_URI if it is set, else the parameter's; a database's path is made absolute."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or params.tracking.uri
    return SQLITE + str(Path(uri.removeprefix(SQLITE)).resolve()) if uri.startswith(SQLITE) else uri


def experiment_of(params: Params, dataset: str | None) -> str:
    """The name of a data set's experiment, or of that of the stages, which stand apart from trainings."""
    return f"{params.tracking.project}/{dataset}" if dataset else f"{params.tracking.project}-stages"


def batches(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    """Slices of at most ``size``."""
    return (items[at : at + size] for at in range(0, len(items), size))


def lock(name: str) -> FileLock:
    """A lock between the processes of one machine."""
    paths.MLFLOW.mkdir(parents=True, exist_ok=True)
    return FileLock(paths.MLFLOW / f".{name}.lock")


def _is_whole(database: Path) -> bool:
    """Whether an SQLite file is one of MLflow's, made to the end: the first experiment comes after all migrations."""
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT count(*) FROM experiments").fetchone()[0] > 0
    except sqlite3.Error:
        return False


class Store:
    """A tracking database or server, made ready once: processes that open a new SQLite file at once lose runs."""

    def __init__(self, params: Params) -> None:
        # a server that is down is noticed in seconds; the events stay on disk for a later import
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        from mlflow import MlflowClient

        self.params = params
        self.named: set[tuple[str, str]] = set()
        self.uri = uri_of(params)
        self.sqlite = self.uri.startswith(SQLITE)
        database = Path(self.uri.removeprefix(SQLITE))
        if self.sqlite:
            database.parent.mkdir(parents=True, exist_ok=True)
        with nullcontext() if not self.sqlite or _is_whole(database) else lock("store"):
            self.client = MlflowClient(tracking_uri=self.uri)
            self.client.search_experiments(max_results=1)  # migrates a new database

    def experiment(self, name: str) -> str:
        """The id of an experiment, made if there is none."""
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "active":
            return found.experiment_id
        with lock("store"):
            found = self.client.get_experiment_by_name(name)
            if found is not None:
                if found.lifecycle_stage == "deleted":
                    self.client.restore_experiment(found.experiment_id)
                return found.experiment_id
            # a server keeps artifacts where it was told to; a database on this machine keeps them beside itself
            location = Path(self.params.tracking.artifacts).resolve().as_uri() if self.sqlite else None
            try:
                return self.client.create_experiment(name, artifact_location=location, tags=KIND)
            except MlflowException:  # another machine was faster
                made = self.client.get_experiment_by_name(name)
                if made is None:
                    raise
                return made.experiment_id

    def parent(self, experiment: str, event: Event) -> str:
        """The id of the run that stands for a variant: the one with the children's parameters, made if none."""
        tags = {key: value for key, value in event["tags"].items() if key in OF_A_VARIANT}
        tags |= {
            "tgdfer.run": event["parent"],
            "tgdfer.fingerprint": event["tags"].get("tgdfer.variant_fingerprint", ""),
        }
        common = {key: value for key, value in event["parameters"].items() if key not in ("fold", "seed")}
        name = event["tags"].get("tgdfer.variant", event["parent"])
        return self.attempt(experiment, name, event["time"], {**tags, "tgdfer.kind": "variant"}, common)[0]

    def attempt(
        self, experiment: str, name: str, time: int, tags: dict[str, str], parameters: Mapping[str, str]
    ) -> tuple[str, Any]:
        """The run with the name and the fingerprint that ``tags`` hold, made if there is none; also what it was before.

        Of the runs with one name, that is current which was attempted last, also when parameters go back to what they
        were; an old attempt whose events come late makes none current.
        """
        from mlflow.entities import Param

        namesakes = self.client.search_runs([experiment], f"tags.\"tgdfer.run\" = '{tags['tgdfer.run']}'")
        same = [run for run in namesakes if run.data.tags.get("tgdfer.fingerprint") == tags["tgdfer.fingerprint"]]
        others = [run for run in namesakes if run not in same]
        current = all(_attempted(run) <= time for run in others)
        tags = {**tags, "tgdfer.attempted": str(time), "tgdfer.current": str(current).lower()}
        before = same[0] if same else None
        if before is None:
            run_id: str = self.client.create_run(experiment, time, tags, name).info.run_id
        else:
            run_id = before.info.run_id
            if time >= _attempted(before):
                self._tag(before, tags)
        if (before is None) != current:  # one that goes on, or that others have followed before it was heard of
            self.client.update_run(run_id, status="RUNNING" if current else "KILLED")
        for run in others if current else []:
            self._tag(run, {"tgdfer.current": "false"})
            if run.info.status == "RUNNING":  # killed, and no retry came to an end
                self.client.update_run(run.info.run_id, status="KILLED")
        had = before.data.params if before else {}
        new = [Param(key, value[:LONGEST_PARAMETER]) for key, value in parameters.items() if key not in had]
        for part in batches(new, BATCH_PARAMETERS):
            self.client.log_batch(run_id, params=part)
        return run_id, before

    def _tag(self, run: Any, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        new = [RunTag(key, value) for key, value in tags.items() if run.data.tags.get(key) != value]
        if new:
            self.client.log_batch(run.info.run_id, tags=new)


def _attempted(run: Any) -> int:
    """When the latest attempt at a run began, in milliseconds."""
    return int(run.data.tags.get("tgdfer.attempted", run.info.start_time))
