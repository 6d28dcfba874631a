"""Bags: segment sampling, padding, views, instances of several frames."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tgdfer.features.bags import Bags, segment_frames
from tgdfer.features.cache import FeatureCache
from tgdfer.features.shards import Shard, open_shard, write_shard


def make_cache(lengths: list[int], views: int = 1, dim: int = 6, seed: int = 0) -> FeatureCache:
    """Clips of these ``lengths`` in two shards: those with an even number in the first."""
    torch.manual_seed(seed)
    shards = []
    for part in (0, 1):
        clips = range(part, len(lengths), 2)
        offsets = np.cumsum([0, *(lengths[i] for i in clips)])
        names = pa.array([f"clip{i:03d}" for i in clips], pa.string())
        index = np.concatenate([np.zeros(0), *(3 * np.arange(lengths[i]) + 1 for i in clips)]).astype(np.int32)
        features = F.normalize(torch.randn(views, int(offsets[-1]), dim), dim=-1).half().numpy()
        shards.append(Shard(names, offsets, index, features))
    return FeatureCache.of(shards, "print", "tiny")


def make_bags(cache: FeatureCache, n_frames: int, clips: list[int] | None = None, instance_frames: int = 1) -> Bags:
    chosen = torch.arange(len(cache.clip_ids)) if clips is None else torch.tensor(clips)
    return Bags(cache, chosen, 10 * chosen, n_frames, instance_frames)


def clip(cache: FeatureCache, number: int) -> torch.Tensor:
    """The plain features of a clip, float32."""
    return torch.from_numpy(cache.clip(number)[0]).float()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.integers(1, 200), st.integers(1, 32), st.integers(0, 5))
@settings(max_examples=200)
def test_each_frame_comes_from_its_segment(length, count, seed):
    for source in (None, generator(seed)):
        frames = segment_frames(np.array([length]), count, source)[0].tolist()
        if length < count:
            assert frames == [min(i, length - 1) for i in range(count)]
            continue
        for i, frame in enumerate(frames):
            assert i * length // count <= frame < (i + 1) * length // count
        assert frames == sorted(set(frames))


def test_middle_frames_by_hand():
    assert segment_frames(np.array([16]), 4, None).tolist() == [[2, 6, 10, 14]]
    assert segment_frames(np.array([10]), 4, None).tolist() == [[1, 3, 6, 8]]
    assert segment_frames(np.array([4]), 4, None).tolist() == [[0, 1, 2, 3]]


def test_random_frames_reach_every_frame_of_a_segment():
    frames = segment_frames(np.full(500, 12), 3, generator())
    for i in range(3):
        assert set(frames[:, i].tolist()) == set(range(4 * i, 4 * i + 4))


def test_a_batch_holds_the_cache_s_rows():
    cache = make_cache([20, 3, 8])
    bags = make_bags(cache, 8, [2, 1, 0])
    assert bags.clip_ids == ["clip002", "clip001", "clip000"]
    batch = bags.batch(torch.tensor([1, 2]), None)
    assert batch.y.tolist() == [10, 0]
    assert batch.x.dtype == torch.float32 and batch.frame_index.dtype == torch.int32
    # padded with its last frame, masked
    assert batch.mask.tolist() == [[True] * 3 + [False] * 5, [True] * 8]
    torch.testing.assert_close(batch.x[0], clip(cache, 1)[[0, 1, 2, 2, 2, 2, 2, 2]])
    assert batch.frame_index[0].tolist() == [1, 4, 7, 7, 7, 7, 7, 7]
    rows = segment_frames(np.array([20]), 8, None)[0]
    torch.testing.assert_close(batch.x[1], clip(cache, 0)[rows])
    assert batch.frame_index[1].tolist() == (3 * rows + 1).tolist()


def test_training_is_reproducible_and_varies():
    bags = make_bags(make_cache([40] * 6, views=3), 8)
    everything = torch.arange(6)
    one, same, other = (bags.batch(everything, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(one.x, same.x) and torch.equal(one.frame_index, same.frame_index)
    assert not torch.equal(one.frame_index, other.frame_index)


def test_test_bags_do_not_touch_the_global_random_state_and_use_the_plain_view():
    cache = make_cache([40], views=3)
    bags = make_bags(cache, 40)
    before = torch.get_rng_state()
    batch = bags.batch(torch.tensor([0]), None)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(batch.x[0], clip(cache, 0))


def test_a_bag_is_of_one_view_and_every_view_occurs():
    cache = make_cache([4] * 60, views=3)
    x = make_bags(cache, 4).batch(torch.arange(60), generator()).x
    rows = [cache.starts[:, None] + v * cache.strides[:, None] + np.arange(4) for v in range(3)]
    views = torch.stack([torch.from_numpy(cache.read(of_view)[0]).float() for of_view in rows])
    seen = {next(v for v in range(3) if torch.equal(views[v, i], x[i])) for i in range(60)}
    assert seen == {0, 1, 2}


def test_instances_of_several_frames():
    cache = make_cache([10, 24])
    batch = make_bags(cache, 4, instance_frames=4).batch(torch.arange(2), None)
    assert batch.x.shape == (2, 4, 6)
    assert batch.mask.tolist() == [[True, True, True, False], [True] * 4]
    frames = clip(cache, 0)
    expected = torch.stack([frames[0:4].mean(0), frames[4:8].mean(0), frames[8:10].mean(0), frames[8:10].mean(0)])
    torch.testing.assert_close(batch.x[0], F.normalize(expected, dim=-1))
    assert batch.frame_index[0].tolist() == cache.clip(0)[1][[2, 6, 9, 9]].tolist(), "of the middle frame"


def test_instances_of_two_frames():
    cache = make_cache([4])
    batch = make_bags(cache, 2, instance_frames=2).batch(torch.tensor([0]), None)
    pairs = clip(cache, 0).unflatten(0, (2, 2))
    torch.testing.assert_close(batch.x[0], F.normalize(pairs.mean(1), dim=-1))
    assert batch.mask.tolist() == [[True, True]]
    assert batch.frame_index[0].tolist() == cache.clip(0)[1][[1, 3]].tolist(), "of the later frame"


def test_a_batch_is_on_the_device_that_was_asked_for():
    batch = make_bags(make_cache([4]), 2).batch(torch.tensor([0]), None, torch.device("meta"))
    assert {tensor.device.type for tensor in batch} == {"meta"}


def test_one_frame_clip_and_a_bag_of_one():
    assert make_bags(make_cache([1]), 1).batch(torch.tensor([0]), generator()).mask.tolist() == [[True]]
    assert make_bags(make_cache([1]), 5).batch(torch.tensor([0]), generator()).mask.sum() == 1


def test_a_cache_in_files_gives_the_rows_of_one_in_memory(tmp_path: Path) -> None:
    lengths, views, dim = [1, 40, 3, 200, 0, 25, 7], 3, 512
    memory = make_cache(lengths, views, dim)
    rng, shards = np.random.default_rng(0), []
    for part in (0, 1, 2):  # the last one is empty
        clips = [i for i in range(part, len(lengths), 2) if part < 2]
        ids = [f"clip{i:03d}" for i in clips for _ in range(lengths[i])]
        index = np.array([3 * j + 1 for i in clips for j in range(lengths[i])], np.int32)
        path = tmp_path / f"shard-{part:05d}.arrow"
        features = np.zeros((views, len(index), dim), np.float16)
        for view in range(views):
            first = [memory.starts[i] + view * memory.strides[i] for i in clips]
            rows = [at + j for at, i in zip(first, clips, strict=True) for j in range(lengths[i])]
            features[view] = memory.features[rows]
        write_shard(path, ids, index, features, {"cache": "c"})
        shards.append(open_shard(path, "c"))
    files = FeatureCache.of(shards, "print", "tiny")
    there = [i for i, length in enumerate(lengths) if length]
    for count in (1, 4, 16):
        clips = rng.choice(len(there), 150)
        bags = [make_bags(memory, count, [there[i] for i in clips]), make_bags(files, count, clips.tolist())]
        for draw, view in ((True, 0), (False, 2)):
            one, other = (bag.batch(torch.arange(150), generator() if draw else None, view=view) for bag in bags)
            assert one.x.equal(other.x) and one.frame_index.equal(other.frame_index) and one.mask.equal(other.mask)
    open_before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    del files, bags
    assert open_before - len(os.listdir("/proc/self/fd")) == 2, "each shard with rows is one open file"  # noqa: PTH208
