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
from tgdfer.runs.state import Expected, State, flat

STATUS = {"running": "RUNNING", "failed": "FAILED"}
"""MLflow's words for the states of a run without a result; one that was interrupted is KILLED."""
SHOWN = ("metrics.json", "history.jsonl", "run.json")
MODEL_FILES = ("model.safetensors", "model.json", "run.json")
RECORDED = ("stage", "dataset", "variant", "encoder", "fold", "seed", "code", "dvc_experiment")
OF_A_RUN = ("tgdfer.fold", "tgdfer.seed", "tgdfer.state", "tgdfer.error", "tgdfer.slurm_job")
"""Tags that a variant does not have."""
SPLIT = re.compile("^(train|val|test)_")
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
    points: list[Metric]
    artifacts: list[Path] = field(default_factory=list)
    data: list[DatasetInput] = field(default_factory=list)
    parent: Wanted | None = None
    model: Path | None = None
    """The folder whose model is to be logged."""
    run_id: str = ""

    @property
    def current(self) -> bool:
        """Whether the files are those of the present parameters, data and code."""
        return self.tags["tgdfer.current"] == "true"


def wanted(params: Params) -> list[Wanted]:
    """Every run that the files of the workspace describe, a variant before its trainings.

    In a copy that `dvc exp run --temp` or `--queue` works in these are the experiment's own runs, not those that the
    copy has from the workspace, and none is current.
    """
    found = [*_stages(params)]
    for dataset in params.datasets:
        groups: dict[str, list[Wanted]] = {}
        for run in _trainings(params, dataset):
            groups.setdefault(run.tags["tgdfer.variant_fingerprint"], []).append(run)
        for runs in groups.values():
            variant = _variant(params, runs)
            found += [variant, *(replace(run, parent=variant) for run in runs)]
    return found


def in_copy() -> bool:
    """Whether the working directory is a copy of the workspace that a DVC experiment runs in."""
    return "DVC_EXP_NAME" in os.environ and workspace() != Path.cwd()


def workspace() -> Path:
    """The project's root; that of the workspace, if this is the copy of a DVC experiment."""
    return Path(os.environ["DVC_ROOT"]).resolve() if "DVC_EXP_NAME" in os.environ else Path.cwd()


def _trainings(params: Params, dataset: str) -> Iterator[Wanted]:
    expected = Expected(params, dataset)
    for folder in sorted(paths.run(dataset, "*", 1, 0).parents[2].glob("*/fold*/seed*")):
        variant, fold, seed = folder.parts[-3], folder.parts[-2][len("fold") :], folder.parts[-1][len("seed") :]
        if variant in params.variants and fold.isdigit() and seed.isdigit():
            key = Key(dataset, variant, int(fold), int(seed))
            read = (*SHOWN[:2], *(MODEL_FILES[:2] if variant == params.report.reference else ()))
            try:
                if run := _training(params, key, expected.state(key, read)):
                    yield run
            except (UserError, AttributeError, KeyError, TypeError, ValueError) as error:
                log.warning("tracking: %s is left out: %s", folder, " ".join(str(error).split()))


def _training(params: Params, key: Key, state: State) -> Wanted | None:
    about = state.record or storage.read_object(key.folder / ATTEMPT)
    if not about or (in_copy() and about.get("dvc_experiment") != os.environ["DVC_EXP_NAME"]):
        return None
    rows, load = (storage.read_lines(key.folder / name) for name in ("history.jsonl", SYSTEM))
    started, ended = _ms(about["started"]), _ms(about.get("ended") or (load[-1]["time"] if load else about["started"]))
    run = Wanted(
        experiment=f"{params.tracking.project}/{key.dataset}",
        status="FINISHED" if state.record else STATUS.get(state.name, "KILLED"),
        started=started,
        ended=ended,
        parameters={"variant": key.variant, **_text(about["parameters"])},
        tags=_tags(f"{key.dataset}/{key.variant}/fold{key.fold}/seed{key.seed}", about, state.done or not state.record),
        points=[],
    )
    shared = {name: value for name, value in run.parameters.items() if name not in ("fold", "seed")}
    run.tags |= {
        "tgdfer.kind": "run",
        "tgdfer.state": state.name,
        "tgdfer.variant_fingerprint": storage.fingerprint([shared, about["inputs"], about["code"]]),
        "mlflow.note.content": "\n\n".join([_label(params, key.variant), *state.reasons]),
    }
    if state.record:
        metrics = storage.read_json(key.folder / "metrics.json")
        run.points += _points(_results(params, metrics, about), ended, 0)  # the UI offers the first that it gets first
        run.artifacts = [key.folder / name for name in SHOWN]
        source = json.dumps({"uri": paths.features(key.dataset, about["encoder"]).as_posix()})
        digest = storage.fingerprint(about["inputs"])[:12]
        for context in ("train", "test"):
            name, profile = f"{key.dataset} fold{key.fold} {context}", {"num_rows": metrics[f"n_{context}"]}
            data = Dataset(name, digest, "local", source, profile=json.dumps(profile))
            run.data.append(DatasetInput(data, [InputTag("mlflow.data.context", context)]))
        run.model = key.folder if key.variant == params.report.reference and state.done else None
    run.points += [*_epochs(rows, started, ended), *_load(load)]
    return run


def _variant(params: Params, runs: list[Wanted]) -> Wanted:
    """The parent of ``runs``, which differ in fold and seed only: means and deviations of their results."""
    tags, statuses = runs[0].tags, {run.status for run in runs}
    done = [run for run in runs if run.status == "FINISHED"]
    results = pd.DataFrame([{point.key: point.value for point in run.points if point.step == 0} for run in done])
    values = {**results.mean(), **results.std().dropna().add_suffix("_std"), "runs": len(done)}
    return replace(
        runs[0],
        status=next(status for status in ("RUNNING", "FINISHED", "FAILED", "KILLED") if status in statuses),
        started=min(run.started for run in runs),
        ended=max(run.ended for run in runs),
        parameters={name: value for name, value in runs[0].parameters.items() if name not in ("fold", "seed")},
        tags={name: value for name, value in tags.items() if name not in OF_A_RUN}
        | {
            "tgdfer.run": f"{tags['tgdfer.dataset']}/{tags['tgdfer.variant']}",
            "tgdfer.fingerprint": tags["tgdfer.variant_fingerprint"],
            "tgdfer.current": str(any(run.current for run in runs)).lower(),
            "tgdfer.kind": "variant",
            "mlflow.note.content": _label(params, tags["tgdfer.variant"]),
        },
        points=[*_points(values, int(time.time() * 1000), 0)],  # of the values of a step, MLflow shows the latest
        artifacts=[],
        data=[],
        model=None,
    )


def _stages(params: Params) -> Iterator[Wanted]:
    for about, current in record.load():
        name = "/".join(filter(None, ("stages", about["stage"], about["dataset"], about["encoder"])))
        started, ended = _ms(about["started"]), _ms(about["ended"])
        by_epoch = {key: value for key, value in about["metrics"].items() if isinstance(value, list)}
        numbers = {key: value for key, value in about["metrics"].items() if key not in by_epoch}
        report = (paths.REPORT_METRICS, paths.REPORT_PAGE) if current and about["stage"] == "report" else ()
        yield Wanted(
            experiment=f"{params.tracking.project}-stages",
            status="FAILED" if about["failed"] else "FINISHED",
            started=started,
            ended=ended,
            parameters=_text(about["parameters"]),
            tags={**_tags(name, about, current), "tgdfer.kind": "stage"},
            points=[
                *_points({**numbers, "seconds": (ended - started) / 1000}, ended, 0),
                *_epochs(pd.DataFrame(by_epoch).to_dict("records"), started, ended),
                *_load(about["system"]),
            ],
            artifacts=[path for path in report if path.exists()],
        )


def _tags(name: str, about: Mapping[str, Any], current: bool) -> dict[str, str]:
    """Tags that say how a run was made; those that MLflow knows fill columns of its UI."""
    git, slurm = about.get("git") or {}, about.get("slurm") or {}
    tags = {
        "tgdfer.run": name,
        "tgdfer.fingerprint": about["fingerprint"],
        "tgdfer.started": about["started"],
        "tgdfer.current": str(current and not in_copy()).lower(),
        **{f"tgdfer.{key}": about.get(key) for key in RECORDED},
        **{f"tgdfer.input.{key}": value for key, value in about["inputs"].items()},
        "tgdfer.dirty": git.get("dirty"),
        "tgdfer.slurm_job": slurm.get("SLURM_JOB_ID"),
        "tgdfer.error": about.get("failed"),
        "mlflow.source.name": about.get("command"),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": git.get("commit"),
        "mlflow.user": about.get("user"),
    }
    return {key: str(value) for key, value in tags.items() if value is not None}


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
        named = {SPLIT.sub(r"\1/", key): value for key, value in row.items() if key != "epoch"}
        named = {key if "/" in key else f"train/{key}": value for key, value in named.items()}
        yield from _points(named, started + (ended - started) * epoch // len(rows), epoch)


def _load(lines: list[dict[str, Any]]) -> Iterator[Metric]:
    for step, line in enumerate(lines, start=1):
        yield from _points({key: value for key, value in line.items() if key != "time"}, _ms(line["time"]), step)


def _points(values: Mapping[str, float | None], at: int, step: int) -> Iterator[Metric]:
    """Metrics of a step; absent and infinite values are left out."""
    for key, value in values.items():
        if value is not None and math.isfinite(value):
            yield Metric(UNNAMEABLE.sub("_", key), float(value), at, step)


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
