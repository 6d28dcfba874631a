"""Spread, intervals, paired tests and their power, over the clips and folds of an experiment.

Everything here works on ``correct``: for a test clip, the share of the seeds that classified it right (0 or 1 with one
seed). UAR and WAR are computed in each fold and averaged over the folds, seeds having been averaged before that.

* **Intervals** are percentile bootstrap intervals (Efron and Tibshirani, An Introduction to the Bootstrap, 1993):
  in every fold as many clips as it has are drawn with replacement, the same clips for every variant. They say how far
  the numbers depend on which clips were in the test folds, for the models as trained, not how far on the training.
* **Tests** are paired: under the null hypothesis the two variants are exchangeable on every clip, so the sign of each
  clip's difference is flipped at random (Good, Permutation, Parametric, and Bootstrap Tests of Hypotheses, 2005).
* **Holm's correction** (A simple sequentially rejective multiple test procedure, 1979) covers many comparisons.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

FLIPS = 20_000
"""Random signs of a test: so many that a p of 1 / 20,001 stays below 0.05 after Holm's correction of 1,000 tests."""


@dataclass(frozen=True)
class FoldResults:
    """The test clips of one fold.

    ``label`` [n] holds class indices below ``classes``; ``correct`` [n, k] the shares for k variants, in [0, 1].
    """

    label: np.ndarray
    correct: np.ndarray
    classes: int


@dataclass(frozen=True)
class Rates:
    """UAR [..., k], WAR [..., k] and recall [..., classes, k] as fractions; NaN where a class does not occur."""

    uar: np.ndarray
    war: np.ndarray
    recall: np.ndarray


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (n - 1) of ``values`` without NaN; NaN where there are too few."""
    kept = np.asarray([value for value in values if not np.isnan(value)], dtype=float)
    mean = kept.mean() if len(kept) else np.nan
    return float(mean), float(kept.std(ddof=1)) if len(kept) > 1 else np.nan


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """The mean over the first axis without NaN; NaN where nothing is left."""
    known = (~np.isnan(values)).sum(axis=0)
    return np.where(known > 0, np.nansum(values, axis=0) / np.maximum(known, 1), np.nan)


def _rates(fold: FoldResults, weights: np.ndarray) -> Rates:
    """Rates under clip weights [R, n]; a class of weight 0 is left out of the UAR of that draw."""
    draws, k = len(weights), fold.correct.shape[1]
    recall = np.full((draws, fold.classes, k), np.nan)
    for c in np.unique(fold.label):
        members = np.flatnonzero(fold.label == c)
        share = weights[:, members]
        total = share.sum(axis=1, dtype=np.float64)
        present = total > 0
        recall[present, c] = (share @ fold.correct[members])[present] / total[present, None]
    occurs = ~np.isnan(recall[:, :, :1])
    uar = np.nansum(recall, axis=1) / np.maximum(occurs.sum(axis=1), 1)
    return Rates(uar, (weights @ fold.correct) / weights.sum(axis=1, dtype=np.float64)[:, None], recall)


def rates(fold: FoldResults) -> Rates:
    """The observed rates of a fold: UAR [k], WAR [k], recall [classes, k]."""
    observed = _rates(fold, np.ones((1, len(fold.label))))
    return Rates(observed.uar[0], observed.war[0], observed.recall[0])


def draw_clips(n: int, draws: int, generator: np.random.Generator) -> np.ndarray:
    """How often each of ``n`` clips is in each of ``draws`` bootstrap samples of as many: float32 [R, n]."""
    picks = generator.integers(0, n, size=(draws, n))
    picks += np.arange(draws)[:, None] * n
    return np.bincount(picks.ravel(), minlength=draws * n).reshape(draws, n).astype(np.float32)


def resample(fold: FoldResults, draws: int, generator: np.random.Generator) -> Rates:
    """The rates under ``draws`` bootstrap samples of the clips: UAR [R, k], WAR [R, k], recall [R, classes, k]."""
    return _rates(fold, draw_clips(len(fold.label), draws, generator))


def interval(draws: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """The percentile interval of ``draws`` [R], NaN left out; NaN, NaN when nothing is left."""
    kept = draws[~np.isnan(draws)]
    low, high = np.quantile(kept, [(1 - confidence) / 2, (1 + confidence) / 2]) if len(kept) else (np.nan, np.nan)
    return float(low), float(high)


def clip_weights(folds: Sequence[np.ndarray], metric: str) -> list[np.ndarray]:
    """The weight [n] of each clip in the mean over folds of ``uar`` or ``war``, given the folds' labels [n]."""
    weights = []
    for label in folds:
        if metric == "war":
            weights.append(np.full(len(label), 1 / (len(label) * len(folds))))
            continue
        present, place, count = np.unique(label, return_inverse=True, return_counts=True)
        weights.append(1 / (count[place] * len(present) * len(folds)))
    return weights


def sign_flip_test(contributions: np.ndarray, draws: int, generator: np.random.Generator) -> np.ndarray:
    """Two-sided p of k paired differences: the sums of ``contributions`` [n, k] under random signs of the clips.

    The observed arrangement counts as one of the draws, so p is never 0 and the test keeps its level. A column of zeros
    has p = 1.
    """
    observed = np.abs(contributions.sum(axis=0))
    reached = np.zeros(contributions.shape[1])
    # differences of equal size must count as equal, whatever order they were added in
    floor = observed - 1e-9 * np.maximum(observed, np.abs(contributions).sum(axis=0))
    for start in range(0, draws, 500):
        size = min(500, draws - start)
        signs = generator.integers(0, 2, size=(size, len(contributions)), dtype=np.int8).astype(np.float64) * 2 - 1
        reached += (np.abs(signs @ contributions) >= floor).sum(axis=0)
    return (reached + 1) / (draws + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: compare each with the level of the whole family."""
    order = np.argsort(p_values, kind="stable")
    scaled = np.arange(len(p_values), 0, -1) * np.asarray(p_values)[order]
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(np.minimum(scaled, 1.0))
    return adjusted.tolist()


def win_share(difference: np.ndarray) -> float:
    """Effect size of a paired comparison: of the clips on which two variants disagree, the share won by the first.

    ``difference`` [n] is the first's ``correct`` minus the second's. 0.5 is no effect; minus 0.5 it is Cohen's g
    (Statistical Power Analysis, 1988, ch. 5) for one seed. NaN when they never disagree.
    """
    total = float(np.abs(difference).sum())
    return float(difference[difference > 0].sum()) / total if total else np.nan


def detectable(standard_error: float, power: float = 0.8, level: float = 0.05) -> float:
    """The smallest true difference that a two-sided test at ``level`` finds with probability ``power`` (normal)."""
    normal = NormalDist()
    return (normal.inv_cdf(1 - level / 2) + normal.inv_cdf(power)) * standard_error
