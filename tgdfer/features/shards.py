"""A shard of the feature cache on disk: an Arrow file of float16 vectors.

A shard is an uncompressed table, whose bytes in the file are those in memory. A row is a frame under a view: clip_id,
frame_index, view, feature, and check, a checksum of the feature that is compared whenever the feature is read. Rows are
sorted by view, clip and frame; every view has the same clips and frames. The metadata says what made the shard and
holds a checksum of all columns but the features, which is compared when the shard is opened.
"""

from __future__ import annotations

import functools
import hashlib
import json
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tgdfer.core import storage
from tgdfer.core.checksums import intact
from tgdfer.core.errors import UserError

AGAIN = "run the features stage again, which remakes this shard and keeps the others"
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
    checks: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))
    """uint64 [V, R]: ``checksums`` of the features; empty where these are in memory."""
    start: int | None = None
    """The first byte of the features in the file at ``path``."""


def checksums(features: np.ndarray) -> np.ndarray:
    """A checksum, uint64 [...], of each vector of ``features`` float16 [..., D]: no change of a single bit keeps it.

    It is the sum of the vector's words, each times its own odd number, modulo 2^64: as fast as memory.
    """
    words: np.ndarray = features.view(np.uint64 if features.shape[-1] % 4 == 0 else np.uint16)
    return np.asarray(np.einsum("...d,d->...", words, _weights(words.shape[-1])))


@functools.cache
def _weights(count: int) -> np.ndarray:
    """The weights of the words of a vector, uint64 [count]."""
    return np.full(count, FACTOR, np.uint64).cumprod(dtype=np.uint64)


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


def is_whole(path: Path, cache: str, source: str) -> bool:
    """Whether a shard exists, is what was written, belongs to ``cache`` and was made of frame shard ``source``."""
    if not path.exists() or not intact(path):
        return False
    try:
        return bool(open_shard(path, cache).made_by["source"] == source)
    except UserError:
        return False
