"""Tables of runs that are missing, failed, damaged, not current or of something else: noted, never guessed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from report_project import Project
from report_tables import FEW, FULL, key, project, records, row, table

from tgdfer.core import paths, storage
from tgdfer.core.classes import ELEVEN
from tgdfer.reporting import figures, maps, numbers, render, rows, strips
from tgdfer.reporting.findings import gaps
from tgdfer.reporting.page import write_page
from tgdfer.reporting.report import build
from tgdfer.runs.state import Expected
from tgdfer.stages.report import make_part, with_others

pytestmark = pytest.mark.usefixtures("new_folder")


def test_a_missing_fold_is_noted_and_its_row_is_not_ranked() -> None:
    params = project().write()
    shutil.rmtree(key("tgdfer", 2).folder)
    part = build(params, "demo")
    missing = row(part, "main", FULL)
    assert missing.notes[:2] == ["incomplete, only folds 1, 3; not ranked", "fold 2, seed 0: not run"]
    assert not missing.ranked
    assert missing.marks == {}
    for text in (render.to_markdown(table(part, "main")), render.to_latex(table(part, "main"))):
        assert "fold 2, seed 0: not run" in text
    # the comparison with the incomplete reference is over the folds that both have
    assert part.results["last"]["no-text"].comparisons["uar"].folds == 2
    assert "\\newcommand{\\UarDemo}{??}" in numbers.to_latex(params, [part])


def test_a_missing_seed_is_not_a_missing_fold() -> None:
    params = project(seeds=(0, 1)).write()
    shutil.rmtree(key("tgdfer", 2, 1).folder)
    part = build(params, "demo")
    notes = row(part, "main", FULL).notes
    assert notes[:2] == ["incomplete, some folds have fewer seeds; not ranked", "fold 2, seed 1: not run"]
    # compared on the seeds that both have
    found = part.results["last"]["no-text"].comparisons["uar"]
    assert (found.folds, list(found.by_seed)) == (3, [0])


def test_a_failed_variant_has_the_reason_and_no_numbers() -> None:
    made = project()
    params = made.write()
    made.fail(*(key("no-text", fold) for fold in (1, 2, 3)), reason="loss became NaN in epoch 3")
    part = build(params, "demo")
    failed = row(part, "components", "without text")
    assert failed.notes == ["fold 1, seed 0; fold 2, seed 0; fold 3, seed 0: failed: loss became NaN in epoch 3"]
    assert "| – | – |" in next(
        line for line in render.to_markdown(table(part, "components")).splitlines() if "without text" in line
    )
    record = next(r for r in records(part, "components") if r["variant"] == "no-text")
    assert (record["uar"], record["folds"], record["clips"]) == ("", "0", "0")
    assert "no-text" not in [name for name, r in part.results["last"].items() if r.comparisons]


def test_before_any_run_there_are_tables_without_numbers() -> None:
    made = project()
    made._data("demo", np.random.default_rng(0))
    part = build(made.params, "demo")
    assert not any(row.cells["uar"].known for row in table(part, "main").rows)  # type: ignore[union-attr]
    assert "3 folds" in table(part, "main").caption
    assert part.results["last"]["tgdfer"].missing[0].problem == "not run"


def test_a_single_fold_has_no_deviation() -> None:
    part = build(project(folds=1).write(), "demo")
    cell = row(part, "main", FULL).cells["uar"]
    assert np.isnan(cell.sd)  # type: ignore[union-attr]
    assert cell.low < cell.mean < cell.high  # type: ignore[union-attr]
    assert "one fold, so without a deviation" in table(part, "main").caption


def test_a_class_that_never_occurs_is_left_out_and_noted() -> None:
    made = project(classes=ELEVEN)
    made._data("demo", np.random.default_rng(0))
    made.label[made.label == 9] = 0
    for variant in FEW:
        made._variant("demo", variant, np.random.default_rng(1))
    part = build(made.params, "demo")
    printed = row(part, "main", FULL)
    assert not printed.cells["helplessness"].known  # type: ignore[union-attr]
    assert "no test clip of helplessness: left out of UAR" in printed.notes
    assert "helplessness" in part.experiment.classes
    assert "helplessness" not in [column.key for column in table(part, "main").columns]
    assert not [name for name in rows.records_of(part, [part.reference])[0] if name.startswith("helplessness")]
    kept = [name for name in ELEVEN if name != "helplessness"]
    drawn = figures.confusion(part)
    assert drawn
    assert [label.get_text() for label in drawn.axes[0].get_yticklabels()] == kept
    ticks = [
        label.get_text().partition("\n")[0]
        for label in figures.recall(part, [part.reference]).axes[0].get_xticklabels()
    ]
    assert ticks == kept


def test_a_selection_that_a_run_lacks_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    made = project(selection="best_val")
    params = made.write()
    monkeypatch.setattr("report_project.SELECTIONS", ["last", "best_test"])
    for fold in (1, 2, 3):
        made.write_run(key("no-text", fold))
    part = build(params, "demo")
    assert "has no selection best_val" in row(part, "components", "without text").notes[0]
    assert part.results["last"]["no-text"].measured
    assert "best epoch on an inner validation split" in table(part, "components").caption


def without_relevance(made: Project, run: Path) -> None:
    """As another version of the package would have written it."""
    path = run / "predictions.parquet"
    pq.write_table(pq.read_table(path).drop_columns("relevance"), path)
    record = storage.read_sealed(run / "run.json")
    record["outputs"][path.name] = storage.file_fingerprint(path)
    storage.write_sealed(run / "run.json", record)


def with_other_parameters(made: Project, run: Path) -> None:
    parameters = Expected(made.params, "demo").made_by(key("no-text"))["parameters"]
    parameters["model"]["temporal"] = "none"
    made.write_run(key("no-text"), parameters=parameters)


def on_other_clips(made: Project, run: Path) -> None:
    made.label[made.fold == 1] = (made.label[made.fold == 1] + 1) % 7
    made.write_run(key("no-text"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda _, run: (run / "predictions.parquet").write_bytes(b"PAR1 no"), "damaged: predictions.parquet is not"),
        (lambda _, run: (run / "metrics.json").write_text("{"), "damaged: metrics.json is not the file that the run"),
        (lambda _, run: (run / "predictions.parquet").unlink(), "damaged: predictions.parquet is missing"),
        (lambda _, run: (run / "run.json").write_text("{"), "damaged: run.json is "),
        (lambda _, run: (run / "run.json").unlink(), "damaged: run.json is missing"),
        (
            without_relevance,
            f"unreadable: {key('no-text').folder}/predictions.parquet: a predictions table needs a column 'relevance'",
        ),
        (with_other_parameters, "outdated: parameter model.temporal was none, is both; train it again"),
        (on_other_clips, "tested on other clips or labels than the first run of fold 1; train it again"),
    ],
)
def test_a_run_that_cannot_be_used_is_left_out_with_a_note_and_stops_nothing(
    damage: Callable[[Project, Path], Any], words: str
) -> None:
    made = project()
    params = made.write()
    damage(made, key("no-text").folder)
    part = build(params, "demo")
    notes = row(part, "components", "without text").notes
    assert notes[0] == "incomplete, only folds 2, 3; not ranked"
    assert notes[1].startswith(f"fold 1, seed 0: {words}")
    assert notes[1].endswith("train it again")
    assert part.results["last"]["tgdfer"].folds == [1, 2, 3]
    assert any(words in line for line in gaps(part))


@pytest.mark.parametrize(
    "name",
    [
        *("data/raw/demo/truth.parquet", "data/demo/clips.parquet", "data/demo/folds.parquet"),
        *("data/demo/frames/manifest.json", "data/demo/frames/rejects.parquet", "data/demo/frames/shard-00000.parquet"),
        *("data/demo/features/demo-clip/manifest.json", "data/demo/features/demo-clip/cache/0.arrow"),
        *("models/demo-clip/encoder.json", "runs/demo/tgdfer/fold1/seed0/vectors.safetensors"),
    ],
)
def test_a_damaged_file_of_a_data_set_is_named_and_the_rest_is_made(name: str) -> None:
    variants, parts = {"tgdfer": FEW["tgdfer"]}, {"truth": True, "frames": True, "features": True}
    params = project(variants=variants, folds=2, clips=40, bootstrap=20, **parts).write()
    path, before = Path(name), build(params, "demo")
    assert gaps(before) == []
    content = bytearray(path.read_bytes())
    for at in range(len(content) // 3, 2 * len(content) // 3):
        content[at] ^= 1
    path.write_bytes(content)
    part = build(params, "demo")
    maps.draw(part.experiment, "tgdfer")
    strips.draw(part.experiment, "tgdfer", "last", part.truth)
    write_page(params, [part], paths.REPORT_PAGE)
    assert any(name in line for line in gaps(part))
    for one in ("main", "costs"):
        assert render.to_csv(table(part, one)) == render.to_csv(table(before, one))


def test_a_broken_summary_stops_nothing() -> None:
    params = project().write()
    paths.variant("demo", "no-text").write_text("{")
    assert row(build(params, "demo"), "components", "without text").notes == []


def test_runs_that_are_not_current_are_used_and_named_with_the_command() -> None:
    made = project()
    params = made.write()
    before = build(params, "demo")
    expected = Expected(params, "demo").made_by(key("no-text"))
    made.write_run(key("no-text"), code="0" * 64)
    made.write_run(key("linear-probe", 2), inputs={**expected["inputs"], "folds": "0" * 64})
    part = build(params, "demo")
    assert before.experiment.stale() == {}
    assert not any("Not current" in remark for table in before.tables for remark in table.remarks)
    assert part.results["last"]["no-text"].folds == [1, 2, 3]
    changed = "Not current: without text (the code of the training changed)"
    assert table(part, "components").remarks[-1] == (
        f"{changed}. To train again: snakemake --profile local runs/demo/no-text/summary.json"
    )
    both = gaps(part)[-1]
    assert both.startswith(f"{changed}; mean-pool linear probe (")
    assert "the folds changed" in both
    assert both.endswith("snakemake --profile local runs/demo/{no-text,linear-probe}/summary.json")
    for name in ("components", "costs"):
        assert changed in render.to_markdown(table(part, name))
        assert changed in render.to_latex(table(part, name))
        assert "Not current" not in render.to_csv(table(part, name))
    assert "no-text" not in "".join(table(part, "main").remarks)
    assert f"% {both}" in numbers.to_latex(params, [part])


def test_runs_from_other_inputs_are_named_even_where_the_inputs_are_gone() -> None:
    made = project()
    params = made.write()
    inputs = Expected(params, "demo").made_by(key("no-text"))["inputs"]
    made.write_run(key("no-text"), inputs={**inputs, "features": "9" * 64})
    assert "2 different versions" in build(params, "demo").experiment.problems[0]


def test_a_variant_without_the_text_encoder_does_not_count_as_another_version_of_the_data() -> None:
    made = project()
    params = made.write()
    for fold in (1, 2, 3):
        inputs = Expected(params, "demo").made_by(key("linear-probe", fold))["inputs"]
        made.write_run(key("linear-probe", fold), inputs={**inputs, "encoder": "none"})
    assert build(params, "demo").experiment.problems == []


def test_a_variant_outside_the_grid_is_shown_once_it_was_run() -> None:
    made = project()
    params = made.write().model_copy(update={"grid": ["tgdfer"]})
    paths.variant("demo", "no-text").unlink()
    shown = with_others(params, params.datasets)
    assert shown.grid == list(shown.variants) == [name for name in made.variants if name != "no-text"]


def test_a_variant_outside_the_grid_is_a_row_only_of_the_data_sets_that_it_was_run_on() -> None:
    made = Project({"demo": "demo-clip", "other": "demo-clip"}, FEW, clips=40, folds=2, truth=False, bootstrap=20)
    params = made.write().model_copy(update={"grid": ["tgdfer"]})
    for variant in FEW:
        if variant != "tgdfer":
            paths.variant("other", variant).unlink()
    assert list(with_others(params, ["demo"]).variants) == list(FEW)
    other, _ = make_part(params, "other")
    assert list(other.shown) == ["tgdfer"]
    assert gaps(other) == []


@pytest.mark.parametrize("state", ["missing", "damaged"])
def test_without_the_folds_table_the_folds_are_those_of_the_runs(state: str) -> None:
    params = Project(variants=FEW, clips=40, folds=2, truth=False, bootstrap=20).write()
    path = paths.folds("demo")
    content = path.read_bytes()
    path.unlink()
    if state == "damaged":
        path.write_bytes(content[: len(content) // 2])
    part = build(params, "demo")
    assert part.experiment.folds == [1, 2]
    assert f"folds.parquet is {state}" in part.experiment.problems[0]
