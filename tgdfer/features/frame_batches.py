"""Frames on their way to the image encoder: read from frame shards in fixed batches, decoded, preprocessed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import torch
from torchvision.io import ImageReadMode, decode_jpeg

from tgdfer.config.data import FeaturesParams
from tgdfer.core import storage
from tgdfer.core.errors import UserError
from tgdfer.encoders.preprocess import Preprocess, draw_view


@dataclass(frozen=True)
class ShardTask:
    """A frame shard ``source``, its fingerprint and frames, and the shards of features and tokens to be made of it."""

    source: Path
    sha256: str
    rows: int
    target: Path
    tokens: Path | None = None


@dataclass(frozen=True)
class FrameBatch:
    """Frames of one shard, in order; ``last`` says whether they are its last ones."""

    shard: ShardTask
    clip_ids: list[str]
    frame_index: list[int]
    jpegs: list[bytes]
    last: bool


def read_batches(shards: Iterable[ShardTask], size: int) -> Iterator[FrameBatch]:
    """The frames of each shard in batches of ``size``; the last batch of a shard may be shorter, or empty."""
    for shard in shards:
        if storage.file_fingerprint(shard.source) != shard.sha256:
            raise storage.damaged(shard.source)
        file = pq.ParquetFile(shard.source, pre_buffer=False)  # or the whole shard would be in memory
        storage.check_schema(shard.source, "frames", file.schema_arrow)
        done = 0
        for rows in file.iter_batches(batch_size=size, columns=["clip_id", "frame_index", "jpeg"]):
            done += len(rows)
            clip_ids, index, jpegs = (column.to_pylist() for column in rows.columns)
            yield FrameBatch(shard, clip_ids, index, jpegs, last=done == shard.rows)
        if not done:
            yield FrameBatch(shard, [], [], [], last=True)


def decode(batch: FrameBatch, preprocess: Preprocess, settings: FeaturesParams) -> torch.Tensor:
    """Decode and preprocess a batch: uint8 [n * V, 3, H, W], the views of a frame next to each other."""
    images = []
    for clip_id, index, jpeg in zip(batch.clip_ids, batch.frame_index, batch.jpegs, strict=True):
        try:
            image = decode_jpeg(torch.frombuffer(bytearray(jpeg), dtype=torch.uint8), ImageReadMode.RGB)
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{batch.shard.source}: clip '{clip_id}', frame {index}: not a readable JPEG ({reason}); "
                f"remove the shard, then {storage.remedy(batch.shard.source)}"
            ) from None
        images.append(preprocess(image))
        for number in range(1, 1 + settings.views):
            view = draw_view(settings.seed, clip_id, number, settings.view_scale, settings.view_jitter)
            images.append(preprocess.view(image, view))
    return torch.stack(images)
