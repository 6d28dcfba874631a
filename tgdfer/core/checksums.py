"""Checksums: whether a file is what its stage wrote.

A sealed file contains the SHA-256 of its own bytes, taken with zeros in place of the digits. Tables, manifests,
run.json and encoder.json are sealed; every other output is listed with its SHA-256 in one of them or in SHA256SUMS.
"""

import hashlib
import mmap
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tgdfer.core.errors import UserError

KEY = "checksum"
"""Under which a file's metadata has its seal."""
MARK = b"tgdfer-sha256:"
DIGITS = 64
BLANK = MARK.decode() + "0" * DIGITS
"""What a file contains until it is sealed."""
SUMS = "SHA256SUMS"
"""A list of the files next to it, as `sha256sum` writes and checks it."""


def file_fingerprint(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits; a process computes it once for each version of the file."""
    return _sha256(path, *_identity(path))


def intact(path: Path) -> bool | None:
    """Whether a sealed file is what was written; None for a file without a seal, or without a readable one."""
    return _sealed(path, *_identity(path))


def seal(path: Path) -> None:
    """Replace the ``BLANK`` that a file contains with its checksum."""
    with path.open("r+b") as stream, _mapped(stream.fileno()) as content:
        place = content.rfind(BLANK.encode()) + len(MARK)
        if place < len(MARK):
            raise ValueError(f"{path}: nothing in it to seal")
        digest = _digest(content, place)
        stream.seek(place)
        stream.write(digest.encode())


def forget() -> None:
    """Compute every checksum again."""
    _sha256.cache_clear()
    _sealed.cache_clear()


def entry(path: Path) -> dict[str, str | int]:
    """A file in a list of outputs: its name, size and SHA-256."""
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": file_fingerprint(path)}


def read_sums(folder: Path) -> dict[str, str]:
    """The checksums in the SHA256SUMS of ``folder``, by path below it; empty where there is no such file.

    Raises:
        UserError: a line is not of this format.
    """
    path = folder / SUMS
    found: dict[str, str] = {}
    if not path.is_file():
        return found
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        match = re.fullmatch(r"([0-9a-f]{64})(?:  | \*)(.+)", line)
        if not match:
            raise UserError(f"{path}, line {number}: expected 64 hexadecimal digits, two spaces and a path")
        found[match[2]] = match[1]
    return found


def sums(found: Mapping[str, str]) -> str:
    """The text of a SHA256SUMS file."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(found.items()))


def _identity(path: Path) -> tuple[int, int, int]:
    """What changes when a file is replaced."""
    try:
        found = path.stat()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the stage that makes it first") from None
    return found.st_ino, found.st_size, found.st_mtime_ns


@cache
def _sha256(path: Path, *identity: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@cache
def _sealed(path: Path, *identity: int) -> bool | None:
    with path.open("rb") as stream, _mapped(stream.fileno()) as content:
        place = content.rfind(MARK) + len(MARK)
        if place < len(MARK):
            return None
        return content[place : place + DIGITS] == _digest(content, place).encode()


@contextmanager
def _mapped(file: int) -> Iterator[mmap.mmap | bytes]:
    """The content of an open file; an empty one cannot be mapped."""
    if not os.fstat(file).st_size:
        yield b""
        return
    with mmap.mmap(file, 0, access=mmap.ACCESS_READ) as content:
        yield content


def _digest(content: mmap.mmap | bytes, place: int) -> str:
    """SHA-256 of ``content`` with zeros at the digits that begin at ``place``."""
    with memoryview(content) as whole:
        found = hashlib.sha256(whole[:place])
        found.update(b"0" * DIGITS)
        found.update(whole[place + DIGITS :])
    return found.hexdigest()
