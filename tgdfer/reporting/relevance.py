"""Whether the frames that a model finds relevant are the right ones, against the true intensity of every frame.

A frame is a positive when the expression has at least half the largest intensity that it reaches in its clip. A clip
counts when its bag holds a positive and a negative frame; others (neutral clips, above all) are left out and counted.
Per clip, over the frames of its bag:

* **AUROC**: the chance that a positive frame has a higher relevance than a negative one; ties count half. Chance: 0.5.
* **AP**: average precision. Chance is the share of positives.
* **Hit**: whether the most relevant frame is a positive (the mean over all that share the largest value).

Two rankings that look at no frame are there to compare with: chance (all frames alike) and *middle* (the nearer the
middle of the bag, the more relevant).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tgdfer import statistics
from tgdfer.params import ReportParams
from tgdfer.reporting.analysis import Estimate, generator
from tgdfer.reporting.collect import Experiment
from tgdfer.storage import read_table

HALF = 0.5
"""The share of a clip's largest intensity from which a frame is a positive."""
MEASURES = ("auroc", "ap", "hit")


@dataclass
class Relevance:
    """Relevance against truth for one ranking: a variant, ``chance`` or ``middle``."""

    auroc: Estimate = field(default_factory=Estimate)
    ap: Estimate = field(default_factory=Estimate)
    hit: Estimate = field(default_factory=Estimate)
    auroc_right: float | None = None
    auroc_wrong: float | None = None
    clips: int = 0
    left_out: int = 0


Truth = Mapping[str, Mapping[int, float]]


def read_truth(path: Path) -> dict[str, dict[int, float]]:
    """The true intensity by clip and frame number."""
    table = read_table(path, "truth")
    truth: dict[str, dict[int, float]] = {}
    for clip, index, value in zip(
        table["clip_id"].to_pylist(),
        table["frame_index"].to_pylist(),
        table["intensity"].to_pylist(),
        strict=True,
    ):
        truth.setdefault(clip, {})[index] = value
    return truth


def measures(score: np.ndarray, positive: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """AUROC, AP and hit of clips [N, T] at once -> [N, 3]; NaN where a clip has no positive or no negative frame."""
    positive, negative = positive & valid, ~positive & valid
    score = np.where(valid, score, -np.inf)
    above = score[:, :, None] > score[:, None, :]
    level = score[:, :, None] == score[:, None, :]
    pairs = positive[:, :, None] & negative[:, None, :]
    n_positive, n_pairs = positive.sum(axis=1), pairs.sum(axis=(1, 2))
    usable = n_pairs > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        auroc = ((above + 0.5 * level) * pairs).sum(axis=(1, 2)) / n_pairs
        reached = (above | level) & valid[:, :, None]  # [N, j, i]: frame j scores at least as high as frame i
        precision = (reached & positive[:, :, None]).sum(axis=1) / reached.sum(axis=1)
        ap = np.where(positive, precision, 0).sum(axis=1) / n_positive
        top = valid & (score == score.max(axis=1, keepdims=True))
        hit = (top & positive).sum(axis=1) / top.sum(axis=1)
    return np.where(usable[:, None], np.stack([auroc, ap, hit], axis=1), np.nan)


def evaluate(
    experiment: Experiment, variants: list[str], selection: str, truth: Truth, report: ReportParams
) -> dict[str, Relevance | None]:
    """Relevance against truth for every variant (None where it gives none), and for ``chance`` and ``middle``.

    The bags of the reference variant stand for all when chance and the middle are computed.
    """
    results: dict[str, Relevance | None] = {}
    for name in variants:
        results[name] = _variant(experiment, name, selection, truth, report)
    base = report.reference if results.get(report.reference) else next((v for v in variants if results[v]), None)
    if base is not None:
        for ranking in ("chance", "middle"):
            results[ranking] = _variant(experiment, base, selection, truth, report, ranking)
    return results


def positives(intensity: np.ndarray, peak: float) -> np.ndarray:
    """Which frames count as expressive."""
    return (intensity >= HALF * peak) & (peak > 0)


def _variant(
    experiment: Experiment, variant: str, selection: str, truth: Truth, report: ReportParams, ranking: str | None = None
) -> Relevance | None:
    per_fold: dict[int, list[np.ndarray]] = {}
    right: list[np.ndarray] = []
    left_out: set[str] = set()
    used: set[str] = set()
    for run in experiment.finished(variant):
        if selection not in run.outcomes:
            continue
        outcome = run.outcomes[selection]
        given = run.relevance(selection)
        clips = [clip for clip in outcome.clip_id.tolist() if clip in truth and len(given[clip][1])]
        if not clips:
            continue
        width = max(len(given[clip][1]) for clip in clips)
        score, positive = np.zeros((len(clips), width)), np.zeros((len(clips), width), dtype=bool)
        valid = np.zeros((len(clips), width), dtype=bool)
        for n, clip in enumerate(clips):
            # a short clip's last frame may stand in its bag more than once: it counts once
            frames, first = np.unique(given[clip][0], return_index=True)
            known = truth[clip]
            intensity = np.array([known.get(int(index), np.nan) for index in frames])
            size = len(frames)
            valid[n, :size] = ~np.isnan(intensity)
            positive[n, :size] = positives(np.nan_to_num(intensity), max(known.values()))
            if ranking is None:
                score[n, :size] = given[clip][1][first]
            elif ranking == "middle":
                score[n, :size] = -np.abs(np.arange(size) - (size - 1) / 2)
        values = measures(score, positive, valid)
        usable = ~np.isnan(values[:, 0])
        used.update(clip for clip, keep in zip(clips, usable, strict=True) if keep)
        left_out.update(clip for clip, keep in zip(clips, usable, strict=True) if not keep)
        hits = dict(zip(outcome.clip_id.tolist(), (outcome.prediction == outcome.label).tolist(), strict=True))
        per_fold.setdefault(run.fold, []).append(values[usable])
        right.append(np.array([hits[clip] for clip, keep in zip(clips, usable, strict=True) if keep], dtype=bool))
    if not per_fold:
        return None
    result = Relevance(clips=len(used), left_out=len(left_out - used))
    averaged = {fold: np.mean(seeds, axis=0) for fold, seeds in per_fold.items() if len(seeds[0])}
    for m, name in enumerate(MEASURES):
        setattr(result, name, _estimate({f: v[:, m] for f, v in averaged.items()}, experiment.dataset, report))
    values, correct = np.concatenate([v for seeds in per_fold.values() for v in seeds]), np.concatenate(right)
    if ranking is None and len(values):
        result.auroc_right = float(values[correct, 0].mean()) if correct.any() else None
        result.auroc_wrong = float(values[~correct, 0].mean()) if (~correct).any() else None
    return result


def _estimate(per_fold: dict[int, np.ndarray], dataset: str, report: ReportParams) -> Estimate:
    if not per_fold:
        return Estimate()
    means = {fold: float(values.mean()) for fold, values in per_fold.items()}
    draws = []
    for fold, values in per_fold.items():
        picks = generator(report.seed, dataset, f"relevance {fold}").integers(
            0, len(values), size=(report.bootstrap, len(values))
        )
        draws.append(values[picks].mean(axis=1))
    mean, sd = statistics.mean_and_deviation(list(means.values()))
    low, high = statistics.interval(np.mean(draws, axis=0), report.confidence)
    return Estimate(mean, sd, low, high, means)
