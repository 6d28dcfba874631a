"""Event files that wait are sent to MLflow, all or those of one run; sending one again changes nothing."""

from __future__ import annotations

from pathlib import Path

from tgdfer.tracking import events
from tgdfer.tracking.store import Sink, Store, lock


def import_events(store: Store, run: str | None = None) -> int:
    """Send the waiting event files, of one run or all; returns how many.

    The file of an attempt that has not ended stays, unless a later one of the same run has: its job may still be
    writing.
    """
    count = 0
    with lock("import"):
        sent: list[Path] = []
        for path in events.pending(run):
            if sent and sent[-1].parent != path.parent:
                sent = []
            sent.append(path)
            count += 1
            sink = Sink.replay(store, path)
            if sink is not None and sink.ended:
                for done in sent:
                    done.unlink(missing_ok=True)
                sent = []
    return count
