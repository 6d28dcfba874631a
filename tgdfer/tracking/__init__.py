"""MLflow shows what the files of runs and stages say; what it holds can be deleted and made again at any time.

Only ``update`` writes to MLflow, and nothing waits for it. See docs/tracking.md.
"""

import os
import time
from collections.abc import Callable

from filelock import FileLock

from tgdfer.config.params import Params
from tgdfer.config.report import SQLITE
from tgdfer.core import paths
from tgdfer.core.errors import UserError
from tgdfer.core.progress import log
from tgdfer.core.provenance import reason

EVERY_S = 5.0

# MLflow reads these when it is imported
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # a server that is down is noticed in seconds
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines for each run


def update(params: Params) -> int:
    """Bring MLflow to what the files of the workspace say, however often this is called, also during trainings.

    Returns:
        How many of MLflow's runs were written to.

    Raises:
        UserError: MLflow cannot be reached or written to.
    """
    from tgdfer.tracking.server import connected
    from tgdfer.tracking.sync import sync
    from tgdfer.tracking.wanted import wanted

    folder = paths.workspace() / paths.MLFLOW
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):  # one process of a workspace writes at a time
        runs = wanted(params)
        try:
            with connected(params) as client:
                changed = sync(client, params, runs)
        except Exception as error:  # whatever MLflow raises
            raise UserError(
                f"MLflow does not answer as it should ({reason(error)}); start it, or correct MLFLOW_TRACKING_URI or "
                "tracking.uri, then run tgdfer tracking: nothing is lost"
            ) from error
    log.info("tracking: %d of %d runs written to MLflow", changed, len(runs))
    return changed


def follow(params: Callable[[], Params]) -> None:
    """Call ``update`` every few seconds until the process is interrupted; a new failure is a warning."""
    failed = ""
    while True:
        try:
            update(params())
            failed = ""
        except (UserError, OSError) as error:  # a file may be replaced while it is read
            if str(error) != failed:
                log.warning("tracking: %s", error)
            failed = str(error)
        time.sleep(EVERY_S)


def update_after(params: Params) -> None:
    """Call ``update`` at the end of another command; a failure is a warning.

    A SLURM job does not write to an SQLite file, since nodes must not share one over a network.
    """
    if "SLURM_JOB_ID" in os.environ and params.tracking.place.startswith(SQLITE):
        return
    try:
        update(params)
    except (UserError, OSError) as error:
        log.warning("tracking: %s", error)
