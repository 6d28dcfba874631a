"""MLflow shows what the files of runs and stages say; what it holds can be deleted and made again at any time.

Only ``update`` writes to MLflow, and nothing waits for it. See docs/tracking.md.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from tgdfer.config.params import Params
from tgdfer.core.errors import UserError
from tgdfer.core.progress import log

EVERY_S = 5.0


def update(params: Params) -> int:
    """Bring MLflow to what the files of the workspace say, however often this is called, also during trainings.

    Returns:
        How many of MLflow's runs were written to.

    Raises:
        UserError: MLflow cannot be reached or written to.
    """
    from tgdfer.tracking.store import Store, line, lock
    from tgdfer.tracking.sync import sync
    from tgdfer.tracking.wanted import wanted

    try:
        with lock():
            runs = wanted(params)
            store = Store(params)
            changed = 0
            for name in dict.fromkeys(run.experiment for run in runs):
                changed += sync(store, store.experiment(name), [run for run in runs if run.experiment == name])
    except UserError:
        raise
    except Exception as error:  # whatever MLflow raises
        raise UserError(
            f"MLflow does not answer as it should ({line(error)}); start it, or correct MLFLOW_TRACKING_URI or "
            "tracking.uri, then run tgdfer tracking: nothing is lost"
        ) from error
    log.info("tracking: %d of %d runs written to MLflow", changed, len(runs))
    return changed


def follow(params: Callable[[], Params]) -> None:
    """Call ``update`` every few seconds until the process is interrupted; a failure is a warning."""
    failed = ""
    while True:
        try:
            update(params())
            failed = ""
        except UserError as error:
            if str(error) != failed:
                log.warning("tracking: %s", error)
            failed = str(error)
        time.sleep(EVERY_S)


def update_after(params: Params) -> None:
    """Call ``update`` after other work, which is not worth less if it fails.

    A SLURM job leaves an SQLite file to the machine that started it, since nodes must not share one over a network.
    """
    from tgdfer.tracking.store import SQLITE, uri_of

    if "SLURM_JOB_ID" in os.environ and uri_of(params).startswith(SQLITE):
        return
    try:
        update(params)
    except UserError as error:
        log.warning("tracking: %s", error)
