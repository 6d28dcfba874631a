"""Mixing of clips in feature space."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from tgdfer.features.bags import BagBatch
from tgdfer.training.mixing import mix

B, T, D, C = 6, 4, 5, 3


def bags() -> BagBatch:
    x = torch.randn(B, T, D, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(T) < torch.tensor([1, 4, 2, 3, 4, 1])[:, None]
    return BagBatch(x, mask, torch.tensor([0, 1, 2, 0, 1, 2]), torch.arange(B * T, dtype=torch.int32).view(B, T))


@given(st.integers(0, 1000), st.floats(0.05, 4))
def test_features_and_classes_are_blended_with_the_same_shares(seed, alpha):
    batch = bags()
    blended, target = mix(batch, alpha, C, seed)
    assert torch.equal(blended.y, batch.y) and torch.equal(blended.frame_index, batch.frame_index)
    torch.testing.assert_close(target.sum(1), torch.ones(B))
    assert (target.gather(1, batch.y[:, None]) >= 0.5 - 1e-6).all(), "the class of the larger part"
    torch.testing.assert_close(blended.x.sum(0), batch.x.sum(0), atol=1e-4, rtol=1e-4)
    for one in range(B):
        share = target[one, batch.y[one]]
        if share > 0.99:  # blended with a bag of its own class, or hardly at all: the shares do not say with which
            continue
        pairs = [torch.allclose(blended.x[one], other.lerp(batch.x[one], share), atol=1e-5) for other in batch.x]
        assert sum(pairs) == 1
        second = pairs.index(True)
        torch.testing.assert_close(target[one, batch.y[second]], 1 - share)
        assert torch.equal(blended.mask[one], batch.mask[one] | batch.mask[second])


def test_the_seed_decides():
    (first, _), (again, _), (other, _) = (mix(bags(), 1.0, C, seed) for seed in (1, 1, 2))
    assert torch.equal(first.x, again.x) and not torch.equal(first.x, other.x)
