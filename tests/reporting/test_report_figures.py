"""What the figures show, recomputed from the files of the runs."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from report_project import VARIANTS, Project
from report_tables import predictions
from sklearn.metrics import confusion_matrix

from tgdfer.config.params import Params
from tgdfer.core import paths, storage
from tgdfer.core.classes import SEVEN
from tgdfer.reporting import figures
from tgdfer.reporting.part import Part
from tgdfer.reporting.report import build

RUNS = [(fold, seed) for fold in (1, 2) for seed in (0, 1)]


@dataclass
class Made:
    params: Params
    part: Part
    runs: dict[tuple[int, int], pd.DataFrame]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("figures"))
        few = {name: VARIANTS[name] for name in ("tgdfer", "linear-probe")}
        params = Project(variants=few, folds=2, seeds=(0, 1), clips=90, bootstrap=40, truth=False).write()
        runs = {key: predictions("tgdfer", *key) for key in RUNS}
        yield Made(params, build(params, "demo"), runs)


def test_confusions_are_shares_of_the_row_over_the_seeds_of_a_fold(made: Made) -> None:
    shown = [
        np.asarray(axis.images[0].get_array())
        for axis in figures.confusion(made.part).axes[:3]  # type: ignore[union-attr]
    ]
    expected = []
    for fold in (1, 2):
        both = pd.concat([made.runs[fold, seed] for seed in (0, 1)])
        expected.append(100 * confusion_matrix(both["label"], both["prediction"], labels=SEVEN, normalize="true"))
    assert shown[0] == pytest.approx(expected[0])
    assert shown[1] == pytest.approx(expected[1])
    assert shown[2] == pytest.approx(np.mean(expected, axis=0))


def test_reliability_counts_a_clip_once_however_many_seeds_there_are(made: Made) -> None:
    figure = figures.reliability(made.part)
    assert figure is not None
    upper, lower = figure.axes
    every = pd.concat(made.runs.values())
    right = (every["label"] == every["prediction"]).astype(float)
    bins = pd.cut(every["confidence"], np.linspace(0, 1, 16))
    groups = pd.DataFrame({"right": right, "confidence": every["confidence"]}).groupby(bins, observed=True)
    means, count = groups.mean(), groups.size()
    error = ((means["right"] - means["confidence"]).abs() * count / len(every)).sum()
    assert f"error {100 * error:.1f} %" in upper.get_title(loc="left")
    assert sum(bar.get_height() for bar in lower.patches) == 90
    line, _, (bars,) = upper.containers[0]
    assert line.get_xdata() == pytest.approx(100 * means["confidence"].to_numpy())
    assert line.get_ydata() == pytest.approx(100 * means["right"].to_numpy())
    # Wilson's bounds are the p of which the observed share is 1.96 standard errors away, here of half the predictions
    for bounds, share, n in zip(bars.get_segments(), means["right"], count / 2, strict=True):
        p = bounds[:, 1] / 100
        assert (share - p) ** 2 == pytest.approx(1.96**2 * p * (1 - p) / n, abs=1e-9)


def test_recall_and_differences_are_those_of_the_tables(made: Made) -> None:
    results = made.part.results["last"]
    axis = figures.recall(made.part, ["tgdfer", "linear-probe"]).axes[0]
    clips = pd.concat([made.runs[1, 0], made.runs[2, 0]])["label"].value_counts()
    assert [text.get_text() for text in axis.get_xticklabels()] == [f"{name}\n{clips[name]} clips" for name in SEVEN]
    dots = np.concatenate([line.get_ydata() for line in axis.lines])
    assert dots == pytest.approx([100 * results[v].recall[c].mean for v in ("tgdfer", "linear-probe") for c in SEVEN])  # type: ignore[operator]
    left, right = figures.ablation(made.part).axes
    assert np.asarray(left.collections[-1].get_offsets())[:, 0] == pytest.approx(
        [100 * r.uar.mean for r in results.values()]
    )  # type: ignore[operator]
    difference = results["linear-probe"].comparisons["uar"].difference
    assert right.collections[-1].get_offsets()[1].tolist() == [pytest.approx(100 * difference), 1]


def test_clips_are_counted_where_a_fold_lacks_a_seed(made: Made) -> None:
    runs = [
        replace(run, problem="not run", outcomes={}) if run.key.seed == run.key.fold - 1 else run
        for run in made.part.experiment.runs
    ]
    part = replace(made.part, experiment=replace(made.part.experiment, runs=runs))
    axis = figures.recall(part, ["tgdfer"]).axes[0]
    counts = [int(text.get_text().split("\n")[1].split()[0]) for text in axis.get_xticklabels()]
    assert sum(counts) == 90


def test_curves_are_means_over_runs(made: Made) -> None:
    figure = figures.curves(made.part, ["tgdfer"])
    assert figure is not None
    folders = [paths.run("demo", "tgdfer", *key) for key in RUNS]
    histories = [storage.read_lines(folder / "history.jsonl") for folder in folders]
    for axis, key, scale in zip(figure.axes, ("loss", "test_uar"), (1, 100), strict=True):
        expected = scale * np.mean([[epoch[key] for epoch in history] for history in histories], axis=0)
        assert axis.lines[0].get_ydata() == pytest.approx(expected)
