"""The MLflow runs that the files of a workspace ask for: trainings, their variants, and stages; without MLflow."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from tgdfer.config.params import Params
from tgdfer.core import paths, record, storage
from tgdfer.core.errors import UserError
from tgdfer.core.progress import log
from tgdfer.runs.files import ATTEMPT, SYSTEM, Key
from tgdfer.runs.state import Expected, State

STATUS = {"running": "RUNNING", "interrupted": "KILLED", "failed": "FAILED"}
"""The states of a run without a result, in MLflow's words; every other run that has files is FINISHED."""
SHOWN = ("metrics.json", "history.jsonl")
MODEL_FILES = ("model.safetensors", "model.json", "run.json")
UNNAMEABLE = re.compile(r"[^/\w.\- :]")
"""What MLflow does not take in the name of a metric; a user's classes may contain it."""

Point = tuple[str, float, int, int]
"""Metric, value, time in milliseconds, step. Results have step 0, so that MLflow draws bars of them."""


@dataclass
class Wanted:
    """A run of MLflow."""

    name: str
    """The tag ``tgdfer.run``; two runs of one name differ in their fingerprint."""
    fingerprint: str
    experiment: str
    title: str
    status: str
    started: int
    ended: int | None
    parameters: dict[str, str]
    tags: dict[str, str]
    note: str = ""
    current: bool = True
    points: list[Point] = field(default_factory=list)
    artifacts: list[Path] = field(default_factory=list)
    data: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Data sets by context (train, test): name, digest, source and number of clips."""
    parent: Wanted | None = None
    model: Path | None = None
    """The folder whose model is to be registered."""

    @property
    def digest(self) -> str:
        """The fingerprint of all that never changes once a run has ended."""
        files = {path.as_posix(): storage.file_fingerprint(path) for path in self.artifacts}
        times = [self.started, self.ended] if self.tags["tgdfer.kind"] != "variant" else []
        points = self.points if times else [(key, value) for key, value, _, _ in self.points]
        return storage.fingerprint([self.status, self.parameters, times, points, files, self.data])


def wanted(params: Params) -> list[Wanted]:
    """Every run that the files of the workspace describe, a variant before its trainings.

    In a copy that `dvc exp run --temp` or `--queue` works in these are the experiment's own runs, not those that the
    copy has from the workspace, and none is current.
    """
    found = [*_stages(params)]
    for dataset in params.datasets:
        groups: dict[str, list[Wanted]] = {}
        for run in _trainings(params, dataset):
            run.parent = groups.setdefault(run.tags["tgdfer.variant_fingerprint"], [_variant(params, run)])[0]
            groups[run.tags["tgdfer.variant_fingerprint"]].append(run)
        for parent, *runs in groups.values():
            _summarise(parent, runs)
            found += [parent, *runs]
    if in_copy():
        for run in found:
            run.current = False
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
            shown = (*SHOWN, *(MODEL_FILES[:2] if variant == params.report.reference else ()))
            try:
                if run := _training(params, key, expected.state(key, shown)):
                    yield run
            except (UserError, AttributeError, KeyError, TypeError, ValueError) as error:
                log.warning("tracking: %s is left out: %s", folder, " ".join(str(error).split()))


def _training(params: Params, key: Key, state: State) -> Wanted | None:
    folder, about = key.folder, state.record
    finished = bool(about)
    if not finished:
        if not (folder / ATTEMPT).exists():
            return None
        about = storage.read_json(folder / ATTEMPT)
    experiment = about.get("dvc_experiment")
    if in_copy() and experiment != os.environ["DVC_EXP_NAME"]:
        return None
    parameters = {"variant": key.variant, **_flat(about["parameters"])}
    common = {name: value for name, value in parameters.items() if name not in ("fold", "seed")}
    status = "FINISHED" if finished else STATUS.get(state.name, "KILLED")
    rows, load = storage.read_lines(folder / "history.jsonl"), storage.read_lines(folder / SYSTEM)
    ended = about.get("ended") or (load[-1]["time"] if load else about["started"])
    run = Wanted(
        name=f"{key.dataset}/{key.variant}/fold{key.fold}/seed{key.seed}",
        fingerprint=about["fingerprint"],
        experiment=f"{params.tracking.project}/{key.dataset}",
        title=f"{key.variant} fold{key.fold} seed{key.seed}",
        status=status,
        started=_ms(about["started"]),
        ended=None if status == "RUNNING" else _ms(ended),
        parameters=parameters,
        tags={
            **{f"tgdfer.{name}": str(getattr(key, name)) for name in ("dataset", "variant", "fold", "seed")},
            "tgdfer.variant_fingerprint": storage.fingerprint([common, about["inputs"], about["code"]]),
            **_tags("run", about, state.name),
        },
        note=_label(params, key.variant) + "".join(f"\n\n{reason}" for reason in state.reasons),
        current=state.done or not finished,
        points=[*_epochs(rows, _ms(about["started"]), _ms(ended)), *_load(load)],
    )
    if finished:
        metrics = storage.read_json(folder / "metrics.json")
        run.points += _results(params, metrics, about, run.ended or 0)
        run.artifacts = [folder / name for name in ("metrics.json", "history.jsonl", "run.json")]
        run.data = {
            context: {
                "name": f"{key.dataset} fold{key.fold} {context}",
                "digest": storage.fingerprint(about["inputs"])[:12],
                "source": paths.features(key.dataset, about["encoder"]).as_posix(),
                "num_rows": metrics[f"n_{context}"],
            }
            for context in ("train", "test")
        }
        if key.variant == params.report.reference and state.done:
            run.model = folder
    return run


def _variant(params: Params, run: Wanted) -> Wanted:
    """The parent of the trainings that differ from ``run`` in fold and seed only."""
    dataset, variant = run.tags["tgdfer.dataset"], run.tags["tgdfer.variant"]
    return Wanted(
        name=f"{dataset}/{variant}",
        fingerprint=run.tags["tgdfer.variant_fingerprint"],
        experiment=run.experiment,
        title=variant,
        status="FINISHED",
        started=run.started,
        ended=None,
        parameters={name: value for name, value in run.parameters.items() if name not in ("fold", "seed")},
        tags={name: value for name, value in run.tags.items() if name not in ("tgdfer.fold", "tgdfer.seed")}
        | {"tgdfer.kind": "variant"},
        note=_label(params, variant),
    )


def _summarise(variant: Wanted, runs: list[Wanted]) -> None:
    """Give a variant the mean and deviation of the results of its finished runs, and the time that they span."""
    done = [run for run in runs if run.status == "FINISHED"]
    values: dict[str, list[float]] = {}
    for run in done:
        for key, value, _, step in run.points:
            if step == 0:
                values.setdefault(key, []).append(value)
    running = any(run.status == "RUNNING" for run in runs)
    variant.started = min(run.started for run in runs)
    variant.ended = None if running else max(run.ended or 0 for run in runs)
    variant.status = "RUNNING" if running else "FINISHED" if done else "FAILED"
    variant.current = any(run.current for run in runs)
    at = max(run.ended or run.started for run in runs)
    variant.points = [("runs", float(len(done)), at, 0), *((key, fmean(found), at, 0) for key, found in values.items())]
    variant.points += [(f"{key}_std", stdev(found), at, 0) for key, found in values.items() if len(found) > 1]
    if with_data := [run for run in done if run.data]:
        data = with_data[0].data["train"]
        variant.data = {"": {**data, "name": variant.tags["tgdfer.dataset"], "num_rows": None}}


def _stages(params: Params) -> Iterator[Wanted]:
    for about, current in record.load():
        started, ended = _ms(about["started"]), _ms(about["ended"])
        numbers = {**about["metrics"], "seconds": (ended - started) / 1000}
        series = {key: numbers.pop(key) for key, value in about["metrics"].items() if isinstance(value, list)}
        columns = zip(*series.values(), strict=True)
        rows = [{"epoch": epoch, **dict(zip(series, row, strict=True))} for epoch, row in enumerate(columns, start=1)]
        report = (paths.REPORT_METRICS, paths.REPORT_PAGE) if current and about["stage"] == "report" else ()
        title = " ".join(filter(None, (about["stage"], about["dataset"], about["encoder"])))
        yield Wanted(
            name=f"stages/{title.replace(' ', '/')}",
            fingerprint=about["fingerprint"],
            experiment=f"{params.tracking.project}-stages",
            title=title,
            status="FAILED" if about["failed"] else "FINISHED",
            started=started,
            ended=ended,
            parameters=_flat(about["parameters"]),
            tags={
                **{f"tgdfer.{key}": about[key] for key in ("stage", "dataset", "encoder", "code") if about[key]},
                **_tags("stage", about),
            },
            current=current,
            points=[*_points(numbers, ended, 0), *_epochs(rows, started, ended), *_load(about["system"])],
            artifacts=[path for path in report if path.exists()],
        )


def _tags(kind: str, about: Mapping[str, Any], state: str = "done") -> dict[str, str]:
    """Tags that say how a run was made; those that MLflow knows fill columns of its UI."""
    git, slurm = about.get("git") or {}, about.get("slurm") or {}
    tags = {
        "tgdfer.kind": kind,
        "tgdfer.state": state,
        **{f"tgdfer.input.{name}": value for name, value in about["inputs"].items()},
        "tgdfer.dirty": git.get("dirty"),
        "tgdfer.slurm_job": slurm.get("SLURM_JOB_ID"),
        "tgdfer.dvc_experiment": about.get("dvc_experiment"),
        "tgdfer.error": about.get("failed"),
        "mlflow.source.name": about.get("command"),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": git.get("commit"),
        "mlflow.user": about.get("user"),
    }
    return {name: str(value) for name, value in tags.items() if value is not None}


def _results(params: Params, metrics: Mapping[str, Any], about: Mapping[str, Any], at: int) -> Iterator[Point]:
    """The rates of the primary selection come first in MLflow, which sorts by name; the others are below ``other/``."""
    for name, chosen in metrics["selections"].items():
        primary = name == params.report.selection
        rates = {"uar": chosen["uar"], "war": chosen["war"]}
        yield from _points({f"{name if primary else f'other/{name}'}/{key}": rates[key] for key in rates}, at, 0)
        if primary:
            yield from _points({f"recall/{label}": value for label, value in chosen["recall"].items()}, at, 0)
        yield from _points({f"other/{name}/macro_f1": chosen["macro_f1"]}, at, 0)
    cost = {"seconds": about["seconds"], "peak_memory_mb": about["peak_memory_mb"]}
    yield from _points({**cost, "parameters": metrics["parameters_trainable"]}, at, 0)


def _epochs(rows: list[dict[str, Any]], started: int, ended: int) -> Iterator[Point]:
    """Rows of a history as metrics: ``train/loss``, ``val/uar``, ``test/war``; spread evenly over the run's time."""
    for number, row in enumerate(rows, start=1):
        named = {}
        for key, value in row.items():
            part, _, rest = key.partition("_")
            named[f"{part}/{rest}" if part in ("train", "val", "test") else f"train/{key}"] = value
        epoch = named.pop("train/epoch")
        yield from _points(named, started + (ended - started) * number // len(rows), epoch)


def _load(lines: list[dict[str, Any]]) -> Iterator[Point]:
    for step, line in enumerate(lines, start=1):
        yield from _points({key: value for key, value in line.items() if key != "time"}, _ms(line["time"]), step)


def _points(values: Mapping[str, float | None], at: int, step: int) -> Iterator[Point]:
    """Metrics as points; absent and infinite values are left out."""
    for key, value in values.items():
        if value is not None and math.isfinite(value):
            yield UNNAMEABLE.sub("_", key), float(value), at, step


def _label(params: Params, variant: str) -> str:
    """The variant's name in print, and the parameters that it changes."""
    about = params.variants[variant]
    changes = _flat(about.set.model_dump(exclude_defaults=True))
    return about.label + "".join(f"\n\n{key} = {value}" for key, value in sorted(changes.items()))


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested parameters as dotted keys and text, the form that MLflow stores."""
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return found


def _ms(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp() * 1000)
