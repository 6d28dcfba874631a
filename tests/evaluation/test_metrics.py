"""The metrics against scikit-learn, against values by hand, and at the edges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from tgdfer.evaluation.metrics import calibration_error, evaluate, rates

CLASSES = ["happy", "sad", "neutral"]


def one_hot(prediction: list[int], sure: float = 1.0) -> np.ndarray:
    rest = (1 - sure) / (len(CLASSES) - 1)
    return np.where(np.eye(len(CLASSES))[prediction] > 0, sure, rest).astype(np.float32)


@st.composite
def clips(draw):
    count = draw(st.integers(1, 40))
    label = np.array(draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    return rng.dirichlet(np.ones(3), count).astype(np.float32), label


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@settings(max_examples=60)
@given(clips())
def test_rates_are_those_of_scikit_learn(case):
    probabilities, label = case
    prediction = probabilities.argmax(axis=1)
    uar, war = rates(prediction, label, 3)
    assert uar == pytest.approx(balanced_accuracy_score(label, prediction))
    assert war == pytest.approx(accuracy_score(label, prediction))
    full = evaluate(probabilities, label, CLASSES)
    assert (full["uar"], full["war"]) == (pytest.approx(uar), pytest.approx(war))
    assert np.array(full["confusion"]).sum() == len(label)
    assert np.trace(full["confusion"]) == round(war * len(label))


def test_by_hand():
    # rows: happy 2 of 3 right, sad 0 of 1, neutral has no clip but is predicted once
    result = evaluate(one_hot([0, 0, 2, 0]), np.array([0, 0, 0, 1]), CLASSES)
    assert result["recall"] == {"happy": pytest.approx(2 / 3), "sad": 0.0, "neutral": None}
    assert result["uar"] == pytest.approx(1 / 3)
    assert result["war"] == 0.5
    assert result["f1"] == {"happy": pytest.approx(2 / 3), "sad": 0.0, "neutral": None}
    assert result["macro_f1"] == pytest.approx(1 / 3)
    assert result["confusion"] == [[2, 0, 1], [1, 0, 0], [0, 0, 0]]


def test_no_clips_give_no_numbers():
    result = evaluate(np.zeros((0, 3), np.float32), np.zeros(0, int), CLASSES)
    assert result["uar"] is result["war"] is result["ece"] is result["macro_f1"] is None
    assert result["recall"] == result["f1"] == dict.fromkeys(CLASSES)
    assert result["confusion"] == [[0, 0, 0]] * 3
    assert np.isnan(rates(np.zeros(0, int), np.zeros(0, int), 3)).all()


def test_calibration_error_by_hand():
    # two bins: confidence 0.6 with 3 of 4 right (gap 0.15), confidence 1.0 with 1 of 2 right (gap 0.5)
    probabilities = np.concatenate([one_hot([0] * 4, 0.6), one_hot([1] * 2)])
    label = np.array([0, 0, 0, 1, 1, 2])
    assert calibration_error(probabilities, label) == pytest.approx((4 * 0.15 + 2 * 0.5) / 6)
    assert calibration_error(one_hot([0, 1, 2]), np.array([0, 1, 2])) == 0


def test_a_confidence_on_the_edge_of_two_bins_is_in_the_lower_one():
    probabilities = np.array([[0.75, 0.25], [0.875, 0.125]])
    # 0.75 is right (gap 0.25) and 0.875 is wrong (gap 0.875); in one bin the gaps would cancel
    assert calibration_error(probabilities, np.array([0, 1]), bins=4) == (0.25 + 0.875) / 2


@settings(max_examples=30)
@given(clips())
def test_calibration_error_is_a_fraction_and_ignores_the_order_of_clips(case):
    probabilities, label = case
    error = calibration_error(probabilities, label)
    assert 0 <= error <= 1
    assert calibration_error(probabilities[::-1], label[::-1]) == pytest.approx(error)
