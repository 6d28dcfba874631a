"""Download a file: pooch checks its checksum and names it; the transfer is ours.

When a connection is cut, pooch deletes what has arrived. These files have half a gigabyte and more, so they are
continued here.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pooch
import requests

from tgdfer.core.errors import UserError
from tgdfer.core.progress import log
from tgdfer.core.version import __version__

TIMEOUT_S = 60.0
"""Longest silence of a server."""
TRIES = 5
"""Requests in a row without a single byte before a file is given up."""
WAIT_S = 1.0
"""Pause after the first failed request; it doubles with every further one."""
LONGEST_WAIT_S = 60.0
CHUNK = 1 << 14
"""Bytes that are read at once; so many are lost when a connection is cut."""
PASSING = frozenset((408, 425, 429))
"""Refusals of a server that pass, like those from 500 on."""


pooch.get_logger().setLevel("WARNING")


class StoppedError(Exception):
    """The download ends because other files failed or the user interrupted it."""


def request(url: str, start: int = 0) -> requests.Response:
    """Ask for ``url`` from byte ``start`` on.

    Raises:
        requests.RequestException: that fails, or the server refuses.
    """
    headers = {"User-Agent": f"tgdfer/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    response = requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S)
    response.raise_for_status()
    return response


def reason(error: BaseException) -> str:
    """What failed, in a few words."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    inner = error.args[0] if error.args else ""  # of urllib3: its text names objects in memory
    return str(getattr(inner, "reason", "") or inner or type(error).__name__)


def set_aside(path: Path) -> None:
    """Rename a file that is about to be replaced by another one, and say it."""
    if path.exists():
        kept = path.with_name(f"{path.name}.kept")
        while kept.exists():
            kept = kept.with_name(f"{kept.name}.kept")
        path.rename(kept)
        log.warning("%s: is not the published file, which replaces it; yours is now %s", path, kept.name)


def fetch(
    url: str, path: Path, size: int, checksum: str, progress: Callable[[int], None], stop: threading.Event
) -> None:
    """Download ``url`` to ``path``, which appears complete and checked or not at all.

    Args:
        url: the address.
        path: the file; what an earlier call left of it in ``.<name>.part`` is continued.
        size: its published size in bytes.
        checksum: its published checksum, as ``md5:<hex>`` or ``sha256:<hex>``.
        progress: called with the number of new bytes, which is negative if a file is started again.
        stop: ends the call early once it is set.

    Raises:
        UserError: the server does not give it, or gives something else; the message names the address.
        StoppedError: ``stop`` was set.
    """

    def download(url: str, target: str, _: Any) -> None:
        _complete(url, part, size, progress, stop)
        set_aside(path)
        part.replace(target)

    part = path.with_name(f".{path.name}.part")
    continued = part.is_file()
    for last in (not continued, True):
        try:
            pooch.retrieve(url, checksum, path.name, path.parent, downloader=download)
            return
        except ValueError as error:  # of pooch: the checksum
            progress(-size)
            # the beginning may be of another version: once more, from the start
            if last:
                said = str(error).partition(". Deleted")[0]
                raise UserError(f"{url}: wrong checksum, so it is deleted: {said}") from None


def _complete(url: str, part: Path, size: int, progress: Callable[[int], None], stop: threading.Event) -> None:
    """Append to ``part`` until it has ``size`` bytes."""
    have = part.stat().st_size if part.is_file() else 0
    progress(have)
    failed = 0
    while have != size:
        before = have
        try:
            with request(url, have if have < size else 0) as response:
                continues = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
                if not continues:
                    progress(-have)
                    have = 0
                promised = have + int(response.headers.get("Content-Length", size - have))
                if promised != size:
                    raise UserError(f"{url}: {promised} bytes, but {size} are published; is this the right file?")
                with part.open("ab" if continues else "wb") as stream:
                    for chunk in response.iter_content(CHUNK):
                        stream.write(chunk)
                        have += len(chunk)
                        progress(len(chunk))
                        if stop.is_set():
                            raise StoppedError
                        if have > size:
                            raise UserError(f"{url}: more than the {size} bytes that are published")
                if have < size:
                    raise requests.ConnectionError("the connection was cut")
        except requests.RequestException as error:
            refused = error.response.status_code if error.response is not None else None
            if refused is not None and refused < 500 and refused not in PASSING:
                raise UserError(f"{url}: {reason(error)}") from None
            failed = 0 if have > before else failed + 1
            if failed >= TRIES:
                raise UserError(f"{url}: {have} of {size} bytes arrived, then {reason(error)}") from None
            if stop.wait(_pause(error, failed)):
                raise StoppedError from None


def _pause(error: requests.RequestException, failed: int) -> float:
    """Seconds to wait: what the server asks for, or twice as long after every failed request."""
    asked = error.response.headers.get("Retry-After", "") if error.response is not None else ""
    return min(LONGEST_WAIT_S, float(asked) if asked.isdigit() else WAIT_S * 2**failed)
