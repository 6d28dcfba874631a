"""MLflow: the database or server, its experiments, and runs that are made once and continued by every retry."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from filelock import FileLock

from tgdfer import paths
from tgdfer.params import Params
from tgdfer.storage import file_fingerprint
from tgdfer.tracking.events import Event, read

SQLITE = "sqlite:///"
BATCH_METRICS = 1000
BATCH_PARAMETERS = 100
LONGEST_PARAMETER = 6000
MODEL = "model"
"""The folder of a run's artifacts that a registered version of the model points to."""
OF_A_VARIANT = (
    *("tgdfer.dataset", "tgdfer.variant", "mlflow.note.content"),
    *("mlflow.source.name", "mlflow.source.git.commit", "mlflow.user"),
)
"""Tags of a run that its variant has as well."""
OF_A_VERSION = tuple(f"tgdfer.{key}" for key in ("dataset", "variant", "fold", "seed"))
"""Tags of a run that a version of a registered model has as well."""
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
        if (before is None) != current:
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


class Sink:
    """One run of MLflow, which takes the events of all attempts at it; the same event twice changes nothing."""

    def __init__(self, store: Store, event: Event) -> None:
        self.store, self.client = store, store.client
        self.ended = False
        self.experiment = store.experiment(event["experiment"])
        self.known: set[tuple[str, int]] = set()
        with lock("runs"):  # the run itself and an import of its events may be here at once
            self.parent = store.parent(self.experiment, event) if event["parent"] else None
            tags = {**event["tags"], "mlflow.parentRunId": self.parent} if self.parent else event["tags"]
            self.run_id, before = store.attempt(
                self.experiment, event["name"], event["time"], tags, event["parameters"]
            )
        self.tags: dict[str, str] = {**(before.data.tags if before else {}), **tags}
        for key in before.data.metrics if before else ():
            history = self.client.get_metric_history(self.run_id, key)
            self.known |= {(point.key, point.step) for point in history}

    @classmethod
    def replay(cls, store: Store, path: Path) -> Sink | None:
        """Send the events of a file; None if it holds no start."""
        sink = None
        for event in read(path):
            if event["event"] == "start":
                sink = cls(store, event)
            elif sink is not None:
                sink.apply(event)
        return sink

    def apply(self, event: Event) -> None:
        """Send one event."""
        {
            "metrics": self._metrics,
            "artifact": self._artifact,
            "data": self._data,
            "model": self._model,
            "end": self._end,
        }[event["event"]](event)

    def _metrics(self, event: Event) -> None:
        from mlflow.entities import Metric

        # a resumed training repeats the epochs after its last checkpoint: to the same values, so the first stand
        new = [Metric(*point) for point in event["points"] if (point[0], point[3]) not in self.known]
        self.known |= {(point.key, point.step) for point in new}
        for part in batches(new, BATCH_METRICS):
            self.client.log_batch(self.run_id, metrics=part)

    def _artifact(self, event: Event) -> None:
        path = Path(event["path"])
        # an import may come after the file was cleaned away or made anew from other parameters
        if path.is_file() and file_fingerprint(path) == event["sha256"]:
            self.client.log_artifact(self.run_id, event["path"], event["folder"])

    def _data(self, event: Event) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        def said(name: str, profile: str | None) -> Dataset:
            source = json.dumps({"uri": event["source"]})
            return Dataset(name, event["digest"], "local", source, profile=profile)

        context = InputTag("mlflow.data.context", event["context"])
        with lock("data"):  # two runs that name a data set first at once: the second would fail
            self.client.log_inputs(self.run_id, [DatasetInput(said(event["name"], event["profile"]), [context])])
            if self.parent:  # of a variant, which has all folds, the data set as a whole
                self.client.log_inputs(self.parent, [DatasetInput(said(self.tags["tgdfer.dataset"], None), [])])

    def _model(self, event: Event) -> None:
        from mlflow.exceptions import MlflowException

        name = event["name"]
        with lock("models"):
            try:
                self.client.get_registered_model(name)
            except MlflowException:
                self.client.create_registered_model(name)
            found = [v for v in self.client.search_model_versions(f"run_id = '{self.run_id}'") if v.name == name]
            if not found:
                tags = {key: self.tags[key] for key in OF_A_VERSION if key in self.tags}
                where = f"{self.client.get_run(self.run_id).info.artifact_uri}/{MODEL}"
                about = event["description"]
                found = [self.client.create_model_version(name, where, self.run_id, tags, description=about)]
            self.client.set_registered_model_alias(name, event["alias"], found[0].version)

    def _end(self, event: Event) -> None:
        self.ended = True
        if event["error"]:
            self.client.set_tag(self.run_id, "tgdfer.error", event["error"])
        elif "tgdfer.error" in self.tags:
            self.client.delete_tag(self.run_id, "tgdfer.error")
        self.client.set_terminated(self.run_id, event["status"], event["time"])
        if self.parent:
            self._summarise(event["time"])

    def _summarise(self, time: int) -> None:
        """Mean and deviation over the finished children, as metrics of the parent; it ends when no child runs."""
        from mlflow.entities import Metric

        with lock("runs"):
            children = self.client.search_runs([self.experiment], f"tags.\"mlflow.parentRunId\" = '{self.parent}'")
            done = [child for child in children if child.info.status == "FINISHED"]
            values: dict[str, list[float]] = {}
            for child in done:
                for key, value in child.data.metrics.items():
                    if not key.startswith("system/"):
                        values.setdefault(key, []).append(value)
            summary = {"runs": float(len(done))}
            for key, found in values.items():
                summary[f"{key}_mean"] = fmean(found)
                if len(found) > 1:
                    summary[f"{key}_std"] = stdev(found)
            metrics = [Metric(key, value, time, len(done)) for key, value in summary.items()]
            for part in batches(metrics, BATCH_METRICS):
                self.client.log_batch(self.parent, metrics=part)
            if not any(child.info.status == "RUNNING" for child in children):
                self.client.set_terminated(self.parent, "FINISHED", time)
