"""Tables of runs that are missing, failed, broken or of something else: said, never guessed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from report_tables import FEW, project, records, row, table

from tgdfer.config import dependencies
from tgdfer.core import paths, storage
from tgdfer.core.classes import ELEVEN
from tgdfer.reporting import numbers, render
from tgdfer.reporting.report import build
from tgdfer.stages import report


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_missing_fold_is_said_and_its_row_is_not_ranked() -> None:
    made = project()
    params = made.write()
    (paths.run("demo", "tgdfer", 2, 0) / "metrics.json").unlink()
    part = build(params, "demo")
    missing = row(part, "main", "TG-DFER (full)")
    assert missing.notes[:2] == ["incomplete, over folds 1, 3 alone; not ranked", "fold 2, seed 0: not run"]
    assert not missing.ranked
    assert all(cell.mark == "" for cell in missing.cells.values())
    for text in (render.to_markdown(table(part, "main")), render.to_latex(table(part, "main"))):
        assert "fold 2, seed 0: not run" in text
    # the comparison with the incomplete reference is over the folds that both have
    assert part.results["last"]["no-text"].comparisons["uar"].folds == 2
    assert "\\newcommand{\\UarDemo}{??}" in numbers.to_latex(params, {"demo": part.results})


def test_a_missing_seed_is_no_missing_fold() -> None:
    params = project(seeds=(0, 1)).write()
    (paths.run("demo", "tgdfer", 2, 1) / "metrics.json").unlink()
    part = build(params, "demo")
    notes = row(part, "main", "TG-DFER (full)").notes
    assert notes[:2] == ["incomplete, some folds over fewer seeds; not ranked", "fold 2, seed 1: not run"]
    # compared on the seeds that both have
    found = part.results["last"]["no-text"].comparisons["uar"]
    assert (found.folds, list(found.by_seed)) == (3, [0])


def test_a_failed_variant_says_why_and_has_no_numbers() -> None:
    made = project()
    params = made.write()
    for fold in (1, 2, 3):
        made.fail("demo", "no-text", fold, 0, "loss became NaN in epoch 3")
    part = build(params, "demo")
    failed = row(part, "components", "without text")
    assert failed.notes == ["fold 1, seed 0; fold 2, seed 0; fold 3, seed 0: failed: loss became NaN in epoch 3"]
    assert failed.cells["uar"].value is None
    record = next(r for r in records(part, "components") if r["variant"] == "no-text")
    assert (record["uar"], record["folds"], record["clips"]) == ("", "0", "0")
    assert "no-text" not in [name for name, r in part.results["last"].items() if r.comparisons]


def test_nothing_run_at_all_makes_tables_without_numbers() -> None:
    made = project()
    made._data("demo", np.random.default_rng(0))
    part = build(made.params, "demo")
    assert all(row.cells["uar"].value is None for row in table(part, "main").rows)
    assert "3 folds" in table(part, "main").caption
    assert part.results["last"]["tgdfer"].missing[0].problem == "not run"


def test_a_single_fold_has_no_deviation() -> None:
    part = build(project(folds=1).write(), "demo")
    cell = row(part, "main", "TG-DFER (full)").cells["uar"]
    assert cell.sd is None
    assert cell.low is not None
    assert "one fold, so without a deviation" in table(part, "main").caption


def test_a_class_that_never_occurs_is_left_out_and_said() -> None:
    made = project(classes=ELEVEN)
    made._data("demo", np.random.default_rng(0))
    made.label[made.label == 9] = 0
    for variant in FEW:
        made._variant("demo", variant, np.random.default_rng(1))
    part = build(made.params, "demo")
    printed = row(part, "main", "TG-DFER (full)")
    assert printed.cells["helplessness"].value is None
    assert "no test clip of helplessness: left out of UAR" in printed.notes
    assert "helplessness" in part.experiment.classes


def test_a_selection_that_a_run_lacks_is_said() -> None:
    made = project(selection="best_val")
    params = made.write()
    for fold in (1, 2, 3):
        path = paths.run("demo", "no-text", fold, 0) / "predictions.parquet"
        kept = pq.read_table(path)
        kept = kept.filter([s != "best_val" for s in kept["selection"].to_pylist()])
        storage.write_table(path, "predictions", kept, {})
    part = build(params, "demo")
    assert "3 runs" not in row(part, "components", "without text").notes[0]
    assert "has no selection best_val" in row(part, "components", "without text").notes[0]
    assert part.results["last"]["no-text"].measured
    assert "best epoch on an inner validation split" in table(part, "components").caption


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda run: (run / "predictions.parquet").write_bytes(b"PAR1 no"), "unreadable"),
        (lambda run: (run / "metrics.json").write_text("{"), "not valid JSON"),
        (lambda run: (run / "predictions.parquet").unlink(), "unreadable"),
    ],
)
def test_a_broken_run_file_stops_nothing(damage: Any, words: str) -> None:
    params = project().write()
    damage(paths.run("demo", "no-text", 1, 0))
    part = build(params, "demo")
    assert any(words in note for note in row(part, "components", "without text").notes)
    assert part.results["last"]["tgdfer"].measured


def test_metrics_that_do_not_fit_the_predictions_are_not_printed() -> None:
    params = project().write()
    path = paths.run("demo", "no-text", 1, 0) / "metrics.json"
    changed = json.loads(path.read_text())
    changed["selections"]["last"]["war"] += 0.1
    path.write_text(json.dumps(changed))
    part = build(params, "demo")
    assert any("metrics.json says" in note for note in row(part, "components", "without text").notes)


def test_runs_from_other_inputs_are_said() -> None:
    params = project().write()
    path = paths.run("demo", "no-text", 1, 0) / "run.json"
    changed = json.loads(path.read_text())
    changed["inputs"]["features"] = "9" * 64
    path.write_text(json.dumps(changed))
    assert "2 different versions" in build(params, "demo").experiment.problems[0]


def test_a_variant_without_the_text_encoder_is_no_other_version_of_the_data() -> None:
    params = project().write()
    for fold in (1, 2, 3):
        path = paths.run("demo", "linear-probe", fold, 0) / "run.json"
        changed = json.loads(path.read_text())
        changed["inputs"]["encoder"] = "none"
        path.write_text(json.dumps(changed))
    assert build(params, "demo").experiment.problems == []


def test_a_variant_outside_the_grid_is_shown_once_it_was_run() -> None:
    made = project()
    params = made.write().model_copy(update={"grid": ["tgdfer"]})
    paths.variant("demo", "no-text").unlink()
    shown = report._with_others(params)
    assert shown.grid == list(shown.variants) == [name for name in made.variants if name != "no-text"]


def test_a_run_of_what_a_variant_used_to_be_is_not_shown_under_its_name() -> None:
    params = project().write()
    for fold, temporal in ((1, "both"), (2, "none")):
        about = paths.run("demo", "tgdfer", fold, 0) / "run.json"
        asked = dependencies.run_settings(params, "demo", "tgdfer", fold, 0)
        asked["model"]["temporal"] = temporal
        about.write_text(json.dumps({**json.loads(about.read_text()), "parameters": asked}))
    problems = {run.name: run.problem for run in build(params, "demo").experiment.of("tgdfer")}
    assert problems == {
        "fold 1, seed 0": None,
        "fold 2, seed 0": "was made with other parameters (model); train it again",
        "fold 3, seed 0": None,
    }
