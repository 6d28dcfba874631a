"""Update many shards at once, with threads of this process or with other processes.

Threads are enough for videos, which ffmpeg decodes in its own processes. Reading many small images is mostly Python
code, which the threads of one process cannot run at the same time.
"""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from tgdfer.config.data import FramesParams
from tgdfer.core.errors import UserError
from tgdfer.media.shards import ClipSource, ShardPlan, update_shard

Advance = Callable[[int], object]
"""Called with the number of clips finished since the last call."""
POLL_S = 0.2
"""How often a parent asks for its processes' progress, and a process whether its parent still exists."""


def with_threads(
    plans: list[ShardPlan], root: Path, params: FramesParams, advance: Advance, count: int
) -> list[ShardPlan]:
    """Update the shards of clips below ``root``, ``count`` clips at a time; returns those that were written."""
    pool = ThreadPoolExecutor(count)

    def each(work: Callable[[ClipSource], Any], clips: Iterable[ClipSource]) -> Iterator[Any]:
        waiting: deque[Future[Any]] = deque()
        for clip in clips:
            waiting.append(pool.submit(work, clip))
            if len(waiting) >= 2 * count:  # so few results that memory does not grow with the shard
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    try:
        return [plan for plan in plans if update_shard(plan, root, params, advance, each)]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def with_processes(
    plans: list[ShardPlan], root: Path, params: FramesParams, advance: Advance, count: int
) -> list[ShardPlan]:
    """Update the shards of clips below ``root``, ``count`` shards at a time; returns those that were written.

    Raises:
        UserError: a process was killed.
    """
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    finished, stop = context.Value("Q", 0), context.Event()
    pool = ProcessPoolExecutor(count, context, initializer=_begin, initargs=(finished, stop, os.getpid()))
    try:
        # the largest first, so that at the end no process works on a large one while the others have nothing to do
        order = sorted(plans, key=lambda plan: -len(plan.clips))
        futures = {plan.file: pool.submit(_update, plan, root, params) for plan in order}
        reported, pending = 0, set(futures.values())
        while pending:
            done, pending = wait(pending, POLL_S, FIRST_EXCEPTION)
            for future in done:
                future.result()
            now = finished.value
            advance(now - reported)
            reported = now
        return [plan for plan in plans if futures[plan.file].result()]
    except BrokenProcessPool:
        raise UserError(
            f"{plans[0].file.parent}: a process that worked on frames was killed, most likely for lack of memory; "
            "finished shards are kept: run the same command again"
        ) from None
    except BaseException:
        stop.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


_finished: Any = None


def _begin(finished: Any, stop: Any, parent: int) -> None:
    """Initialise a process: it exits when its parent stops or is gone."""
    global _finished
    _finished = finished

    def watch() -> None:
        while os.getppid() == parent and not stop.wait(POLL_S):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _update(plan: ShardPlan, root: Path, params: FramesParams) -> bool:
    def advance(count: int) -> None:
        with _finished.get_lock():
            _finished.value += count

    return update_shard(plan, root, params, advance)
