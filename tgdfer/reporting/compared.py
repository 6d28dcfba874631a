"""Numbers for comparing experiments: metrics.json and CSV files in reports/, for `dvc exp show` and `dvc plots`.

Rates are fractions under the selection that the report prints, as mean and deviation over folds and seeds.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from tgdfer.config.params import Params
from tgdfer.core import paths
from tgdfer.core.storage import write_json, write_text
from tgdfer.runs.results import Experiment, Run

PLOTS = paths.REPORTS / "plots"
RATES = ("uar", "war")
CURVES = ("test_uar", "train_war")


def write_compared(params: Params, experiments: Sequence[Experiment]) -> None:
    """Write metrics.json and, by data set, the rates of its variants and the reference's curves and confusions."""
    kept: set[Path] = set()
    found: dict[str, dict[str, dict[str, float]]] = {}
    for experiment in experiments:
        rates = {variant: _rates(params, experiment.finished(variant)) for variant in params.variants}
        found[experiment.dataset] = {variant: values for variant, values in rates.items() if values}
        reference = experiment.finished(params.report.reference)
        for plot, header, rows in (
            ("variants", ("variant", *RATES), [(v, *(r.get(k) for k in RATES)) for v, r in rates.items() if r]),
            ("learning", ("epoch", *CURVES), _learning(reference)),
            ("confusion", ("actual", "predicted"), _confusions(params, experiment, reference)),
        ):
            path = PLOTS / plot / f"{experiment.dataset}.csv"
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows([header, *rows])
            write_text(path, text.getvalue())
            kept.add(path)
    for path in PLOTS.rglob("*.csv"):
        if path not in kept:
            path.unlink()
    write_json(paths.REPORT_METRICS, found)


def _rates(params: Params, runs: Sequence[Run]) -> dict[str, float]:
    values: dict[str, float] = {}
    for rate in RATES:
        chosen = [run.metrics["selections"].get(params.report.selection, {}).get(rate) for run in runs]
        known = [value for value in chosen if value is not None]
        if (mean := _mean(chosen)) is not None:
            values[rate] = mean
        if len(known) > 1:
            values[f"{rate}_std"] = round(stdev(known), 6)
    return values


def _learning(runs: Iterable[Run]) -> list[tuple[Any, ...]]:
    """The epochs that all runs have, with the mean of each rate."""
    histories = [history for run in runs if (history := run.history())]
    return [
        (epochs[0]["epoch"], *(_mean([epoch.get(key) for epoch in epochs]) for key in CURVES))
        for epochs in zip(*histories, strict=False)
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(fmean(known), 6) if known else None


def _confusions(params: Params, experiment: Experiment, runs: Iterable[Run]) -> list[tuple[str, str]]:
    """The true and the predicted class of every test clip of every run."""
    outcomes = [run.outcomes[params.report.selection] for run in runs if params.report.selection in run.outcomes]
    names = experiment.classes
    return [
        (names[label], names[prediction])
        for outcome in outcomes
        for label, prediction in zip(outcome.label.tolist(), outcome.prediction.tolist(), strict=True)
    ]
