"""Frames on their way to the image encoder: read from frame shards in fixed batches, decoded, preprocessed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import torch
from torchvision.io import ImageReadMode, decode_jpeg

from tgdfer.config.params import FeaturesParams
from tgdfer.core import storage
from tgdfer.core.errors import UserError
from tgdfer.encoders.preprocess import Preprocess, draw_view


@dataclass(frozen=True)
class Shard:
    """A frame shard and the feature shard to be made of it."""

    source: Path
    sha256: str
    rows: int
    target: Path


@dataclass
class Batch:
    """Frames of one shard, in order."""

    shard: Shard
    clip_ids: list[str]
    frame_index: list[int]
    jpegs: list[bytes]
    last: bool


def read_batches(shards: Iterable[Shard], size: int) -> Iterator[Batch]:
    """The frames of each shard in batches of ``size``; the last one of a shard, perhaps shorter or empty, says so."""
    for shard in shards:
        if storage.file_fingerprint(shard.source) != shard.sha256:
            raise UserError(
                f"{shard.source}: truncated or not the shard that manifest.json beside it describes; "
                "run the frames stage again"
            )
        file = pq.ParquetFile(shard.source)
        storage.check_schema(shard.source, "frames", file.schema_arrow)
        ids: list[str] = []
        index: list[int] = []
        jpegs: list[bytes] = []
        for record in file.iter_batches(batch_size=size, columns=["clip_id", "frame_index", "jpeg"]):
            ids += record["clip_id"].to_pylist()
            index += record["frame_index"].to_pylist()
            jpegs += record["jpeg"].to_pylist()
            while len(ids) > size:  # what is left is never empty: it may be the last
                yield Batch(shard, ids[:size], index[:size], jpegs[:size], last=False)
                del ids[:size], index[:size], jpegs[:size]
        yield Batch(shard, ids, index, jpegs, last=True)


def decode(batch: Batch, preprocess: Preprocess, settings: FeaturesParams) -> torch.Tensor:
    """Decode and preprocess a batch: uint8 [n * V, 3, H, W], the views of a frame side by side."""
    images = []
    for clip_id, index, jpeg in zip(batch.clip_ids, batch.frame_index, batch.jpegs, strict=True):
        try:
            image = decode_jpeg(torch.frombuffer(bytearray(jpeg), dtype=torch.uint8), ImageReadMode.RGB)
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{batch.shard.source}: clip '{clip_id}', frame {index}: not a readable JPEG ({reason})"
            ) from None
        images.append(preprocess(image))
        for number in range(1, 1 + settings.views):
            view = draw_view(settings.seed, clip_id, number, settings.view_scale, settings.view_jitter)
            images.append(preprocess.view(image, view))
    return torch.stack(images)
