"""Evaluation: the same scores in any batch size, padding left out of the predictions, the model's mode untouched."""

import numpy as np
import pytest
import torch
import training_project as project

from tgdfer.model import build_model
from tgdfer.training.evaluation import batches, evaluate, score, shown_frames
from tgdfer.training.folds import load_inputs, make_fold

CPU = torch.device("cpu")


@pytest.fixture
def fold(new_folder):
    project.make_project(count=30, views=3)
    params = project.params()
    return make_fold(load_inputs(params, "tiny"), 1, params.run("tgdfer"), 0)


@pytest.mark.parametrize("variant", ["probe", "mil", "tgdfer"])
def test_the_size_of_a_batch_does_not_matter(fold, variant):
    torch.manual_seed(0)
    model = build_model(project.params().run(variant).model, project.CLASSES, 16, None)
    whole = score(model, batches(fold.test, CPU))
    for size in (1, 4, 7):
        parts = score(model, batches(fold.test, CPU, size))
        np.testing.assert_allclose(parts.probabilities, whole.probabilities, atol=2e-6)
        np.testing.assert_allclose(parts.relevance, whole.relevance, atol=2e-5)  # a quotient
    assert whole.probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert model.training


def test_evaluation_is_without_dropout_and_repeatable(fold):
    model = build_model(project.params().run("tgdfer").model, project.CLASSES, 16, None)
    one, other = (score(model, batches(fold.test, CPU)) for _ in range(2))
    assert np.array_equal(one.probabilities, other.probabilities)


def test_predictions_contain_only_valid_frames(fold):
    model = build_model(project.params().run("mil").model, project.CLASSES, 16, None)
    mask, frames = shown_frames(batches(fold.test, CPU, 5))
    lengths = fold.test.cache.lengths[fold.test.clips].clip(max=4)
    assert min(lengths) < 4, "the project has clips that are shorter than the bag"
    assert np.array_equal(mask.sum(axis=1), lengths)
    assert all(sorted(set(row[valid])) == row[valid].tolist() for row, valid in zip(frames, mask, strict=True))
    relevance = score(model, batches(fold.test, CPU)).relevance
    assert (relevance * mask).sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_several_views_of_a_clip_are_averaged(fold):
    model = build_model(project.params().run("tgdfer").model, project.CLASSES, 16, None)
    views = [score(model, batches(fold.test, CPU, view=view)) for view in range(3)]
    assert not np.array_equal(views[0].probabilities, views[1].probabilities)
    found = evaluate(model, fold.test, CPU, 3)
    for name in ("probabilities", "relevance"):
        assert getattr(found, name) == pytest.approx(np.mean([getattr(view, name) for view in views], axis=0))
        assert np.array_equal(getattr(evaluate(model, fold.test, CPU), name), getattr(views[0], name))
