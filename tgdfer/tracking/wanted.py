"""The runs that MLflow should show, by the files of a workspace: trainings, their variants, and stages."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric

from tgdfer.config.params import Params
from tgdfer.core import paths, record, storage
from tgdfer.core.errors import UserError
from tgdfer.core.progress import log
from tgdfer.runs.files import ATTEMPT, SYSTEM, Key
from tgdfer.runs.state import Expected, flat, on_disk

STATUS = {
    "running": "RUNNING",
    **dict.fromkeys(("done", "outdated", "damaged"), "FINISHED"),
    "failed": "FAILED",
    "interrupted": "KILLED",
}
"""MLflow's words for the states of a run; a variant has the first of them that one of its runs has."""
SHOWN = ("metrics.json", "history.jsonl", "run.json")
MODEL_FILES = ("model.safetensors", "model.json", "run.json")
RECORDED = ("fingerprint", "started", "stage", "dataset", "variant", "encoder", "fold", "seed", "code")
TAGS = {f"tgdfer.{name}": name for name in (*RECORDED, "dvc_experiment")} | {
    "tgdfer.dirty": "git.dirty",
    "tgdfer.slurm_job": "slurm.SLURM_JOB_ID",
    "tgdfer.error": "failed",
    "mlflow.source.name": "command",
    "mlflow.source.git.commit": "git.commit",
    "mlflow.user": "user",
}
"""Where in a record the value of a tag is; those that MLflow knows fill columns of its UI."""
OF_A_RUN = ("fold", "seed", *(f"tgdfer.{name}" for name in ("fold", "seed", "state", "error", "slurm_job")))
"""Parameters and tags that a variant does not have."""
SPLIT = re.compile("^(?:(train|val|test)_)?")
UNNAMEABLE = re.compile(r"[^/\w.\- :]")
"""What MLflow does not take in the name of a metric; a user's classes may contain it."""


@dataclass
class Wanted:
    """A run of MLflow; times are in milliseconds. Results have step 0, so that MLflow draws bars of them."""

    experiment: str
    status: str
    started: int
    ended: int
    parameters: dict[str, str]
    tags: dict[str, str]
    current: bool
    """Whether the files are those of the present parameters, data and code."""
    points: list[Metric]
    artifacts: list[Path] = field(default_factory=list)
    data: list[DatasetInput] = field(default_factory=list)
    parent: Wanted | None = None
    model: Path | None = None
    """The folder whose model is to be logged."""
    run_id: str = ""


def wanted(params: Params) -> list[Wanted]:
    """Every run that the files of the workspace describe, a variant before its trainings.

    In a copy that `dvc exp run --temp` or `--queue` works in these are the experiment's own runs, not those that the
    copy has from the workspace, and none is current.
    """
    found = [*_stages(params)]
    for dataset in params.datasets:
        groups: dict[str, list[Wanted]] = {}
        expected = Expected(params, dataset)
        for key in on_disk(params, dataset):
            try:
                if run := _training(params, key, expected):
                    groups.setdefault(run.tags["tgdfer.variant_fingerprint"], []).append(run)
            except (UserError, AttributeError, KeyError, TypeError, ValueError) as error:
                log.warning("tracking: %s is left out: %s", key.folder, " ".join(str(error).split()))
        for runs in groups.values():
            variant = _variant(params, runs)
            found += [variant, *(replace(run, parent=variant) for run in runs)]
    return found


def _training(params: Params, key: Key, expected: Expected) -> Wanted | None:
    is_reference = key.variant == params.report.reference
    state = expected.state(key, {*SHOWN, *(MODEL_FILES if is_reference else ())} - {"run.json"})
    about = state.record or storage.read_object(key.folder / ATTEMPT)
    if not about or (paths.in_copy() and about.get("dvc_experiment") != os.environ["DVC_EXP_NAME"]):
        return None
    rows, load = (storage.read_lines(key.folder / name) for name in ("history.jsonl", SYSTEM))
    ended = about.get("ended") or (load[-1]["time"] if load else about["started"])
    run = _run(f"{params.tracking.project}/{key.dataset}", about, ended, state.done or not state.record, load)
    run.status = STATUS[state.name]
    run.parameters["variant"] = key.variant
    run.tags |= {
        "tgdfer.run": f"{key.dataset}/{key.variant}/fold{key.fold}/seed{key.seed}",
        "tgdfer.kind": "run",
        "tgdfer.state": state.name,
        "tgdfer.variant_fingerprint": storage.fingerprint([_shared(run.parameters), about["inputs"], about["code"]]),
        "mlflow.note.content": "\n\n".join([_label(params, key.variant), *state.reasons]),
    }
    run.points += _epochs(rows, run.started, run.ended)
    if state.record:
        metrics = storage.read_json(key.folder / "metrics.json")
        results = _results(params, metrics, about)
        run.points = [*_points(results, run.ended, 0), *run.points]  # the UI offers the first that it gets first
        run.artifacts = [key.folder / name for name in SHOWN]
        run.model = key.folder if is_reference and state.done else None
        source = json.dumps({"uri": paths.features(key.dataset, about["encoder"]).as_posix()})
        digest = storage.fingerprint(about["inputs"])[:12]
        for context in ("train", "test"):
            name, profile = f"{key.dataset} fold{key.fold} {context}", {"num_rows": metrics[f"n_{context}"]}
            data = Dataset(name, digest, "local", source, profile=json.dumps(profile))
            run.data.append(DatasetInput(data, [InputTag("mlflow.data.context", context)]))
    return run


def _variant(params: Params, runs: list[Wanted]) -> Wanted:
    """The parent of ``runs``, which differ in fold and seed only: means and deviations of their results."""
    tags, statuses = _shared(runs[0].tags), {run.status for run in runs}
    done = [run for run in runs if run.status == "FINISHED"]
    results = pd.DataFrame([{point.key: point.value for point in run.points if point.step == 0} for run in done])
    values = {**results.mean(), **results.std().dropna().add_suffix("_std"), "runs": len(done)}
    return Wanted(
        experiment=runs[0].experiment,
        status=next(status for status in STATUS.values() if status in statuses),
        started=min(run.started for run in runs),
        ended=max(run.ended for run in runs),
        parameters=_shared(runs[0].parameters),
        tags={
            **tags,
            "tgdfer.run": f"{tags['tgdfer.dataset']}/{tags['tgdfer.variant']}",
            "tgdfer.fingerprint": tags["tgdfer.variant_fingerprint"],
            "tgdfer.kind": "variant",
            "mlflow.note.content": _label(params, tags["tgdfer.variant"]),
        },
        current=any(run.current for run in runs),
        points=[*_points(values, int(time.time() * 1000), 0)],  # of the values of a step, MLflow shows the latest
    )


def _stages(params: Params) -> Iterator[Wanted]:
    for about, current in record.load():
        run = _run(f"{params.tracking.project}-stages", about, about["ended"], current, about["system"])
        run.status = "FAILED" if about["failed"] else "FINISHED"
        name = filter(None, ("stages", about["stage"], about["dataset"], about["encoder"]))
        run.tags |= {"tgdfer.run": "/".join(name), "tgdfer.kind": "stage"}
        by_epoch = {key: value for key, value in about["metrics"].items() if isinstance(value, list)}
        numbers = {key: value for key, value in about["metrics"].items() if key not in by_epoch}
        run.points += _points({**numbers, "seconds": (run.ended - run.started) / 1000}, run.ended, 0)
        run.points += _epochs(pd.DataFrame(by_epoch).to_dict("records"), run.started, run.ended)
        if current and about["stage"] == "report":
            run.artifacts = [path for path in (paths.REPORT_METRICS, paths.REPORT_PAGE) if path.exists()]
        yield run


def _run(experiment: str, about: Mapping[str, Any], ended: str, current: bool, load: list[dict[str, Any]]) -> Wanted:
    """What trainings and stages have in common: when and how they were made, and the load of the machine."""
    known = flat(about)
    tags = {tag: known.get(name) for tag, name in TAGS.items()} | flat(about["inputs"], "tgdfer.input.")
    current = current and not paths.in_copy()
    return Wanted(
        experiment=experiment,
        status="",
        started=_ms(about["started"]),
        ended=_ms(ended),
        parameters=_text(about["parameters"]),
        tags={"mlflow.source.type": "LOCAL", **{tag: str(value) for tag, value in tags.items() if value is not None}},
        current=current,
        points=[
            point
            for step, line in enumerate(load, start=1)
            for point in _points({key: value for key, value in line.items() if key != "time"}, _ms(line["time"]), step)
        ],
    )


def _results(params: Params, metrics: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, float | None]:
    """Results by name. Those of the primary selection come first, in the order of this and by their names."""
    values: dict[str, float | None] = {}
    for name, chosen in sorted(metrics["selections"].items(), key=lambda item: item[0] != params.report.selection):
        primary = name == params.report.selection
        prefix = name if primary else f"other/{name}"
        values |= {f"{prefix}/uar": chosen["uar"], f"{prefix}/war": chosen["war"]}
        values |= {f"recall/{label}": value for label, value in chosen["recall"].items() if primary}
        values[f"other/{name}/macro_f1"] = chosen["macro_f1"]
    cost = {"seconds": about["seconds"], "peak_memory_mb": about["peak_memory_mb"]}
    return {**values, **cost, "parameters": metrics["parameters_trainable"]}


def _epochs(rows: list[dict[Any, Any]], started: int, ended: int) -> Iterator[Metric]:
    """Rows of a history as metrics: ``train/loss``, ``val/uar``, ``test/war``; spread evenly over the run's time."""
    for epoch, row in enumerate(rows, start=1):
        values = {SPLIT.sub(lambda split: f"{split[1] or 'train'}/", key): row[key] for key in row if key != "epoch"}
        yield from _points(values, started + (ended - started) * epoch // len(rows), epoch)


def _points(values: Mapping[str, float | None], at: int, step: int) -> Iterator[Metric]:
    """Metrics of a step; absent and infinite values are left out."""
    for key, value in values.items():
        if value is not None and math.isfinite(value):
            yield Metric(UNNAMEABLE.sub("_", key), float(value), at, step)


def _shared(values: Mapping[str, str]) -> dict[str, str]:
    """The parameters or tags that a variant's runs share."""
    return {name: value for name, value in values.items() if name not in OF_A_RUN}


def _label(params: Params, variant: str) -> str:
    """The variant's name in print, and the parameters that it changes."""
    about = params.variants[variant]
    changes = _text(about.set.model_dump(exclude_defaults=True))
    return "\n\n".join([about.label, *(f"{key} = {value}" for key, value in sorted(changes.items()))])


def _text(values: Mapping[str, Any]) -> dict[str, str]:
    """Nested parameters as dotted keys and text."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in flat(values).items()}


def _ms(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp() * 1000)
