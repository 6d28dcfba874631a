"""One run of MLflow, and how each event changes it."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean, stdev

from tgdfer.core.storage import file_fingerprint
from tgdfer.tracking.events import Event, read
from tgdfer.tracking.store import Store, batches, lock

BATCH_METRICS = 1000
MODEL = "model"
"""The folder of a run's artifacts that a registered version of the model points to."""
OF_A_VERSION = tuple(f"tgdfer.{key}" for key in ("dataset", "variant", "fold", "seed"))
"""Tags of a run that a version of a registered model has as well."""


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
            if self.parent and (self.parent, event["digest"]) not in self.store.named:
                # a variant has all folds: the data set as a whole
                self.client.log_inputs(self.parent, [DatasetInput(said(self.tags["tgdfer.dataset"], None), [])])
                self.store.named.add((self.parent, event["digest"]))

    def _model(self, event: Event) -> None:
        from mlflow.exceptions import MlflowException

        name = event["name"]
        with lock("models"):
            try:
                self.client.get_registered_model(name)
            except MlflowException:
                self.client.create_registered_model(name)
            found = [v for v in self.client.search_model_versions(f"run_id = '{self.run_id}'") if v.name == name]
            run = self.client.get_run(self.run_id)
            kept = any(item.path == MODEL for item in self.client.list_artifacts(self.run_id))
            if not found and kept:  # files that were made anew before a late import are another run's
                tags = {key: self.tags[key] for key in OF_A_VERSION if key in self.tags}
                where, about = f"{run.info.artifact_uri}/{MODEL}", event["description"]
                found = [self.client.create_model_version(name, where, self.run_id, tags, description=about)]
            if found and run.data.tags["tgdfer.current"] == "true":
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
