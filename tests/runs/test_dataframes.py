"""Runs and predictions as DataFrames: what is in the files, a row each, and runs without results."""

import shutil
from pathlib import Path

import numpy as np
from report_tables import key, project

import tgdfer
from tgdfer.core import paths, storage


def test_runs_and_predictions_are_those_of_the_files(new_folder: Path) -> None:
    made = project(folds=2, seeds=(0, 3))
    params = made.write()
    made.write_run(key("no-text", 2), code="0" * 64)
    (key("linear-probe", 1, 3).folder / "metrics.json").unlink()
    runs = tgdfer.load_runs().set_index(["variant", "fold", "seed", "selection"]).sort_index()
    assert len(runs) == 3 * 2 * 2 * 3
    for selection, stored in storage.read_json(key("tgdfer", 2, 3).folder / "metrics.json")["selections"].items():
        row = runs.loc["tgdfer", 2, 3, selection]
        for name in ("epoch", "uar", "war", "macro_f1", "ece"):
            assert row[name] == stored[name]
        assert row["recall_happy"] == stored["recall"]["happy"]
        assert (row["dataset"], row["label"], row["state"]) == ("demo", "TG-DFER (full)", "done")
        assert (row["parameters"], row["peak_memory_mb"]) == (12345, 500)
        assert (row["n_train"], row["n_test"]) == (50, 50)
        assert row["seconds"] == storage.read_json(key("tgdfer", 2, 3).folder / "run.json")["seconds"]
    damaged = runs.loc["linear-probe", 1, 3, "last"]
    assert (damaged["state"], damaged["reason"]) == ("damaged", "metrics.json is missing")
    assert np.isnan(damaged["uar"])
    stale = runs.loc["no-text", 2, 0, "last"]
    assert (stale["state"], stale["reason"]) == ("outdated", "the code of the training changed")
    assert stale["uar"] > 0

    clips = tgdfer.load_predictions()
    assert len(clips) == (3 * 2 * 100 - 50) * 3
    one = clips.query("variant == 'tgdfer' and fold == 2 and seed == 3 and selection == 'best_val'")
    assert (one["label"] == one["prediction"]).mean() == runs.loc["tgdfer", 2, 3, "best_val"]["war"]
    probabilities = one.filter(like="probability_").to_numpy()
    assert probabilities.shape == (50, 7)
    assert np.array_equal(probabilities.max(axis=1), one["confidence"])
    assert [f"probability_{name}" for name in one["prediction"]] == list(one.filter(like="probability_").idxmax(axis=1))

    paths.folds("other").parent.mkdir(parents=True)
    shutil.copy2(paths.folds("demo"), paths.folds("other"))
    missing = params.model_copy(update={"datasets": {"other": params.datasets["demo"]}})
    assert tgdfer.load_predictions(missing).empty
    both = tgdfer.load_runs(params.model_copy(update={"datasets": params.datasets | missing.datasets}))
    assert both.index.is_unique
    assert clips.index.is_unique
    assert set(both.query("dataset == 'other'")["reason"]) == {"not run"}
