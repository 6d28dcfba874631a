"""Bags: segment sampling, padding, views, instances of several frames."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tgdfer.core.errors import UserError
from tgdfer.features.bags import Bags, segment_frames
from tgdfer.features.cache import FeatureCache


def make_cache(lengths: list[int], views: int = 1, dim: int = 6, seed: int = 0) -> FeatureCache:
    torch.manual_seed(seed)
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    rows = int(offsets[-1])
    frame_index = torch.cat([3 * torch.arange(n, dtype=torch.int32) + 1 for n in lengths])
    features = F.normalize(torch.randn(views, rows, dim), dim=-1).half()
    ids = [f"clip{i:03d}" for i in range(len(lengths))]
    return FeatureCache(ids, offsets, frame_index, features, dim, "print", "tiny")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.integers(1, 200), st.integers(1, 32), st.integers(0, 5))
@settings(max_examples=200, deadline=None)
def test_each_frame_comes_from_its_segment(length, count, seed):
    for source in (None, generator(seed)):
        frames = segment_frames(torch.tensor([length]), count, source)[0].tolist()
        if length < count:
            assert frames == [min(i, length - 1) for i in range(count)]
            continue
        for i, frame in enumerate(frames):
            assert i * length // count <= frame < (i + 1) * length // count
        assert frames == sorted(set(frames))


def test_middle_frames_by_hand():
    assert segment_frames(torch.tensor([16]), 4, None).tolist() == [[2, 6, 10, 14]]
    assert segment_frames(torch.tensor([10]), 4, None).tolist() == [[1, 3, 6, 8]]
    assert segment_frames(torch.tensor([4]), 4, None).tolist() == [[0, 1, 2, 3]]


def test_random_frames_reach_every_frame_of_a_segment():
    frames = segment_frames(torch.full((500,), 12), 3, generator())
    for i in range(3):
        assert set(frames[:, i].tolist()) == set(range(4 * i, 4 * i + 4))


def test_a_batch_holds_the_cache_s_rows():
    cache = make_cache([20, 3, 8])
    bags = Bags.from_cache(cache, ["clip002", "clip001", "clip000"], torch.tensor([5, 0, 2]), 8)
    batch = bags.batch(torch.tensor([1, 2]), None)
    assert batch.y.tolist() == [0, 2]
    assert batch.x.dtype == torch.float32 and batch.frame_index.dtype == torch.int32
    # clip001 has rows 20..22: padded with its last frame, masked
    assert batch.mask.tolist() == [[True] * 3 + [False] * 5, [True] * 8]
    torch.testing.assert_close(batch.x[0], cache.features[0, [20, 21, 22, 22, 22, 22, 22, 22]].float())
    assert batch.frame_index[0].tolist() == [1, 4, 7, 7, 7, 7, 7, 7]
    rows = segment_frames(torch.tensor([20]), 8, None)[0]
    torch.testing.assert_close(batch.x[1], cache.features[0, rows].float())
    assert batch.frame_index[1].tolist() == (3 * rows + 1).tolist()


def test_training_is_reproducible_and_varies():
    bags = Bags.from_cache(make_cache([40] * 6, views=3), [f"clip{i:03d}" for i in range(6)], torch.zeros(6).long(), 8)
    everything = torch.arange(6)
    one, same, other = (bags.batch(everything, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(one.x, same.x) and torch.equal(one.frame_index, same.frame_index)
    assert not torch.equal(one.frame_index, other.frame_index)


def test_test_bags_do_not_touch_the_global_random_state_and_use_the_plain_view():
    cache = make_cache([40], views=3)
    bags = Bags.from_cache(cache, ["clip000"], torch.tensor([0]), 40)
    before = torch.get_rng_state()
    batch = bags.batch(torch.tensor([0]), None)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(batch.x[0], cache.features[0].float())


def test_a_bag_is_of_one_view_and_every_view_occurs():
    cache = make_cache([4] * 60, views=3)
    bags = Bags.from_cache(cache, cache.clip_ids, torch.zeros(60).long(), 4)
    x = bags.batch(torch.arange(60), generator()).x
    views = cache.features.float().view(3, 60, 4, -1)
    seen = {next(v for v in range(3) if torch.equal(views[v, i], x[i])) for i in range(60)}
    assert seen == {0, 1, 2}


def test_instances_of_several_frames():
    cache = make_cache([10, 24])
    bags = Bags.from_cache(cache, cache.clip_ids, torch.zeros(2).long(), 4, instance_frames=4)
    batch = bags.batch(torch.arange(2), None)
    assert batch.x.shape == (2, 4, 6)
    assert batch.mask.tolist() == [[True, True, True, False], [True] * 4]
    frames = cache.features[0, :10].float()
    expected = torch.stack([frames[0:4].mean(0), frames[4:8].mean(0), frames[8:10].mean(0), frames[8:10].mean(0)])
    torch.testing.assert_close(batch.x[0], F.normalize(expected, dim=-1))
    assert batch.frame_index[0].tolist() == cache.frame_index[[2, 6, 9, 9]].tolist(), "of the middle frame"


def test_one_frame_clip_and_a_bag_of_one():
    bags = Bags.from_cache(make_cache([1]), ["clip000"], torch.tensor([0]), 1)
    assert bags.batch(torch.tensor([0]), generator()).mask.tolist() == [[True]]
    long = Bags.from_cache(make_cache([1]), ["clip000"], torch.tensor([0]), 5).batch(torch.tensor([0]), generator())
    assert long.mask.sum() == 1


def test_a_missing_clip_is_named():
    with pytest.raises(UserError, match=r"no clip 'clip9' \(1 of 2 missing"):
        Bags.from_cache(make_cache([2]), ["clip000", "clip9"], torch.tensor([0, 0]), 4)
