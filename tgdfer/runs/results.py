"""Run files -> arrays: what was expected, what is there, what is missing, and the test predictions of every run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tgdfer.config import dependencies
from tgdfer.config.params import Params
from tgdfer.core import paths
from tgdfer.core.errors import UserError
from tgdfer.core.storage import check_schema, read_json, read_lines, read_table
from tgdfer.evaluation.protocol import SELECTIONS

SHARED = ("clips", "folds", "features")
"""The inputs that every run of a data set has; a text encoder is one of the variants that use text alone."""
AGREE = 1e-6
"""How far a rate recomputed from the predictions may be from the one in metrics.json."""


@dataclass
class Outcome:
    """The test predictions of one run under one selection, clips ascending: everything [n] but ``metrics``."""

    clip_id: np.ndarray
    label: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Relevances:
    """The bags of N test clips, clips ascending: frame numbers [N, T] (-1: padding) and their relevance [N, T]."""

    clip_id: np.ndarray
    frame_index: np.ndarray
    relevance: np.ndarray

    def of(self, clip: str) -> tuple[np.ndarray, np.ndarray]:
        """Frame numbers and relevances of one clip, without padding."""
        row = int(np.searchsorted(self.clip_id, clip))
        valid = self.frame_index[row] >= 0
        return self.frame_index[row][valid], self.relevance[row][valid]


@dataclass
class Run:
    """One (fold, seed) of a variant. ``problem`` says why it has no outcomes; None for a finished run."""

    dataset: str
    variant: str
    fold: int
    seed: int
    folder: Path
    problem: str | None = None
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How a reader finds it."""
        return f"fold {self.fold}, seed {self.seed}"

    def history(self) -> list[dict[str, Any]]:
        """The epochs of the run, or an empty list when they were not kept."""
        return read_lines(self.folder / "history.jsonl")

    def relevance(self) -> dict[str, Relevances]:
        """The relevance of every test clip's frames, by selection."""
        # one pass for all selections, without threads: thousands of small files
        with pq.ParquetFile(self.folder / "predictions.parquet", memory_map=True) as stored:
            table = stored.read(columns=["clip_id", "selection", "frame_index", "relevance"], use_threads=False)
        clip_id = table["clip_id"].to_numpy(zero_copy_only=False).astype(str)
        selection = table["selection"].to_numpy(zero_copy_only=False).astype(str)
        frames, relevance = (table[name].combine_chunks() for name in ("frame_index", "relevance"))
        sizes = np.diff(frames.offsets.to_numpy())
        shape = (len(clip_id), int(sizes.max(initial=0)))
        valid = np.arange(shape[1]) < sizes[:, None]
        index, share = np.full(shape, -1, dtype=np.int64), np.zeros(shape)
        index[valid], share[valid] = frames.flatten().to_numpy(), relevance.flatten().to_numpy()
        found = {}
        for name in np.unique(selection).tolist():
            rows = np.flatnonzero(selection == name)
            rows = rows[np.argsort(clip_id[rows], kind="stable")]
            found[name] = Relevances(clip_id[rows], index[rows], share[rows])
        return found


@dataclass
class Experiment:
    """All runs of a data set, and what the data say about themselves."""

    dataset: str
    classes: list[str]
    folds: list[int]
    seeds: list[int]
    runs: list[Run]
    facts: dict[str, Any]
    problems: list[str]

    def of(self, variant: str) -> list[Run]:
        """The expected runs of ``variant``, in the order of folds and seeds."""
        return [run for run in self.runs if run.variant == variant]

    def finished(self, variant: str) -> list[Run]:
        """The runs of ``variant`` that have results."""
        return [run for run in self.of(variant) if run.problem is None]


def collect(params: Params, dataset: str) -> Experiment:
    """Read every expected run of ``dataset``; a run that is missing, failed or broken says so and stops nothing."""
    chosen = params.dataset(dataset)
    problems: list[str] = []
    folds = _folds(dataset, params, problems)
    runs = []
    for variant in params.variants:
        failed = _failures(dataset, variant)
        for fold in folds:
            for seed in params.seeds:
                run = Run(dataset, variant, fold, seed, paths.run(dataset, variant, fold, seed))
                _read(run, chosen.classes, failed.get((fold, seed)))
                _check_parameters(run, params)
                runs.append(run)
    experiment = Experiment(
        dataset, list(chosen.classes), folds, list(params.seeds), runs, _facts(params, dataset), problems
    )
    _check_inputs(experiment)
    return experiment


def _folds(dataset: str, params: Params, problems: list[str]) -> list[int]:
    path = paths.folds(dataset)
    if path.exists():
        return sorted(set(pq.read_table(path, columns=["fold"])["fold"].to_pylist()))
    found = {
        int(folder.name.removeprefix("fold"))
        for variant in params.variants
        for folder in (paths.RUNS / dataset / variant).glob("fold*")
        if folder.name.removeprefix("fold").isdigit()
    }
    if found:
        problems.append(f"{path} is missing: the folds are those of which runs were found, others may be missing")
    return sorted(found)


def _failures(dataset: str, variant: str) -> dict[tuple[int, int], str]:
    path = paths.variant(dataset, variant)
    if not path.exists():
        return {}
    listed = read_json(path).get("runs", [])
    return {(entry["fold"], entry["seed"]): str(entry["failed"]) for entry in listed if entry.get("failed")}


def _read(run: Run, classes: list[str], failed: str | None) -> None:
    if failed is not None:
        run.problem = f"failed: {failed}"
        return
    if not (run.folder / "metrics.json").exists():
        run.problem = "not run"
        return
    try:
        run.metrics = read_json(run.folder / "metrics.json")
        if run.metrics["classes"] != classes:
            run.problem = f"was made for other classes ({', '.join(run.metrics['classes'])}); train it again"
            return
        run.outcomes = _outcomes(run, classes)
        info = run.folder / "run.json"
        run.info = read_json(info) if info.exists() else {}
    except (UserError, KeyError, ValueError, OSError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        run.problem, run.outcomes = f"unreadable: {reason}", {}


def _check_parameters(run: Run, params: Params) -> None:
    """A run of what a variant used to be must not stand under its name: those outside the grid are not made anew."""
    told = run.info.get("parameters")
    asked = dependencies.run_settings(params, run.dataset, run.variant, run.fold, run.seed)
    if run.problem is None and told is not None and told != asked:
        changed = sorted(name for name in asked.keys() | told.keys() if asked.get(name) != told.get(name))
        run.problem = f"was made with other parameters ({', '.join(changed)}); train it again"
        run.outcomes = {}


def _outcomes(run: Run, classes: list[str]) -> dict[str, Outcome]:
    path = run.folder / "predictions.parquet"
    with pq.ParquetFile(path, memory_map=True) as stored:
        check_schema(path, "predictions", stored.schema_arrow)
        # thousands of small files: threads cost more than they bring
        table = stored.read(columns=["clip_id", "selection", "label", "probabilities"], use_threads=False)
    number = {name: c for c, name in enumerate(classes)}
    clip_id = table["clip_id"].to_numpy(zero_copy_only=False).astype(str)
    selection = table["selection"].to_numpy(zero_copy_only=False).astype(str)
    label = np.array([number[name] for name in table["label"].to_pylist()], dtype=np.int64)
    flat = table["probabilities"].combine_chunks().flatten().to_numpy()
    if len(flat) != len(label) * len(classes):
        raise UserError(f"{path}: expected {len(classes)} probabilities in every row")
    probabilities = flat.reshape(len(label), len(classes))
    outcomes = {}
    for name in SELECTIONS:
        rows = np.flatnonzero(selection == name)
        if not len(rows):
            continue
        rows = rows[np.argsort(clip_id[rows], kind="stable")]
        if len(np.unique(clip_id[rows])) != len(rows):
            raise UserError(f"{path}: a clip occurs twice under selection '{name}'")
        chosen = probabilities[rows]
        outcome = Outcome(
            clip_id[rows], label[rows], chosen.argmax(axis=1), chosen.max(axis=1), run.metrics["selections"][name]
        )
        war = float((outcome.prediction == outcome.label).mean())
        if abs(war - outcome.metrics["war"]) > AGREE:
            raise UserError(
                f"WAR from {path.name} is {war:.4f}, metrics.json says {outcome.metrics['war']:.4f} ({name}); "
                "train the run again"
            )
        outcomes[name] = outcome
    if not outcomes:
        raise UserError(f"{path}: no predictions")
    return outcomes


def _check_inputs(experiment: Experiment) -> None:
    """Runs of one data set are compared clip by clip: they must have been made from the same inputs."""
    seen: dict[str, list[str]] = {}
    for run in experiment.runs:
        inputs = {key: value for key, value in (run.info.get("inputs") or {}).items() if key in SHARED}
        if inputs:
            seen.setdefault(json.dumps(inputs, sort_keys=True), []).append(run.variant)
    if len(seen) > 1:
        groups = "; ".join(", ".join(sorted(set(names))) for names in seen.values())
        experiment.problems.append(
            f"The runs were made from {len(seen)} different versions of clips, folds or features ({groups}): "
            "comparisons between them mix data and method. Run the graph again."
        )
    for fold in experiment.folds:
        expected: dict[str, int] | None = None
        for run in (run for run in experiment.runs if run.fold == fold and run.problem is None):
            outcome = next(iter(run.outcomes.values()))
            clips = dict(zip(outcome.clip_id.tolist(), outcome.label.tolist(), strict=True))
            if expected is None:
                expected = clips
            elif clips != expected:
                run.problem = f"tested on other clips or labels than the first run of fold {fold}; train it again"
                run.outcomes = {}


def _facts(params: Params, dataset: str) -> dict[str, Any]:
    """The data card: clips per class, frames, rejects, encoder, as far as the files are there."""
    chosen = params.dataset(dataset)
    facts: dict[str, Any] = {
        "layout": chosen.layout,
        "encoder": chosen.encoder,
        "truth": chosen.truth is not None,
        "clips": None,
        "per_class": {},
        "subjects": None,
        "rejects": None,
        "frames": None,
        "kept": None,
        "dim": None,
    }
    if paths.clips(dataset).exists():
        clips = read_table(paths.clips(dataset), "clips")
        labels = clips["label"].to_pylist()
        facts["clips"] = len(labels)
        facts["per_class"] = {name: labels.count(name) for name in chosen.classes}
        facts["subjects"] = len(set(clips["subject"].drop_null().to_pylist())) or None
    manifest = paths.frames(dataset)
    if manifest.exists():
        stored = read_json(manifest)
        facts["frames"], facts["kept"] = stored.get("frames"), stored.get("clips")
    rejects = manifest.parent / "rejects.parquet"
    if rejects.exists():
        facts["rejects"] = read_table(rejects, "rejects").to_pylist()
    encoder = paths.encoder(chosen.encoder)
    if encoder.exists():
        described = read_json(encoder)
        facts["encoder_fingerprint"] = described.get("fingerprint")
        facts["dim"] = described.get("dim")
    return facts


def ordered(values: Iterable[Any]) -> list[Any]:
    """The distinct values in order of appearance."""
    return list(dict.fromkeys(values))
