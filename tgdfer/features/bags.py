"""Bags of instances, whose features are read from the feature cache by row: no loop over clips.

A clip's frames are cut into as many equal segments as the bag has instances, and one frame is taken from each: a random
one in training, the middle one at test (temporal segment sampling). A clip shorter than the bag gives each of its
frames once; the rest repeats the last frame and is masked.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F

from tgdfer.features.cache import FeatureCache

CPU = torch.device("cpu")


class BagBatch(NamedTuple):
    """B bags of T instances, eq. (1)."""

    x: torch.Tensor
    """float32 [B, T, D]."""
    mask: torch.Tensor
    """bool [B, T]: true for instances, false for padding, which is at the end."""
    y: torch.Tensor
    """int64 [B]."""
    frame_index: torch.Tensor
    """int32 [B, T]: the instance's frame number in its source; of an instance of several frames, the middle one's."""


def segment_frames(length: np.ndarray, count: int, generator: torch.Generator | None) -> np.ndarray:
    """One frame from each of ``count`` segments of clips of ``length`` frames.

    Segment i holds the frames from floor(i n / count) up to but not including floor((i + 1) n / count).

    Args:
        length: int64 [B], each at least 1.
        count: segments.
        generator: draws a random frame of each segment; None: the middle one (the later of two middles).

    Returns:
        int64 [B, count]; clips with fewer frames than segments give 0, 1, ..., n - 1, n - 1, ...
    """
    length = length[:, None]
    place = np.arange(count + 1)
    edges = length * place // count
    size = np.diff(edges, axis=1)
    if generator is None:
        inside = size // 2
    else:
        u = torch.rand(size.shape, generator=generator).numpy()
        # rounding must not reach the next segment
        inside = np.minimum((u * size.astype(np.float32)).astype(np.int64), size - 1)
    return np.where(length >= count, edges[:, :-1] + inside, np.minimum(place[:-1], length - 1))


@dataclass(frozen=True)
class Bags:
    """The clips of one split, whose features stay in the feature cache until a batch of them is asked for."""

    cache: FeatureCache
    clips: torch.Tensor
    """int64 [N]: their numbers in the cache, in the order given."""
    labels: torch.Tensor
    """int64 [N]."""
    n_frames: int
    """T, instances of a bag."""
    instance_frames: int = 1
    """Frames of an instance; its feature is their mean, L2-normalised."""

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def clip_ids(self) -> list[str]:
        """Their names."""
        return self.cache.clip_ids.take(pa.array(self.clips.numpy())).to_pylist()

    def batch(
        self, indices: torch.Tensor, generator: torch.Generator | None, device: torch.device = CPU, view: int = 0
    ) -> BagBatch:
        """The bags of some clips.

        Args:
            indices: int64 [B] into ``clips``.
            generator: in training: draws a random frame of each segment and a random view of each clip; None, at test:
                the middle frames of one view.
            device: where the batch is to be.
            view: that view; 0 is the plain one.
        """
        found = self._frames(indices, generator, view)
        x, mask, y, number = (tensor.to(device, non_blocking=True) for tensor in found)
        x, per = x.float(), self.instance_frames
        if per > 1:
            weight = mask.unflatten(1, (-1, per)).float()
            x = F.normalize(torch.einsum("btf,btfd->btd", weight, x.unflatten(1, (-1, per))), dim=-1)
            number = number.unflatten(1, (-1, per))[..., per // 2]
            mask = mask[:, ::per]
            # an instance of padding only has no mean; it repeats the last one
            last = (mask.sum(1) - 1)[:, None, None].expand(-1, 1, x.shape[2])
            x = torch.where(mask[..., None], x, x.gather(1, last))
        return BagBatch(x, mask, y, number)

    def _frames(self, indices: torch.Tensor, generator: torch.Generator | None, view: int) -> BagBatch:
        """The frames of the bags, float16, as if each were an instance."""
        clips, count = self.clips[indices].numpy(), self.n_frames * self.instance_frames
        length = self.cache.lengths[clips]
        rows = self.cache.starts[clips, None] + segment_frames(length, count, generator)
        if self.cache.views > 1:
            drawn = generator is not None
            views = torch.randint(self.cache.views, (len(clips), 1), generator=generator).numpy() if drawn else view
            rows += views * self.cache.strides[clips, None]
        features, number = map(torch.from_numpy, self.cache.read(rows))
        mask = torch.from_numpy(np.arange(count) < length[:, None])
        return BagBatch(features, mask, self.labels[indices], number)
