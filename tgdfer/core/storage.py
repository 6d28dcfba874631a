"""Files that appear whole or not at all, and the schemas of the tables that stages hand to each other.

Every table carries, under the metadata key ``tgdfer``, a JSON object that says what made it.
"""

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tgdfer.core import checksums, paths
from tgdfer.core.checksums import file_fingerprint as file_fingerprint
from tgdfer.core.errors import UserError

MADE_BY = b"tgdfer"

TEXT, WHOLE, REAL = pa.string(), pa.int32(), pa.float32()


def _schema(optional: tuple[str, ...] = (), **columns: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=name in optional) for name, kind in columns.items()])


SCHEMAS: dict[str, pa.Schema] = {
    "clips": _schema(
        ("n_frames", "subject"), clip_id=TEXT, source=TEXT, kind=TEXT, label=TEXT, n_frames=WHOLE, subject=TEXT
    ),
    "folds": _schema(clip_id=TEXT, fold=WHOLE, split=TEXT),
    "frames": _schema(
        clip_id=TEXT, frame_index=WHOLE, time_s=pa.float64(), jpeg=pa.binary(), width=WHOLE, height=WHOLE
    ),
    "sources": _schema(clip_id=TEXT, size=pa.int64(), mtime_ns=pa.int64()),
    "feature_files": _schema(clip_id=TEXT, source=TEXT, frames=WHOLE, sha256=TEXT),
    "rejects": _schema(clip_id=TEXT, stage=TEXT, reason=TEXT),
    "truth": _schema(clip_id=TEXT, frame_index=WHOLE, intensity=REAL),
    "predictions": _schema(
        clip_id=TEXT,
        fold=WHOLE,
        selection=TEXT,
        label=TEXT,
        probabilities=pa.list_(REAL),
        frame_index=pa.list_(WHOLE),
        relevance=pa.list_(REAL),
    ),
    "transfer": _schema(
        clip_id=TEXT, fold=WHOLE, label=TEXT, source_fold=WHOLE, seed=WHOLE, probabilities=pa.list_(REAL)
    ),
}
"""The tables by name. The feature cache has its own layout: see ``tgdfer.features.shards``."""


@contextmanager
def atomic(path: Path, sealed: bool = False) -> Iterator[Path]:
    """Yield a temporary path next to ``path``; rename it to ``path`` when the block ends well, remove it otherwise.

    ``sealed``: the block writes ``checksums.BLANK`` somewhere into the file, which becomes the file's checksum.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    part.touch(exist_ok=False)  # with the permissions that the user's umask asks for
    try:
        yield part
        if sealed:
            checksums.seal(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; the same value gives the same bytes. NaN is an error: absent numbers are null."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; a missing or broken file is a UserError that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the stage that makes it first") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # a number of too many digits, brackets too deep
        raise UserError(f"{path}: not valid JSON ({error}); remove it and run its stage again") from None


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, with the checksum of the file in it."""
    text = json.dumps(
        {**value, checksums.KEY: checksums.BLANK}, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False
    )
    with atomic(path, sealed=True) as part:
        part.write_text(text + "\n", encoding="utf-8")


def read_sealed(path: Path) -> dict[str, Any]:
    """Read what ``write_sealed`` wrote; a missing or damaged file is a UserError with the command that makes it."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; {remedy(path)}")
    if not checksums.intact(path):
        raise damaged(path)
    found: dict[str, Any] = read_json(path)
    del found[checksums.KEY]
    return found


def remedy(path: Path) -> str:
    """What to do about a file that is missing or damaged."""
    command = paths.command(path)
    return f"run: {command}" if command else "run the stage that makes it"


def damaged(path: Path) -> UserError:
    """The error about a file that is not what was written."""
    return UserError(f"{path}: not the file that its stage wrote; {remedy(path)}")


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty where the file is missing or broken, for callers to whom both mean "not done"."""
    try:
        found = read_json(path)
    except UserError:
        return {}
    return found if isinstance(found, dict) else {}


def append_line(path: Path, value: Any) -> None:
    """Add a JSON value as a line to ``path``."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")


def read_lines(path: Path) -> list[Any]:
    """The JSON values that ``append_line`` added; without the last line if a process is still writing it."""
    try:
        with path.open(encoding="utf-8") as stream:
            return [json.loads(line) for line in stream if line.endswith("\n")]
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise UserError(f"{path}: a line is not valid JSON ({error}); remove it and run its stage again") from None


def write_table(path: Path, kind: str, columns: Mapping[str, Any] | pa.Table, made_by: Mapping[str, Any]) -> None:
    """Write a table of schema ``kind`` atomically, with ``made_by`` in its metadata."""
    schema = SCHEMAS[kind].with_metadata(metadata(made_by))
    table = columns if isinstance(columns, pa.Table) else pa.table(dict(columns), schema=SCHEMAS[kind])
    with atomic(path, sealed=True) as part:
        pq.write_table(table.cast(schema), part)


def metadata(made_by: Mapping[str, Any]) -> dict[str | bytes, str]:
    """The metadata of a sealed table."""
    return {MADE_BY: json.dumps(made_by, sort_keys=True), checksums.KEY: checksums.BLANK}


def read_table(path: Path, kind: str) -> pa.Table:
    """Read a table and check that it is what was written, and its schema.

    Raises:
        UserError: the file is missing or damaged, or has other columns than ``kind`` asks for.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file; {remedy(path)}")
    if not checksums.intact(path):
        raise damaged(path)
    table = pq.read_table(path)
    check_schema(path, kind, table.schema)
    return table


def check_schema(path: Path, kind: str, schema: pa.Schema) -> None:
    """Raise a UserError that names the first column of ``path`` that is not as ``kind`` asks."""
    expected = SCHEMAS[kind]
    for field in expected:
        if field.name not in schema.names:
            raise UserError(f"{path}: a {kind} table needs a column '{field.name}'; it has {', '.join(schema.names)}")
        found = schema.field(field.name).type
        if found != field.type:
            raise UserError(f"{path}: column '{field.name}' is {found}, a {kind} table needs {field.type}")
    extra = [name for name in schema.names if name not in expected.names]
    if extra:
        raise UserError(f"{path}: unexpected column '{extra[0]}' in a {kind} table")


def made_by(path: Path) -> dict[str, Any]:
    """What made the table or manifest at ``path``, from its footer or its ``made_by``."""
    if path.suffix == ".json":
        return dict(read_sealed(path)["made_by"])
    # of the file and not of its schema: the writer adds what it only knows after the last row
    found: dict[str, Any] = json.loads((pq.read_metadata(path).metadata or {}).get(MADE_BY, b"{}"))
    return found


def fingerprint(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()
