"""Features that were made elsewhere: a .npy, .npz or Parquet file for each clip.

An array is [F, D]: F frames in their order, D dimensions. A .npz file holds one array, or one called ``features``; a
Parquet file has a column ``feature`` with a list of D numbers for each frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tgdfer.core import storage
from tgdfer.core.errors import UserError
from tgdfer.features.shards import write_shard

NAME = "features"
"""The array of a .npz file that has several."""
COLUMN = "feature"
"""The column of a Parquet file."""


def read_file(path: Path, dim: int | None = None) -> np.ndarray:
    """The features of a clip, float32 [F, D], L2-normalised.

    Raises:
        UserError: the file cannot be read, or is not ``dim`` finite numbers (None: any number of them) per frame.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: not a file of features; expected {', '.join(READERS)}")
    try:
        found = np.asarray(reader(path))
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # damaged files make readers fail in many ways
        reason = " ".join(f"{error}".split())[:150]
        raise UserError(f"{path}: cannot be read as {path.suffix.lower()} ({reason}); write it again") from None
    if found.dtype.kind != "f":
        raise UserError(f"{path}: holds {found.dtype}, expected floating point numbers")
    if found.ndim != 2:
        raise UserError(f"{path}: has the shape {list(found.shape)}, expected [frames, dimensions]")
    if not found.size:
        raise UserError(f"{path}: has no frames: its shape is {list(found.shape)}")
    if dim is not None and found.shape[1] != dim:
        raise UserError(f"{path}: has {found.shape[1]} dimensions, expected {dim}: its shape is {list(found.shape)}")
    # in float64, in which the square of no float32 overflows
    length = np.linalg.norm(found.astype(np.float64), axis=1, keepdims=True)
    for fault, rows in (("is not finite", ~np.isfinite(length)), ("is all zeros", length == 0)):
        if rows.any():
            raise UserError(f"{path}: the feature of frame {int(rows.argmax())} {fault}; make the file again")
    return np.asarray(found / length, np.float32)


def _npy(path: Path) -> Any:
    return np.load(path, allow_pickle=False)


def _npz(path: Path) -> Any:
    with np.load(path, allow_pickle=False) as arrays:
        if NAME not in arrays and len(arrays.files) != 1:
            names = ", ".join(arrays.files) or "none"
            raise UserError(f"{path}: has the arrays {names}; expected one, or one called '{NAME}'")
        return arrays[NAME if NAME in arrays else arrays.files[0]]


def _parquet(path: Path) -> Any:
    schema = pq.read_schema(path)
    if COLUMN not in schema.names:
        raise UserError(f"{path}: has the columns {', '.join(schema.names)}; expected one called '{COLUMN}'")
    rows = pq.read_table(path, columns=[COLUMN])[COLUMN].combine_chunks()
    if not (pa.types.is_list(rows.type) or pa.types.is_fixed_size_list(rows.type) or pa.types.is_large_list(rows.type)):
        raise UserError(f"{path}: column '{COLUMN}' is {rows.type}, expected a list of numbers for each frame")
    lengths = rows.value_lengths().unique().to_pylist()
    if len(lengths) > 1:
        raise UserError(f"{path}: its frames have different numbers of dimensions: {sorted(map(str, lengths))[:3]}")
    values = rows.flatten()
    if values.null_count:
        raise UserError(f"{path}: column '{COLUMN}' has empty cells, expected numbers")
    return values.to_numpy(zero_copy_only=False).reshape(len(rows), -1) if len(rows) else np.zeros((0, 0))


READERS: dict[str, Callable[[Path], Any]] = {".npy": _npy, ".npz": _npz, ".parquet": _parquet}
"""How to read a file, by its suffix."""


def check_files(root: Path, sources: Sequence[str], dim: int | None) -> tuple[list[int], list[str]]:
    """The number of frames of each file below ``root``, 0 for a broken one, and what is wrong with the broken ones.

    Without ``dim``, all files must have as many dimensions as the first that can be read.
    """
    frames, faults = [], []
    for source in sources:
        try:
            found = read_file(root / source, dim)
        except UserError as error:
            frames.append(0)
            faults.append(str(error))
            continue
        frames.append(len(found))
        dim = found.shape[1]
    return frames, faults


def write_listed(listing: Path, root: Path, dim: int, target: Path, header: dict[str, Any], sha256: str) -> None:
    """Write the features of the clips of a ``listing``, a table of feature files, as the shard ``target``.

    Raises:
        UserError: a file is broken, or is not the one that was listed.
    """
    clip_ids: list[str] = []
    features, numbers = [np.zeros((0, dim), np.float32)], [np.zeros(0, np.int32)]
    for row in storage.read_table(listing, "feature_files").to_pylist():
        path = root / row["source"]
        found = read_file(path, dim)
        if storage.file_fingerprint(path) != row["sha256"]:
            raise UserError(f"{path}: has changed since the frames stage listed it; {storage.remedy(listing)}")
        clip_ids += [row["clip_id"]] * len(found)
        features.append(found)
        numbers.append(np.arange(len(found), dtype=np.int32))
    block = np.concatenate(features).astype(np.float16)[None]
    write_shard(target, clip_ids, np.concatenate(numbers), block, {**header, "source": sha256})
