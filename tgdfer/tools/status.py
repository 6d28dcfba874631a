"""``tgdfer status``: how far a project is, per data set, variant, fold and seed, and which of its files are damaged.

No lock is taken and nothing is written, so it may be asked while a run goes on.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from tgdfer.config.data import DEMO_ENCODER
from tgdfer.config.params import Params
from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.datasets import fold_numbers
from tgdfer.media import sources
from tgdfer.runs import outputs, state
from tgdfer.runs.files import Key

SHOWN = 20
"""How many damaged files are listed."""
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
    """A stage before training: done, outdated, damaged or missing, and what it made."""

    stage: str
    state: str
    about: str = ""


@dataclass(frozen=True)
class Status:
    """A data set: its stages before training, its clips that cannot be used, and the runs of every variant."""

    dataset: str
    prepared: list[Prepared]
    rejects: dict[str, int]
    variants: dict[str, list[RunStatus]]


@dataclass(frozen=True)
class Project:
    """The status of every data set, and the damaged files."""

    datasets: list[Status]
    damages: list[str]
    """The damaged files of stages other than the training, each with what is wrong."""
    unseen: list[Path]
    """The outputs whose damage the graph does not see unless they are named after `--forcerun`."""
    changed: list[Path]
    """The sources of all data sets that are not those that the frames were made from."""
    reported: bool
    """Whether there is a report, made with the present parameters and code."""

    @property
    def runs(self) -> list[RunStatus]:
        """Every run."""
        return [run for one in self.datasets for runs in one.variants.values() for run in runs]


def look(params: Params, verify: bool = False) -> Project:
    """The status of every data set, for the variants of the grid and others that have runs.

    ``verify``: hash large files too, and look at the sources of however many clips.
    """
    every = outputs.declared(params)
    seen = {path: damages for path in every if (damages := outputs.damages(path))}
    found = outputs.verify(every) if verify else seen
    changed = {name: sources.changed(params, name, verify) for name in params.datasets}
    unseen = [path for path in found if path not in seen]
    unseen += [paths.frames(name) for name in params.datasets if changed[name] and not sources.changed(params, name)]
    page = paths.REPORT_PAGE
    reported = page.is_file() and not outputs.is_outdated(page, params, "report")
    datasets = [_dataset(params, found, bool(files), name) for name, files in changed.items()]
    damages = list(chain.from_iterable(found.values()))
    return Project(datasets, damages, unseen, list(chain.from_iterable(changed.values())), reported)


def _dataset(params: Params, damaged: dict[Path, list[str]], changed: bool, name: str) -> Status:
    folds = _folds(params, name)
    expected = state.Expected(params, name)
    variants = {}
    for variant in params.variants:
        runs = [_run(expected, Key(name, variant, fold, seed)) for fold in folds or [0] for seed in params.seeds]
        shown = [run for run in runs if variant in params.grid or run.state != "missing"]  # nobody asked for the others
        if shown:
            variants[variant] = shown
    return Status(name, _prepared(params, damaged, changed, name), _rejects(name), variants)


def _prepared(params: Params, damaged: dict[Path, list[str]], changed: bool, name: str) -> list[Prepared]:
    about = params.datasets[name]
    frames, features = paths.frames(name), paths.features(name, about.encoder)
    tables = paths.clips(name), paths.folds(name)
    clips = len(_column(tables[0], "clips", "clip_id"))
    folds = len(set(_column(tables[1], "folds", "fold")))

    def prepared(what: str, made: tuple[Path, ...], said: str, stage: str = "", remake: bool = False) -> Prepared:
        if wrong := [text for path in made for text in damaged.get(path, [])]:
            return Prepared(what, "damaged", wrong[0])
        if not all(path.is_file() for path in made):
            return Prepared(what, "missing", said)
        wildcards = {"dataset": name, "encoder": about.encoder}
        old = remake or any(outputs.is_outdated(path, params, stage or what, **wildcards) for path in made)
        return Prepared(what, "outdated" if old else "done", said)

    by = "train-demo-encoder" if about.encoder == DEMO_ENCODER else "import-encoder"
    return [
        prepared("encoder", (paths.encoder(about.encoder),), about.encoder, by),
        prepared("clips", tables, f"{clips} clips, {folds} folds" if folds else ""),
        prepared("frames", (frames,), _shards(frames), remake=changed),
        prepared("features", (features,), _shards(features)),
    ]


def _shards(manifest: Path) -> str:
    """What a manifest says, or how many shards there are of a stage that is not at its end."""
    try:
        return f"{sum(shard['rows'] for shard in storage.read_sealed(manifest)['shards'])} frames"
    except UserError:
        pass
    made = len(list(manifest.parent.rglob("shard-*.parquet"))) if manifest.parent.is_dir() else 0
    return f"{made} shards so far" if made else ""


def _run(expected: state.Expected, key: Key) -> RunStatus:
    if not key.fold:
        return RunStatus(key.fold, key.seed, "missing", "the folds are not known yet")
    found = expected.state(key)
    about = f"{found.record.get('seconds') or 0:.0f} s" if found.done else "; ".join(found.reasons)
    return RunStatus(key.fold, key.seed, found.name, about)


def _folds(params: Params, dataset: str) -> list[int]:
    """The folds of the table, or where that is missing or damaged, those of the layout and of the runs on disk."""
    if listed := _column(paths.folds(dataset), "folds", "fold"):
        return sorted(set(listed))
    found = {key.fold for key in state.on_disk(params, dataset)}
    with suppress(UserError):
        found |= set(fold_numbers(params, dataset))
    return sorted(found)


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


def as_json(found: Project) -> str:
    """Everything, for programs."""
    everything = {
        "datasets": list(map(asdict, found.datasets)),
        "damaged": found.damages,
        "changed": list(map(str, found.changed)),
    }
    return json.dumps(everything, indent=2, ensure_ascii=False)


def as_text(found: Project, folds: bool = False) -> str:
    """A block for each data set, a line for each variant or with ``folds`` for each run, the damages, and advice."""
    lines = []
    for one in found.datasets:
        lines.append(one.dataset)
        for stage in one.prepared:
            lines.append(f"  {stage.stage:10}{stage.state:9}{stage.about}")
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
    for what, files in (("damaged", found.damages), ("changed since its frames were made", found.changed)):
        lines += [f"{what}: {file}" for file in files[:SHOWN]]
        if len(files) > SHOWN:
            lines.append(f"{what}: and {len(files) - SHOWN} more files")
    return "\n".join([*lines, _next(found)])


def _next(found: Project) -> str:
    """How many runs are done, and the command that makes or repairs what is missing."""
    states = Counter(run.state for run in found.runs)
    total = sum(states.values())
    old = any(stage.state == "outdated" for one in found.datasets for stage in one.prepared)
    if states["done"] == total and not found.damages and not old:
        return f"all {total} runs are done; {paths.REPORT_PAGE if found.reported else 'next: tgdfer report'}"
    command = f"{paths.SNAKEMAKE} all (or --profile slurm)"
    if found.unseen:
        forced = " ".join(shlex.quote(str(path)) for path in found.unseen)
        study = f" --config study={paths.STUDY}" if paths.STUDY else ""
        command = f"snakemake --profile local{study} --forcerun {forced} -- all (or --profile slurm)"
    return f"{states['done']} of {total} runs are done; {'running' if states['running'] else f'next: {command}'}"
