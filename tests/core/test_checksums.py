"""No change of a sealed or listed file goes unseen."""

import os
from pathlib import Path

import pytest

from tgdfer.core import checksums, storage
from tgdfer.core.errors import UserError

FOLDS = {"clip_id": ["a"], "fold": [1], "split": ["train"]}


def write_table(path: Path) -> None:
    storage.write_table(path, "folds", FOLDS, {"stage": "clips"})


def write_object(path: Path) -> None:
    storage.write_sealed(path, {"b": [1, 2], "a": "é"})


@pytest.mark.parametrize("write", [write_table, write_object])
def test_every_flipped_bit_and_every_cut_is_seen(tmp_path: Path, write) -> None:
    path = tmp_path / "file"
    write(path)
    assert checksums.intact(path)
    whole, times = path.read_bytes(), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    damaged = [whole[:size] for size in range(len(whole))]
    damaged += [whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :] for at in range(len(whole))]
    for content in damaged:
        path.write_bytes(content)
        os.utime(path, ns=times)
        checksums.forget()
        assert not checksums.intact(path)


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    for write in (write_table, write_object):
        write(tmp_path / "one")
        write(tmp_path / "two")
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert storage.read_sealed(tmp_path / "one") == {"b": [1, 2], "a": "é"}


def test_a_file_is_hashed_once_and_again_when_it_was_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    storage.write_text(path, "one")
    first = checksums.file_fingerprint(path)
    monkeypatch.setattr(checksums.hashlib, "file_digest", lambda *_: pytest.fail("hashed twice"))
    assert checksums.file_fingerprint(path) == first
    monkeypatch.undo()
    storage.write_text(path, "two")
    assert checksums.file_fingerprint(path) != first


def test_a_damaged_file_is_named_with_the_command_that_makes_it(new_folder: Path) -> None:
    path = Path("data/mine/folds.parquet")
    write_table(path)
    path.write_bytes(path.read_bytes().replace(b"train", b"trbin"))
    with pytest.raises(UserError, match=f"{path}: not the file that its stage wrote; run: tgdfer clips --dataset mine"):
        storage.read_table(path, "folds")


@pytest.mark.parametrize("content", [b"[]", b"", b"{}", b'{"checksum": 1}', b"[" * 100_000])
def test_what_is_not_sealed_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UserError, match="not the file that its stage wrote"):
        storage.read_sealed(tmp_path / "file")


def test_sums_are_those_of_sha256sum(tmp_path: Path) -> None:
    storage.write_text(tmp_path / "a b.txt", "x")
    listed = {"a b.txt": checksums.file_fingerprint(tmp_path / "a b.txt")}
    storage.write_text(tmp_path / checksums.SUMS, checksums.sums(listed))
    assert checksums.read_sums(tmp_path) == listed
    assert os.system(f"cd {tmp_path} && sha256sum --check --quiet {checksums.SUMS}") == 0
    storage.write_text(tmp_path / checksums.SUMS, "not a list\n")
    with pytest.raises(UserError, match="SHA256SUMS, line 1: expected 64 hexadecimal digits"):
        checksums.read_sums(tmp_path)
