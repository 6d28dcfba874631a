"""Unpack archives of strangers, and remember what was unpacked once the archive is deleted; pooch does neither."""

import shutil
import stat
import zipfile
import zlib
from pathlib import Path

from tgdfer.core.errors import UserError
from tgdfer.core.storage import atomic, read_json, write_json
from tgdfer.datasets.listing import below_root
from tgdfer.tools.download.sources import RemoteFile
from tgdfer.tools.download.transfer import set_aside

SWOLLEN = 20
"""An archive that grows by more than this factor is refused: videos are hardly compressed."""


def unpack(archive: Path, folder: Path, file: RemoteFile) -> None:
    """Unpack a zip into ``folder``, every member atomically, and note its members for ``is_unpacked``.

    Raises:
        UserError: it is not a complete zip, grows by more than ``SWOLLEN``, or has a link or a path that leads out
            of ``folder``.
    """
    members = {}
    try:
        with zipfile.ZipFile(archive) as opened:
            inside = [info for info in opened.infolist() if not info.is_dir() and not _is_clutter(info.filename)]
            if sum(info.file_size for info in inside) > SWOLLEN * max(1, file.size):
                raise UserError(f"{archive}: unpacks to more than {SWOLLEN} times its size")
            for info in inside:
                where = f"{archive}: member '{info.filename}'"
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise UserError(f"{where}: is a link, expected a file")
                target = folder / below_root(info.filename, where)
                if not target.resolve().is_relative_to(folder.resolve()):
                    raise UserError(f"{where}: leads out of {folder}")
                if target.is_file() and not _is_member(target, info):
                    set_aside(target)
                with opened.open(info) as stream, atomic(target) as part, part.open("wb") as out:
                    shutil.copyfileobj(stream, out, 1 << 20)
                members[target.relative_to(folder).as_posix()] = info.file_size
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise UserError(f"{archive}: not a zip that can be unpacked ({error})") from None
    write_json(_note(folder, file), {"checksum": file.checksum, "members": members})


def is_unpacked(folder: Path, file: RemoteFile) -> bool:
    """Whether this archive was unpacked into ``folder``, and its members are still there with their sizes."""
    path = _note(folder, file)
    if not path.is_file():
        return False
    try:
        noted = read_json(path)
        return noted["checksum"] == file.checksum and all(
            (folder / name).stat().st_size == size for name, size in noted["members"].items()
        )
    except (UserError, FileNotFoundError, KeyError, TypeError):
        return False


def _is_member(path: Path, info: zipfile.ZipInfo) -> bool:
    return path.stat().st_size == info.file_size and zlib.crc32(path.read_bytes()) == info.CRC


def _is_clutter(name: str) -> bool:
    """Whether a file manager put it into the archive, or its name could be one of this project's own."""
    return any(part == "__MACOSX" or (part[0] == "." and part != "..") for part in name.split("/") if part)


def _note(folder: Path, file: RemoteFile) -> Path:
    return folder / ".unpacked" / f"{file.name}.json"
