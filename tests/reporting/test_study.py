"""The study: the report's tables and sentences on one page, and what an inner validation split would have chosen."""

import runpy
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import report_tables

from tgdfer.reporting import render
from tgdfer.reporting.analysis import Comparison
from tgdfer.reporting.report import build
from tgdfer.runs.files import Key

STUDY = runpy.run_path(str(Path(__file__).parents[2] / "workflow" / "study.py"))
ACCURACY = {"tgdfer": 0.9, "no-text": 0.9, "linear-probe": 0.2}


pytestmark = pytest.mark.usefixtures("new_folder")


project = partial(report_tables.project, accuracy=ACCURACY, folds=2, truth=True)


def test_the_study_has_the_tables_of_the_report_and_names_what_differs_significantly() -> None:
    params = project(seeds=(0, 1, 4)).write()
    page = STUDY["study"](params, "demo", "best_val")
    assert page == STUDY["study"](params.model_copy(update={"seeds": [0]}), "demo", "best_val"), "seeds on disk"
    params = params.model_copy(update={"report": params.report.model_copy(update={"selection": "best_val"})})
    part = build(params, "demo")
    assert {table.name for table in part.tables} >= {"main", "components", "baselines", "relevance"}
    shown = {table.name for table in part.tables if render.to_markdown(table).strip() in page}
    assert shown == {table.name for table in part.tables} - {"costs"}
    (worse,) = [line for line in page.splitlines() if line.startswith("* Significantly below TG-DFER (full) in UAR")]
    difference = part.shown["linear-probe"].comparisons["uar"].difference
    assert f"mean-pool linear probe ({100 * difference:.1f})".replace("-", "−").replace("mean−", "mean-") in worse
    (level,) = [
        line for line in page.splitlines() if line.startswith("* No significant difference to TG-DFER (full) in UAR")
    ]
    assert "without text" in level
    assert "mean-pool" not in level
    assert "seeds 0, 1, 4: 18 of 18 runs" in page
    shutil.rmtree("runs/demo/no-text/fold2/seed4")
    assert "* without text: fold 2, seed 4: not run" in STUDY["study"](params, "demo", "last")


def test_without_runs_it_stops() -> None:
    with pytest.raises(SystemExit, match="no finished runs"):
        STUDY["study"](project().params, "demo", "last")


def test_the_differences_of_the_seeds_are_in_the_csv_and_disagreement_is_a_note(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    params = project(seeds=(0, 1)).write()
    part = build(params, "demo")
    uar = {
        name: [
            np.mean([run.outcomes["last"].metrics["uar"] for run in part.experiment.of(name) if run.key.seed == seed])
            for seed in (0, 1)
        ]
        for name in ("tgdfer", "linear-probe")
    }
    table = report_tables.table(part, "baselines")
    (record,) = [r for r in table.records if (r["variant"], r["selection"]) == ("linear-probe", "last")]
    found = [record[f"uar_vs_reference_seed{seed}"] for seed in (0, 1)]
    assert found == pytest.approx(np.subtract(uar["linear-probe"], uar["tgdfer"]))
    assert not any("disagree" in note for row in table.rows for note in row.notes)
    monkeypatch.setattr(Comparison, "signs_agree", False)
    (note,) = report_tables.table(build(params, "demo"), "baselines").rows[1].notes
    assert note == f"the seeds disagree about the sign of Δ UAR: {100 * found[0]:+.1f}, {100 * found[1]:+.1f}"


@pytest.mark.parametrize(
    ("difference", "p", "seeds", "significant", "agree"),
    [
        (-0.1, 0.01, (-0.2, -0.1), True, True),
        (0.1, 0.01, (0.3, -0.1), True, False),
        (0.1, 0.06, (0.1, 0.1), False, True),
    ],
)
def test_a_difference_needs_a_small_p_and_seeds_may_contradict_it(
    difference: float, p: float, seeds: tuple[float, float], significant: bool, agree: bool
) -> None:
    found = Comparison(difference, 0.0, 0.0, 0.001, p, 0.5, 0.07, 2, 100, dict(enumerate(seeds)))
    assert (found.significant, found.signs_agree) == (significant, agree)


def test_what_the_inner_validation_split_would_choose_looks_at_no_test_clip() -> None:
    made = project(seeds=(0, 1))
    for (variant, fold), value in {
        ("tgdfer", 1): 0.5, ("no-text", 1): 0.6, ("tgdfer", 2): 0.5, ("no-text", 2): 0.4,
    }.items():  # fmt: skip
        for seed, shift in ((0, 0.3), (1, -0.3)):
            last = value + shift
            made.validated[Key("demo", variant, fold, seed)] = lambda e, last=last: last if e == 30 else 1 - last
    part = build(made.write(), "demo")
    uar = {
        (name, fold): np.mean(
            [run.outcomes["last"].metrics["uar"] for run in part.experiment.of(name) if run.key.fold == fold]
        )
        for name, fold in (("tgdfer", 1), ("no-text", 1), ("tgdfer", 2))
    }
    remarks = {table.name: [r for r in table.remarks if r.startswith("Chosen by")] for table in part.tables}
    (line,) = remarks["text"]
    assert "parentheses): without text (1); TG-DFER (full) (1). UAR" in line
    assert f"on the test folds: {50 * (uar['no-text', 1] + uar['tgdfer', 2]):.1f} %" in line
    assert f"of TG-DFER (full): {50 * (uar['tgdfer', 1] + uar['tgdfer', 2]):.1f} %." in line
    assert remarks["components"] == [], "a table of components offers no choice"
