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
STAGES = "tgdfer-stages"
"""The experiment of the stages before and after training, apart from those of the data sets, which hold trainings."""


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


def experiment_of(dataset: str) -> str:
    """The name of a data set's experiment."""
    return f"tgdfer/{dataset}"


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

    def find(self, experiment: str, run: str, fingerprint: str | None = None) -> list[Any]:
        """The runs with this name (and fingerprint), newest first."""
        asked = [f"tags.\"tgdfer.run\" = '{run}'"]
        if fingerprint is not None:
            asked.append(f"tags.\"tgdfer.fingerprint\" = '{fingerprint}'")
        return list(self.client.search_runs([experiment], " and ".join(asked), order_by=["attributes.start_time DESC"]))

    def parent(self, experiment: str, event: Event) -> str:
        """The id of the run that stands for a variant: the current one with the children's parameters, made if none."""
        run, kin = event["parent"], event["tags"].get("tgdfer.variant_fingerprint", "")
        found = self.find(experiment, run, kin)
        if found:
            self.client.update_run(found[0].info.run_id, status="RUNNING")
            return found[0].info.run_id
        self.retire(self.find(experiment, run))
        tags = {key: value for key, value in event["tags"].items() if key in OF_A_VARIANT}
        tags |= {"tgdfer.run": run, "tgdfer.fingerprint": kin, "tgdfer.kind": "variant", "tgdfer.current": "true"}
        name = event["tags"].get("tgdfer.variant", run)
        made = self.client.create_run(experiment, event["time"], tags, name).info.run_id
        common = {key: value for key, value in event["parameters"].items() if key not in ("fold", "seed")}
        self.parameters(made, common)
        return made

    def parameters(self, run_id: str, values: Mapping[str, str]) -> None:
        """Log parameters that the run has not yet."""
        from mlflow.entities import Param

        for part in batches([Param(key, value[:LONGEST_PARAMETER]) for key, value in values.items()], BATCH_PARAMETERS):
            self.client.log_batch(run_id, params=part)

    def retire(self, runs: Iterable[Any]) -> None:
        """Mark runs whose parameters, data or code are no longer the current ones."""
        for run in runs:
            if run.data.tags.get("tgdfer.current") != "false":
                self.client.set_tag(run.info.run_id, "tgdfer.current", "false")


class Sink:
    """One run of MLflow, which takes the events of all attempts at it; the same event twice changes nothing."""

    def __init__(self, store: Store, event: Event) -> None:
        self.store, self.client = store, store.client
        self.ended = False
        self.experiment = store.experiment(event["experiment"])
        self.known: set[tuple[str, int]] = set()
        with lock("runs"):  # the run itself and an import of its events may be here at once
            self.parent = store.parent(self.experiment, event) if event["parent"] else None
            tags = {**event["tags"], "tgdfer.current": "true"}
            if self.parent:
                tags["mlflow.parentRunId"] = self.parent
            found = store.find(self.experiment, event["run"], event["tags"]["tgdfer.fingerprint"])
            if not found:
                store.retire(store.find(self.experiment, event["run"]))
                self.run_id = self.client.create_run(self.experiment, event["time"], tags, event["name"]).info.run_id
        had: dict[str, str] = {}
        self.tags: dict[str, str] = tags
        if found:
            self.run_id, had, self.tags = found[0].info.run_id, found[0].data.params, found[0].data.tags
            for key in found[0].data.metrics:
                history = self.client.get_metric_history(self.run_id, key)
                self.known |= {(point.key, point.step) for point in history}
            self.client.update_run(self.run_id, status="RUNNING")
        store.parameters(self.run_id, {key: text for key, text in event["parameters"].items() if key not in had})

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

        source = json.dumps({"uri": event["source"]})
        about = Dataset(event["name"], event["digest"], "local", source, profile=event["profile"])
        with lock("data"):  # two runs that name a data set first at once: the second would fail
            self.client.log_inputs(
                self.run_id, [DatasetInput(about, [InputTag("mlflow.data.context", event["context"])])]
            )

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
