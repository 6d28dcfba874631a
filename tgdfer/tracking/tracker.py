"""One run as the code that computes sees it: it tells what happens, and nothing it calls here ever raises."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tgdfer.config.params import Params
from tgdfer.core.progress import log
from tgdfer.tracking import events
from tgdfer.tracking.events import Event
from tgdfer.tracking.imports import import_events, line
from tgdfer.tracking.load import Monitor
from tgdfer.tracking.sink import Sink
from tgdfer.tracking.store import Store, sends

FLUSH_S = 5.0
FLUSH_POINTS = 500
LIVE_AFTER_S = 15.0
"""With ``mode: auto`` a shorter run is not sent while it goes on: loading MLflow costs two seconds of every process."""
RETRY_AFTER_S = 60.0
"""How long a process leaves a store alone that has failed, so that each of its runs does not wait for it anew."""

_failed_at: float | None = None


class Tracker:
    """What a stage or a training tells about one run: into a file, and from there to MLflow while it goes on.

    Args:
        params: all parameters.
        start: the run's first event.
        worked: whether there is something to do; a stage shows that by the first metrics that it tells.
    """

    def __init__(self, params: Params, start: Event, worked: bool) -> None:
        self.name: str = start["run"]
        self._params = params
        self._sink: Sink | None = None
        self._journal: events.Journal | None = None
        self._buffer: list[list[Any]] = []
        self._began = self._flushed = time.monotonic()
        self._worked = worked
        self._lock = threading.RLock()  # the monitor tells from a thread of its own
        self._monitor: Monitor | None = None
        self._earlier: list[Path] = []
        self._warned = False
        try:
            self._earlier = events.pending(self.name)
            self._journal = events.Journal(events.file_of(self.name))
            self._say(start)
            self._monitor = Monitor(self._load)
        except Exception as error:  # a full disk, a folder that is read-only: what is computed goes on
            self._lose(error)

    def metrics(self, values: Mapping[str, float | None], step: int = 0) -> None:
        """Note metrics of a step (an epoch); they are written and sent in batches."""
        self._worked = True
        self._note(values, step)

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Copy a file to the run's artifacts."""
        try:
            self._say(events.artifact(path, folder))
        except Exception as error:
            log.warning("tracking: %s; %s goes on without %s", line(error), self.name, path)

    def data(self, name: str, made_from: Mapping[str, str], context: str, source: Path, clips: int) -> None:
        """Say which clips the run uses; see :func:`tgdfer.tracking.events.data`."""
        self._say(events.data(name, made_from, context, source, clips))

    def model(self, name: str, alias: str, description: str) -> None:
        """Register the run's artifacts in the folder ``model`` as a version of the model ``name``, once."""
        self._say({"event": "model", "name": name, "alias": alias, "description": description})

    def end(self, status: str, error: BaseException | None = None) -> None:
        """Write and send the rest and the status (FINISHED, FAILED or KILLED).

        A stage that told no metrics and did not fail has had nothing to do: it leaves no trace.
        """
        try:
            self._end(status, error)
        except Exception as problem:
            self._lose(problem)

    def _end(self, status: str, error: BaseException | None) -> None:
        if self._monitor is not None:
            self._monitor.stop()
        if self._journal is None:
            return
        self._worked |= status != "FINISHED"
        if not self._worked and self._sink is None:
            self._journal.close()
            self._journal.path.unlink(missing_ok=True)
            return
        self._note({"seconds": time.monotonic() - self._began}, 0)
        self._flush()
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:500] if error else None
        self._say({"event": "end", "status": status, "time": events.now(), "error": reason})
        self._journal.close()
        if not self._due():
            return
        if self._sink is not None:
            self._journal.path.unlink(missing_ok=True)
        if events.pending(self.name):
            try:
                # one more try for what could not be sent, and what killed attempts have left
                import_events(Store(self._params), self.name)
            except Exception as problem:
                self._give_up(problem)
                return
        for path in self._earlier:  # sent just now, and older than the attempt that ends here
            path.unlink(missing_ok=True)

    def _load(self, values: Mapping[str, float]) -> None:
        # by the second: a later attempt's numbers are others
        self._note(values, int(time.time()))

    def _note(self, values: Mapping[str, float | None], step: int) -> None:
        with self._lock:
            self._buffer += events.points(values, step)
            if len(self._buffer) >= FLUSH_POINTS or time.monotonic() - self._flushed >= FLUSH_S:
                self._flush()

    def _flush(self) -> None:
        with self._lock:
            buffer, self._buffer = self._buffer, []
            self._flushed = time.monotonic()
            if buffer:
                self._say({"event": "metrics", "points": buffer})

    def _say(self, event: Event) -> None:
        with self._lock:
            if self._journal is None:
                return
            try:
                self._journal.write(event)
            except Exception as error:  # a full disk: the journal tries again with the next event
                self._sink = None  # the next one hears of all that is in the file by then
                if not self._warned:
                    self._warned = True
                    log.warning("tracking: %s; what %s tells is lost unless that ends first", line(error), self.name)
                return
            if not self._due():
                return
            try:
                if self._sink is not None:
                    self._sink.apply(event)
                else:
                    self._sink = Sink.replay(Store(self._params), self._journal.path)
            except Exception as error:  # whatever MLflow raises
                self._give_up(error)

    def _due(self) -> bool:
        """Whether MLflow is to hear of this run now."""
        if not sends(self._params) or (_failed_at is not None and time.monotonic() - _failed_at < RETRY_AFTER_S):
            return False
        if self._worked and self._params.tracking.mode == "live":
            return True
        return time.monotonic() - self._began >= LIVE_AFTER_S

    def _give_up(self, error: Exception) -> None:
        """Leave the store alone for a while; the next try sends the whole file again, which changes nothing."""
        global _failed_at
        _failed_at, self._sink = time.monotonic(), None
        log.warning(
            "tracking: %s; the events of %s are kept in %s, import them with `python -m tgdfer tracking`",
            line(error),
            self.name,
            events.FOLDER,
        )

    def _lose(self, error: Exception) -> None:
        self._journal = None
        log.warning("tracking: %s; what %s tells from here on is not kept", line(error), self.name)
