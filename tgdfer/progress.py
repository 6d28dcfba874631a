"""Progress: a bar on a terminal, a sober line every few seconds in a log. Both go to standard error."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
LOG_EVERY_S = 15.0

log = logging.getLogger("tgdfer")


def setup_logging(quiet: bool = False) -> None:
    """Send the package's log to standard error, one line a record."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    log.handlers[:] = [handler]
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    log.propagate = False


def track(items: Iterable[T], what: str, total: int | None = None, unit: str = "it") -> Iterator[T]:
    """Yield from ``items`` and show how far it is: a tqdm bar on a terminal, else a log line now and then."""
    if sys.stderr.isatty():
        yield from tqdm(items, desc=what, total=total, unit=unit)
        return
    if total is None and isinstance(items, Sized):
        total = len(items)
    started = told = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if now - told >= LOG_EVERY_S:
            told = now
            log.info("%s: %d%s %s, %.1f/s", what, done, f"/{total}" if total else "", unit, done / (now - started))
    log.info("%s: %d %s in %.1f s", what, done, unit, time.monotonic() - started)
