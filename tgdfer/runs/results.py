"""The results of a data set's runs: which runs are expected, which have results, and their test predictions."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tgdfer.config.params import Params
from tgdfer.core import paths
from tgdfer.core.errors import UserError
from tgdfer.core.storage import check_schema, read_json, read_lines, read_table
from tgdfer.evaluation.protocol import SELECTIONS
from tgdfer.runs.files import Key
from tgdfer.runs.state import Expected, State, on_disk

READ = ("metrics.json", "history.jsonl", "predictions.parquet")
"""The files that tables and figures are made from; a run without its weights still has results."""
SHARED = ("clips", "folds", "features")
"""The inputs that all runs of a data set share."""


@dataclass
class Outcome:
    """The test predictions of one run under one selection, clips ascending: everything [n] but ``metrics``."""

    clip_id: np.ndarray
    label: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray
    metrics: dict[str, Any]

    @property
    def right(self) -> np.ndarray:
        """Which predictions are right [n]."""
        return self.prediction == self.label


@dataclass(frozen=True)
class Relevances:
    """The bags of N test clips, clips ascending: frame numbers [N, T] (-1: padding) and their relevance [N, T]."""

    clip_id: np.ndarray
    frame_index: np.ndarray
    relevance: np.ndarray


@dataclass
class RunResult:
    """The results of one fold and seed of a variant, or in ``problem`` why there are none."""

    key: Key
    state: State
    problem: str | None = None
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """By selection."""
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How it is called in print, next to its variant."""
        return f"fold {self.key.fold}, seed {self.key.seed}"

    @property
    def info(self) -> Mapping[str, Any]:
        """The content of run.json."""
        return self.state.record

    def history(self) -> list[dict[str, Any]]:
        """What was logged of each epoch."""
        return read_lines(self.key.folder / "history.jsonl")

    def relevance(self) -> dict[str, Relevances]:
        """The relevance of the frames of every test clip, by selection."""
        table, clip_id, rows = _predictions(self.key, "frame_index", "relevance")
        frames, relevance = (table[name].combine_chunks() for name in ("frame_index", "relevance"))
        sizes = np.diff(frames.offsets.to_numpy())
        shape = (len(clip_id), int(sizes.max(initial=0)))
        valid = np.arange(shape[1]) < sizes[:, None]
        index, share = np.full(shape, -1, dtype=np.int64), np.zeros(shape)
        index[valid], share[valid] = frames.flatten().to_numpy(), relevance.flatten().to_numpy()
        return {name: Relevances(clip_id[at], index[at], share[at]) for name, at in rows.items()}


@dataclass
class Experiment:
    """The expected runs of a data set, and what is wrong with the data behind them."""

    dataset: str
    classes: list[str]
    folds: list[int]
    runs: list[RunResult]
    problems: list[str]

    def of(self, variant: str) -> list[RunResult]:
        """The expected runs of ``variant``, in the order of folds and seeds."""
        return [run for run in self.runs if run.key.variant == variant]

    def finished(self, variant: str) -> list[RunResult]:
        """The runs of ``variant`` that have results."""
        return [run for run in self.of(variant) if run.problem is None]

    def clips(self) -> np.ndarray:
        """How many test clips each class has [C]: any run of a fold has all its clips."""
        labels = {run.key.fold: next(iter(run.outcomes.values())).label for run in self.runs if run.outcomes}
        return np.bincount(np.concatenate([np.zeros(0, int), *labels.values()]), minlength=len(self.classes))

    def stale(self) -> dict[str, list[str]]:
        """The variants with results that are no longer current, and why."""
        found: dict[str, list[str]] = {}
        for run in self.runs:
            if run.problem is None and run.state.reasons:
                found.setdefault(run.key.variant, []).extend(run.state.reasons)
        return {variant: list(dict.fromkeys(reasons)) for variant, reasons in found.items()}


def collect(params: Params, dataset: str) -> Experiment:
    """Read every expected run of ``dataset``; a run without usable results has a ``problem`` and stops nothing."""
    classes = params.dataset(dataset).classes
    expected = Expected(params, dataset)
    problems: list[str] = []
    folds = _folds(dataset, params, problems)
    keys = [Key(dataset, v, fold, seed) for v in params.variants for fold in folds for seed in params.seeds]
    runs = [_read(key, expected.state(key, READ), classes) for key in keys]
    problems += _mixed_inputs(runs)
    _drop_other_clips(runs)
    return Experiment(dataset, list(classes), folds, runs, problems)


def _folds(dataset: str, params: Params, problems: list[str]) -> list[int]:
    path = paths.folds(dataset)
    with suppress(UserError):
        return sorted(set(read_table(path, "folds")["fold"].to_pylist()))
    found = {key.fold for key in on_disk(params, dataset)}
    if found:
        state = "damaged" if path.exists() else "missing"
        problems.append(f"{path} is {state}: only the folds of existing runs are known, others may be missing")
    return sorted(found)


def _read(key: Key, state: State, classes: list[str]) -> RunResult:
    if state.name == "missing":
        return RunResult(key, state, "not run")
    if not state.usable:
        again = "; train it again" if state.name in ("damaged", "outdated") else ""
        return RunResult(key, state, f"{state.name}: {'; '.join(state.reasons)}{again}")
    try:
        metrics = read_json(key.folder / "metrics.json")
        return RunResult(key, state, None, _outcomes(key, classes, metrics), metrics)
    except (UserError, KeyError, ValueError, OSError) as error:  # written by another version of the package
        reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        return RunResult(key, state, f"unreadable: {reason}; train it again")


def _predictions(key: Key, *columns: str) -> tuple[pa.Table, np.ndarray, dict[str, np.ndarray]]:
    """Columns of a run's predictions, the clip of each row, and the rows of each selection, clips ascending."""
    path = key.folder / "predictions.parquet"
    with pq.ParquetFile(path, memory_map=True) as stored:
        check_schema(path, "predictions", stored.schema_arrow)
        # in thousands of small files, threads cost more than they gain
        table = stored.read(columns=["clip_id", "selection", *columns], use_threads=False)
    clip_id, selection = (table[name].to_numpy(zero_copy_only=False).astype(str) for name in ("clip_id", "selection"))
    rows = {name: np.flatnonzero(selection == name) for name in SELECTIONS}
    return table, clip_id, {name: at[np.argsort(clip_id[at], kind="stable")] for name, at in rows.items() if len(at)}


def _outcomes(key: Key, classes: list[str], metrics: dict[str, Any]) -> dict[str, Outcome]:
    table, clip_id, rows = _predictions(key, "label", "probabilities")
    number = {name: c for c, name in enumerate(classes)}
    label = np.array([number[name] for name in table["label"].to_pylist()], dtype=np.int64)
    probabilities = table["probabilities"].combine_chunks().flatten().to_numpy().reshape(len(label), len(classes))
    best, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    return {
        name: Outcome(clip_id[at], label[at], best[at], confidence[at], metrics["selections"][name])
        for name, at in rows.items()
    }


def _mixed_inputs(runs: list[RunResult]) -> list[str]:
    """Comparisons are clip by clip, so the runs must have been made from the same clips, folds and features."""
    seen: dict[str, dict[str, None]] = {}
    for run in runs:
        inputs = {name: value for name, value in run.info.get("inputs", {}).items() if name in SHARED}
        if inputs and run.problem is None:
            seen.setdefault(json.dumps(inputs, sort_keys=True), {})[run.key.variant] = None
    if len(seen) < 2:
        return []
    groups = "; ".join(", ".join(sorted(variants)) for variants in seen.values())
    return [
        f"The runs were made from {len(seen)} different versions of clips, folds or features ({groups}): "
        "comparisons between them mix data and method. Run the graph again."
    ]


def _drop_other_clips(runs: list[RunResult]) -> None:
    """Leave out what was tested on other clips or labels than the first run of its fold."""
    expected: dict[int, Outcome] = {}
    for run in runs:
        if run.problem is None:
            outcome = next(iter(run.outcomes.values()))
            first = expected.setdefault(run.key.fold, outcome)
            if not (np.array_equal(first.clip_id, outcome.clip_id) and np.array_equal(first.label, outcome.label)):
                run.problem = (
                    f"tested on other clips or labels than the first run of fold {run.key.fold}; train it again"
                )
                run.outcomes = {}
