"""The feature cache on disk: Arrow files of float16 vectors, of which only the rows that are asked for are read.

A shard is an uncompressed table, whose bytes in the file are those in memory. A row is a frame under a view: clip_id,
frame_index, view, feature, and check, a checksum of the feature that is compared whenever the feature is read. Rows are
sorted by view, clip and frame; every view has the same clips and frames. The metadata says what made the shard and
holds a checksum of all columns but the features, which is compared when the shard is opened.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tgdfer.core import storage
from tgdfer.core.checksums import intact
from tgdfer.core.errors import UserError

AGAIN = "run the features stage again, which remakes this shard and keeps the others"
BETWEEN = 16_384
"""Bytes between two rows up to which they are read together: it takes less time than a second call."""
CLIPS_AT_ONCE = 64
"""Clips whose features are read before they are put in their places: few enough for the processor's cache."""
FACTOR = 0x9E3779B97F4A7C15
"""An odd number; its powers are the weights of ``checksums``."""


@dataclass(frozen=True)
class Shard:
    """The clips of one shard; of a file, its arrays are mapped: pages are read when they are used."""

    clip_ids: pa.StringArray
    """Ascending, n of them."""
    offsets: np.ndarray
    """int64 [n + 1]: rows of clip i are ``offsets[i]:offsets[i + 1]``, frames ascending."""
    frame_index: np.ndarray
    """int32 [R]: the frame's number in its source."""
    features: np.ndarray
    """float16 [V, R, D], L2-normalised before rounding; view 0 is the plain one."""
    path: Path = Path("memory")
    made_by: Mapping[str, Any] = field(default_factory=dict)
    checks: np.ndarray | None = None
    """uint64 [V, R]: ``checksums`` of the features."""
    start: int | None = None
    """The first byte of the features in the file at ``path``."""


class FeatureFile:
    """The features of a shard in its file, open as long as this object is there.

    They are read, not copied from a map: to map a page takes longer than to read it, and it stays in memory.
    """

    def __init__(self, path: Path, start: int) -> None:
        self.path, self.start = path, start
        self.file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.file)

    def read(self, first: int, out: np.ndarray) -> None:
        """Fill ``out``, float16 [n, D], with the rows from ``first`` on, counted through all views."""
        os.preadv(self.file, [out.data], self.start + first * out[0].nbytes)


@dataclass(frozen=True)
class FeatureCache:
    """Every feature of a data set. Rows are counted through all shards, in their order."""

    clip_ids: pa.StringArray
    """Ascending, n of them."""
    starts: np.ndarray
    """int64 [n]: the first row of each clip."""
    lengths: np.ndarray
    """int64 [n]: frames of each clip."""
    frame_index: np.ndarray
    """int32: of each row, the frame's number in its source."""
    checks: np.ndarray | None
    """uint64 [V, rows]: ``checksums`` of the features."""
    shards: Sequence[FeatureFile | np.ndarray]
    """The features of each shard, float16 [V R, D]."""
    firsts: np.ndarray
    """int64: the first row of each shard, and the number of all rows."""
    views: int
    """V, the plain view included."""
    dim: int
    fingerprint: str
    encoder: str

    @classmethod
    def of(cls, shards: Sequence[Shard], fingerprint: str, encoder: str) -> Self:
        """The cache of at least one shard."""
        firsts = np.cumsum([0, *(len(shard.frame_index) for shard in shards)], dtype=np.int64)
        names = pa.concat_arrays([shard.clip_ids for shard in shards])
        starts = np.concatenate([shard.offsets[:-1] + first for shard, first in zip(shards, firsts, strict=False)])
        lengths = np.concatenate([np.diff(shard.offsets) for shard in shards])
        order = pc.array_sort_indices(names).to_numpy()
        clip_ids = names.take(order)
        twice = clip_ids[1:].filter(pc.equal(clip_ids[1:], clip_ids[:-1]))
        if len(twice):
            raise UserError(
                f"{shards[0].path.parent}: clip '{twice[0]}' is in two shards; remove the folder and run the features "
                "stage again"
            )
        frame_index = np.concatenate([shard.frame_index for shard in shards])
        checks = [shard.checks for shard in shards if shard.checks is not None]
        joined = np.concatenate(checks, axis=1) if checks else None
        views, _, dim = shards[0].features.shape
        rows = [
            shard.features.reshape(-1, dim) if shard.start is None else FeatureFile(shard.path, shard.start)
            for shard in shards
        ]
        place = starts[order], lengths[order], frame_index, joined
        return cls(clip_ids, *place, rows, firsts, views, dim, fingerprint, encoder)

    def clip(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The features float16 [F, D] of all frames of a clip, under the plain view, and their numbers int32 [F]."""
        rows = self.starts[number] + np.arange(self.lengths[number])
        features, frame_index = self.read(np.zeros((1, 1), np.int64), rows[None])
        return features[0], frame_index[0]

    def read(self, view: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A copy of features, and the numbers of their frames.

        Args:
            view: int64 [B, 1], the view of each clip.
            rows: int64 [B, T], ascending in a clip.

        Returns:
            float16 [B, T, D] and int32 [B, T].

        Raises:
            UserError: a feature is not what was written.
        """
        features = np.empty((*rows.shape, self.dim), np.float16)
        view = np.broadcast_to(view, rows.shape)
        for begin in range(0, len(rows), CLIPS_AT_ONCE):
            part = slice(begin, begin + CLIPS_AT_ONCE)
            self._fill(features[part].reshape(-1, self.dim), view[part].ravel(), rows[part].ravel())
        return features, self.frame_index[rows]

    def _fill(self, out: np.ndarray, views: np.ndarray, rows: np.ndarray) -> None:
        """Read the features float16 [n, D] of ``rows`` under ``views``, int64 [n] each, into ``out``."""
        shards = np.searchsorted(self.firsts, rows, side="right") - 1
        begin = self.firsts[shards]
        inside = views * (self.firsts[shards + 1] - begin) + rows - begin
        # rows next to each other are read at once, with what is between them if that is little
        step = np.diff(inside)
        apart = (np.diff(shards) != 0) | (step < 0) | (step > max(1, BETWEEN // out[0].nbytes))
        edges = np.flatnonzero(np.concatenate([[True], apart, [True]]))
        first, lengths = inside[edges[:-1]], inside[edges[1:] - 1] - inside[edges[:-1]] + 1
        places = np.cumsum(lengths) - lengths
        wanted = np.repeat(places - first, np.diff(edges)) + inside
        direct = np.array_equal(wanted, np.arange(len(out)))
        found = out if direct else np.empty((lengths.sum(), self.dim), np.float16)
        runs = zip(shards[edges[:-1]].tolist(), first.tolist(), places.tolist(), lengths.tolist(), strict=True)
        for shard, row, place, length in runs:
            source, target = self.shards[shard], found[place : place + length]
            if isinstance(source, FeatureFile):
                source.read(row, target)
            else:
                target[:] = source[row : row + length]
        if not direct:
            found.take(wanted, axis=0, out=out, mode="clip")  # other modes would copy once more
        if self.checks is not None:
            wrong = np.flatnonzero(checksums(out) != self.checks[views, rows])
            if len(wrong) and isinstance(source := self.shards[shards[wrong[0]]], FeatureFile):
                raise UserError(f"{source.path}: damaged (features differ from their checksums); {AGAIN}")


def checksums(features: np.ndarray) -> np.ndarray:
    """A checksum, uint64 [...], of each vector of ``features`` float16 [..., D]: no change of a single bit keeps it.

    It is the sum of the vector's words, each times its own odd number, modulo 2^64: as fast as memory.
    """
    words: np.ndarray = features.view(np.uint64 if features.shape[-1] % 4 == 0 else np.uint16)
    weights = np.full(words.shape[-1], FACTOR, np.uint64).cumprod(dtype=np.uint64)
    return np.asarray(np.einsum("...d,d->...", words, weights))


def write_shard(
    path: Path, clip_ids: Sequence[str], frame_index: np.ndarray, features: np.ndarray, made_by: Mapping[str, Any]
) -> None:
    """Write one shard atomically.

    Args:
        path: the file.
        clip_ids: of each row, ascending, R of them.
        frame_index: int32 [R], ascending within a clip.
        features: float16 [V, R, D].
        made_by: what made it; ``cache`` names the cache that it belongs to, ``source`` the frame shard.
    """
    views, rows, dim = features.shape
    vectors = np.ascontiguousarray(features).reshape(views * rows, dim)
    clips = pa.array(clip_ids, pa.string()).dictionary_encode()
    columns = {
        "clip_id": pa.DictionaryArray.from_arrays(np.tile(clips.indices.to_numpy(), views), clips.dictionary),
        "frame_index": pa.array(np.tile(frame_index, views), pa.int32()),
        "view": pa.array(np.repeat(np.arange(views, dtype=np.int8), rows)),
        "check": pa.array(checksums(vectors)),
        "feature": pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(2 * dim), views * rows, [None, pa.py_buffer(vectors)]
        ),
    }
    about = {**made_by, "dim": dim, "dtype": "float16", "views": views, "index": _index_checksum(columns)}
    table = pa.record_batch(columns, metadata=storage.metadata(about))
    with storage.atomic(path, sealed=True) as part, pa.ipc.new_file(part, table.schema) as writer:
        writer.write_batch(table)


def open_shard(path: Path, cache: str, rows: int | None = None) -> Shard:
    """A shard, its features mapped and not yet read, once it is clear that it is whole and belongs to ``cache``.

    Raises:
        UserError: the file is missing, truncated, damaged, of another cache, or has not ``rows`` rows.
    """
    try:
        with path.open("rb") as stream:
            pages = pa.py_buffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        file = pa.ipc.open_file(pages)
        made_by = json.loads(file.schema.metadata[storage.MADE_BY])
        if made_by["cache"] != cache:
            other = made_by["cache"][:16]
            raise UserError(f"{path}: belongs to the feature cache {other}, not to {cache[:16]}; {AGAIN}")
        if file.num_record_batches != 1:
            raise ValueError("expected one record batch")
        table = file.get_batch(0)
        table.validate(full=True)
        columns = {name: table[name] for name in table.schema.names}
        if _index_checksum(columns) != made_by["index"]:
            raise ValueError("its rows differ from their checksum")
        if rows is not None and len(table) != rows:
            raise UserError(f"{path}: has {len(table)} rows, its manifest says {rows}; {AGAIN}")
        views, dim = made_by["views"], made_by["dim"]
        clips, frames = columns["clip_id"], len(table) // views
        lengths = np.bincount(clips.indices.to_numpy()[:frames], minlength=len(clips.dictionary))
        vectors = columns["feature"].buffers()[1]
        features = np.ndarray((views, frames, dim), np.float16, vectors)
        start = vectors.address - pages.address if frames else None
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {AGAIN}") from None
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: truncated or damaged ({' '.join(str(error).split())}); {AGAIN}") from None
    return Shard(
        clips.dictionary,
        np.cumsum([0, *lengths], dtype=np.int64),
        columns["frame_index"].to_numpy()[:frames],
        features,
        path,
        made_by,
        columns["check"].to_numpy().reshape(views, frames),
        start,
    )


def _index_checksum(columns: Mapping[str, pa.Array]) -> str:
    """SHA-256 of all columns but the features."""
    digest = hashlib.sha256("\n".join(columns["clip_id"].dictionary.to_pylist()).encode())
    for values in (columns["clip_id"].indices, *(columns[name] for name in ("frame_index", "view", "check"))):
        digest.update(values.to_numpy().data)
    return digest.hexdigest()


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


def is_whole(path: Path, cache: str, source: str) -> bool:
    """Whether a shard exists, is what was written, belongs to ``cache`` and was made of frame shard ``source``."""
    if not path.exists() or not intact(path):
        return False
    try:
        return bool(open_shard(path, cache).made_by["source"] == source)
    except UserError:
        return False
