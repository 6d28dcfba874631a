"""Bring MLflow to what the files say; doing so again changes nothing."""

from typing import Any

from mlflow.entities import Param, RunTag

from tgdfer.config.params import Params
from tgdfer.core import paths, storage
from tgdfer.tracking.models import log_model, set_aliases
from tgdfer.tracking.server import experiment
from tgdfer.tracking.wanted import Wanted

DIGEST = "tgdfer.digest"
"""The tag with the fingerprint of all that a run has; it is set last, so that an interrupted call is made up for."""
PAST = "superseded"
MOST_RUNS = 50_000
"""MLflow returns no more runs at a time."""


def sync(client: Any, params: Params, runs: list[Wanted]) -> int:
    """Make, continue and mark MLflow's runs; a variant comes before its trainings in ``runs``.

    Returns:
        How many runs were written to.
    """
    experiments = {name: experiment(client, params, name) for name in dict.fromkeys(run.experiment for run in runs)}
    found = client.search_runs([*experiments.values()], "tags.`tgdfer.run` != ''", max_results=MOST_RUNS)
    there = {(run.data.tags["tgdfer.run"], run.data.tags["tgdfer.fingerprint"]): run for run in found}
    changed = 0
    for run in runs:
        before = there.pop((run.tags["tgdfer.run"], run.tags["tgdfer.fingerprint"]), None)
        changed += _write(client, experiments[run.experiment], run, before)
    if not paths.in_copy():  # which does not hold the workspace's runs
        changed += sum(_mark_as_past(client, run) for run in there.values())
        for name, number in experiments.items():
            with_model = [run for run in runs if run.experiment == name and run.model and run.current]
            set_aliases(client, number, name.replace("/", "-"), with_model)
    return changed


def _write(client: Any, experiment: str, run: Wanted, before: Any) -> bool:
    """Write what MLflow lacks of a run, of which it has ``before``; whether that was anything."""
    keys = {point.key for point in run.points}
    if before and (before.data.metrics.keys() - keys or before.info.start_time != run.started):
        client.delete_run(before.info.run_id)  # MLflow takes neither a start nor a metric back
        before = None
    title = _title(run.tags, "" if run.current else "outdated")
    tags = {**run.tags, "tgdfer.current": str(run.current).lower(), "mlflow.runName": title, DIGEST: ""}
    if run.parent:
        tags["mlflow.parentRunId"] = run.parent.run_id
    files = {path.as_posix(): storage.file_fingerprint(path) for path in run.artifacts}
    points = [(point.key, point.value, point.step) for point in run.points]
    digest = storage.fingerprint([tags, run.status, run.ended, run.parameters, points, files, bool(run.model)])
    about = before or client.create_run(experiment, run.started, run_name=title)
    run.run_id = about.info.run_id
    if about.data.tags.get(DIGEST) == digest:
        return False
    for key in about.data.tags.keys() - tags.keys():
        if key.startswith("tgdfer."):  # the error of an earlier attempt; a user's own tags stay
            client.delete_tag(run.run_id, key)
    latest = {metric.key: (metric.step, metric.value) for metric in about.data.to_proto().metrics}
    new = [
        point
        for point in run.points
        if point.step >= latest.get(point.key, (0,))[0] and (point.step, point.value) != latest.get(point.key)
    ]
    parameters = [Param(key, value) for key, value in run.parameters.items()]
    client.log_batch(run.run_id, new, parameters, [RunTag(key, value) for key, value in tags.items()])
    if run.data:
        client.log_inputs(run.run_id, run.data)
    for path in run.artifacts:
        client.log_artifact(run.run_id, str(path))
    if run.model:
        log_model(client, experiment, run)
    if run.status != "RUNNING":
        client.set_terminated(run.run_id, run.status, run.ended)
    elif about.info.status != "RUNNING":
        client.update_run(run.run_id, "RUNNING")
    client.set_tag(run.run_id, DIGEST, digest)
    return True


def _mark_as_past(client: Any, before: Any) -> bool:
    """Mark a run that the workspace no longer has; whether it was not marked."""
    tags = before.data.tags
    if tags.get(DIGEST) == PAST:
        return False
    if before.info.status == "RUNNING":
        client.update_run(before.info.run_id, "KILLED")
    new = {"tgdfer.current": "false", "mlflow.runName": _title(tags, PAST), DIGEST: PAST}
    client.log_batch(before.info.run_id, tags=[RunTag(key, value) for key, value in new.items()])
    return True


def _title(tags: dict[str, str], mark: str) -> str:
    """A run's name in the UI, such as ``no-text fold1 seed0``, with its DVC experiment or ``mark``."""
    name, experiment = tags["tgdfer.run"].partition("/")[2].replace("/", " "), tags.get("tgdfer.dvc_experiment")
    return f"{name} [{experiment}]" if experiment else f"{name} ({mark})" if mark else name
