"""Numbers for comparing experiments: metrics.json and CSV files in reports/, for `dvc exp show` and `dvc plots`.

Rates are fractions under the selection that the report prints, as mean and deviation over folds and seeds.
"""

from collections.abc import Sequence
from itertools import chain

import pandas as pd

from tgdfer.core import paths
from tgdfer.core.storage import write_json, write_text
from tgdfer.evaluation.protocol import METRICS
from tgdfer.reporting.part import Part
from tgdfer.runs.dataframes import dataframe

PLOTS = paths.REPORTS / "plots"
CURVES = ["test_uar", "train_war"]


def write_compared(parts: Sequence[Part]) -> None:
    """Write metrics.json and, by data set, the rates of its variants and the reference's curves and confusions."""
    kept, metrics = set(), {}
    for part in parts:
        rates = _rates(part)
        metrics[part.dataset] = {
            variant: {name: value for name, value in row.items() if value == value}
            for variant, row in rates.to_dict("index").items()
        }
        plots = {
            "variants": rates[list(METRICS)].reset_index(),
            "learning": _learning(part),
            "confusion": _confusions(part),
        }
        for name, frame in plots.items():
            path = PLOTS / name / f"{part.dataset}.csv"
            write_text(path, frame.to_csv(index=False, lineterminator="\n"))
            kept.add(path)
    for path in PLOTS.rglob("*.csv"):
        if path not in kept:
            path.unlink()
    write_json(paths.REPORT_METRICS, metrics)


def _rates(part: Part) -> pd.DataFrame:
    """A row per variant with results: the mean and the deviation of each rate."""
    runs = dataframe(part.params, part.experiment)
    runs = runs[(runs["selection"] == part.selection) & runs["uar"].notna()]
    grouped = runs.groupby("variant", sort=False)[list(METRICS)]
    return grouped.mean().join(grouped.std().add_suffix("_std")).round(6)


def _learning(part: Part) -> pd.DataFrame:
    """The epochs that all runs of the reference have, with the mean of each rate."""
    histories = [pd.DataFrame(run.history()) for run in part.experiment.finished(part.reference)]
    if not histories:
        return pd.DataFrame(columns=["epoch", *CURVES])
    epochs = pd.concat(histories).groupby("epoch")
    means = epochs.mean(numeric_only=True).reindex(columns=CURVES)
    return means[epochs.size() == len(histories)].round(6).reset_index()


def _confusions(part: Part) -> pd.DataFrame:
    """The true and the predicted class of every test clip of every run of the reference."""
    found = [run.outcomes.get(part.selection) for run in part.experiment.finished(part.reference)]
    outcomes = [outcome for outcome in found if outcome]
    names = part.experiment.classes
    return pd.DataFrame(
        {
            "actual": [names[c] for c in chain.from_iterable(outcome.label for outcome in outcomes)],
            "predicted": [names[c] for c in chain.from_iterable(outcome.prediction for outcome in outcomes)],
        }
    )
