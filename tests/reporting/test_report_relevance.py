"""Relevance against truth: the measures against scikit-learn, and results from run files."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from report_project import Project
from report_tables import table
from sklearn.metrics import average_precision_score, roc_auc_score

from tgdfer.core import paths, storage
from tgdfer.reporting import rankings, relevance
from tgdfer.reporting.findings import findings
from tgdfer.reporting.report import build


def test_measures_are_scikit_learns_ties_and_padding_included() -> None:
    rng = np.random.default_rng(0)
    score = rng.integers(0, 4, (50, 9)).astype(float)
    positive = rng.random((50, 9)) < 0.4
    valid = np.arange(9) < rng.integers(2, 10, 50)[:, None]
    found = relevance.measures(score, positive, valid)
    for n in range(50):
        truth, given = positive[n, valid[n]], score[n, valid[n]]
        if truth.all() or not truth.any():
            assert np.isnan(found[n]).all()
            continue
        top = given == given.max()
        expected = [roc_auc_score(truth, given), average_precision_score(truth, given), truth[top].mean()]
        assert found[n] == pytest.approx(expected)


def test_positives_are_relative_to_the_peak_of_the_clip() -> None:
    assert relevance.positives(np.array([0.1, 0.2, 0.4]), 0.4).tolist() == [False, True, True]
    assert not relevance.positives(np.zeros(3), 0.0).any()


def test_the_intensity_of_unknown_clips_and_frames_is_nan() -> None:
    truth = relevance.Truth(np.array(["a"]), np.array([[0.5, 1.0]]))
    assert truth.of(np.array(["a"]), np.array([[1, 0, 2, -1]])).tolist()[0][:2] == [1.0, 0.5]
    assert np.isnan(truth.of(np.array(["a"]), np.array([[2, -1]]))).all()
    unknown = truth.of(np.array(["b"]), np.array([[0, 1, 2]]))
    assert unknown.shape == (1, 3) and np.isnan(unknown).all()


def test_the_middle_of_a_bag_counts_a_repeated_frame_once() -> None:
    frames = np.array([[-1, -1, 0, 2, 4], [3, 5, 7, 7, 7]])
    assert rankings.middle(np.array(["a", "b"]), frames)[0, 2:].tolist() == [-1, 0, -1]
    assert rankings.middle(np.array(["a", "b"]), frames)[1, :3].tolist() == [-1, 0, -1]


def test_frames_are_ranked_only_by_the_features_that_the_runs_were_made_from(new_folder: Path) -> None:
    params = Project(clips=40, folds=2, bootstrap=20, features=True).write()
    part = build(params, "demo")
    assert part.relevance is not None
    first = part.relevance["last"]["feature's distance to the first frame's"]
    assert first is not None
    assert first.auroc.mean > 0.8, "the features move with the intensity"
    sentence = next(sentence for sentence in findings(part) if sentence.startswith("The best ranking of the frames"))
    reference = part.relevance["last"]["tgdfer"]
    assert reference is not None
    assert f"that of TG-DFER (full) is {100 * reference.auroc.mean:.1f} %" in sentence
    assert first.comparison is not None
    assert first.comparison.difference == pytest.approx(first.auroc.mean - reference.auroc.mean)
    manifest = paths.features("demo", "demo-clip")
    other = {**storage.read_sealed(manifest), "fingerprint": "0" * 64}
    for damage, words in (
        (lambda: (manifest.parent / "cache/0.arrow").unlink(), "no such file"),
        (lambda: storage.write_sealed(manifest, other), "not the features that the runs"),
        (manifest.unlink, "no such file"),
    ):
        damage()
        part = build(params, "demo")
        assert [words in problem and "not ranked" in problem for problem in part.experiment.problems] == [True]
        assert part.relevance is not None
        assert list(part.relevance["last"])[:2] == [rankings.CHANCE, "middle of the clip"]


def test_a_row_with_missing_runs_is_not_ranked(new_folder: Path) -> None:
    params = Project(clips=40, folds=2, bootstrap=20).write()
    shutil.rmtree(paths.run("demo", "tgdfer", 2, 0))
    for run in (1, 2):
        shutil.rmtree(paths.run("demo", "no-text", run, 0))
    rows = {row.label: row for row in table(build(params, "demo"), "relevance").rows}
    assert not any(row.ranked for label, row in rows.items() if label in ("TG-DFER (full)", "middle of the clip"))
    assert "incomplete: see the other tables" in rows["middle of the clip"].notes
    assert rows["without text"].notes == ["not run"]
    assert rows["mean-pool linear probe"].ranked
