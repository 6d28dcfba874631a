"""The feature cache of a data set: many shards as one, of which only the rows that are asked for are read."""

from __future__ import annotations

import os
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tgdfer.core import storage
from tgdfer.core.errors import UserError
from tgdfer.features.shards import AGAIN, Shard, checksums, open_shard

BETWEEN = 16_384
"""Bytes between two rows up to which they are read together: it takes less time than a second call."""
CLIPS_AT_ONCE = 64
"""Clips whose features are read before they are put in their places: few enough for the processor's cache."""


class FeatureFiles:
    """The features of a cache in its files, which are open as long as this object is there.

    They are read, not copied from a map: to map a page takes longer than to read it, and it stays in memory.
    """

    def __init__(self, shards: Sequence[Shard], firsts: np.ndarray) -> None:
        self.paths, self.firsts = [shard.path for shard in shards], firsts
        self.size = 2 * shards[0].features.shape[-1]  # bytes of a row
        # nothing is read from an empty shard
        files = [-1 if shard.start is None else os.open(shard.path, os.O_RDONLY) for shard in shards]
        for file in files:
            if file >= 0:
                weakref.finalize(self, os.close, file)
        self.files = np.array(files)
        self.origins = np.array([shard.start or 0 for shard in shards]) - firsts[:-1] * self.size

    def shard(self, rows: np.ndarray) -> np.ndarray:
        """The number of the shard of each row."""
        return np.searchsorted(self.firsts, rows, side="right") - 1

    def take(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Copy the features of ``rows``, int64 [B, T] and ascending within a clip, into ``out``, float16 [B, T, D]."""
        step = np.diff(rows, axis=1)
        if (step == 1).all():
            self._read(rows[:, 0], np.full(len(rows), rows.shape[1]), out)
            return
        # rows of a clip are read at once, with what is between them if that is little
        begins = np.ones(rows.shape, bool)
        begins[:, 1:] = step > max(1, BETWEEN // self.size)
        edges = np.append(np.flatnonzero(begins), rows.size)
        flat = rows.ravel()
        first = flat[edges[:-1]]
        counts = flat[edges[1:] - 1] - first + 1
        places = np.cumsum(counts) - counts
        found = np.empty((counts.sum(), out.shape[-1]), out.dtype)
        self._read(first, counts, found)
        wanted = np.repeat(places - first, np.diff(edges)) + flat
        found.take(wanted.reshape(rows.shape), axis=0, out=out, mode="clip")  # other modes would copy once more

    def _read(self, first: np.ndarray, counts: np.ndarray, out: np.ndarray) -> None:
        """Fill ``out``, float16, with ``counts`` rows from each of ``first`` on, int64 [n] each."""
        files = self.files[shards := self.shard(first)].tolist()
        places = (self.origins[shards] + first * self.size).tolist()
        content, edges = out.reshape(-1).view(np.uint8).data, [0, *np.cumsum(counts * self.size).tolist()]
        parts = [(content[begin:end],) for begin, end in pairwise(edges)]
        # calls without a loop in Python, which would take as long as the reading of a short clip
        deque(map(os.preadv, files, parts, places), maxlen=0)


@dataclass(frozen=True)
class FeatureCache:
    """Every feature of a data set. Rows are counted through all shards in their order, in a shard through its views."""

    clip_ids: pa.StringArray
    """Ascending, n of them."""
    starts: np.ndarray
    """int64 [n]: the first row of each clip under the plain view."""
    lengths: np.ndarray
    """int64 [n]: frames of each clip."""
    strides: np.ndarray
    """int64 [n]: rows from a frame of the clip to the same frame under the next view."""
    frame_index: np.ndarray
    """int32 [R]: of each row, the frame's number in its source."""
    checks: np.ndarray
    """uint64 [R]: ``checksums`` of the features; empty where these are in memory."""
    features: FeatureFiles | np.ndarray
    """float16 [R, D]."""
    views: int
    """V, the plain view included."""
    dim: int
    fingerprint: str
    encoder: str

    @classmethod
    def of(cls, shards: Sequence[Shard], fingerprint: str, encoder: str) -> Self:
        """The cache of at least one shard; all are in files, or all in memory."""
        views, _, dim = shards[0].features.shape
        rows = [len(shard.frame_index) for shard in shards]
        firsts = views * np.cumsum([0, *rows], dtype=np.int64)
        names = pa.concat_arrays([shard.clip_ids for shard in shards])
        starts = np.concatenate([shard.offsets[:-1] + first for shard, first in zip(shards, firsts, strict=False)])
        lengths = np.concatenate([np.diff(shard.offsets) for shard in shards])
        strides = np.repeat(rows, [len(shard.clip_ids) for shard in shards])
        order = pc.array_sort_indices(names).to_numpy()
        clip_ids = names.take(order)
        twice = clip_ids[1:].filter(pc.equal(clip_ids[1:], clip_ids[:-1]))
        if len(twice):
            raise UserError(
                f"{shards[0].path.parent}: clip '{twice[0]}' is in two shards; remove the folder and run the features "
                "stage again"
            )
        frame_index = np.concatenate([np.tile(shard.frame_index, views) for shard in shards])
        checks = np.concatenate([shard.checks.ravel() for shard in shards])
        features = FeatureFiles(shards, firsts) if len(checks) else _joined(shards)
        place = starts[order], lengths[order], strides[order], frame_index
        return cls(clip_ids, *place, checks, features, views, dim, fingerprint, encoder)

    def clip(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The features float16 [F, D] of all frames of a clip, under the plain view, and their numbers int32 [F]."""
        rows = self.starts[number] + np.arange(self.lengths[number])
        features, frame_index = self.read(rows[None])
        return features[0], frame_index[0]

    def read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A copy of features, and the numbers of their frames.

        Args:
            rows: int64 [B, T], those of a clip under a view ascending.

        Returns:
            float16 [B, T, D] and int32 [B, T].

        Raises:
            UserError: a feature is not what was written.
        """
        features = np.empty((*rows.shape, self.dim), np.float16)
        for begin in range(0, len(rows), CLIPS_AT_ONCE):
            part = slice(begin, begin + CLIPS_AT_ONCE)
            self._fill(features[part], rows[part])
        return features, self.frame_index[rows]

    def _fill(self, out: np.ndarray, rows: np.ndarray) -> None:
        """Read the features of ``rows`` int64 [B, T] into ``out``, float16 [B, T, D]."""
        if isinstance(self.features, np.ndarray):
            self.features.take(rows, axis=0, out=out, mode="clip")
            return
        self.features.take(rows, out)
        wrong = checksums(out) != self.checks[rows]
        if wrong.any():
            path = self.features.paths[self.features.shard(rows[wrong])[0]]
            raise UserError(f"{path}: damaged (features differ from their checksums); {AGAIN}")


def _joined(shards: Sequence[Shard]) -> np.ndarray:
    """The features of shards in memory, float16 [R, D]; those of one shard are not copied."""
    parts = [shard.features.reshape(-1, shard.features.shape[-1]) for shard in shards]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def load_features(manifest: Path, tokens: bool = False) -> FeatureCache:
    """Open a whole cache by its ``manifest.json``; features are read, and compared with their checksums, when used.

    With ``tokens``, the cache of the tokens of the same frames: a row is what the encoder's first blocks make of one.

    Raises:
        UserError: a shard is missing, truncated, damaged, or of another cache.
    """
    whole = storage.read_sealed(manifest)
    about = whole.get("tokens") if tokens else whole
    if about is None:
        raise UserError(
            f"{manifest}: has no tokens of frames, which model.adapt needs; set features.keep to a block of the "
            "encoder, and run the features stage again"
        )
    folder = manifest.parent / about["folder"]
    shards = [open_shard(folder / shard["file"], about["cache"], shard["rows"]) for shard in about["shards"]]
    return FeatureCache.of(shards, about["fingerprint"], whole["encoder"])
