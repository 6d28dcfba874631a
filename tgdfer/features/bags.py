"""Bags of instances from the feature cache, made by indexing tensors in memory: no loop over clips.

A clip's frames are cut into as many equal segments as the bag has instances, and one frame is taken from each: a random
one in training, the middle one at test (temporal segment sampling). A clip shorter than the bag gives each of its
frames once; the rest repeats the last frame and is masked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F

from tgdfer.core.errors import UserError
from tgdfer.features.cache import FeatureCache


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


def segment_frames(length: torch.Tensor, count: int, generator: torch.Generator | None) -> torch.Tensor:
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
    place = torch.arange(count + 1, device=length.device)
    edges = place * length // count
    size = edges[:, 1:] - edges[:, :-1]
    if generator is None:
        inside = size // 2
    else:
        u = torch.rand(size.shape, generator=generator, device=generator.device).to(length.device)
        # rounding must not reach the next segment
        inside = torch.minimum((u * size).long(), size - 1)
    return torch.where(length >= count, edges[:, :-1] + inside, torch.minimum(place[:-1], length - 1))


@dataclass(frozen=True)
class Bags:
    """The clips of one split, over a feature cache that is shared, not copied."""

    clip_ids: list[str]
    """N of them, in the order given."""
    labels: torch.Tensor
    """int64 [N]."""
    starts: torch.Tensor
    """int64 [N]: the first row of each clip in the cache."""
    lengths: torch.Tensor
    """int64 [N]: frames of each clip."""
    features: torch.Tensor
    """float16 [V, R, D]."""
    frame_index: torch.Tensor
    """int32 [R]."""
    n_frames: int
    """T, instances of a bag."""
    instance_frames: int
    """Frames of an instance; its feature is their mean, L2-normalised."""

    @classmethod
    def from_cache(
        cls,
        cache: FeatureCache,
        clip_ids: Sequence[str],
        labels: torch.Tensor,
        n_frames: int,
        instance_frames: int = 1,
    ) -> Self:
        """Bags of the clips ``clip_ids``, with ``labels`` int64 [N]; a UserError if ``cache`` lacks one of them."""
        row = {clip_id: i for i, clip_id in enumerate(cache.clip_ids)}
        missing = [clip_id for clip_id in clip_ids if clip_id not in row]
        if missing:
            raise UserError(
                f"feature cache '{cache.encoder}': no clip '{missing[0]}' ({len(missing)} of {len(clip_ids)} missing); "
                "run the features stage again"
            )
        rows = torch.tensor([row[clip_id] for clip_id in clip_ids], dtype=torch.int64)
        starts = cache.offsets[rows]
        lengths = cache.offsets[rows + 1] - starts
        shared = cache.features, cache.frame_index
        return cls(list(clip_ids), labels, starts, lengths, *shared, n_frames, instance_frames)

    def __len__(self) -> int:
        return len(self.clip_ids)

    def batch(self, indices: torch.Tensor, generator: torch.Generator | None) -> BagBatch:
        """The bags of some clips.

        Args:
            indices: int64 [B] into ``clip_ids``.
            generator: in training: draws a random frame of each segment and a random view of each clip; None, at test:
                the middle frames and the plain view. Its device may differ from that of the features.
        """
        indices = indices.to(self.starts.device)
        length, per = self.lengths[indices], self.instance_frames
        frames = segment_frames(length, self.n_frames * per, generator)
        rows = self.starts[indices, None] + frames
        view = torch.zeros(len(indices), 1, dtype=torch.int64, device=rows.device)
        if generator is not None and len(self.features) > 1:
            drawn = torch.randint(len(self.features), view.shape, generator=generator, device=generator.device)
            view = drawn.to(rows.device)
        x = self.features[view, rows].float()
        valid = torch.arange(self.n_frames * per, device=rows.device) < length[:, None]
        number = self.frame_index[rows]
        if per > 1:
            weight = valid.unflatten(1, (-1, per)).float()
            x = F.normalize(torch.einsum("btf,btfd->btd", weight, x.unflatten(1, (-1, per))), dim=-1)
            number = number.unflatten(1, (-1, per))[..., per // 2]
            valid = valid[:, ::per]
            # an instance of padding only has no mean; it repeats the last one
            last = (valid.sum(1) - 1)[:, None, None].expand(-1, 1, x.shape[2])
            x = torch.where(valid[..., None], x, x.gather(1, last))
        return BagBatch(x, valid, self.labels[indices], number)
