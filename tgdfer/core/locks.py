"""Outputs that only one process writes at a time."""

import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import IO, ParamSpec, TypeVar

from tgdfer.core.progress import log

P = ParamSpec("P")
R = TypeVar("R")
POLL_S = 0.2
"""How often a process that waits looks again."""


@contextmanager
def only_writer(*outputs: Path, waiting: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Let one process at a time write ``outputs``, files or folders; another one waits for its turn.

    What killed processes left half-written is removed, because now nobody writes it. The lock ends with the process,
    however that ends. ``waiting`` is called again and again while another process holds the lock, and may raise.
    """
    lock = outputs[0].with_name(f".{outputs[0].name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with _locked(lock, outputs[0], waiting):
        for output in outputs:
            for part in (*output.parent.glob(f".{output.name}.*.part"), *output.rglob(".*.part")):
                part.unlink(missing_ok=True)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def writes(outputs: Callable[..., Sequence[Path]]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function the only writer of the outputs that ``outputs`` gives for its arguments."""

    def wrap(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def locked(*arguments: P.args, **named: P.kwargs) -> R:
            with only_writer(*outputs(*arguments, **named)):
                return function(*arguments, **named)

        return locked

    return wrap


@contextmanager
def _locked(lock: Path, output: Path, waiting: Callable[[], object]) -> Iterator[None]:
    said = False
    while True:
        with lock.open("a+", encoding="utf-8") as stream:
            if _take(stream, output):
                if _is(lock, stream):
                    stream.truncate(0)
                    stream.write(f"process {os.getpid()} on {socket.gethostname()}")
                    stream.flush()
                    yield
                    return
                continue  # the process before removed the file that was opened here
            if not said:
                stream.seek(0)
                log.info("%s: %s is writing it; waiting", output, stream.read() or "another process")
                said = True
        waiting()
        time.sleep(POLL_S)


def _take(stream: IO[str], output: Path) -> bool:
    """Whether the lock could be taken; a file system without locks takes none."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        log.warning("%s: this file system has no locks (%s): start no second process on it", output, error.strerror)
    return True


def _is(path: Path, stream: IO[str]) -> bool:
    """Whether ``stream`` is the file that is now at ``path``."""
    try:
        return os.path.samestat(path.stat(), os.fstat(stream.fileno()))
    except FileNotFoundError:
        return False
