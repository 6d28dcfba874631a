"""Outcomes of runs -> rates per fold, means, deviations, intervals, and comparisons with the reference variant."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tgdfer import statistics
from tgdfer.params import ReportParams
from tgdfer.reporting.collect import Experiment, Run

METRICS = ("uar", "war")


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
    _compare(folds, results, experiment, report)
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
        means = [
            float(np.mean([getattr(folds.observed[f], metric)[folds.keys[f][variant, (seed,)]] for f in have]))
            for seed in whole
        ]
        result.seed_sd[metric] = statistics.mean_and_deviation(means)[1]
    return result


def _compare(folds: _Folds, results: dict[str, Result], experiment: Experiment, report: ReportParams) -> None:
    """Fill in the comparisons with the reference; Holm's family is every variant in both metrics."""
    pairs: dict[str, dict[int, tuple[int, int]]] = {}
    groups: dict[tuple[int, ...], list[str]] = {}
    for name, result in results.items():
        common = {fold: folds.common(name, report.reference, fold) for fold in result.folds}
        pairs[name] = {
            fold: (folds.keys[fold][name, seeds], folds.keys[fold][report.reference, seeds])
            for fold, seeds in common.items()
            if seeds
        }
        if name != report.reference and pairs[name]:
            groups.setdefault(tuple(pairs[name]), []).append(name)
    # both metrics under the same signs; the same signs for every variant that has the same folds
    p_values: dict[str, np.ndarray] = {}
    differences: dict[str, np.ndarray] = {}
    for shared, names in groups.items():
        labels = [folds.data[fold].label for fold in shared]
        weights = np.stack([np.concatenate(statistics.clip_weights(labels, metric)) for metric in METRICS], axis=1)
        for name in names:
            correct = [folds.data[fold].correct[:, list(pairs[name][fold])] for fold in shared]
            differences[name] = np.subtract(*np.concatenate(correct).T)
        contributions = np.concatenate([weights * differences[name][:, None] for name in names], axis=1)
        found = statistics.sign_flip_test(
            contributions, max(report.bootstrap, 2000), generator(report.seed, experiment.dataset, "signs")
        )
        p_values |= dict(zip(names, found.reshape(len(names), len(METRICS)), strict=True))
    asked = [(name, m, metric) for name in results if name in p_values for m, metric in enumerate(METRICS)]
    adjusted = statistics.holm([float(p_values[name][m]) for name, m, _ in asked])
    for (name, m, metric), p_holm in zip(asked, adjusted, strict=True):
        columns = {fold: getattr(folds.draws[fold], metric)[:, list(pair)] for fold, pair in pairs[name].items()}
        draws = np.mean([np.subtract(*drawn.T) for drawn in columns.values()], axis=0)
        observed = {fold: getattr(folds.observed[fold], metric)[list(pair)] for fold, pair in pairs[name].items()}
        low, high = statistics.interval(draws, report.confidence)
        results[name].comparisons[metric] = Comparison(
            difference=float(np.mean([np.subtract(*rates) for rates in observed.values()])),
            low=low,
            high=high,
            p=float(p_values[name][m]),
            p_holm=p_holm,
            win_share=statistics.win_share(differences[name]),
            detectable=statistics.detectable(float(draws.std(ddof=1))) if len(draws) > 1 else np.nan,
            folds=len(pairs[name]),
            clips=len(differences[name]),
        )
