"""Who makes the shards: threads of this process, or processes of their own.

Videos are worked on by ffmpeg, which is a process already, so threads will do. Reading many small images is hardly more
than Python's own work, of which the threads of one process do no two pieces at a time.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tgdfer.config.params import FramesParams
from tgdfer.core.errors import UserError
from tgdfer.media import shards
from tgdfer.media.shards import Clip, Shard, Taken

R = TypeVar("R")
Told = Callable[[int], object]
"""Hears of the number of clips that were worked on since the last time."""
LOOK_S = 0.2
"""How often a parent looks how far its processes are, and they whether there still is a parent."""


class Workforce(Protocol):
    """Works on shards of clips below ``root``; a context manager."""

    def sources(self, some: list[Shard], root: Path, params: FramesParams, told: Told) -> list[str]:
        """The fingerprint of each shard's sources as they are now."""

    def make(self, some: list[Shard], root: Path, params: FramesParams, told: Told) -> None:
        """Write the shards."""

    def __enter__(self) -> Workforce: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None: ...


class Threads:
    """``count`` clips at a time, those of all shards in one row."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool = ThreadPoolExecutor(count)

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown(wait=kind is None, cancel_futures=True)

    def sources(self, some: list[Shard], root: Path, params: FramesParams, told: Told) -> list[str]:
        """As :class:`Workforce` says."""
        found = self._each(lambda clip: shards.fingerprint(root, clip, params), some, told)
        return [shards.combined([next(found) for _ in shard.clips]) for shard in some]

    def make(self, some: list[Shard], root: Path, params: FramesParams, told: Told) -> None:
        """As :class:`Workforce` says."""
        taken = self._each(lambda clip: shards.take(root, clip, params), some, told)
        for shard in some:
            shards.write(shard, (next(taken) for _ in shard.clips), params.crop == "face")

    def _each(self, work: Callable[[Clip], R], some: list[Shard], told: Told) -> Iterator[R]:
        """``work`` on every clip, results in the order of the clips, only a few of them ahead."""
        ahead: deque[Future[R]] = deque()
        for clip in (clip for shard in some for clip in shard.clips):
            ahead.append(self._pool.submit(work, clip))
            if len(ahead) >= 2 * self._count:
                told(1)
                yield ahead.popleft().result()
        while ahead:
            told(1)
            yield ahead.popleft().result()


class Processes:
    """``count`` shards at a time, each in a process that works on its clips one after the other."""

    def __init__(self, count: int) -> None:
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        self._done = context.Value("Q", 0)
        self._stop = context.Event()
        self._pool = ProcessPoolExecutor(
            count, context, initializer=_begin, initargs=(self._done, self._stop, os.getpid())
        )

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._stop.set()
        self._pool.shutdown(cancel_futures=kind is not None)

    def sources(self, some: list[Shard], root: Path, params: FramesParams, told: Told) -> list[str]:
        """As :class:`Workforce` says."""
        return self._each(_source_of, some, root, params, told)

    def make(self, some: list[Shard], root: Path, params: FramesParams, told: Told) -> None:
        """As :class:`Workforce` says."""
        self._each(_make, some, root, params, told)

    def _each(
        self,
        work: Callable[[Path, Shard, FramesParams], R],
        some: list[Shard],
        root: Path,
        params: FramesParams,
        told: Told,
    ) -> list[R]:
        # the largest first: at the end no process is left alone with a large one
        order = sorted(some, key=lambda shard: -len(shard.clips))
        futures = {shard.file: self._pool.submit(work, root, shard, params) for shard in order}
        seen, pending = self._done.value, set(futures.values())
        try:
            while pending:
                done, pending = wait(pending, LOOK_S, FIRST_EXCEPTION)
                for future in done:
                    future.result()
                now = self._done.value
                told(now - seen)
                seen = now
            return [futures[shard.file].result() for shard in some]
        except BrokenProcessPool:
            raise UserError(
                f"{some[0].file.parent}: a process that worked on frames was killed, most likely for lack of memory; "
                "finished shards are kept: run the same command again"
            ) from None


_done: Any = None


def _begin(done: Any, stop: Any, parent: int) -> None:
    """Begin a process: it ends by itself when its parent stops or is gone."""
    global _done
    _done = done

    def watch() -> None:
        while os.getppid() == parent and not stop.wait(LOOK_S):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _ticking(found: Iterable[R]) -> Iterator[R]:
    for one in found:
        with _done.get_lock():
            _done.value += 1
        yield one


def _make(root: Path, shard: Shard, params: FramesParams) -> None:
    taken: Iterator[Taken] = _ticking(shards.take(root, clip, params) for clip in shard.clips)
    shards.write(shard, taken, params.crop == "face")


def _source_of(root: Path, shard: Shard, params: FramesParams) -> str:
    return shards.combined(list(_ticking(shards.fingerprint(root, clip, params) for clip in shard.clips)))
