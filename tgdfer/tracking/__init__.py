"""MLflow tracking: every run of a variant on a fold and a seed, live or through files that are imported later.

Tracking never decides a result and never ends a training: what cannot be sent is warned of once, stays in
``mlflow/events/`` and is imported by ``python -m tgdfer tracking``, however often that is called.
"""

from __future__ import annotations

import getpass
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tgdfer import paths
from tgdfer.params import Params
from tgdfer.progress import log
from tgdfer.provenance import git_revision
from tgdfer.storage import fingerprint, write_json
from tgdfer.tracking import events
from tgdfer.tracking.store import SQLITE, Sink, Store, experiment_of, lock, uri_of

if TYPE_CHECKING:
    from tgdfer.tracking.events import Event

FLUSH_S = 5.0
FLUSH_POINTS = 500


def live(params: Params) -> bool:
    """Whether this process sends to MLflow itself.

    With ``mode: auto`` it does, except in a SLURM job with an SQLite database: its file does not belong on a network
    file system with writers on many machines, so such a job leaves its events for the import.
    """
    if params.tracking.mode == "auto":
        return not (uri_of(params).startswith(SQLITE) and "SLURM_JOB_ID" in os.environ)
    return params.tracking.mode == "live"


def create_store(params: Params) -> None:
    """Make the database and the experiments, import what waits in ``mlflow/events/``, write experiments.json last.

    That file says the same whatever is tracked where: trainings wait for it, and none is to be repeated for it.
    """
    store = Store(params)
    for dataset in params.datasets:
        store.experiment(experiment_of(dataset))
    imported = import_events(store)
    if imported:
        log.info("tracking: %d event files imported", imported)
    if not paths.EXPERIMENTS.exists():
        write_json(paths.EXPERIMENTS, {"made_by": "tgdfer tracking"})


def import_events(store: Store, run: str | None = None) -> int:
    """Send the waiting event files, of one run or all; returns how many.

    The file of an attempt that has not ended stays, unless a later one of the same run has: its job may still be
    writing. Sending it again changes nothing.
    """
    count = 0
    with lock("import"):
        sent: list[Path] = []
        for path in events.pending(run):
            if sent and sent[-1].parent != path.parent:
                sent = []
            sent.append(path)
            count += 1
            if _send(store, path):
                for done in sent:
                    done.unlink(missing_ok=True)
                sent = []
    return count


def _send(store: Store, path: Path) -> bool:
    """Send the events of a file; whether it says that its attempt has ended."""
    sink, ended = None, False
    for event in events.read(path):
        if event["event"] == "start":
            sink = Sink(store, event)
        elif sink is not None:
            sink.apply(event)
            ended = event["event"] == "end"
    return ended


class Tracker:
    """What a training tells about one run. Its methods never raise for MLflow's sake."""

    def __init__(self, params: Params, start: Event) -> None:
        self._params = params
        self._start = start
        self._sink: Sink | None = None
        self._buffer: list[list[Any]] = []
        self._flushed = time.monotonic()
        self._complete = True
        self._earlier = events.pending(start["run"])
        self._journal = events.Journal(events.file_of(start["run"]))
        self._journal.write(start)
        if live(params):
            try:
                self._sink = Sink(Store(params), start)
            except Exception as error:  # whatever MLflow raises, the training goes on
                self._give_up(error)

    @property
    def run_id(self) -> str | None:
        """The id of the run in MLflow; None while its events wait for their import."""
        return self._sink.run_id if self._sink else None

    def metrics(self, values: Mapping[str, float | None], step: int) -> None:
        """Note metrics of a step (an epoch); they are sent in batches."""
        self._buffer += events.points(values, step)
        if len(self._buffer) >= FLUSH_POINTS or time.monotonic() - self._flushed >= FLUSH_S:
            self.flush()

    def artifact(self, path: Path) -> None:
        """Copy a file to the run's artifacts."""
        self._say({"event": "artifact", "path": str(path)})

    def flush(self) -> None:
        """Send what was noted so far."""
        if self._buffer:
            self._say({"event": "metrics", "points": self._buffer})
        self._buffer = []
        self._flushed = time.monotonic()

    def end(self, status: str) -> None:
        """Send the rest and the status (FINISHED, FAILED or KILLED)."""
        self.flush()
        self._say({"event": "end", "status": status, "time": events.now()})
        self._journal.close()
        if not live(self._params):
            return
        try:
            if self._sink is not None and self._complete:
                self._journal.path.unlink(missing_ok=True)
            if events.pending(self._start["run"]):
                # one more try for what could not be sent, and what killed attempts have left
                import_events(Store(self._params), self._start["run"])
            for path in self._earlier:  # sent just now, and older than the attempt that ends here
                path.unlink(missing_ok=True)
        except Exception as error:
            self._give_up(error)

    def _say(self, event: Event) -> None:
        self._journal.write(event)
        if self._sink is not None and self._complete:
            try:
                self._sink.apply(event)
            except Exception as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._complete = False
        reason = " ".join(str(error).split())[:200]
        log.warning(
            "tracking: %s: %s; the run's events are kept in %s, import them with `python -m tgdfer tracking`",
            type(error).__name__,
            reason,
            self._journal.path,
        )


@contextmanager
def run(
    params: Params,
    *,
    dataset: str,
    variant: str,
    fold: int,
    seed: int,
    parameters: Mapping[str, Any],
    tags: Mapping[str, Any],
) -> Iterator[Tracker]:
    """Track one run: a child of its variant's run in the experiment ``tgdfer/<dataset>``.

    A retry of the same run (same name, same ``tags["fingerprint"]``) continues it. The status is FINISHED when the
    block ends well, FAILED when it raises, KILLED when it is interrupted.

    Args:
        params: all parameters; where to, and how.
        dataset: the data set's name.
        variant: the variant's name.
        fold: the fold, from 1.
        seed: the seed.
        parameters: what the run was made with, nested or flat.
        tags: more to search by: fingerprints, the encoder; None is left out.
    """
    name = f"{dataset}/{variant}"
    revision = git_revision()
    own = {
        "kind": "run",
        "dataset": dataset,
        "variant": variant,
        "fold": fold,
        "seed": seed,
        "variant_fingerprint": fingerprint(
            {key: value for key, value in events.flat(parameters).items() if key not in ("fold", "seed")}
        ),
        "dirty": revision["dirty"],
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "mlflow.source.name": shlex.join(["python", "-m", "tgdfer", *sys.argv[1:]]),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": revision["commit"],
        "mlflow.user": _user(),
    }
    start = events.start(
        run=f"{name}/fold{fold}/seed{seed}",
        experiment=experiment_of(dataset),
        name=f"{variant} fold{fold} seed{seed}",
        parameters={**parameters, "fold": fold, "seed": seed},
        tags={**own, **tags},
        parent=name,
    )
    tracker = Tracker(params, start)
    try:
        yield tracker
    except BaseException as error:
        tracker.end("FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    tracker.end("FINISHED")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())
