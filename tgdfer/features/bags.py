"""Bags of instances from the feature cache, made by indexing tensors in memory: no loop over clips.

A clip's frames are cut into as many equal segments as the bag has instances; one frame stands for each segment: a
random one in training, the middle one at test (temporal segment sampling). A clip shorter than the bag gives all its
frames once; the rest repeats the last one and is masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F

from tgdfer.core.errors import UserError
from tgdfer.features.cache import FeatureCache


class Batch(NamedTuple):
    """B bags of T instances, eq. (1)."""

    x: torch.Tensor
    """float32 [B, T, D]."""
    mask: torch.Tensor
    """bool [B, T]: true for instances, false for padding, which is at the end."""
    y: torch.Tensor
    """int64 [B]."""
    frame_index: torch.Tensor
    """int32 [B, T]: the instance's frame number in its source (its middle frame's, if it is made of several)."""


def segment_frames(length: torch.Tensor, count: int, generator: torch.Generator | None) -> torch.Tensor:
    """The frames that stand for ``count`` segments of clips of ``length`` frames.

    Segment i holds the frames from floor(i n / count) to floor((i + 1) n / count), the latter not included.

    Args:
        length: int64 [B], each at least 1.
        count: segments.
        generator: a random frame of each segment; None: the middle one (the later of two middles).

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


class Bags:
    """The clips of one split, over a feature cache that stays whole in memory and is shared, not copied.

    Attributes:
        clip_ids: N of them, in the order given.
        labels: int64 [N].
        lengths: int64 [N], frames of each clip.
    """

    def __init__(
        self,
        clip_ids: list[str],
        labels: torch.Tensor,
        starts: torch.Tensor,
        lengths: torch.Tensor,
        features: torch.Tensor,
        frame_index: torch.Tensor,
        n_frames: int,
        instance_frames: int,
    ) -> None:
        self.clip_ids = clip_ids
        self.labels = labels
        self.starts = starts
        self.lengths = lengths
        self.features = features
        self.frame_index = frame_index
        self.n_frames = n_frames
        self.instance_frames = instance_frames

    @classmethod
    def from_cache(
        cls,
        cache: FeatureCache,
        clip_ids: Sequence[str],
        labels: torch.Tensor,
        n_frames: int,
        instance_frames: int = 1,
    ) -> Bags:
        """Bags of ``n_frames`` instances.

        Args:
            cache: the features.
            clip_ids: N of the cache's clips.
            labels: int64 [N].
            n_frames: T.
            instance_frames: frames of an instance; its feature is their mean, L2-normalised.

        Raises:
            UserError: a clip that the cache lacks or that has no frames there, or another number of labels than clips.
        """
        if len(labels) != len(clip_ids):
            raise UserError(f"bags: {len(clip_ids)} clips and {len(labels)} labels; expected as many of each")
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
        if len(rows) and int(lengths.min()) < 1:
            empty = clip_ids[int(lengths.argmin())]
            raise UserError(f"feature cache '{cache.encoder}': the clip '{empty}' has no frames")
        return cls(
            list(clip_ids), labels, starts, lengths, cache.features, cache.frame_index, n_frames, instance_frames
        )

    def __len__(self) -> int:
        return len(self.clip_ids)

    def to(self, device: torch.device | str) -> Bags:
        """The same bags with all tensors on ``device``."""
        tensors = (self.labels, self.starts, self.lengths, self.features, self.frame_index)
        labels, starts, lengths, features, frame_index = (tensor.to(device) for tensor in tensors)
        return Bags(self.clip_ids, labels, starts, lengths, features, frame_index, self.n_frames, self.instance_frames)

    def class_counts(self, classes: int) -> torch.Tensor:
        """Clips of each class: int64 [classes]."""
        return torch.bincount(self.labels, minlength=classes)

    def batch(self, indices: torch.Tensor, generator: torch.Generator | None) -> Batch:
        """The bags of some clips.

        Args:
            indices: int64 [B] into ``clip_ids``.
            generator: training: a random frame of each segment and a random view of each clip, drawn from it;
                None: test: the middle frames, the plain view. Its device may differ from the features'.
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
            # an instance of padding alone has no mean; it repeats the last one
            last = (valid.sum(1) - 1)[:, None, None].expand(-1, 1, x.shape[2])
            x = torch.where(valid[..., None], x, x.gather(1, last))
        return Batch(x, valid, self.labels[indices], number)
