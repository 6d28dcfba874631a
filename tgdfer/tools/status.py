"""``tgdfer status``: how far a project is, per data set, variant, fold and seed, from its files alone.

No lock is taken and nothing is written, so it may be asked while a run goes on.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tgdfer.config import dependencies
from tgdfer.config.params import Params
from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError

STATES = ("done", "outdated", "running", "broken off", "failed", "missing")
FRESH_S = 300.0
"""A checkpoint that was written within this time belongs to a training that goes on; they are written every 20 s."""


@dataclass(frozen=True)
class Run:
    """One fold and seed: a state of :data:`STATES`, and what is to be known about it."""

    fold: int
    seed: int
    state: str
    about: str = ""


@dataclass(frozen=True)
class Prepared:
    """A stage before training: done or missing, and what it made."""

    stage: str
    done: bool
    about: str = ""


@dataclass(frozen=True)
class Status:
    """A data set: its stages before training, its clips that cannot be used, and the runs of every variant."""

    dataset: str
    prepared: list[Prepared]
    rejects: dict[str, int]
    variants: dict[str, list[Run]]


def look(params: Params) -> list[Status]:
    """The status of every data set; the grid's variants, and other ones that have runs."""
    return [_dataset(params, name) for name in params.datasets]


def _dataset(params: Params, name: str) -> Status:
    folds = _folds(name)
    features = _json(paths.features(name, params.datasets[name].encoder))
    variants = {}
    for variant in params.variants:
        if variant in params.grid or (paths.RUNS / name / variant).is_dir():
            failures = _failures(name, variant)
            variants[variant] = [
                _run(params, name, variant, fold, seed, features.get("fingerprint"), failures)
                for fold in folds or [0]
                for seed in params.seeds
            ]
    return Status(name, _prepared(params, name, folds), _rejects(name), variants)


def _prepared(params: Params, name: str, folds: list[int]) -> list[Prepared]:
    encoder = params.datasets[name].encoder
    frames, features = _json(paths.frames(name)), _json(paths.features(name, encoder))
    clips = len(_column(paths.clips(name), "clips", "clip_id"))
    return [
        Prepared("encoder", bool(_json(paths.encoder(encoder))), encoder),
        Prepared("clips", bool(clips and folds), f"{clips} clips, {len(folds)} folds" if folds else ""),
        Prepared("frames", bool(frames), _shards(paths.frames(name), frames)),
        Prepared("features", bool(features), _shards(paths.features(name, encoder), features)),
    ]


def _shards(manifest: Path, found: dict[str, Any]) -> str:
    """What a manifest says, or how many shards there are of a stage that is not at its end."""
    if found:
        return f"{sum(shard.get('rows', 0) for shard in found.get('shards', []))} frames"
    made = len(list(manifest.parent.rglob("shard-*.parquet"))) if manifest.parent.is_dir() else 0
    return f"{made} shards so far" if made else ""


def _run(
    params: Params,
    dataset: str,
    variant: str,
    fold: int,
    seed: int,
    features: str | None,
    failures: dict[tuple[int, int], str],
) -> Run:
    if not fold:
        return Run(fold, seed, "missing", "folds are not known yet")
    record = _json(paths.run(dataset, variant, fold, seed) / "run.json")
    checkpoint = paths.checkpoint(dataset, variant, fold, seed)
    if checkpoint.is_file():
        age = time.time() - checkpoint.stat().st_mtime
        return Run(fold, seed, "running" if age < FRESH_S else "broken off", f"last checkpoint {_ago(age)} ago")
    if (fold, seed) in failures:
        return Run(fold, seed, "failed", failures[fold, seed])
    if not record:
        there = (paths.run(dataset, variant, fold, seed) / "run.json").exists()
        return Run(fold, seed, "missing", "its run.json cannot be read" if there else "")
    if record.get("parameters") != dependencies.run_settings(params, dataset, variant, fold, seed):
        return Run(fold, seed, "outdated", "made with other parameters")
    if record.get("code") != dependencies.code_fingerprint("train", params.run(variant).model.architecture):
        return Run(fold, seed, "outdated", "made by other code")
    if features and features not in (record.get("inputs") or {}).values():
        return Run(fold, seed, "outdated", "made from other features")
    return Run(fold, seed, "done", f"{record.get('seconds') or 0:.0f} s")


def _failures(dataset: str, variant: str) -> dict[tuple[int, int], str]:
    summary = _json(paths.variant(dataset, variant))
    return {(row["fold"], row["seed"]): row["failed"] for row in summary.get("runs", []) if row.get("failed")}


def _folds(dataset: str) -> list[int]:
    return sorted(set(_column(paths.folds(dataset), "folds", "fold")))


def _rejects(dataset: str) -> dict[str, int]:
    """How many clips cannot be used, by reason; numbers in reasons aside, the most frequent first."""
    reasons = _column(paths.frames(dataset).with_name("rejects.parquet"), "rejects", "reason")
    return dict(Counter(reason.split(":")[-1].strip() for reason in reasons).most_common())


def _column(path: Path, kind: str, name: str) -> list[Any]:
    """A column of a table; empty where that is not there or cannot be read, for then its stage is not done."""
    try:
        return storage.read_table(path, kind).column(name).to_pylist()
    except UserError:
        return []


def _json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where that is not there or cannot be read."""
    try:
        found = storage.read_json(path)
    except UserError:
        return {}
    return found if isinstance(found, dict) else {}


def _ago(seconds: float) -> str:
    for limit, unit, size in ((90, "s", 1), (5400, "min", 60), (129600, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def as_json(found: list[Status]) -> str:
    """Everything, for programs."""
    return json.dumps(
        [
            {
                "dataset": one.dataset,
                "prepared": [vars(stage) for stage in one.prepared],
                "rejects": one.rejects,
                "variants": {name: [vars(run) for run in runs] for name, runs in one.variants.items()},
            }
            for one in found
        ],
        indent=2,
        ensure_ascii=False,
    )


def as_text(found: list[Status], folds: bool = False) -> str:
    """A block for each data set and a line for each variant, or with ``folds`` for each run that is not done."""
    lines = []
    for one in found:
        lines.append(one.dataset)
        for stage in one.prepared:
            lines.append(f"  {stage.stage:10}{'done' if stage.done else 'missing':9}{stage.about}")
        if one.rejects:
            most = ", ".join(f"{count} {reason}" for reason, count in list(one.rejects.items())[:3])
            where = paths.frames(one.dataset).with_name("rejects.parquet")
            lines.append(f"  rejected  {sum(one.rejects.values())} clips: {most} ({where})")
        width = max(map(len, one.variants), default=0)
        for name, runs in one.variants.items():
            counts = Counter(run.state for run in runs)
            said = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
            lines.append(f"  {name:{width}}  {said}")
            for run in runs:
                if run.state in ("running", "broken off", "failed") or (folds and run.fold):
                    about = f": {run.about}" if run.about else ""
                    lines.append(f"  {'':{width}}    fold {run.fold} seed {run.seed} {run.state}{about}")
    return "\n".join([*lines, *_next(found)])


def _next(found: list[Status]) -> list[str]:
    states = Counter(run.state for one in found for runs in one.variants.values() for run in runs)
    total = sum(states.values())
    if states["done"] == total:
        page = paths.REPORT_PAGE
        return [f"all {total} runs are done; {page if page.is_file() else 'next: tgdfer report'}"]
    next_step = "running" if states["running"] else "next: snakemake --profile local all (or --profile slurm)"
    return [f"{states['done']} of {total} runs are done; {next_step}"]
