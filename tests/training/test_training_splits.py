"""The inner validation split: proportions, subjects on one side, independence of the order of clips."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tgdfer.training.splits import inner_split


@st.composite
def folds(draw):
    count = draw(st.integers(0, 80))
    labels = draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
    subjects = draw(st.lists(st.sampled_from([None, "a", "b", "c", "d", "e", "f"]), min_size=count, max_size=count))
    return [f"clip{i:03}" for i in range(count)], np.array(labels, dtype=int), subjects


@settings(max_examples=100, deadline=None)
@given(folds(), st.sampled_from([0.0, 0.1, 0.3]))
def test_a_partition_that_keeps_subjects_and_classes(fold, fraction):
    ids, labels, subjects = fold
    train, held = inner_split(ids, labels, subjects, fraction, "key")
    assert sorted([*train, *held]) == list(range(len(ids)))
    assert not {subjects[i] for i in train} & {subjects[i] for i in held} - {None}
    assert set(labels[train]) == set(labels), "every class keeps a training clip"
    if fraction == 0:
        assert not len(held)


@settings(max_examples=30, deadline=None)
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
