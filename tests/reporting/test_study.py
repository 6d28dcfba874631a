"""The study: its numbers are those of the predictions and the truth, and it says so when a part does not help."""

import json
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
from report_project import VARIANTS, Project

from tgdfer.core import storage
from tgdfer.reporting.analysis import Comparison
from tgdfer.reporting.report import build

STUDY = runpy.run_path(str(Path(__file__).parents[2] / "workflow" / "study.py"))
ACCURACY = {"tgdfer": 0.9, "no-text": 0.9, "linear-probe": 0.2}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_it_says_what_helps_and_what_does_not() -> None:
    few = {name: VARIANTS[name] for name in ACCURACY}
    params = Project(variants=few, accuracy=ACCURACY, clips=100, folds=2, seeds=(0, 1), bootstrap=100).write()
    page = STUDY["study"](params, "demo", "last")
    assert page == STUDY["study"](params.model_copy(update={"seeds": [0]}), "demo", "last"), "seeds are those on disk"
    lines = page.splitlines()
    label = {name: params.variants[name].label for name in few}
    worse = next(line for line in lines if line.startswith("* Worse in UAR"))
    level = next(line for line in lines if line.startswith("* No difference shown"))
    assert label["linear-probe"] in worse and label["no-text"] in level and label["linear-probe"] not in level
    assert "12 of 12 runs" in page
    row = next(line for line in lines if line.startswith(f"| {label['no-text']} |"))
    section = next(line for line in lines[lines.index(row) + 1 :] if line.startswith(f"| {label['no-text']} | 0."))
    assert row.split("|")[-2].strip() == section.split("|")[2].split()[0], "AUROC stands beside UAR"
    assert any(line.startswith("| *chance (all frames alike)* | 0.500 (0.500 to 0.500)") for line in lines)


def test_without_runs_it_stops() -> None:
    params = Project(variants={"tgdfer": VARIANTS["tgdfer"]}, clips=20, folds=2)
    with pytest.raises(SystemExit, match="no finished runs"):
        STUDY["study"](params.params, "demo", "last")


def test_what_several_seeds_say_is_told() -> None:
    few = {name: VARIANTS[name] for name in ACCURACY}
    params = Project(variants=few, accuracy=ACCURACY, clips=100, folds=2, seeds=(0, 1, 4), bootstrap=60).write()
    page = STUDY["study"](params, "demo", "last")
    part = build(params, "demo")
    assert "seeds 0, 1, 4 (a clip's outcome is the share of them that get it right): 18 of 18 runs" in page
    result = part.results["last"]["linear-probe"]
    uar = [
        np.mean([run.outcomes["last"].metrics["uar"] for run in part.experiment.of("linear-probe") if run.seed == seed])
        - np.mean([run.outcomes["last"].metrics["uar"] for run in part.experiment.of("tgdfer") if run.seed == seed])
        for seed in (0, 1, 4)
    ]
    assert list(result.comparisons["uar"].by_seed.values()) == pytest.approx(uar)
    line = next(line for line in page.splitlines() if line.startswith("| mean-pool linear probe | linear-probe"))
    assert f"| {100 * (result.seed_sd['uar'] or 0):.1f} | {', '.join(f'{100 * x:+.1f}' for x in uar)} |" in line
    for fold in (1, 2):
        (Path(f"runs/demo/no-text/fold{fold}/seed4") / "metrics.json").unlink()
    assert "* without text: fold 1, seed 4; fold 2, seed 4: not run" in STUDY["study"](params, "demo", "last")
    shutil.rmtree("runs")
    one = STUDY["study"](Project(variants=few, clips=60, folds=2, bootstrap=20).write(), "demo", "last")
    assert "seed 0: 6 of 6 runs" in one
    assert "with one seed nothing is known of it" in one
    assert "each seed" not in one


@pytest.mark.parametrize(
    ("difference", "p", "seeds", "words"),
    [
        (-0.1, 0.01, (-0.2, -0.1), "worse than the full model"),
        (0.1, 0.01, (0.3, -0.1), "better than the full model, but not with every seed"),
        (0.1, 0.06, (0.1, 0.1), "no difference shown (80 % power from 7.0 points)"),
    ],
)
def test_a_verdict_needs_a_small_p_and_says_when_a_seed_contradicts(
    difference: float, p: float, seeds: tuple[float, float], words: str
) -> None:
    by_seed = dict(enumerate(seeds))
    assert STUDY["verdict"](Comparison(difference, None, None, p, p, 0.5, 0.07, 2, 100, by_seed)) == words


def test_what_the_inner_validation_split_would_choose_looks_at_no_test_clip() -> None:
    few = {name: VARIANTS[name] for name in ACCURACY}
    params = Project(variants=few, accuracy=ACCURACY, clips=100, folds=2, seeds=(0, 1), bootstrap=60).write()
    validated = {("tgdfer", 1): 0.5, ("no-text", 1): 0.6, ("tgdfer", 2): 0.5, ("no-text", 2): 0.4}
    uar = {}
    for (variant, fold), value in validated.items():
        for seed, shift in ((0, 0.3), (1, -0.3)):
            folder = Path(f"runs/demo/{variant}/fold{fold}/seed{seed}")
            rows = storage.read_lines(folder / "history.jsonl")
            rows[0]["val_uar"], rows[-1]["val_uar"] = 1 - value, value + shift
            (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            uar[variant, fold, seed] = json.loads((folder / "metrics.json").read_text())["selections"]["last"]["uar"]
    chosen = np.mean([uar["no-text", 1, seed] for seed in (0, 1)] + [uar["tgdfer", 2, seed] for seed in (0, 1)])
    (line,) = [line for line in STUDY["study"](params, "demo", "last").splitlines() if line.startswith("Had each fold")]
    assert "parentheses): without text (1); TG-DFER (full) (1). UAR" in line
    assert f"on the test folds: {100 * chosen:.1f} %" in line
