"""Bring one experiment of MLflow to what the files say; doing so again changes nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

from tgdfer.tracking.models import log_model, set_aliases
from tgdfer.tracking.store import Store
from tgdfer.tracking.wanted import Wanted, in_copy

LONGEST_PARAMETER = 6000
BATCH_PARAMETERS = 100
BATCH_METRICS = 1000


def sync(store: Store, experiment: str, wanted: list[Wanted]) -> int:
    """Make, continue and mark the runs of an experiment; a variant stands before its trainings in ``wanted``.

    Returns:
        How many runs were written to.
    """
    there = store.runs(experiment)
    ids: dict[int, str] = {}
    changed = 0
    for run in wanted:
        before = there.pop((run.name, run.fingerprint), None)
        if before is not None and _was_made_again(run, before):
            store.client.delete_run(before.info.run_id)
            before = None
        run_id, wrote = _write(store, experiment, run, before, ids[id(run.parent)] if run.parent else None)
        ids[id(run)] = run_id
        changed += wrote
    if not in_copy():  # which does not hold the workspace's runs
        changed += sum(_mark_as_past(store, run) for run in there.values())
        models = {ids[id(run)]: run for run in wanted if run.model and run.current}
        set_aliases(store, wanted[0].experiment.replace("/", "-"), models)
    return changed


def _was_made_again(run: Wanted, before: Any) -> bool:
    """Whether the files hold another execution than MLflow: it cannot take back what it has."""
    tags = before.data.tags
    if run.tags["tgdfer.kind"] == "variant" or tags.get("tgdfer.digest") == run.digest:
        return False
    return tags.get("tgdfer.started") != str(run.started) or before.info.status == "FINISHED"


def _write(store: Store, experiment: str, run: Wanted, before: Any, parent: str | None) -> tuple[str, bool]:
    client = store.client
    tags = {
        **run.tags,
        "tgdfer.run": run.name,
        "tgdfer.fingerprint": run.fingerprint,
        "tgdfer.started": str(run.started),
        "tgdfer.current": str(run.current).lower(),
        "mlflow.runName": _title(run.title, run.tags, run.current, "outdated"),
        "mlflow.note.content": run.note,
        **({"mlflow.parentRunId": parent} if parent else {}),
    }
    digest = run.digest
    whole = before is not None and before.data.tags.get("tgdfer.digest") == digest
    if before is None:
        run_id = client.create_run(experiment, run.started, tags, tags["mlflow.runName"]).info.run_id
    else:
        run_id = before.info.run_id
        _tag(store, before, tags)
        for key in before.data.tags.keys() - tags.keys() - {"tgdfer.digest"}:
            if key.startswith("tgdfer."):  # the error of an earlier attempt; a user's own tags stay
                client.delete_tag(run_id, key)
        if whole:
            return run_id, False
        if before.info.status != run.status:
            client.update_run(run_id, status=run.status)
    _fill(store, run_id, run, before)
    if run.status != "RUNNING":
        client.set_terminated(run_id, run.status, run.ended)
        client.set_tag(run_id, "tgdfer.digest", digest)  # last: without it the next call goes on here
    return run_id, True


def _fill(store: Store, run_id: str, run: Wanted, before: Any) -> None:
    """Add what the run lacks."""
    from mlflow.entities import Metric, Param

    client = store.client
    if before is None:
        pairs = [Param(key, value[:LONGEST_PARAMETER]) for key, value in run.parameters.items()]
        for part in _batches(pairs, BATCH_PARAMETERS):
            client.log_batch(run_id, params=part)
    _log_data(store, run_id, run)
    for path in run.artifacts:
        client.log_artifact(run_id, str(path))
    model = log_model(store, run_id, run).model_id if run.model else None
    if run.tags["tgdfer.kind"] == "variant":  # the latest of a step is shown
        now = int(time.time() * 1000)
        run.points = [(key, value, now, step) for key, value, _, step in run.points]
    points = [
        Metric(key, value, at, step, model_id=model if step == 0 else None)
        for key, value, at, step in (_missing(store, run_id, run, before) if before else run.points)
    ]
    for part in _batches(points, BATCH_METRICS):
        client.log_batch(run_id, metrics=part)


def _missing(store: Store, run_id: str, run: Wanted, before: Any) -> list[Any]:
    """The points that MLflow does not have: new epochs, new seconds of system metrics, and results."""
    steps: dict[bool, set[int]] = {}
    new = []
    for key, value, at, step in run.points:
        system = key.startswith("system/")
        if step == 0:
            known = before.data.metrics.get(key) == value
        else:  # the points of a step arrive together
            if system not in steps:
                steps[system] = {point.step for point in store.client.get_metric_history(run_id, key)}
            known = step in steps[system]
        if not known:
            new.append((key, value, at, step))
    return new


def _log_data(store: Store, run_id: str, run: Wanted) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = []
    for context, data in run.data.items():
        profile = json.dumps({"num_rows": data["num_rows"]}) if data["num_rows"] else None
        source = json.dumps({"uri": data["source"]})
        tags = [InputTag("mlflow.data.context", context)] if context else []
        inputs.append(DatasetInput(Dataset(data["name"], data["digest"], "local", source, profile=profile), tags))
    if inputs:
        store.client.log_inputs(run_id, inputs)


def _mark_as_past(store: Store, before: Any) -> bool:
    """Mark a run that the workspace no longer has; whether it was not marked."""
    tags = before.data.tags
    title = tags.get("mlflow.runName", "").split(" (")[0].split(" [")[0]
    if before.info.status == "RUNNING":
        store.client.update_run(before.info.run_id, status="KILLED")
    return _tag(
        store,
        before,
        {"tgdfer.current": "false", "mlflow.runName": _title(title, tags, False, "superseded")},
    )


def _title(title: str, tags: dict[str, str], current: bool, otherwise: str) -> str:
    experiment = tags.get("tgdfer.dvc_experiment")
    return title + (f" [{experiment}]" if experiment else "") + ("" if current or experiment else f" ({otherwise})")


def _tag(store: Store, run: Any, tags: dict[str, str]) -> bool:
    from mlflow.entities import RunTag

    new = [RunTag(key, value) for key, value in tags.items() if run.data.tags.get(key) != value]
    if new:
        store.client.log_batch(run.info.run_id, tags=new)
    return bool(new)


def _batches(items: list[Any], size: int) -> Iterable[list[Any]]:
    return (items[at : at + size] for at in range(0, len(items), size))
