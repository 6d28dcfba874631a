"""Progress: a bar on a terminal, a plain line every few seconds in a log. Both go to standard error."""

import json
import logging
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from datetime import UTC, datetime
from typing import Self, TypeVar

from tqdm import tqdm

T = TypeVar("T")
LOG_EVERY_S = 15.0

log = logging.getLogger("tgdfer")


class JsonLines(logging.Formatter):
    """A record as a JSON object on a line, for programs that read the logs of jobs."""

    def format(self, record: logging.LogRecord) -> str:
        """Time (UTC, ISO 8601), level, process, message; the traceback where there is one."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": moment, "level": record.levelname, "process": record.process, "message": record.getMessage()}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def setup_logging(quiet: bool = False, as_json: bool = False) -> None:
    """Send the package's log to standard error, one line a record."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonLines() if as_json else logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
    )
    log.handlers[:] = [handler]
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    log.propagate = False


class Meter:
    """Progress: a tqdm bar on a terminal, otherwise a log line now and then; may be used from any thread.

    Bytes (``unit="B"``) are written as kB, MB or GB.
    """

    def __init__(self, what: str, total: int | None = None, unit: str = "it") -> None:
        self.what, self.total, self.unit, self.done = what, total, unit, 0
        self._lock = threading.Lock()
        self._started = self._logged = time.monotonic()
        self._bar = (
            tqdm(desc=what, total=total, unit=unit, unit_scale=unit == "B", dynamic_ncols=True)
            if sys.stderr.isatty()
            else None
        )

    def add(self, count: int = 1) -> None:
        """Count ``count`` more as done."""
        with self._lock:
            self.done += count
            if self._bar is not None:
                self._bar.update(count)
                return
            now = time.monotonic()
            if now - self._logged >= LOG_EVERY_S:
                self._logged = now
                of = f"/{self._plain(self.total)}" if self.total else ""
                rate = self.done / (now - self._started)
                shown = f"{rate:.1f}" if self.unit != "B" else self._plain(rate)
                log.info("%s: %s%s%s, %s/s", self.what, self._plain(self.done), of, self._name, shown)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close the bar, or log in a last line how much was done."""
        if self._bar is not None:
            self._bar.close()
        elif kind is None:
            seconds = time.monotonic() - self._started
            log.info("%s: %s%s in %.1f s", self.what, self._plain(self.done), self._name, seconds)

    @property
    def _name(self) -> str:
        return "" if self.unit == "B" else f" {self.unit}"

    def _plain(self, number: float) -> str:
        return f"{tqdm.format_sizeof(number)}B" if self.unit == "B" else f"{number:.0f}"


def track(items: Iterable[T], what: str, total: int | None = None, unit: str = "it") -> Iterator[T]:
    """Yield from ``items`` and show how far it is."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with Meter(what, total, unit) as meter:
        for item in items:
            yield item
            meter.add()
