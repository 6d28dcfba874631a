"""Work that is spread over processes."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from tgdfer.core.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")


def spread(work: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> Iterator[Result]:
    """``work(job)`` for each job, in the jobs' order, in up to ``workers`` processes; one worker is this process.

    Raises:
        UserError: a process was killed.
    """
    workers = min(workers, len(jobs))
    if workers < 2:
        yield from map(work, jobs)
        return
    # a fork of a process with threads may hang
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            yield from pool.map(work, jobs)
        except BrokenProcessPool:
            raise UserError("a worker process was killed, most likely for lack of memory; run the same again") from None
