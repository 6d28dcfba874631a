"""Runs and their test predictions as pandas DataFrames, for notebooks, other statistics and other plots."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from tgdfer.config.params import Params, load_params
from tgdfer.evaluation.protocol import SELECTIONS
from tgdfer.runs.results import Experiment, RunResult, collect

RATES = ("epoch", "uar", "war", "macro_f1", "ece")
COLUMNS = (
    *("dataset", "variant", "label", "fold", "seed", "selection", "state", "reason", *RATES),
    *("parameters", "seconds", "peak_memory_mb", "n_train", "n_test"),
)


def load_runs(params: Params | None = None) -> pd.DataFrame:
    """The expected runs of every data set: a row for each run and selection.

    Columns: dataset, variant, label, fold, seed, selection; state (done, outdated, damaged, running, interrupted,
    failed or missing) and reason; epoch, uar, war, macro_f1, ece and recall_<class> as fractions; parameters (trained),
    seconds, peak_memory_mb, n_train, n_test. What a run does not have is NaN: a missing run is a row without rates.

    Args:
        params: params.yaml of the working directory if left out.
    """
    params = params or load_params()
    return pd.concat([dataframe(params, collect(params, name)) for name in params.datasets], ignore_index=True)


def load_predictions(params: Params | None = None) -> pd.DataFrame:
    """The test predictions of every run that has results: a row for each run, selection and clip.

    Columns: dataset, variant, fold, seed, selection, clip_id, label, prediction, confidence, and probability_<class>.

    Args:
        params: params.yaml of the working directory if left out.
    """
    params = params or load_params()
    found = [
        _predictions(run, experiment.classes)
        for experiment in (collect(params, name) for name in params.datasets)
        for run in experiment.runs
        if run.problem is None
    ]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def dataframe(params: Params, experiment: Experiment) -> pd.DataFrame:
    """The runs of one data set as ``load_runs`` returns them."""
    rows = [row for run in experiment.runs for row in _rows(params, run)]
    return pd.DataFrame(rows, columns=[*COLUMNS, *(f"recall_{name}" for name in experiment.classes)])


def _rows(params: Params, run: RunResult) -> Iterator[dict[str, Any]]:
    about = {
        **vars(run.key),
        "label": params.variants[run.key.variant].label,
        "state": run.state.name,
        "reason": "; ".join(run.state.reasons) or run.problem,
        "parameters": run.metrics.get("parameters_trainable"),
        **{name: run.metrics.get(name) for name in ("n_train", "n_test")},
        **{name: run.info.get(name) for name in ("seconds", "peak_memory_mb")},
    }
    for selection in SELECTIONS:
        outcome = run.outcomes.get(selection)
        found = outcome.metrics if outcome else {}
        rates = {name: found.get(name) for name in RATES}
        recall = {f"recall_{name}": value for name, value in found.get("recall", {}).items()}
        yield {**about, "selection": selection, **rates, **recall}


def _predictions(run: RunResult, classes: list[str]) -> pd.DataFrame:
    columns = ["clip_id", "selection", "label", "probabilities"]
    table = pq.read_table(run.key.folder / "predictions.parquet", columns=columns)
    probabilities = table["probabilities"].combine_chunks().flatten().to_numpy().reshape(len(table), len(classes))
    frame = table.drop_columns("probabilities").to_pandas()
    for place, (name, value) in enumerate(vars(run.key).items()):
        frame.insert(place, name, value)
    frame["prediction"] = [classes[c] for c in probabilities.argmax(axis=1)]
    frame["confidence"] = probabilities.max(axis=1)
    return frame.join(pd.DataFrame(probabilities, columns=[f"probability_{name}" for name in classes]))
