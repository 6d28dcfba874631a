"""Evaluation: the same scores in any batch size, padding left out of the predictions, the model's mode untouched."""

import numpy as np
import pytest
import torch
import training_project as project

from tgdfer.model import build_model
from tgdfer.training.evaluation import batches, frames_and_relevance, score
from tgdfer.training.folds import load_inputs, make_fold

CPU = torch.device("cpu")


@pytest.fixture
def fold(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project.make_project(count=30, views=3)
    params = project.params()
    return make_fold(load_inputs(params, "tiny"), 1, params.bags, 0.0, CPU)


@pytest.mark.parametrize("variant", ["probe", "mil", "tgdfer"])
def test_the_size_of_a_batch_does_not_matter(fold, variant):
    torch.manual_seed(0)
    model = build_model(project.params().run(variant).model, project.CLASSES, 16, None)
    whole = score(model, batches(fold.test, CPU))
    for size in (1, 4, 7):
        parts = score(model, batches(fold.test, CPU, size))
        np.testing.assert_allclose(parts.probabilities, whole.probabilities, atol=2e-6)
        np.testing.assert_allclose(parts.relevance, whole.relevance, atol=2e-6)
    assert whole.probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert model.training


def test_evaluation_is_without_dropout_and_repeatable(fold):
    model = build_model(project.params().run("tgdfer").model, project.CLASSES, 16, None)
    parts = batches(fold.test, CPU)
    one, other = score(model, parts), score(model, parts)
    assert np.array_equal(one.probabilities, other.probabilities)


def test_predictions_hold_valid_frames_alone(fold):
    model = build_model(project.params().run("mil").model, project.CLASSES, 16, None)
    parts = batches(fold.test, CPU, 5)
    columns = frames_and_relevance(parts, score(model, parts))
    lengths = fold.test.lengths.clamp(max=4).tolist()
    assert min(lengths) < 4, "the project has clips that are shorter than the bag"
    assert [len(row) for row in columns["frame_index"]] == lengths
    assert all(sorted(set(row)) == row for row in columns["frame_index"])
    assert [sum(row) for row in columns["relevance"]] == pytest.approx([1] * len(lengths), abs=1e-5)
