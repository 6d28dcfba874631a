"""The feature cache on disk: Parquet shards of float16 vectors, in the layout that reads fastest.

A row is a frame under a view: clip_id, frame_index, view, feature. Rows are sorted by view, clip and frame.
Features are uncompressed fixed-size binary without a dictionary: reading them is copying them. Pages carry checksums.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from tgdfer.core import storage
from tgdfer.core.errors import UserError

ROW_GROUP_BYTES = 8 << 20
"""Of features in a row group: what loading holds in memory besides its result."""
AGAIN = "run the features stage again, which remakes this shard and keeps the others"


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
            # each view begins a row group
            writer.write_table(pa.Table.from_arrays([clips, frames, number, vectors], schema=schema), group)


def open_shard(path: Path, cache: str, rows: int | None = None) -> tuple[pq.ParquetFile, dict[str, Any]]:
    """A shard and what made it, once its footer shows that it is whole and belongs to ``cache``.

    Raises:
        UserError: the file is missing, truncated, or of another cache.
    """
    with _named(path):
        file = pq.ParquetFile(path, page_checksum_verification=True)
    made_by = json.loads((file.schema_arrow.metadata or {}).get(storage.MADE_BY, b"{}"))
    if made_by.get("cache") != cache:
        raise UserError(
            f"{path}: belongs to the feature cache {str(made_by.get('cache'))[:16]}, not to {cache[:16]}; {AGAIN}"
        )
    if rows is not None and file.metadata.num_rows != rows:
        raise UserError(f"{path}: has {file.metadata.num_rows} rows, its manifest says {rows}; {AGAIN}")
    return file, made_by


def load_features(manifest: Path) -> FeatureCache:
    """Load a whole cache into memory; besides the result, one row group at a time is held.

    Args:
        manifest: the features stage's ``manifest.json``.

    Raises:
        UserError: a shard is missing, truncated, damaged, or of another cache.
    """
    about = storage.read_json(manifest)
    dim, views = int(about["dim"]), len(about["views"])
    folder = manifest.parent / about["folder"]
    files = {
        folder / shard["file"]: open_shard(folder / shard["file"], about["cache"], shard["rows"])[0]
        for shard in about["shards"]
    }

    # every view has the same rows in the same order
    plain = [
        _read(path, file, range(file.metadata.num_row_groups // views), ["clip_id", "frame_index"])
        for path, file in files.items()
    ]
    clips = [pc.run_end_encode(rows["clip_id"].combine_chunks()) for rows in plain]
    names = np.concatenate([runs.values.to_numpy(zero_copy_only=False).astype(str) for runs in clips])
    lengths = np.concatenate([np.diff(runs.run_ends.to_numpy(), prepend=0) for runs in clips]).astype(np.int64)
    order = np.argsort(names, kind="stable")
    clip_ids = names[order].tolist()
    if len(set(clip_ids)) < len(clip_ids):
        twice = next(name for name in clip_ids if clip_ids.count(name) > 1)
        raise UserError(
            f"{folder}: clip '{twice}' is in two shards; remove the folder and run the features stage again"
        )

    offsets = np.concatenate([[0], np.cumsum(lengths[order])])
    starts = np.empty(len(names), np.int64)
    starts[order] = offsets[:-1]
    # the row of the result for each row of the shards
    target = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths) + np.arange(offsets[-1])
    frame_index = torch.empty(len(target), dtype=torch.int32)
    frame_index.numpy()[target] = pa.concat_tables(plain)["frame_index"].to_numpy()
    features = torch.empty(views, len(target), dim, dtype=torch.float16)
    done = 0
    for path, file in files.items():
        rows = file.metadata.num_rows // views
        _copy_features(path, file, features.numpy(), target[done : done + rows])
        done += rows
    return FeatureCache(
        clip_ids, torch.from_numpy(offsets), frame_index, features, dim, about["fingerprint"], about["encoder"]
    )


def _copy_features(path: Path, file: pq.ParquetFile, out: np.ndarray, target: np.ndarray) -> None:
    """Copy the features of a shard to the rows ``target`` of ``out`` [V, R, D], view after view."""
    done = 0
    for group in range(file.metadata.num_row_groups):
        for chunk in _read(path, file, [group], ["feature"])["feature"].chunks:
            vectors = np.frombuffer(chunk.buffers()[1], np.float16).reshape(-1, out.shape[-1])
            view, row = divmod(done, len(target))
            out[view, target[row : row + len(chunk)]] = vectors[chunk.offset : chunk.offset + len(chunk)]
            done += len(chunk)


def _read(path: Path, file: pq.ParquetFile, groups: Sequence[int], columns: list[str] | None = None) -> pa.Table:
    with _named(path):
        return file.read_row_groups(list(groups), columns=columns, use_threads=False)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn errors of reading ``path`` into a UserError that names it."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {AGAIN}") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: truncated or damaged ({' '.join(str(error).split())}); {AGAIN}") from None


def is_whole(path: Path, cache: str, source: str) -> bool:
    """Whether a shard exists, belongs to ``cache``, was made of frame shard ``source`` and passes its checksums."""
    try:
        file, made_by = open_shard(path, cache)
        for group in range(file.metadata.num_row_groups):
            _read(path, file, [group])
    except UserError:
        return False
    return bool(made_by.get("source") == source)
