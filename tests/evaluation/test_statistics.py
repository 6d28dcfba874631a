"""Statistics against SciPy, scikit-learn, hand-made cases and simulations whose answer is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, recall_score

from tgdfer.evaluation import statistics
from tgdfer.evaluation.statistics import FoldResults


def fold_of(rng: np.random.Generator, n: int, accuracy: tuple[float, ...], classes: int = 3) -> FoldResults:
    label = rng.integers(0, classes, n)
    return FoldResults(label, (rng.random((n, len(accuracy))) < accuracy).astype(float), classes)


def test_mean_and_deviation_leave_out_what_is_not_a_number() -> None:
    assert statistics.mean_and_deviation([0.1, 0.3, float("nan")]) == (
        pytest.approx(0.2),
        pytest.approx(np.std([0.1, 0.3], ddof=1)),
    )
    assert statistics.mean_and_deviation([0.4]) == pytest.approx((0.4, np.nan), nan_ok=True)
    assert statistics.mean_and_deviation([]) == pytest.approx((np.nan, np.nan), nan_ok=True)


def test_rates_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 4, 200)
    prediction = np.where(rng.random(200) < 0.6, label, rng.integers(0, 4, 200))
    found = statistics.rates(FoldResults(label, (prediction == label)[:, None].astype(float), 4))
    assert found.uar[0] == pytest.approx(balanced_accuracy_score(label, prediction))
    assert found.war[0] == pytest.approx((label == prediction).mean())
    assert found.recall[:, 0] == pytest.approx(recall_score(label, prediction, average=None))


def test_a_class_that_does_not_occur_is_left_out_of_uar() -> None:
    found = statistics.rates(FoldResults(np.array([0, 0, 2, 2]), np.array([[1.0], [0.0], [1.0], [1.0]]), 3))
    assert found.uar[0] == pytest.approx(0.75)
    assert np.isnan(found.recall[1, 0])


def test_draws_in_which_a_rare_class_is_missing_average_the_others() -> None:
    fold = FoldResults(np.array([0] * 9 + [1]), np.array([[1.0]] * 9 + [[0.0]]), 2)
    draws = statistics.resample(fold, 400, np.random.default_rng(0))
    absent = np.isnan(draws.recall[:, 1, 0])
    assert 0.2 < absent.mean() < 0.5  # (9/10)^10 = 0.35
    assert np.all(draws.uar[absent, 0] == 1.0)
    assert np.all(draws.uar[~absent, 0] == 0.5)


def test_the_interval_is_scipys_bootstrap() -> None:
    fold = fold_of(np.random.default_rng(1), 300, (0.62,))
    draws = statistics.resample(fold, 6000, np.random.default_rng(2))
    expected = stats.bootstrap(
        (fold.correct[:, 0],), np.mean, n_resamples=6000, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    assert statistics.interval(draws.war[:, 0]) == (
        pytest.approx(expected.low, abs=0.008),
        pytest.approx(expected.high, abs=0.008),
    )


def test_the_interval_leaves_out_as_much_on_either_side() -> None:
    assert statistics.interval(np.arange(1001.0)) == (pytest.approx(25), pytest.approx(975))


def test_every_clip_is_drawn_as_often_as_any_other() -> None:
    counts = statistics.draw_clips(5, 4000, np.random.default_rng(0))
    assert np.all(counts.sum(axis=1) == 5)
    assert counts.mean(axis=0) == pytest.approx(np.ones(5), abs=0.06)


def test_draws_are_paired_over_variants() -> None:
    rng = np.random.default_rng(4)
    correct = np.repeat((rng.random(100) < 0.5).astype(float)[:, None], 2, axis=1)
    draws = statistics.resample(FoldResults(rng.integers(0, 3, 100), correct, 3), 50, rng)
    assert np.array_equal(draws.uar[:, 0], draws.uar[:, 1])


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Two folds with known recalls: the 90 % interval of their mean UAR holds the truth in about 90 % of 300 worlds."""
    rng = np.random.default_rng(5)
    recall = np.array([0.9, 0.5, 0.7])
    hits = 0
    for _ in range(300):
        draws = []
        for _ in range(2):
            label = np.repeat([0, 1, 2], [60, 60, 40])
            correct = (rng.random(160) < recall[label])[:, None].astype(float)
            draws.append(statistics.resample(FoldResults(label, correct, 3), 300, rng).uar[:, 0])
        low, high = statistics.interval(np.mean(draws, axis=0), 0.9)
        hits += low <= recall.mean() <= high
    assert 0.85 <= hits / 300 <= 0.95


def test_the_sign_flip_test_is_scipys_permutation_test() -> None:
    rng = np.random.default_rng(6)
    difference = rng.normal(0.3, 1, 11)
    expected = stats.permutation_test(
        (difference, np.zeros(11)), lambda a, b: (a - b).sum(), permutation_type="samples", n_resamples=np.inf
    ).pvalue
    found = statistics.sign_flip_test(difference[:, None], 40000, rng)[0]
    assert found == pytest.approx(expected, abs=0.01)


def test_for_one_seed_and_war_it_is_mcnemars_exact_test() -> None:
    difference = np.array([1.0] * 18 + [-1.0] * 7 + [0.0] * 60)
    expected = stats.binomtest(18, 25).pvalue
    found = statistics.sign_flip_test(difference[:, None] / 85, 60000, np.random.default_rng(7))[0]
    assert found == pytest.approx(expected, abs=0.005)


def test_p_is_one_without_a_difference_and_never_zero() -> None:
    columns = np.stack([np.zeros(40), np.ones(40)], axis=1)
    none, all_ = statistics.sign_flip_test(columns, 500, np.random.default_rng(0))
    assert none == 1.0
    assert all_ == pytest.approx(1 / 501)


def test_p_depends_neither_on_the_scale_nor_on_the_other_differences() -> None:
    difference = np.random.default_rng(9).normal(0.2, 1, 40)
    scales = np.array([1.0, 1e-12, 1e12])
    p = [statistics.sign_flip_test(difference[:, None] * s, 2000, np.random.default_rng(0))[0] for s in scales]
    assert statistics.sign_flip_test(np.outer(difference, scales), 2000, np.random.default_rng(0)).tolist() == p
    assert p == [p[0]] * 3 and 0.001 < p[0] < 0.999


@pytest.mark.parametrize("draws", [1, 499, 501, 1250])
def test_as_many_signs_are_drawn_as_asked_for(draws: int) -> None:
    assert statistics.sign_flip_test(np.zeros((3, 1)), draws, np.random.default_rng(0)).tolist() == [1.0]


def test_the_test_keeps_its_level() -> None:
    rng = np.random.default_rng(8)
    worlds = rng.choice([-1.0, 0.0, 1.0], size=(80, 400), p=[0.2, 0.6, 0.2])
    p = statistics.sign_flip_test(worlds, 999, rng)
    assert (p <= 0.05).mean() <= 0.08
    assert 0.4 < np.median(p) < 0.75


def test_holms_correction_by_hand() -> None:
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.6, 0.5]) == [1.0, 1.0]
    assert statistics.holm([]) == []


@settings(max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_between_p_and_bonferroni_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = statistics.holm(p_values)
    for p, value in zip(p_values, adjusted, strict=True):
        assert p <= value <= min(1.0, len(p_values) * p) + 1e-12
    for i, p in enumerate(p_values):
        for j, q in enumerate(p_values):
            assert not (p < q and adjusted[i] > adjusted[j] + 1e-12)


def test_clip_weights_add_up_to_the_mean_over_folds() -> None:
    rng = np.random.default_rng(9)
    folds = [fold_of(rng, 50, (0.7,)), fold_of(rng, 31, (0.4,), classes=2)]
    for metric in ("uar", "war"):
        weights = statistics.clip_weights([fold.label for fold in folds], metric)
        total = sum(float((w * fold.correct[:, 0]).sum()) for w, fold in zip(weights, folds, strict=True))
        assert total == pytest.approx(np.mean([getattr(statistics.rates(fold), metric)[0] for fold in folds]))


def test_the_effect_size_is_the_share_of_disagreements_won() -> None:
    assert statistics.win_share(np.array([1.0, 1.0, 1.0, -1.0, 0.0])) == 0.75
    assert statistics.win_share(np.array([0.5, -0.5])) == 0.5
    assert np.isnan(statistics.win_share(np.zeros(3)))


def test_the_detectable_difference_has_the_power_it_says() -> None:
    error = 0.02
    size = statistics.detectable(error)
    estimates = np.random.default_rng(10).normal(size, error, 20000)
    assert (np.abs(estimates / error) > stats.norm.ppf(0.975)).mean() == pytest.approx(0.8, abs=0.01)
