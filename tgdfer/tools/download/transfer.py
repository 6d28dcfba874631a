"""One file over HTTP: continued where it was cut, and given its name only once its checksum is right."""

from __future__ import annotations

import hashlib
import http.client
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tgdfer.core.errors import UserError
from tgdfer.core.version import __version__

TIMEOUT_S = 60.0
"""Longest silence of a server."""
TRIES = 5
"""Requests in a row that bring not a byte before a file is given up."""
WAIT_S = 1.0
"""Pause after the first failed request; twice as long after every further one."""
LONGEST_WAIT_S = 60.0
CHUNK = 1 << 18
_BUSY = frozenset((408, 425, 429))


class StoppedError(Exception):
    """The download ends because other files failed or the user said so."""


class _CutError(Exception):
    """A request failed in a way that may pass; after ``pause`` seconds, where the server says so."""

    def __init__(self, why: str, pause: float | None = None) -> None:
        super().__init__(why)
        self.pause = pause


def request(url: str, start: int = 0) -> http.client.HTTPResponse:
    """Ask for ``url`` from byte ``start`` on; OSError and HTTPException where that fails."""
    headers = {"User-Agent": f"tgdfer/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    response: http.client.HTTPResponse = urllib.request.urlopen(
        urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S
    )
    return response


def reason(error: BaseException) -> str:
    """What failed, in a few words."""
    return str(getattr(error, "reason", "") or error) or type(error).__name__


def fetch(url: str, path: Path, size: int, checksum: str, told: Callable[[int], None], stop: threading.Event) -> None:
    """Bring ``url`` to ``path``; what an earlier call left in the file beside it, ``.<name>.part``, is continued.

    Args:
        url: the address.
        path: the file; it appears whole and checked, or not at all.
        size: its published size in bytes.
        checksum: its published checksum, as ``md5:<hex>`` or ``sha256:<hex>``.
        told: called with the number of new bytes, which is negative where a file is begun anew.
        stop: ends the call early once it is set.

    Raises:
        UserError: the server does not give it, or gives something else; the message names the address.
        StoppedError: ``stop`` was set.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")  # the same name every time: a later call is to find it
    if path.is_file():  # an archive that was kept and is to be unpacked again, or a file of another size
        path.replace(part)
    continued = part.is_file() and part.stat().st_size > 0
    while True:
        with _Part(part, checksum.partition(":")[0], told) as arrived:
            _complete(url, arrived, size, stop)
            if arrived.checksum == checksum:
                break
            arrived.restart()
        if not continued:
            part.unlink()
            raise UserError(
                f"{url}: wrong checksum: {arrived.wrong} arrived, {checksum} is published; the file is dropped"
            )
        continued = False  # what lay there may be of another version: once more, from the beginning
    part.replace(path)


class _Part:
    """What has arrived of a file so far, on disk, with its checksum."""

    def __init__(self, path: Path, algorithm: str, told: Callable[[int], None]) -> None:
        self.algorithm, self.told = algorithm, told
        self.stream = path.open("a+b")
        self.stream.seek(0)
        self.digest = hashlib.new(algorithm)
        self.have = 0
        self.wrong = ""
        while chunk := self.stream.read(CHUNK):
            self._count(chunk)

    def __enter__(self) -> _Part:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    @property
    def checksum(self) -> str:
        return f"{self.algorithm}:{self.digest.hexdigest()}"

    def add(self, chunk: bytes) -> None:
        self.stream.write(chunk)
        self._count(chunk)

    def restart(self) -> None:
        """Drop what has arrived."""
        self.wrong = self.checksum
        self.stream.truncate(0)
        self.told(-self.have)
        self.have, self.digest = 0, hashlib.new(self.algorithm)

    def _count(self, chunk: bytes) -> None:
        self.digest.update(chunk)
        self.have += len(chunk)
        self.told(len(chunk))


def _complete(url: str, part: _Part, size: int, stop: threading.Event) -> None:
    """Append to ``part`` until it has ``size`` bytes."""
    if part.have > size:
        part.restart()
    failed = 0
    while part.have < size:
        before, cut = part.have, _CutError("the connection was cut")
        try:
            response, start = _open(url, part.have, size)
            with response:
                if start != part.have:
                    part.restart()
                while chunk := _read(response, min(CHUNK, size - part.have)):
                    part.add(chunk)
                    if stop.is_set():
                        raise StoppedError
        except _CutError as error:
            cut = error
        if part.have == size:
            return
        failed = 0 if part.have > before else failed + 1
        if failed >= TRIES:
            raise UserError(f"{url}: {part.have} of {size} bytes arrived, then {cut}")
        if stop.wait(min(LONGEST_WAIT_S, WAIT_S * 2**failed if cut.pause is None else cut.pause)):
            raise StoppedError


def _open(url: str, start: int, size: int) -> tuple[http.client.HTTPResponse, int]:
    """The server's answer and the byte that it begins with: ``start``, or 0 where it gives whole files alone."""
    try:
        response = request(url, start)
    except urllib.error.HTTPError as error:
        error.close()
        why = f"the server answers {error.code} {error.reason}"
        if error.code < 500 and error.code not in _BUSY:
            raise UserError(f"{url}: {why}") from None
        asked = error.headers.get("Retry-After", "")
        raise _CutError(why, float(asked) if asked.isdigit() else None) from None
    except (OSError, http.client.HTTPException) as error:
        raise _CutError(reason(error)) from None
    continues = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
    start = start if continues else 0
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and start + int(length) != size:
        response.close()
        raise UserError(f"{url}: {start + int(length)} bytes, {size} are published; is this the right file?")
    return response, start


def _read(response: http.client.HTTPResponse, count: int) -> bytes:
    try:
        return response.read(count)
    except (OSError, http.client.HTTPException) as error:
        raise _CutError(reason(error)) from None
