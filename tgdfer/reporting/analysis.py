"""Outcomes of runs -> rates per fold, means, deviations, intervals, and comparisons with the reference variant."""

import hashlib
from collections.abc import Mapping
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
        found = *statistics.mean_and_deviation(list(per_fold.values())), *statistics.interval(draws, confidence)
        mean, sd, low, high = (NAN if value is None else value for value in found)
        return cls(mean, sd, low, high, per_fold)

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


class _Folds:
    """The columns of every fold, their observed rates and their bootstrap draws, each computed once."""

    def __init__(self, experiment: Experiment, selection: str, report: ReportParams) -> None:
        self.runs: dict[tuple[str, int], dict[int, RunResult]] = {}
        for run in experiment.runs:
            if selection in run.outcomes:
                self.runs.setdefault((run.key.variant, run.key.fold), {})[run.key.seed] = run
        drawn: dict[int, list[Column]] = {}
        seen: dict[int, list[Column]] = {}
        for (variant, fold), by_seed in self.runs.items():
            drawn.setdefault(fold, []).append((variant, tuple(by_seed)))
            seen.setdefault(fold, []).extend((variant, (seed,)) for seed in by_seed)
            common = self.common(variant, report.reference, fold)
            if common:
                drawn[fold] += [(variant, common), (report.reference, common)]
        # the columns that need draws come first; single seeds need only their rates
        self.places = {
            fold: {column: k for k, column in enumerate(dict.fromkeys([*columns, *seen[fold]]))}
            for fold, columns in drawn.items()
        }
        self.data: dict[int, statistics.FoldResults] = {}
        self.observed: dict[int, statistics.Rates] = {}
        self.draws: dict[int, statistics.Rates] = {}
        classes = len(experiment.classes)
        for fold, places in self.places.items():
            label = next(iter(self.runs[next(iter(places))[0], fold].values())).outcomes[selection].label
            right = {
                (variant, seed): run.outcomes[selection].right.astype(float)
                for variant in dict.fromkeys(variant for variant, _ in places)
                for seed, run in self.runs[variant, fold].items()
            }
            correct = np.stack([np.mean([right[v, seed] for seed in seeds], axis=0) for v, seeds in places], axis=1)
            self.data[fold] = statistics.FoldResults(label, correct, classes)
            self.observed[fold] = statistics.rates(self.data[fold])
            # the draws depend only on the fold: another variant or data set changes no number here
            self.draws[fold] = statistics.resample(
                statistics.FoldResults(label, correct[:, : len(set(drawn[fold]))], classes),
                report.bootstrap,
                generator(report.seed, experiment.dataset, f"fold {fold}"),
            )

    def common(self, variant: str, reference: str, fold: int) -> tuple[int, ...]:
        """The seeds that both variants have in ``fold``."""
        other = self.runs.get((reference, fold), {})
        return tuple(seed for seed in self.runs.get((variant, fold), {}) if seed in other)

    def mean(self, columns: Mapping[int, Column], metric: str) -> float:
        """The mean over folds of ``metric`` for the columns named by fold."""
        return float(np.mean([getattr(self.observed[f], metric)[self.places[f][c]] for f, c in columns.items()]))

    def estimate(self, columns: Mapping[int, Column], metric: str, confidence: float, c: int | None = None) -> Estimate:
        """The mean over folds of ``metric`` (recall of class ``c`` if given) for the columns named by fold."""

        def pick(rates: statistics.Rates, fold: int) -> np.ndarray:
            k = self.places[fold][columns[fold]]
            return rates.recall[..., c, k] if c is not None else getattr(rates, metric)[..., k]

        per_fold = {fold: float(pick(self.observed[fold], fold)) for fold in columns}
        per_fold = {fold: value for fold, value in per_fold.items() if not np.isnan(value)}
        if not per_fold:
            return Estimate()
        draws = np.stack([pick(self.draws[fold], fold) for fold in per_fold])
        present = ~np.isnan(draws)
        averaged = np.where(present.any(axis=0), np.nansum(draws, axis=0) / np.maximum(present.sum(axis=0), 1), np.nan)
        return Estimate.of(per_fold, averaged, confidence)


def generator(seed: int, *names: str) -> np.random.Generator:
    """A random generator that depends only on ``seed`` and ``names``."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])


def analyse(experiment: Experiment, variants: list[str], selection: str, report: ReportParams) -> dict[str, Result]:
    """Every variant of ``experiment`` under ``selection``."""
    folds = _Folds(experiment, selection, report)
    results = {name: _result(experiment, folds, name, selection, report.confidence) for name in variants}
    for (name, metric), found in compare(_pairs(folds, results, report.reference), report, experiment.dataset).items():
        results[name].comparisons[metric] = found
    return results


def _result(experiment: Experiment, folds: _Folds, variant: str, selection: str, confidence: float) -> Result:
    have = {fold: tuple(folds.runs[variant, fold]) for fold in experiment.folds if (variant, fold) in folds.runs}
    missing = [run for run in experiment.of(variant) if selection not in run.outcomes]
    seeds = sorted({seed for some in have.values() for seed in some})
    result = Result(variant, selection, list(have), seeds, missing=missing)
    if not have:
        return result
    columns = {fold: (variant, some) for fold, some in have.items()}
    result.clips = sum(len(folds.data[fold].label) for fold in have)
    result.uar = folds.estimate(columns, "uar", confidence)
    result.war = folds.estimate(columns, "war", confidence)
    result.recall = {
        name: folds.estimate(columns, "recall", confidence, c) for c, name in enumerate(experiment.classes)
    }
    whole = [seed for seed in seeds if all(seed in some for some in have.values())]
    for metric in METRICS:
        # the spread between trainings: the mean over folds once per seed
        means = [folds.mean(dict.fromkeys(have, (variant, (seed,))), metric) for seed in whole]
        sd = statistics.mean_and_deviation(means)[1]
        result.seed_sd[metric] = NAN if sd is None else sd
    return result


def _pairs(folds: _Folds, results: dict[str, Result], reference: str) -> dict[tuple[str, str], Paired]:
    """Every variant and the reference in either metric, on the folds and seeds that both have."""
    pairs: dict[tuple[str, str], Paired] = {}
    for name, result in results.items():
        common = {fold: seeds for fold in result.folds if (seeds := folds.common(name, reference, fold))}
        if name == reference or not common:
            continue
        places = {fold: [folds.places[fold][v, seeds] for v in (name, reference)] for fold, seeds in common.items()}
        change = np.concatenate([np.subtract(*folds.data[fold].correct[:, at].T) for fold, at in places.items()])
        whole = [seed for seed in result.seeds if all(seed in seeds for seeds in common.values())]
        for metric in METRICS:
            draws = [np.subtract(*getattr(folds.draws[fold], metric)[:, at].T) for fold, at in places.items()]
            weights = statistics.clip_weights([folds.data[fold].label for fold in common], metric)
            by_seed = {}
            for seed in whole:
                own, other = (dict.fromkeys(common, (variant, (seed,))) for variant in (name, reference))
                by_seed[seed] = folds.mean(own, metric) - folds.mean(other, metric)
            pairs[name, metric] = Paired(change, np.concatenate(weights), np.mean(draws, axis=0), len(common), by_seed)
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
        interval = Estimate.of({}, pair.draws, report.confidence)
        wins = statistics.win_share(pair.change)
        found[key] = Comparison(
            difference=float(pair.weight @ pair.change),
            low=interval.low,
            high=interval.high,
            p=p[key],
            p_holm=adjusted[key],
            win_share=NAN if wins is None else wins,
            detectable=statistics.detectable(float(pair.draws.std(ddof=1))) if len(pair.draws) > 1 else NAN,
            folds=pair.folds,
            clips=len(pair.change),
            by_seed=pair.by_seed,
        )
    return found
