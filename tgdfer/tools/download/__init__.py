"""Download the open data sets: what is missing, checked against the published checksums, ready to be read.

A new open data set is one entry in :data:`tgdfer.tools.download.sources.SOURCES`.
"""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import typer
from filelock import FileLock, Timeout

from tgdfer.core.errors import UserError
from tgdfer.core.progress import Meter, log
from tgdfer.tools.download import archives
from tgdfer.tools.download.sources import LISTING, SOURCES, RemoteFile, Source, checked_base, listing
from tgdfer.tools.download.transfer import StoppedError, fetch

AT_ONCE = 4
"""Files that are fetched at the same time."""
FAILURES = 5
"""After so many files that cannot be had the rest is not tried."""


def download(
    name: str,
    folder: Path | None = None,
    accept_licence: bool = False,
    base_url: str | None = None,
    part: str | None = None,
    keep_archives: bool = False,
) -> None:
    """Bring the open data set ``name`` into ``folder`` (``data/raw/<name>``); a second call fetches what is missing.

    Args:
        name: ravdess or crema_d.
        folder: where it shall lie, the ``root`` in params.yaml.
        accept_licence: the user has read the licence, which is printed, and agrees to it.
        base_url: a mirror: a folder on a web server that holds the same files under the same names. Its own
            ``files.json`` is the list of checksums, the official list where it has none.
        part: a part of the data set that the source offers apart; its first by default.
        keep_archives: keep archives that were unpacked, so that ``folder`` can be served as a mirror.

    Raises:
        UserError: an unknown data set or part, the licence is not accepted, too little space, or a file that cannot be
            had or is not what is published. What arrived is kept.
    """
    if name not in SOURCES:
        raise UserError(
            f"download: '{name}' is none of {', '.join(SOURCES)}; other data sets are had from their authors"
        )
    source = SOURCES[name]
    part = part or next(iter(source.parts))
    if part not in source.parts:
        raise UserError(f"download: --part: {name} has no part '{part}'; it has {', '.join(source.parts)}")
    base = checked_base(base_url) if base_url else None
    folder = folder or Path("data") / "raw" / name
    typer.echo(source.notice)
    if not accept_licence:
        raise UserError(
            f"download: nothing fetched: read the licence of {name} above and add --accept-licence to agree"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"download: {folder}: {error.strerror}; expected a folder to write to") from None
    try:
        with FileLock(folder / ".lock", timeout=0):
            files = listing(source, folder, base, part)
            missing = [file for file in files if not _is_there(folder, file, source, keep_archives)]
            if missing:
                _fetch_all(missing, source, folder, base or source.base, keep_archives)
    except Timeout:
        raise UserError(f"download: {folder}: another download is at work here; wait for it") from None
    log.info("%s: %d of %d files fetched, all there in %s", name, len(missing), len(files), folder)
    typer.echo(f"For params.yaml, under datasets:\n  {name}: {source.section.format(root=folder)}")


def _is_there(folder: Path, file: RemoteFile, source: Source, keep_archives: bool) -> bool:
    path = folder / file.name
    whole = path.is_file() and path.stat().st_size == file.size  # a name is given to checked files alone
    if not source.unpack:
        return whole
    return archives.is_unpacked(folder, file) and (whole or not keep_archives)


def _fetch_all(files: list[RemoteFile], source: Source, folder: Path, base: str, keep_archives: bool) -> None:
    _make_room(files, source, folder, keep_archives)
    stop = threading.Event()
    failures: list[UserError] = []

    def one(file: RemoteFile) -> None:
        path = folder / file.name
        fetch(source.url(base, file), path, file.size, file.checksum, meter.add, stop)
        if source.unpack:
            archives.unpack(path, folder, file)
            if not keep_archives:
                path.unlink()

    with (
        Meter(source.name, sum(file.size for file in files), "B") as meter,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        try:
            for done in as_completed([pool.submit(one, file) for file in files]):
                try:
                    done.result()
                except UserError as error:
                    failures.append(error)
                    log.warning("%s", error)
                    if len(failures) >= FAILURES:
                        break
                except OSError as error:
                    raise UserError(f"download: {error.filename or folder}: {error.strerror}") from None
        except StoppedError:
            pass
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
    if failures:
        more = f" (and {len(failures) - 1} more failed)" if len(failures) > 1 else ""
        raise UserError(f"{failures[0]}{more}; run the same command again to go on{source.hint(base)}")


def _make_room(files: list[RemoteFile], source: Source, folder: Path, keep_archives: bool) -> None:
    """Raise a UserError if the disk cannot hold what is to come."""
    needed = sum(file.size for file in files)
    if source.unpack:  # videos in an archive are as large as outside
        needed += needed if keep_archives else sum(sorted((file.size for file in files), reverse=True)[:AT_ONCE])
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(f"download: {folder}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free")


__all__ = ["LISTING", "download"]
