"""Files appear whole or not at all; tables are what their schema says."""

import json
import os
import stat
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tgdfer.core import storage
from tgdfer.core.errors import UserError

FOLDS = {"clip_id": ["a", "b"], "fold": [1, 1], "split": ["train", "test"]}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    storage.write_text(path, "old")

    def write() -> None:
        with storage.atomic(path) as part:
            part.write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        write()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o022, 0o644)])
def test_permissions_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    earlier = os.umask(umask)
    try:
        storage.write_text(tmp_path / "folder" / "file.txt", "text")
    finally:
        os.umask(earlier)
    assert stat.S_IMODE((tmp_path / "folder" / "file.txt").stat().st_mode) == mode


def test_a_table_comes_back_with_what_made_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folds.parquet"
    storage.write_table(path, "folds", FOLDS, {"stage": "clips", "parameters": {"x": 1}})
    assert storage.read_table(path, "folds").to_pydict() == FOLDS
    assert storage.made_by(path) == {"stage": "clips", "parameters": {"x": 1}}


def test_what_made_a_table_is_found_when_it_was_noted_with_the_last_row(tmp_path: Path) -> None:
    path = tmp_path / "folds.parquet"
    with pq.ParquetWriter(path, storage.SCHEMAS["folds"]) as writer:
        writer.write_table(pa.table(FOLDS, schema=storage.SCHEMAS["folds"]))
        writer.add_key_value_metadata({storage.MADE_BY: '{"stage": "late"}'})
    assert storage.made_by(path) == {"stage": "late"}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pa.table({"clip_id": ["a"], "fold": pa.array([1], pa.int32())}), "needs a column 'split'"),
        (pa.table({"clip_id": ["a"], "fold": [1], "split": ["test"]}), "column 'fold' is int64, .* needs int32"),
        (
            pa.table({"clip_id": ["a"], "fold": pa.array([1], pa.int32()), "split": ["test"], "more": [1]}),
            "unexpected column 'more'",
        ),
    ],
)
def test_a_table_of_another_shape_is_refused(tmp_path: Path, table: pa.Table, said: str) -> None:
    path = tmp_path / "folds.parquet"
    with storage.atomic(path, sealed=True) as part:
        pq.write_table(table.replace_schema_metadata(storage.metadata({})), part)
    with pytest.raises(UserError, match=said):
        storage.read_table(path, "folds")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"PAR1 but not really")
    with pytest.raises(UserError, match="bad: not the file that its stage wrote"):
        storage.read_table(tmp_path / "bad", "folds")
    with pytest.raises(UserError, match="bad: not valid JSON"):
        storage.read_json(tmp_path / "bad")
    for read in (lambda path: storage.read_table(path, "folds"), storage.read_json, storage.file_fingerprint):
        with pytest.raises(UserError, match="none: no such file"):
            read(tmp_path / "none")


@given(json_values)
def test_fingerprints_survive_a_round_trip_through_json(value: object) -> None:
    assert storage.fingerprint(value) == storage.fingerprint(json.loads(json.dumps(value)))


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        storage.write_json(tmp_path / "x.json", {"uar": float("nan")})
    assert not list(tmp_path.iterdir())
