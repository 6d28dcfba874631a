"""The table and figure of fractions of the training clips: which variants are compared, and every number."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from report_tables import FEW, FULL, predictions, project, records, table
from sklearn.metrics import recall_score

from tgdfer.core.classes import SEVEN
from tgdfer.reporting import render
from tgdfer.reporting.low_shot import low_shot
from tgdfer.reporting.part import Part
from tgdfer.reporting.report import build

RARE = ["disgust", "fear"]


def variants() -> dict[str, dict[str, object]]:
    part = {"training": {"fraction": 0.1}}
    without = {"model": {"text": "none", "visual_prompt": "none"}}
    return {
        **FEW,
        "tgdfer-10": {"label": "10 %", "tables": [], "set": part},
        "no-text-10": {"label": "without text, 10 %", "tables": [], "set": without | part},
        "probe-10": {"label": "other settings", "tables": [], "set": {"model": {"dropout": 0.5}} | part},
    }


@dataclass
class Made:
    part: Part
    recall: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("low-shot"))
        accuracy = {"tgdfer": 0.8, "no-text": 0.7, "tgdfer-10": 0.7, "no-text-10": 0.4, "linear-probe": 0.5}
        params = project(variants=variants(), accuracy=accuracy, clips=200, seeds=(0, 1)).write()
        return Made(build(params, "demo"), {variant: recalls(variant) for variant in variants()})


@pytest.fixture
def part(made: Made) -> Part:
    return made.part


def recalls(variant: str) -> np.ndarray:
    """Recall [3 folds, 2 seeds, 7 classes] by scikit-learn."""
    found = np.zeros((3, 2, 7))
    for fold, seed in np.ndindex(3, 2):
        run = predictions(variant, fold + 1, seed)
        found[fold, seed] = recall_score(
            run["label"], run["prediction"], labels=list(SEVEN), average=None, zero_division=0
        )
    return found


def test_variants_are_compared_at_the_same_fraction_and_nothing_else_is(part: Part) -> None:
    rows = table(part, "low-shot").rows
    assert [(row.label[:4], row.cells["other"]) for row in rows] == [("10 %", "without text"), ("100 ", "without text")]
    markdown = render.to_markdown(table(part, "low-shot"))
    assert "10 % (133)" in markdown
    assert "other settings" not in markdown


def test_every_rate_is_that_of_scikit_learn(made: Made) -> None:
    rare = [SEVEN.index(name) for name in RARE]
    found = [record for record in records(made.part, "low-shot") if record["selection"] == "last"]
    for record, first, second in zip(found, ("tgdfer-10", "tgdfer"), ("no-text-10", "no-text"), strict=True):
        for over, classes in (("all", list(range(7))), ("rare", rare)):
            one, other = (made.recall[variant][:, :, classes].mean() for variant in (first, second))
            assert float(record[f"reference_{over}"]) == pytest.approx(one, abs=1e-12)
            assert float(record[f"other_{over}"]) == pytest.approx(other, abs=1e-12)
            difference = float(record[f"{over}_vs_reference_difference"])
            assert difference == pytest.approx(one - other, abs=1e-12)
            low, high = (float(record[f"{over}_vs_reference_{end}"]) for end in ("low", "high"))
            assert low < difference < high


def test_holms_family_is_all_gains_of_the_table(part: Part) -> None:
    found = [record for record in records(part, "low-shot") if record["selection"] == "last"]
    names = [f"{over}_vs_reference_p" for over in ("all", "rare")]
    p = sorted((float(record[name]), float(record[f"{name}_holm"])) for record in found for name in names)
    assert p[0][1] == pytest.approx(min(1, 4 * p[0][0]))


def test_the_figure_shows_the_table(part: Part) -> None:
    figure = low_shot(part)
    assert figure is not None
    upper, _, lower, _ = figure.axes
    rows = table(part, "low-shot").rows
    assert upper.lines[0].get_ydata() == pytest.approx([100 * row.cells["reference_all"].mean for row in rows])
    assert lower.lines[0].get_ydata() == pytest.approx([100 * row.cells["gain_all"].mean for row in rows])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [FULL, "without text"]


def test_without_fractions_there_is_no_table_and_no_figure(new_folder: Path) -> None:
    without = build(project().write(), "demo")
    assert "low-shot" not in [one.name for one in without.tables]
    assert low_shot(without) is None
