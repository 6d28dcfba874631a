"""Event files that wait are sent to MLflow, all or those of one run; sending one again changes nothing."""

from __future__ import annotations

import re
from pathlib import Path

from tgdfer.core.progress import log
from tgdfer.tracking import events
from tgdfer.tracking.sink import Sink
from tgdfer.tracking.store import Store, lock


def import_events(store: Store, run: str | None = None) -> int:
    """Send the waiting event files, of one run or all; returns how many.

    The file of an attempt that has not ended stays, unless a later one of the same run has: its job may still be
    writing. One that is damaged stays as well, and does not stop the others.
    """
    count = 0
    with lock("import"):
        sent: list[Path] = []
        for path in events.pending(run):
            if sent and sent[-1].parent != path.parent:
                sent = []
            try:
                sink = Sink.replay(store, path)
            except FileNotFoundError:  # its own process has sent it meanwhile
                continue
            except Exception as error:
                if not _is_the_file_s(error):
                    raise
                log.warning("tracking: %s cannot be imported (%s)", path, line(error))
                continue
            sent.append(path)
            count += 1
            if sink is not None and sink.ended:
                for done in sent:
                    done.unlink(missing_ok=True)
                sent = []
    return count


def line(error: Exception) -> str:
    """``error`` in a line, without the user and password that a URI may hold."""
    return f"{type(error).__name__}: {re.sub(r'//[^/@ ]*@', '//', ' '.join(str(error).split()))[:300]}"


def _is_the_file_s(error: Exception) -> bool:
    """Whether the cause is what a file says, and not a store that is away."""
    refused = getattr(error, "error_code", None) == "INVALID_PARAMETER_VALUE"  # an MlflowException's
    return refused or isinstance(error, ValueError | LookupError | TypeError)
