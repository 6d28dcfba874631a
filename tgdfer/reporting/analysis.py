"""Outcomes of runs -> rates per fold, means, deviations, intervals, and comparisons with the reference variant."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self, TypeVar

import numpy as np

from tgdfer.config.report import ReportParams
from tgdfer.evaluation import statistics
from tgdfer.evaluation.protocol import METRICS
from tgdfer.runs.results import Experiment, RunResult

LEVEL = 0.05
"""The level of significance, after the correction."""
NAN = float("nan")


@dataclass(frozen=True)
class Estimate:
    """A rate as a fraction: mean and deviation over folds, bootstrap interval over clips; NaN where unknown."""

    mean: float = NAN
    sd: float = NAN
    low: float = NAN
    high: float = NAN
    per_fold: Mapping[int, float] = field(default_factory=dict)

    @classmethod
    def of(cls, per_fold: Mapping[int, float], draws: np.ndarray, confidence: float) -> Self:
        """The estimate from the rate of each fold and the bootstrap draws [R] of their mean."""
        mean, sd = statistics.mean_and_deviation(list(per_fold.values()))
        return cls(mean, sd, *statistics.interval(draws, confidence), per_fold)

    @property
    def known(self) -> bool:
        """Whether there is a value."""
        return not np.isnan(self.mean)


@dataclass(frozen=True)
class Comparison:
    """A variant minus the reference, in one metric, on the folds and seeds that both have."""

    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    win_share: float
    detectable: float
    folds: int
    clips: int
    by_seed: Mapping[int, float] = field(default_factory=dict)
    """The difference with each training seed that all folds have."""

    @property
    def estimate(self) -> Estimate:
        """The difference with its interval."""
        return Estimate(self.difference, low=self.low, high=self.high)

    @property
    def significant(self) -> bool:
        """Whether the difference is significant after the correction."""
        return self.p_holm < LEVEL

    @property
    def signs_agree(self) -> bool:
        """Whether no seed has a difference of the opposite sign."""
        return all(value * self.difference >= 0 for value in self.by_seed.values())


@dataclass(frozen=True)
class Paired:
    """A variant and the reference: the difference of each clip [n] with its weight in the rate [n], and draws [R].

    The weighted sum of ``change`` is the difference of the rates, ``draws`` are its bootstrap draws.
    """

    change: np.ndarray
    weight: np.ndarray
    draws: np.ndarray
    folds: int
    by_seed: Mapping[int, float] = field(default_factory=dict)


@dataclass
class Result:
    """A variant under one selection."""

    variant: str
    selection: str
    folds: list[int]
    seeds: list[int]
    clips: int = 0
    uar: Estimate = field(default_factory=Estimate)
    war: Estimate = field(default_factory=Estimate)
    recall: dict[str, Estimate] = field(default_factory=dict)
    seed_sd: dict[str, float] = field(default_factory=dict)
    """By metric: the deviation over seeds of the mean over folds; NaN with fewer than two seeds that all folds have."""
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    missing: list[RunResult] = field(default_factory=list)
    """The expected runs that have no results under this selection."""

    @property
    def measured(self) -> bool:
        """Whether there is anything to print."""
        return bool(self.folds)


K = TypeVar("K")
Column = tuple[str, tuple[int, ...]]
"""A column of a fold: a variant, averaged over these seeds."""


class _Fold:
    """The columns of a fold, their observed rates and their bootstrap draws, each computed once."""

    def __init__(self, experiment: Experiment, number: int, selection: str, report: ReportParams) -> None:
        self.right: dict[str, dict[int, np.ndarray]] = {}
        """By variant, then by seed: which clips [n] are right."""
        for run in experiment.runs:
            if run.key.fold == number and (outcome := run.outcomes.get(selection)):
                self.right.setdefault(run.key.variant, {})[run.key.seed] = outcome.right.astype(float)
                self.label = outcome.label
        drawn: list[Column] = []
        for variant in self.right:
            drawn.append((variant, self.seeds(variant)))
            if common := self.common(variant, report.reference):
                drawn += [(variant, common), (report.reference, common)]
        # the columns that need draws come first; single seeds need only their rates
        drawn = list(dict.fromkeys(drawn))
        single = [(variant, (seed,)) for variant, by_seed in self.right.items() for seed in by_seed]
        self.place = {column: k for k, column in enumerate(dict.fromkeys([*drawn, *single]))}
        shares = [np.mean([self.right[v][seed] for seed in seeds], axis=0) for v, seeds in self.place]
        self.correct, classes = np.stack(shares, axis=1), len(experiment.classes)
        self.observed = statistics.rates(statistics.FoldResults(self.label, self.correct, classes))
        # the draws depend only on the fold: another variant or data set changes no number here
        self.draws = statistics.resample(
            statistics.FoldResults(self.label, self.correct[:, : len(drawn)], classes),
            report.bootstrap,
            generator(report.seed, experiment.dataset, f"fold {number}"),
        )

    def seeds(self, variant: str) -> tuple[int, ...]:
        """The seeds of a variant."""
        return tuple(self.right.get(variant, ()))

    def common(self, variant: str, reference: str) -> tuple[int, ...]:
        """The seeds that both variants have."""
        return tuple(seed for seed in self.seeds(variant) if seed in self.seeds(reference))

    def pick(self, rates: statistics.Rates, column: Column, metric: str | int) -> np.ndarray:
        """A column of observed rates or draws: of ``uar`` or ``war``, or of the recall of a class."""
        values = rates.recall[..., metric, :] if isinstance(metric, int) else getattr(rates, metric)
        return values[..., self.place[column]]

    def minus(self, columns: np.ndarray, one: Column, other: Column) -> np.ndarray:
        """The difference [n] of two of ``columns`` [n, k]."""
        return columns[:, self.place[one]] - columns[:, self.place[other]]


Folds = dict[int, _Fold]
"""By number: the folds that have results."""


def generator(seed: int, *names: str) -> np.random.Generator:
    """A random generator that depends only on ``seed`` and ``names``."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])


def analyse(experiment: Experiment, variants: list[str], selection: str, report: ReportParams) -> dict[str, Result]:
    """Every variant of ``experiment`` under ``selection``."""
    tested = {run.key.fold for run in experiment.runs if selection in run.outcomes}
    folds = {fold: _Fold(experiment, fold, selection, report) for fold in experiment.folds if fold in tested}
    results = {name: _result(experiment, folds, name, selection, report.confidence) for name in variants}
    for (name, metric), found in compare(_pairs(folds, results, report.reference), report, experiment.dataset).items():
        results[name].comparisons[metric] = found
    return results


def _result(experiment: Experiment, folds: Folds, variant: str, selection: str, confidence: float) -> Result:
    have = {number: fold for number, fold in folds.items() if variant in fold.right}
    missing = [run for run in experiment.of(variant) if selection not in run.outcomes]
    seeds = sorted({seed for fold in have.values() for seed in fold.right[variant]})
    result = Result(variant, selection, list(have), seeds, missing=missing)
    if not have:
        return result
    result.clips = sum(len(fold.label) for fold in have.values())
    result.uar = _estimate(have, variant, "uar", confidence)
    result.war = _estimate(have, variant, "war", confidence)
    result.recall = {name: _estimate(have, variant, c, confidence) for c, name in enumerate(experiment.classes)}
    for metric in METRICS:
        # the spread between trainings: the mean over folds once per seed
        means = _by_seed(have, variant, metric, [fold.seeds(variant) for fold in have.values()])
        result.seed_sd[metric] = statistics.mean_and_deviation(list(means.values()))[1]
    return result


def _estimate(folds: Folds, variant: str, metric: str | int, confidence: float) -> Estimate:
    """The mean over folds of a metric, or of the recall of a class, for a variant averaged over its seeds."""
    columns = {number: (variant, fold.seeds(variant)) for number, fold in folds.items()}
    per_fold = {n: float(fold.pick(fold.observed, columns[n], metric)) for n, fold in folds.items()}
    per_fold = {number: value for number, value in per_fold.items() if not np.isnan(value)}
    if not per_fold:
        return Estimate()
    draws = np.stack([folds[n].pick(folds[n].draws, columns[n], metric) for n in per_fold])
    return Estimate.of(per_fold, statistics.mean_of_known(draws), confidence)


def _by_seed(folds: Folds, variant: str, metric: str, seeds: Iterable[Sequence[int]]) -> dict[int, float]:
    """The mean over folds of a metric for each seed that is among the ``seeds`` of every fold."""
    return {
        seed: float(np.mean([fold.pick(fold.observed, (variant, (seed,)), metric) for fold in folds.values()]))
        for seed in sorted(set.intersection(*map(set, seeds)))
    }


def _pairs(folds: Folds, results: dict[str, Result], reference: str) -> dict[tuple[str, str], Paired]:
    """Every variant and the reference in either metric, on the folds and seeds that both have."""
    pairs: dict[tuple[str, str], Paired] = {}
    for name in results:
        common = {number: seeds for number, fold in folds.items() if (seeds := fold.common(name, reference))}
        if name == reference or not common:
            continue
        both = {folds[number]: ((name, seeds), (reference, seeds)) for number, seeds in common.items()}
        change = np.concatenate([fold.minus(fold.correct, *columns) for fold, columns in both.items()])
        shared = {number: folds[number] for number in common}
        for metric in METRICS:
            draws = [fold.minus(getattr(fold.draws, metric), *columns) for fold, columns in both.items()]
            weights = statistics.clip_weights([fold.label for fold in both], metric)
            own, other = (_by_seed(shared, variant, metric, common.values()) for variant in (name, reference))
            by_seed = {seed: own[seed] - other[seed] for seed in own}
            pairs[name, metric] = Paired(change, np.concatenate(weights), np.mean(draws, axis=0), len(both), by_seed)
    return pairs


def compare(pairs: Mapping[K, Paired], report: ReportParams, *names: str) -> dict[K, Comparison]:
    """Interval, test and effect size of every pair; Holm's family is all of them. ``names`` seed the random signs."""
    by_size: dict[int, list[K]] = {}
    for key, pair in pairs.items():
        by_size.setdefault(len(pair.change), []).append(key)
    p: dict[K, float] = {}
    for keys in by_size.values():
        contributions = np.stack([pairs[key].weight * pairs[key].change for key in keys], axis=1)
        signs = generator(report.seed, *names, "signs")
        p |= dict(zip(keys, statistics.sign_flip_test(contributions, statistics.FLIPS, signs).tolist(), strict=True))
    adjusted = dict(zip(pairs, statistics.holm([p[key] for key in pairs]), strict=True))
    found = {}
    for key, pair in pairs.items():
        low, high = statistics.interval(pair.draws, report.confidence)
        found[key] = Comparison(
            difference=float(pair.weight @ pair.change),
            low=low,
            high=high,
            p=p[key],
            p_holm=adjusted[key],
            win_share=statistics.win_share(pair.change),
            detectable=statistics.detectable(float(pair.draws.std(ddof=1))) if len(pair.draws) > 1 else NAN,
            folds=pair.folds,
            clips=len(pair.change),
            by_seed=pair.by_seed,
        )
    return found
