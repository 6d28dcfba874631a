"""Outcomes of runs -> rates per fold, means, deviations, intervals, and comparisons with the reference variant."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from tgdfer.config.params import ReportParams
from tgdfer.evaluation import statistics
from tgdfer.evaluation.protocol import METRICS
from tgdfer.runs.results import Experiment, Run

LEVEL = 0.05
"""Of significance, after the correction."""


@dataclass(frozen=True)
class Estimate:
    """A rate as a fraction: mean and deviation over folds, bootstrap interval over clips; None where unknown."""

    mean: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    per_fold: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """A variant minus the reference, in one metric, on the folds and seeds that both have."""

    difference: float
    low: float | None
    high: float | None
    p: float
    p_holm: float
    win_share: float | None
    detectable: float
    folds: int
    clips: int
    by_seed: Mapping[int, float] = field(default_factory=dict)
    """The difference with each training seed that all folds have."""

    @property
    def significant(self) -> bool:
        """Whether the difference stands after the correction."""
        return self.p_holm < LEVEL

    @property
    def signs_agree(self) -> bool:
        """Whether no seed says the opposite of the difference."""
        return all(value * self.difference >= 0 for value in self.by_seed.values())


@dataclass(frozen=True)
class Paired:
    """A variant beside the reference: the difference of each clip [n] with its weight in the rate [n], and draws [R].

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
    clips: int
    uar: Estimate = field(default_factory=Estimate)
    war: Estimate = field(default_factory=Estimate)
    recall: dict[str, Estimate] = field(default_factory=dict)
    seed_sd: dict[str, float | None] = field(default_factory=dict)
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    missing: list[Run] = field(default_factory=list)
    """Runs that were expected and have no results under this selection."""

    @property
    def measured(self) -> bool:
        """Whether there is anything to print."""
        return bool(self.folds)


K = TypeVar("K")
Key = tuple[str, tuple[int, ...]]
"""A column of a fold: a variant, averaged over these seeds."""


class _Folds:
    """The columns of every fold, their observed rates and their bootstrap draws, each computed once."""

    def __init__(self, experiment: Experiment, selection: str, report: ReportParams) -> None:
        self.classes = experiment.classes
        self.runs: dict[tuple[str, int], dict[int, Run]] = {}
        for run in experiment.runs:
            if selection in run.outcomes:
                self.runs.setdefault((run.variant, run.fold), {})[run.seed] = run
        drawn: dict[int, list[Key]] = {}
        seen: dict[int, list[Key]] = {}
        for (variant, fold), by_seed in self.runs.items():
            drawn.setdefault(fold, []).append((variant, tuple(by_seed)))
            seen.setdefault(fold, []).extend((variant, (seed,)) for seed in by_seed)
            common = self.common(variant, report.reference, fold)
            if common:
                drawn[fold] += [(variant, common), (report.reference, common)]
        # the columns that need draws come first; of a single seed only the rates are asked for
        self.keys = {
            fold: {key: k for k, key in enumerate(dict.fromkeys([*keys, *seen[fold]]))} for fold, keys in drawn.items()
        }
        self.data: dict[int, statistics.Fold] = {}
        self.observed: dict[int, statistics.Rates] = {}
        self.draws: dict[int, statistics.Rates] = {}
        for fold, columns in self.keys.items():
            label = next(iter(self.runs[next(iter(columns))[0], fold].values())).outcomes[selection].label
            right = {
                (variant, seed): (run.outcomes[selection].prediction == label).astype(float)
                for variant in dict.fromkeys(key[0] for key in columns)
                for seed, run in self.runs[variant, fold].items()
            }
            correct = np.stack([np.mean([right[v, seed] for seed in seeds], axis=0) for v, seeds in columns], axis=1)
            self.data[fold] = statistics.Fold(label, correct, len(self.classes))
            self.observed[fold] = statistics.rates(self.data[fold])
            # the draws of a fold depend on its name alone: another variant or data set changes no number here
            self.draws[fold] = statistics.resample(
                statistics.Fold(label, correct[:, : len(set(drawn[fold]))], len(self.classes)),
                report.bootstrap,
                generator(report.seed, experiment.dataset, f"fold {fold}"),
            )

    def common(self, variant: str, reference: str, fold: int) -> tuple[int, ...]:
        """The seeds that both variants have in ``fold``."""
        other = self.runs.get((reference, fold), {})
        return tuple(seed for seed in self.runs.get((variant, fold), {}) if seed in other)

    def mean(self, columns: Mapping[int, Key], metric: str) -> float:
        """The mean over folds of ``metric`` for the columns named by fold."""
        return float(np.mean([getattr(self.observed[f], metric)[self.keys[f][key]] for f, key in columns.items()]))

    def estimate(self, columns: Mapping[int, Key], metric: str, confidence: float, c: int | None = None) -> Estimate:
        """The mean over folds of ``metric`` (recall of class ``c`` if given) for the columns named by fold."""

        def pick(rates: statistics.Rates, k: int) -> np.ndarray:
            return rates.recall[..., c, k] if c is not None else getattr(rates, metric)[..., k]

        places = {fold: self.keys[fold][key] for fold, key in columns.items()}
        per_fold = {fold: float(pick(self.observed[fold], k)) for fold, k in places.items()}
        per_fold = {fold: value for fold, value in per_fold.items() if not np.isnan(value)}
        if not per_fold:
            return Estimate()
        mean, sd = statistics.mean_and_deviation(list(per_fold.values()))
        draws = np.stack([pick(self.draws[fold], places[fold]) for fold in per_fold])
        present = ~np.isnan(draws)
        averaged = np.where(present.any(axis=0), np.nansum(draws, axis=0) / np.maximum(present.sum(axis=0), 1), np.nan)
        low, high = statistics.interval(averaged, confidence)
        return Estimate(mean, sd, low, high, per_fold)


def generator(seed: int, *names: str) -> np.random.Generator:
    """Random numbers that depend on ``seed`` and ``names`` alone."""
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
    result = Result(variant, selection, list(have), seeds, 0, missing=missing)
    if not have:
        return result
    columns: dict[int, Key] = {fold: (variant, some) for fold, some in have.items()}
    result.clips = sum(len(folds.data[fold].label) for fold in have)
    result.uar = folds.estimate(columns, "uar", confidence)
    result.war = folds.estimate(columns, "war", confidence)
    result.recall = {
        name: folds.estimate(columns, "recall", confidence, c) for c, name in enumerate(experiment.classes)
    }
    whole = [seed for seed in seeds if all(seed in some for some in have.values())]
    for metric in METRICS:
        # the spread of training alone: the mean over folds once per seed, over the seeds that every fold has
        means = [folds.mean(dict.fromkeys(have, (variant, (seed,))), metric) for seed in whole]
        result.seed_sd[metric] = statistics.mean_and_deviation(means)[1]
    return result


def _pairs(folds: _Folds, results: dict[str, Result], reference: str) -> dict[tuple[str, str], Paired]:
    """Every variant beside the reference in either metric, on the folds and seeds that both have."""
    pairs: dict[tuple[str, str], Paired] = {}
    for name, result in results.items():
        common = {fold: seeds for fold in result.folds if (seeds := folds.common(name, reference, fold))}
        if name == reference or not common:
            continue
        places = {fold: [folds.keys[fold][v, seeds] for v in (name, reference)] for fold, seeds in common.items()}
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
        low, high = statistics.interval(pair.draws, report.confidence)
        found[key] = Comparison(
            difference=float(pair.weight @ pair.change),
            low=low,
            high=high,
            p=p[key],
            p_holm=adjusted[key],
            win_share=statistics.win_share(pair.change),
            detectable=statistics.detectable(float(pair.draws.std(ddof=1))) if len(pair.draws) > 1 else np.nan,
            folds=pair.folds,
            clips=len(pair.change),
            by_seed=pair.by_seed,
        )
    return found
