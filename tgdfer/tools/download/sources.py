"""The open data sets: their origin, licence and files.

The sources publish the checksums of the files, and are asked for them once for each folder. (pooch can ask Zenodo too,
but does not return sizes, which progress and the check of the disk need.)
"""

import json
import re
import tarfile
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import requests
import urllib3
import yaml

from tgdfer.core.errors import UserError
from tgdfer.core.storage import read_json, write_json
from tgdfer.datasets.listing import below_root
from tgdfer.tools.download.transfer import reason, request

LISTING = "files.json"
"""The list of files, sizes and checksums in a downloaded folder; a mirror may have it."""
_CHECKSUM = re.compile(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class RemoteFile:
    """A published file: its path below the base, its size in bytes, its checksum (``md5:`` or ``sha256:`` and hex)."""

    name: str
    size: int
    checksum: str


@dataclass(frozen=True)
class OpenDataset:
    """An open data set."""

    name: str
    notice: str
    """Origin and licence, which are printed."""
    list_url: str
    listed: Callable[[BinaryIO], list[RemoteFile]]
    """Reads the answer of ``list_url``."""
    base: str
    """The address that the names of files are relative to."""
    parts: dict[str, str]
    """The pattern of the file names of each part."""
    unpack: bool
    section: str
    """The entry in params.yaml."""
    mirror: str = ""
    """Another address, of the authors."""


def _zenodo(stream: BinaryIO) -> list[RemoteFile]:
    """The files of a record, from the answer of Zenodo's API."""
    return [RemoteFile(file["key"], int(file["size"]), file["checksum"]) for file in json.load(stream)["files"]]


def _lfs_pointers(stream: BinaryIO) -> list[RemoteFile]:
    """The files that a GitHub repository has in Git LFS, from the pointers in its archive."""
    files = []
    with tarfile.open(fileobj=stream, mode="r|gz") as archive:
        for member in archive:
            if not member.isfile() or member.size > 1024:
                continue
            opened = archive.extractfile(member)
            text = opened.read() if opened else b""
            pointer = re.search(rb"^oid (sha256:[0-9a-f]{64})\nsize (\d+)$", text, re.MULTILINE)
            if text.startswith(b"version https://git-lfs") and pointer:
                name = member.name.partition("/")[2]  # below the folder that GitHub adds
                files.append(RemoteFile(name, int(pointer[2]), pointer[1].decode()))
    return files


LISTED = {"zenodo": _zenodo, "lfs": _lfs_pointers}
SOURCES = {
    name: OpenDataset(name=name, **{**about, "listed": LISTED[about["listed"]]})
    for name, about in yaml.safe_load(Path(__file__).with_name("sources.yaml").read_text(encoding="utf-8")).items()
}


def checked_base(url: str) -> str:
    """The address of a mirror without the slash at its end.

    Raises:
        UserError: it is not the address of a web folder.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise UserError(f"download: --base-url: '{url}': expected http(s)://host/folder")
    return url.rstrip("/")


def listing(source: OpenDataset, folder: Path, base: str | None, part: str) -> list[RemoteFile]:
    """The files of a part: from the list in ``folder``, else from the mirror, else from the source.

    Raises:
        UserError: the list cannot be had, or is not a list of files.
    """
    path = folder / LISTING
    if path.is_file():
        where, files = str(path), _read(read_json(path), str(path))
    else:
        where, files = _ask(source, base)
        write_json(path, {"from": where, "files": list(map(vars, files))})
    wanted = re.compile(source.parts[part])
    chosen = sorted((file for file in files if wanted.fullmatch(file.name)), key=lambda file: file.name)
    if not chosen:
        raise UserError(f"{where}: lists no file like {source.parts[part]}")
    return chosen


def _ask(source: OpenDataset, base: str | None) -> tuple[str, list[RemoteFile]]:
    """Where the list of all parts comes from, and its files."""
    wanted = re.compile("|".join(source.parts.values()))
    if base and (found := _ask_mirror(f"{base}/{LISTING}")):
        return f"{base}/{LISTING}", [file for file in found if wanted.fullmatch(file.name)]
    url = source.list_url
    try:
        with request(url) as response:
            files = [file for file in source.listed(response.raw) if wanted.fullmatch(file.name)]
    except (requests.RequestException, urllib3.exceptions.HTTPError, tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{url}: the list of files cannot be read: {reason(error)}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{url}: not the list of files that was expected ({type(error).__name__}: {error})") from None
    return url, [_checked(file, url) for file in files]


def _ask_mirror(url: str) -> list[RemoteFile] | None:
    """The list of a mirror; None if it has none."""
    try:
        with request(url) as response:
            return _read(response.json(), url)
    except requests.HTTPError as error:
        if error.response is not None and error.response.status_code in (403, 404, 410):
            return None
        raise UserError(f"{url}: {reason(error)}") from None
    except (requests.RequestException, ValueError) as error:
        raise UserError(f"{url}: {reason(error)}") from None


def _read(found: object, where: str) -> list[RemoteFile]:
    try:
        rows = found["files"]  # type: ignore[index]
        return [_checked(RemoteFile(row["name"], int(row["size"]), row["checksum"]), where) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where}: not a list of files by tgdfer ({type(error).__name__}: {error})") from None


def _checked(file: RemoteFile, where: str) -> RemoteFile:
    below_root(file.name, where)
    if file.size < 0 or not _CHECKSUM.fullmatch(file.checksum):
        raise UserError(f"{where}: {file.name}: size {file.size}, checksum '{file.checksum}', expected md5: or sha256:")
    return file
