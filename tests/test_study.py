"""The study: its numbers are those of the predictions and the truth, and it says so when a part does not help."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from report_project import VARIANTS, Project

from tgdfer.reporting import relevance

STUDY = runpy.run_path(str(Path(__file__).parents[1] / "workflow" / "study.py"))
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
    assert "8 of 8 runs" in page or "12 of 12 runs" in page
    assert any(line.startswith("| *chance* | 0.500 (0.500 to 0.500)") for line in lines)


def test_without_runs_it_stops() -> None:
    params = Project(variants={"tgdfer": VARIANTS["tgdfer"]}, clips=20, folds=2)
    with pytest.raises(SystemExit, match="no finished runs"):
        STUDY["study"](params.params, "demo", "last")


def test_scores_are_averaged_over_seeds_and_folds_by_hand() -> None:
    def bags(fold: int, clips: list[str], auroc: list[float]) -> relevance.Bags:
        values = np.stack([auroc, auroc, auroc], axis=1)
        return relevance.Bags(fold, np.array(clips), np.ones(len(clips), bool), values)

    runs = [bags(1, ["a", "b"], [1.0, np.nan]), bags(1, ["a", "b"], [0.5, np.nan]), bags(2, ["c", "d"], [0.0, 0.5])]
    scores = STUDY["by_clip"](runs)
    assert {key: value[0] for key, value in scores.items()} == {(1, "a"): 0.75, (2, "c"): 0.0, (2, "d"): 0.5}
    auroc, _ = STUDY["mean_over_folds"](scores, 50, np.random.default_rng(0), 0.95)
    assert auroc.mean == pytest.approx((0.75 + 0.25) / 2)


def test_the_frame_that_stands_out_is_the_farthest_from_the_mean() -> None:
    import torch

    from tgdfer.features.cache import FeatureCache

    x = torch.eye(4)[[0, 0, 1, 0, 2, 2]].half()[None]
    cache = FeatureCache(["a", "b"], torch.tensor([0, 4, 6]), torch.tensor([0, 2, 4, 6, 0, 1]).int(), x, 4, "f", "e")
    score = STUDY["distance_to_mean"](cache)(np.array(["b", "a"]), np.array([[0, 1, -1, -1], [0, 2, 4, 6]]))
    assert score[0] == pytest.approx(0)
    assert score[1].argmax() == 2
    assert score[1][2] == pytest.approx(1 - 1 / np.sqrt(10))
