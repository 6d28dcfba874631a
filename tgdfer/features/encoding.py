"""Frame shards through the image encoder, into shards of features.

Threads decode and preprocess ahead of the model. Batches have fixed boundaries within a shard, and on a CPU each runs
on one thread: a shard's bytes depend neither on the other shards nor on the number of threads.
"""

import math
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tgdfer.config.data import FeaturesParams
from tgdfer.core.determinism import deterministic
from tgdfer.core.errors import UserError
from tgdfer.core.progress import Meter
from tgdfer.encoders import Encoder, VisionTower
from tgdfer.features.forward import Forward
from tgdfer.features.frame_batches import FrameBatch, ShardTask, decode, read_batches
from tgdfer.features.shards import write_shard


@dataclass(frozen=True)
class Encoding:
    """How frames are encoded; ``header`` goes into every shard."""

    encoder: Encoder
    settings: FeaturesParams
    dtype: torch.dtype
    header: dict[str, Any]
    keep: int | None
    """The block after which tokens are kept."""
    kept: str
    """The cache of the tokens."""

    def tower(self, device: torch.device) -> VisionTower:
        """The image tower; with tokens, they follow each feature."""
        if self.keep is None:
            return self.encoder.vision_tower(self.dtype, device)
        return self.encoder.token_tower(self.keep, True, self.dtype, device)

    @property
    def batch(self) -> int:
        """Frames of a batch; with their views they are ``features.batch_size`` images."""
        return max(1, self.settings.batch_size // (1 + self.settings.views))


def encode_shards(work: Encoding, shards: list[ShardTask], device: torch.device, what: str) -> None:
    """Encode ``shards``, threads decoding ahead, and report the progress of ``what``; each is written when complete."""
    total = sum(-(-shard.rows // work.batch) for shard in shards)
    with deterministic(), Meter(what, total, "batches") as meter:
        _encode(work, shards, device, meter)


def _encode(work: Encoding, shards: list[ShardTask], device: torch.device, meter: Meter) -> None:
    threads = torch.get_num_threads()
    forward = Forward(work.tower(device), device)
    on_cpu = device.type == "cpu"

    def prepare(batch: FrameBatch) -> torch.Tensor:
        torch.set_num_threads(1)  # of the calling thread: batches run in parallel, each on one core
        images = decode(batch, work.encoder.preprocess, work.settings)
        if on_cpu:
            return forward(images)
        return images.pin_memory() if device.type == "cuda" else images

    source = read_batches(shards, work.batch)
    pool = ThreadPoolExecutor(threads)
    waiting: deque[tuple[FrameBatch, Future[torch.Tensor] | None]] = deque()
    writer: _Writer | None = None
    try:
        while True:
            while len(waiting) < 2 * threads and (ahead := next(source, None)):
                waiting.append((ahead, pool.submit(prepare, ahead) if ahead.jpegs else None))
            if not waiting:
                return
            batch, future = waiting.popleft()
            writer = writer or _Writer(work, batch.shard)
            if future is not None:
                prepared = future.result()
                writer.add(batch, (prepared if on_cpu else forward(prepared)).cpu())
                meter.add()
            if batch.last:
                writer.write()
                writer = None
    finally:
        pool.shutdown(cancel_futures=True)
        if writer:
            writer.close()


class _Writer:
    """Collects the features of a shard, and its tokens in a file: they are too many for the memory."""

    def __init__(self, work: Encoding, shard: ShardTask) -> None:
        self.work, self.shard, self.views = work, shard, 1 + work.settings.views
        # not the batches: their JPEGs are too many for the memory
        self.clip_ids: list[str] = []
        self.index: list[int] = []
        self.features = [torch.zeros(0, work.encoder.dim, dtype=torch.float16)]
        self.tokens: np.ndarray | None = None
        self.rows = 0
        self.scratch = shard.tokens and shard.tokens.with_name(f".{shard.tokens.name}.tokens.part")

    def add(self, batch: FrameBatch, encoded: torch.Tensor) -> None:
        """Add the float16 rows of a batch, the views of a frame next to each other."""
        if not bool(torch.isfinite(encoded).all()):
            raise UserError(
                f"{self.shard.source}: {self.work.encoder.name} gives features that are not finite in "
                f"{self.work.dtype}; set features.dtype to float32"
            )
        self.clip_ids += batch.clip_ids
        self.index += batch.frame_index
        dim, frames = self.work.encoder.dim, len(batch.jpegs)
        self.features.append(encoded[:, :dim].clone())  # without the tokens, which it would hold in memory
        if self.scratch:
            if self.tokens is None:
                self.scratch.parent.mkdir(parents=True, exist_ok=True)
                shape = self.views, self.shard.rows, encoded.shape[1] - dim
                self.tokens = np.memmap(self.scratch, np.float16, "w+", shape=shape)
            tokens = encoded[:, dim:].view(frames, self.views, -1).permute(1, 0, 2).numpy()
            self.tokens[:, self.rows : self.rows + frames] = tokens
        self.rows += frames

    def write(self) -> None:
        """Write the shard, and that of its tokens."""
        clip_ids, index = self.clip_ids, np.array(self.index, np.int32)
        features = torch.cat(self.features).view(len(clip_ids), self.views, self.work.encoder.dim).permute(1, 0, 2)
        made_by = {**self.work.header, "source": self.shard.sha256}
        write_shard(self.shard.target, clip_ids, index, features.numpy(), made_by)
        if self.shard.tokens:
            size = math.prod(self.work.encoder.token_shape(self.work.keep or 1))
            tokens = np.zeros((self.views, 0, size), np.float16) if self.tokens is None else self.tokens
            write_shard(self.shard.tokens, clip_ids, index, tokens, {**made_by, "cache": self.work.kept})
        self.close()

    def close(self) -> None:
        """Remove the file."""
        self.tokens = None
        if self.scratch:
            self.scratch.unlink(missing_ok=True)
