"""``tgdfer status``: how far a project is, per data set, variant, fold and seed, only from its files.

No lock is taken and nothing is written, so it may be asked while a run goes on.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tgdfer.config.params import Params
from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.runs import state
from tgdfer.runs.files import Key

STATES = ("done", "outdated", "damaged", "running", "interrupted", "failed", "missing")


@dataclass(frozen=True)
class RunStatus:
    """One fold and seed: a state of ``STATES``, and what a reader should know about it."""

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
    variants: dict[str, list[RunStatus]]


def look(params: Params) -> list[Status]:
    """The status of every data set: the variants of the grid, and other variants that have runs."""
    return [_dataset(params, name) for name in params.datasets]


def _dataset(params: Params, name: str) -> Status:
    folds = _folds(name)
    expected = state.Expected(params, name)
    variants = {
        variant: [_run(expected, Key(name, variant, fold, seed)) for fold in folds or [0] for seed in params.seeds]
        for variant in params.variants
        if variant in params.grid or (paths.RUNS / name / variant).is_dir()
    }
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


def _run(expected: state.Expected, key: Key) -> RunStatus:
    if not key.fold:
        return RunStatus(key.fold, key.seed, "missing", "the folds are not known yet")
    found = expected.state(key)
    about = f"{found.record.get('seconds') or 0:.0f} s" if found.done else "; ".join(found.reasons)
    return RunStatus(key.fold, key.seed, found.name, about)


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
                if run.state in ("damaged", "running", "interrupted", "failed") or (folds and run.fold):
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
