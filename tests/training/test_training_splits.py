"""Parts of a training fold: proportions, subjects on one side, independence of the order of clips."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgdfer.training.splits import inner_split, part_of_each_class


@st.composite
def folds(draw):
    count = draw(st.integers(0, 80))
    labels = draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
    subjects = draw(st.lists(st.sampled_from([None, "a", "b", "c", "d", "e", "f"]), min_size=count, max_size=count))
    return [f"clip{i:03}" for i in range(count)], np.array(labels, dtype=int), subjects


@settings(max_examples=100)
@given(folds(), st.sampled_from([0.0, 0.1, 0.3]))
def test_a_partition_that_keeps_subjects_and_classes(fold, fraction):
    ids, labels, subjects = fold
    train, held = inner_split(ids, labels, subjects, fraction, "key")
    assert sorted([*train, *held]) == list(range(len(ids)))
    assert not {subjects[i] for i in train} & {subjects[i] for i in held} - {None}
    assert set(labels[train]) == set(labels), "every class keeps a training clip"
    if fraction == 0:
        assert not len(held)


@settings(max_examples=30)
@given(folds(), st.integers(0, 10**6))
def test_the_order_of_clips_does_not_matter(fold, seed):
    ids, labels, subjects = fold
    order = np.random.default_rng(seed).permutation(len(ids))
    _, held = inner_split(ids, labels, subjects, 0.2, "key")
    _, again = inner_split([ids[i] for i in order], labels[order], [subjects[i] for i in order], 0.2, "key")
    assert {ids[i] for i in held} == {ids[order[i]] for i in again}


def test_stratified_to_the_nearest_clip_without_subjects():
    labels = np.repeat([0, 1, 2, 3], [500, 104, 29, 2])
    ids = [f"{i}" for i in range(len(labels))]
    _, held = inner_split(ids, labels, [None] * len(ids), 0.1, "key")
    assert np.bincount(labels[held], minlength=4).tolist() == [50, 10, 3, 0]


def test_close_to_the_fraction_with_subjects():
    rng = np.random.default_rng(0)
    labels, subject = rng.integers(0, 7, 1000), rng.integers(0, 60, 1000)
    _, held = inner_split([str(i) for i in range(1000)], labels, [str(s) for s in subject], 0.1, "key")
    assert 70 <= len(held) <= 120


def test_other_keys_give_other_splits():
    ids = [str(i) for i in range(200)]
    labels = np.arange(200) % 2
    held = [set(inner_split(ids, labels, [None] * 200, 0.1, key)[1]) for key in ("fold1", "fold2")]
    assert held[0] != held[1]


def test_one_clip_stays_in_training():
    train, held = inner_split(["only"], np.array([3]), [None], 0.4, "key")
    assert (train.tolist(), held.tolist()) == ([0], [])


KEYS = [f"key{i}" for i in range(10)]  # each visits the groups in another order


@pytest.mark.parametrize("key", KEYS)
def test_a_class_that_one_subject_shows_stays_in_training(key):
    subjects = [subject for subject in "abcdef" for _ in range(4)] + ["a"]
    labels = np.array([0] * 24 + [1])
    train, held = inner_split([str(i) for i in range(25)], labels, subjects, 0.5, key)
    assert len(held)
    assert 24 in train


@pytest.mark.parametrize("key", KEYS)
def test_classes_count_in_proportion_to_their_sizes(key):
    # the subject would bring the large class 2 clips closer to its 10, but the small one from 2 below its 2 to 5 above
    labels = np.repeat([0, 1], [40, 8])
    subjects = [None] * 38 + ["a"] * 9 + [None]
    _, held = inner_split([str(i) for i in range(48)], labels, subjects, 0.25, key)
    assert not set(range(38, 47)) & set(held.tolist())


def test_a_clip_that_brings_the_split_no_closer_stays_in_training():
    labels = np.repeat([0, 1, 2], 2)  # 0.5 validation clips of each class: neither 0 nor 1 is closer
    _, held = inner_split([str(i) for i in range(6)], labels, [None] * 6, 0.25, "key")
    assert not len(held)


@settings(max_examples=50)
@given(folds(), st.integers(0, 10**6))
def test_fractions_are_nested_stratified_and_independent_of_the_order_of_clips(fold, seed):
    ids, labels, _ = fold
    order = np.random.default_rng(seed).permutation(len(ids))
    smaller: set[str] = set()
    for fraction in (0.05, 0.1, 0.2, 0.5, 1.0):
        chosen = part_of_each_class(ids, labels, fraction, "key")
        again = part_of_each_class([ids[i] for i in order], labels[order], fraction, "key")
        names = {ids[i] for i in chosen}
        assert names == {ids[order[i]] for i in again}
        assert smaller <= names
        smaller = names
        for label in np.unique(labels):
            count = (labels == label).sum()
            assert (labels[chosen] == label).sum() == max(1, round(fraction * count))
    assert len(smaller) == len(ids)


def test_other_seeds_choose_other_clips():
    ids, labels = [str(i) for i in range(200)], np.arange(200) % 2
    chosen = [set(part_of_each_class(ids, labels, 0.1, f"seed{seed}").tolist()) for seed in (0, 1)]
    assert chosen[0] != chosen[1]
