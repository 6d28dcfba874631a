"""Download the open data sets: what is missing is fetched, checked against published checksums, and unpacked.

A new open data set is one entry in ``sources.yaml``.
"""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from urllib.parse import quote

import typer
from filelock import FileLock, Timeout

from tgdfer.core.errors import UserError
from tgdfer.core.progress import Meter, log
from tgdfer.tools.download import archives
from tgdfer.tools.download.sources import SOURCES, OpenDataset, RemoteFile, checked_base, listing
from tgdfer.tools.download.transfer import fetch

AT_ONCE = 4
"""Files that are fetched at the same time."""
FAILURES = 5
"""After this many failed files the rest is not tried."""


def download(
    name: str,
    folder: Path | None = None,
    accept_licence: bool = False,
    base_url: str | None = None,
    part: str | None = None,
    keep_archives: bool = False,
) -> None:
    """Download the open data set ``name`` into ``folder``; a further call fetches what is missing.

    The arguments are those of the command. The ``files.json`` of a mirror, ``base_url``, is the list of checksums; if
    there is none, the official list is used.

    Raises:
        UserError: there is no such part, the licence is not accepted, the disk is too small, or a file cannot be had
            or is not the published one. What has arrived is kept.
    """
    source = SOURCES[name]
    part = part or next(iter(source.parts))
    if part not in source.parts:
        raise UserError(f"download: --part: {name} has no part '{part}'; it has {', '.join(source.parts)}")
    base = checked_base(base_url) if base_url else None
    folder = folder or Path("data") / "raw" / name
    typer.echo(source.notice)
    if not accept_licence:
        raise UserError("download: nothing fetched: read the licence above and add --accept-licence to agree to it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=0):
            files = listing(source, folder, base, part)
            missing = [file for file in files if not _is_complete(folder, file, source, keep_archives)]
            if missing:
                _check_space(missing, source, folder, keep_archives)
                _fetch_all(missing, source, folder, base or source.base, keep_archives)
    except Timeout:
        raise UserError(f"download: {folder}: another download is running here; wait for it") from None
    except OSError as error:
        raise UserError(f"download: {error.filename or folder}: {error.strerror}") from None
    log.info("%s: %d of %d files fetched, all are in %s", name, len(missing), len(files), folder)
    typer.echo(f"For params.yaml, under datasets:\n  {name}: {source.section.format(root=folder)}")


def _is_complete(folder: Path, file: RemoteFile, source: OpenDataset, keep_archives: bool) -> bool:
    path = folder / file.name
    fetched = path.is_file() and path.stat().st_size == file.size  # only checked files have this name
    if not source.unpack:
        return fetched
    return archives.is_unpacked(folder, file) and (fetched or not keep_archives)


def _fetch_all(files: list[RemoteFile], source: OpenDataset, folder: Path, base: str, keep_archives: bool) -> None:
    stop = threading.Event()
    failures: list[UserError] = []

    def one(file: RemoteFile) -> None:
        path = folder / file.name
        yours = path.is_file()
        fetch(f"{base}/{quote(file.name)}", path, file.size, file.checksum, meter.add, stop)
        if source.unpack:
            archives.unpack(path, folder, file)
            if yours:
                log.info("%s: it was here before, so it is kept", path)
            elif not keep_archives:
                path.unlink()

    with Meter(source.name, sum(file.size for file in files), "B") as meter, ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            for done in as_completed([pool.submit(one, file) for file in files]):
                try:
                    done.result()
                except UserError as error:
                    failures.append(error)
                    log.warning("%s", error)
                    if len(failures) >= FAILURES:
                        break
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
    if failures:
        more = f" (and {len(failures) - 1} more failed)" if len(failures) > 1 else ""
        official = source.mirror and base == source.base
        hint = f", or try the authors' mirror: --base-url {source.mirror}" if official else ""
        raise UserError(f"{failures[0]}{more}; run the same command again to continue{hint}")


def _check_space(files: list[RemoteFile], source: OpenDataset, folder: Path, keep_archives: bool) -> None:
    needed = sum(file.size for file in files)
    if source.unpack:  # videos are as large in an archive as outside
        needed += needed if keep_archives else sum(sorted((file.size for file in files), reverse=True)[:AT_ONCE])
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(f"download: {folder}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free")
