"""Whether a model finds the right frames relevant, by the true intensity of every frame.

A frame is a positive when the expression has at least half the largest intensity that it reaches in its clip. A clip
counts when its bag holds a positive and a negative frame; others (neutral clips, above all) are left out and counted.
Per clip, over the frames of its bag:

* **AUROC**: the chance that a positive frame has a higher relevance than a negative one; ties count half. Chance: 0.5.
* **AP**: average precision. Chance is the share of positives.
* **Hit**: whether the most relevant frame is a positive (the mean over all that share the largest value).

``rankings`` that need no training are measured over the bags of the reference variant. Every ranking and every other
variant is compared with the reference in AUROC, clip by clip; Holm's correction covers all of these comparisons.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tgdfer.config.report import ReportParams
from tgdfer.core.errors import UserError
from tgdfer.datasets.truth import read_truth as read_table
from tgdfer.evaluation import statistics
from tgdfer.evaluation.protocol import SELECTIONS
from tgdfer.reporting.analysis import NAN, Comparison, Estimate, Paired, compare, generator
from tgdfer.reporting.rankings import Ranking, first_times
from tgdfer.runs.results import Experiment

HALF = 0.5
"""The share of a clip's largest intensity from which a frame is a positive."""
MEASURES = ("auroc", "ap", "hit")


@dataclass
class Relevance:
    """Relevance against truth for one variant or ranking, and its difference in AUROC to the reference."""

    auroc: Estimate = field(default_factory=Estimate)
    ap: Estimate = field(default_factory=Estimate)
    hit: Estimate = field(default_factory=Estimate)
    auroc_right: float = NAN
    auroc_wrong: float = NAN
    clips: int = 0
    left_out: int = 0
    comparison: Comparison | None = None


@dataclass(frozen=True)
class Truth:
    """The true intensity: clips ascending, ``intensity`` [N, F] by frame number, NaN where there is no such frame."""

    clip_id: np.ndarray
    intensity: np.ndarray

    def knows(self, clip_id: np.ndarray) -> np.ndarray:
        """Which of the clips [n] it covers."""
        return np.isin(clip_id, self.clip_id)

    def rows(self, clip_id: np.ndarray) -> np.ndarray:
        """The intensities [n, F] of known clips."""
        return self.intensity[np.searchsorted(self.clip_id, clip_id)]

    def of(self, clip_id: np.ndarray, frame_index: np.ndarray) -> np.ndarray:
        """The intensities [n, T] of the frames numbered ``frame_index`` [n, T]; NaN where it is not known."""
        if not len(clip_id) or not self.knows(clip_id).all():
            return np.full(frame_index.shape, np.nan)
        inside = (frame_index >= 0) & (frame_index < self.intensity.shape[1])
        taken = np.take_along_axis(self.rows(clip_id), np.where(inside, frame_index, 0), axis=1)
        return np.where(inside, taken, np.nan)


def read_truth(path: Path) -> Truth:
    """The true intensity by clip and frame number."""
    table = read_table(path)
    clips, row = np.unique(table["clip_id"].to_numpy(zero_copy_only=False).astype(str), return_inverse=True)
    index = table["frame_index"].to_numpy()
    intensity = np.full((len(clips), int(index.max(initial=-1)) + 1), np.nan)
    intensity[row, index] = table["intensity"].to_numpy()
    return Truth(clips, intensity)


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
    experiment: Experiment, variants: list[str], truth: Truth, report: ReportParams, rankings: Mapping[str, Ranking]
) -> dict[str, dict[str, Relevance | None]]:
    """Relevance against truth by selection, for every ranking and every variant (None where it gives none).

    The rankings are computed on the bags of the reference variant.
    """
    draws = _Draws(experiment.dataset, report)
    every = {name: measured(experiment, name, truth) for name in variants}
    base = next((v for v in (report.reference, *variants) if any(every[v].values())), None)
    ranked: dict[str, dict[str, list[Bags]]] = {}
    if base is not None:
        for name, ranking in rankings.items():
            try:
                ranked[name] = measured(experiment, base, truth, ranking)
            except UserError as error:  # a feature is not what was written
                experiment.problems.append(f"{error}: no ranking by {name}")
    every = ranked | every
    results: dict[str, dict[str, Relevance | None]] = {}
    for selection in SELECTIONS:
        bags = {name: runs[selection] for name, runs in every.items()}
        scores = {name: _scores(runs) for name, runs in bags.items()}
        found = {name: _summary(bags[name], scores[name], draws, name not in rankings) for name in bags}
        pairs = {
            name: _pair(scores[name], scores[report.reference], draws) for name in bags if name != report.reference
        }
        known = {name: pair for name, pair in pairs.items() if pair is not None}
        for name, comparison in compare(known, report, experiment.dataset, "relevance").items():
            found[name].comparison = comparison  # type: ignore[union-attr]
        results[selection] = found
    return results


def positives(intensity: np.ndarray, peak: float | np.ndarray) -> np.ndarray:
    """Which frames count as expressive."""
    return (intensity >= HALF * peak) & (peak > 0)


@dataclass(frozen=True)
class Bags:
    """The clips of one run that the truth knows: who they are, whether they were classified right, measures [n, 3]."""

    fold: int
    clip_id: np.ndarray
    right: np.ndarray
    values: np.ndarray


def measured(
    experiment: Experiment, variant: str, truth: Truth, ranking: Ranking | None = None
) -> dict[str, list[Bags]]:
    """The measures of every finished run of ``variant``, by selection; ``ranking`` replaces the relevance."""
    found: dict[str, list[Bags]] = {selection: [] for selection in SELECTIONS}
    for run in experiment.finished(variant):
        for selection, given in run.relevance().items():
            kept = truth.knows(given.clip_id) & (given.frame_index >= 0).any(axis=1)
            if not kept.any():
                continue
            clip_id, order = given.clip_id[kept], np.argsort(given.frame_index[kept], axis=1, kind="stable")
            frames = np.take_along_axis(given.frame_index[kept], order, axis=1)
            score = np.take_along_axis(given.relevance[kept], order, axis=1)
            intensity, peak = truth.of(clip_id, frames), np.nanmax(truth.rows(clip_id), axis=1, keepdims=True)
            valid = first_times(frames) & ~np.isnan(intensity)
            values = measures(ranking(clip_id, frames) if ranking else score, positives(intensity, peak), valid)
            found[selection].append(Bags(run.key.fold, clip_id, run.outcomes[selection].right[kept], values))
    return found


class _Draws:
    """The bootstrap samples of every fold: the same for all variants that count the same clips."""

    def __init__(self, dataset: str, report: ReportParams) -> None:
        self.dataset, self.report = dataset, report
        self.known: dict[tuple[int, int], np.ndarray] = {}

    def mean(self, fold: int, values: np.ndarray) -> np.ndarray:
        """The means [R] or [R, k] of the clips' ``values`` [n] or [n, k] in each sample."""
        n = len(values)
        if (fold, n) not in self.known:
            source = generator(self.report.seed, self.dataset, f"relevance {fold}")
            self.known[fold, n] = statistics.draw_clips(n, self.report.bootstrap, source).astype(np.float64)
        return self.known[fold, n] @ values / n


Scores = dict[int, tuple[np.ndarray, np.ndarray]]
"""By fold: the clips that count, and their measures [n, 3], averaged over seeds."""


def _scores(runs: list[Bags]) -> Scores:
    per_fold: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    for bags in runs:
        keep = ~np.isnan(bags.values[:, 0])
        if keep.any():
            per_fold.setdefault(bags.fold, []).append((bags.clip_id[keep], bags.values[keep]))
    return {fold: (seeds[0][0], np.mean([values for _, values in seeds], axis=0)) for fold, seeds in per_fold.items()}


def _pair(own: Scores, other: Scores, draws: _Draws) -> Paired | None:
    """AUROC minus the reference's, on the folds in which both count the same clips."""
    shared = [fold for fold in own if fold in other and np.array_equal(own[fold][0], other[fold][0])]
    if not shared:
        return None
    changes = [own[fold][1][:, 0] - other[fold][1][:, 0] for fold in shared]
    weight = np.concatenate([np.full(len(change), 1 / (len(change) * len(shared))) for change in changes])
    drawn = [draws.mean(fold, change) for fold, change in zip(shared, changes, strict=True)]
    return Paired(np.concatenate(changes), weight, np.mean(drawn, axis=0), len(shared))


def _summary(runs: list[Bags], scores: Scores, draws: _Draws, trained: bool) -> Relevance | None:
    """Means over the clips of a fold, then the folds; if ``trained``, also over right and wrong clips."""
    if not runs:
        return None
    used = sum(len(clips) for clips, _ in scores.values())
    result = Relevance(clips=used, left_out=len({clip for bags in runs for clip in bags.clip_id.tolist()}) - used)
    if not scores:
        return result
    drawn = np.mean([draws.mean(fold, values) for fold, (_, values) in scores.items()], axis=0)
    for m, name in enumerate(MEASURES):
        per_fold = {fold: float(values[:, m].mean()) for fold, (_, values) in scores.items()}
        setattr(result, name, Estimate.of(per_fold, drawn[:, m], draws.report.confidence))
    if trained:
        auroc, right = (np.concatenate(values) for values in ([b.values[:, 0] for b in runs], [b.right for b in runs]))
        usable = ~np.isnan(auroc)
        result.auroc_right, result.auroc_wrong = (
            float(auroc[usable & these].mean()) if (usable & these).any() else NAN for these in (right, ~right)
        )
    return result
