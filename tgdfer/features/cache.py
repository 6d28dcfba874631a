"""The feature cache on disk: Parquet shards of float16 vectors, in the layout that reads fastest.

A row is a frame under a view: clip_id, frame_index, view, feature. Rows are sorted by view, clip and frame.
Features are uncompressed fixed-size binary without a dictionary: reading them is copying them. Pages carry checksums.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from tgdfer.core import storage
from tgdfer.core.errors import UserError

ROW_GROUP_BYTES = 8 << 20
"""Of features in a row group: what loading holds in memory besides its result."""


@dataclass(frozen=True)
class FeatureCache:
    """Every feature of a data set in memory. Rows of clip i: ``offsets[i]:offsets[i + 1]``, frames ascending."""

    clip_ids: list[str]
    """Ascending, n of them."""
    offsets: torch.Tensor
    """int64 [n + 1]."""
    frame_index: torch.Tensor
    """int32 [R]: the frame's number in its source."""
    features: torch.Tensor
    """float16 [V, R, D], L2-normalised before rounding; view 0 is the plain one."""
    dim: int
    fingerprint: str
    encoder: str


def write_shard(
    path: Path, clip_ids: Sequence[str], frame_index: np.ndarray, features: np.ndarray, made_by: Mapping[str, Any]
) -> None:
    """Write one shard atomically.

    Args:
        path: the file.
        clip_ids: of each row, ascending, R of them.
        frame_index: int32 [R], ascending within a clip.
        features: float16 [V, R, D].
        made_by: what made it; ``cache`` names the cache that it belongs to.
    """
    views, rows, dim = features.shape
    schema = pa.schema(
        [
            pa.field("clip_id", pa.string(), nullable=False),
            pa.field("frame_index", pa.int32(), nullable=False),
            pa.field("view", pa.int8(), nullable=False),
            pa.field("feature", pa.binary(2 * dim), nullable=False),
        ],
        metadata={
            storage.MADE_BY: json.dumps({**made_by, "dim": dim, "dtype": "float16", "views": views}, sort_keys=True)
        },
    )
    clips, frames = pa.array(clip_ids, pa.string()), pa.array(frame_index, pa.int32())
    group = max(1, ROW_GROUP_BYTES // (2 * dim))
    with (
        storage.atomic(path) as part,
        pq.ParquetWriter(
            part, schema, compression="none", use_dictionary=["clip_id", "view"], write_page_checksum=True
        ) as writer,
    ):
        for view in range(views if rows else 0):
            vectors = pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(2 * dim), rows, [None, pa.py_buffer(np.ascontiguousarray(features[view]))]
            )
            number = pa.array(np.full(rows, view, np.int8))
            # a row group holds one view alone
            writer.write_table(pa.Table.from_arrays([clips, frames, number, vectors], schema=schema), group)


def open_shard(path: Path, cache: str, rows: int | None = None) -> tuple[pq.ParquetFile, dict[str, Any]]:
    """A shard and what made it, once its footer shows that it is whole and belongs to ``cache``.

    Raises:
        UserError: the file is missing, cut off, or of another cache.
    """
    again = "run the features stage again, which remakes this shard and keeps the others"
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {again}") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: truncated or damaged ({' '.join(str(error).split())}); {again}") from None
    made_by = json.loads((file.schema_arrow.metadata or {}).get(storage.MADE_BY, b"{}"))
    if made_by.get("cache") != cache:
        raise UserError(
            f"{path}: belongs to the feature cache {str(made_by.get('cache'))[:16]}, not to {cache[:16]}; {again}"
        )
    if rows is not None and file.metadata.num_rows != rows:
        raise UserError(f"{path}: has {file.metadata.num_rows} rows, its manifest says {rows}; {again}")
    return file, made_by


def load_features(manifest: Path) -> FeatureCache:
    """Load a whole cache into memory; besides the result, one row group at a time is held.

    Args:
        manifest: the features stage's ``manifest.json``.

    Raises:
        UserError: a shard is missing, cut off, damaged, or of another cache.
    """
    about = storage.read_json(manifest)
    dim, views = int(about["dim"]), len(about["views"])
    folder = manifest.parent / about["folder"]
    files = [open_shard(folder / shard["file"], about["cache"], shard["rows"])[0] for shard in about["shards"]]

    names: list[np.ndarray] = []
    counts: list[np.ndarray] = []
    frames: list[np.ndarray] = []
    for shard, file in zip(about["shards"], files, strict=True):
        ids, lengths, index = _read_rows(folder / shard["file"], file, views)
        names.append(ids)
        counts.append(lengths)
        frames.append(index)
    all_names = np.concatenate([np.array([], dtype=object), *names])
    all_counts = np.concatenate([np.array([], dtype=np.int64), *counts])
    order = np.argsort(all_names.astype(str), kind="stable")
    clip_ids = [str(name) for name in all_names[order]]
    twice = next((one for one, other in pairwise(clip_ids) if one == other), None)
    if twice is not None:
        raise UserError(f"{folder}: clip '{twice}' stands in two shards; remove the folder and run the stage again")
    offsets = np.concatenate([[0], np.cumsum(all_counts[order])]).astype(np.int64)

    rows = int(offsets[-1])
    starts = np.empty(len(all_names), np.int64)
    starts[order] = offsets[:-1]
    features = torch.empty(views, rows, dim, dtype=torch.float16)
    frame_index = torch.empty(rows, dtype=torch.int32)
    first = 0
    for shard, file, lengths, index in zip(about["shards"], files, counts, frames, strict=True):
        target = _target_rows(starts[first : first + len(lengths)], lengths)
        first += len(lengths)
        frame_index.numpy()[target] = index
        _copy_features(folder / shard["file"], file, features.numpy(), target)
    return FeatureCache(
        clip_ids, torch.from_numpy(offsets), frame_index, features, dim, about["fingerprint"], about["encoder"]
    )


def _read_rows(path: Path, file: pq.ParquetFile, views: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The clips of a shard, their numbers of rows in one view, and the frame numbers of those rows."""
    rows = file.metadata.num_rows // views
    groups: list[int] = []
    seen = 0
    while seen < rows:
        seen += file.metadata.row_group(len(groups)).num_rows
        groups.append(len(groups))
    if not groups:
        return np.array([], dtype=object), np.array([], np.int64), np.array([], np.int32)
    table = _read(path, file, groups, ["clip_id", "frame_index"])
    ids = table["clip_id"].to_numpy()
    change = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
    lengths = np.diff(np.concatenate([change, [len(ids)]])).astype(np.int64)
    return ids[change], lengths, table["frame_index"].to_numpy()


def _target_rows(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Rows of the result for a shard's rows: clip i goes to ``starts[i]`` and the ``lengths[i] - 1`` rows after it."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))


def _copy_features(path: Path, file: pq.ParquetFile, out: np.ndarray, target: np.ndarray) -> None:
    dim = out.shape[-1]
    done = 0
    for group in range(file.metadata.num_row_groups):
        column = _read(path, file, [group], ["feature"])["feature"]
        for chunk in column.chunks:
            vectors = np.frombuffer(chunk.buffers()[1], np.float16).reshape(-1, dim)
            vectors = vectors[chunk.offset : chunk.offset + len(chunk)]
            view, row = divmod(done, len(target))
            out[view, target[row : row + len(chunk)]] = vectors
            done += len(chunk)


def _read(path: Path, file: pq.ParquetFile, groups: list[int], columns: list[str] | None = None) -> pa.Table:
    try:
        return file.read_row_groups(groups, columns=columns, use_threads=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"{path}: damaged ({' '.join(str(error).split())}); "
            "run the features stage again, which remakes this shard and keeps the others"
        ) from None


def is_whole(path: Path, cache: str, source: str) -> bool:
    """Whether a shard is there, belongs to ``cache``, was made of frame shard ``source`` and passes its checksums."""
    try:
        file, made_by = open_shard(path, cache)
        if made_by.get("source") != source:
            return False
        for group in range(file.metadata.num_row_groups):
            _read(path, file, [group])
    except UserError:
        return False
    return True
