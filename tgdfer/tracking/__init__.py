"""MLflow tracking: every stage that computes and every training leaves a run, live or through files imported later.

Tracking never decides a result and never ends a stage: what cannot be sent is warned of, stays in ``mlflow/events/``
and is imported by ``python -m tgdfer tracking``, however often that is called. See docs/tracking.md.
"""

from __future__ import annotations

import getpass
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tgdfer.config.params import Params
from tgdfer.core.errors import UserError
from tgdfer.core.progress import log
from tgdfer.core.provenance import git_revision
from tgdfer.core.storage import fingerprint
from tgdfer.tracking import events
from tgdfer.tracking.imports import import_events, line
from tgdfer.tracking.store import Store, experiment_of, sends
from tgdfer.tracking.tracker import Tracker

if TYPE_CHECKING:
    from tgdfer.tracking.events import Event

__all__ = ["Tracker", "broke_off", "create_store", "import_waiting", "run", "stage"]


def create_store(params: Params) -> None:
    """Make the database and the experiments, import what waits in ``mlflow/events/``, write experiments.json last.

    That file says the same whatever is tracked where: trainings wait for it, and none is to be repeated for it.

    Raises:
        UserError: MLflow is away.
    """
    try:
        store = Store(params)
        for dataset in (None, *params.datasets):
            store.experiment(experiment_of(params, dataset))
        imported = import_events(store)
    except Exception as error:  # whatever MLflow raises
        raise UserError(
            f"MLflow does not answer as it should ({line(error)}); start it, or correct MLFLOW_TRACKING_URI or "
            "tracking.uri; what waits is kept"
        ) from error
    if imported:
        log.info("tracking: %d event files imported", imported)


def import_waiting(params: Params) -> None:
    """Send what waits, if there is anything and this process may send; warns of what fails."""
    if not sends(params) or not events.pending():
        return
    try:
        create_store(params)
    except Exception as error:  # a full disk too
        log.warning("tracking: %s", line(error))


def broke_off(run: str) -> bool:
    """Whether the latest attempt at ``run``, a :attr:`Tracker.name`, waits for the import and has told no end."""
    waiting = events.pending(run)
    try:
        return bool(waiting) and not any(event["event"] == "end" for event in events.read(waiting[-1]))
    except (OSError, ValueError):  # sent meanwhile, or damaged
        return False


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
    """Track a training: a child of its variant's run in the experiment ``<project>/<dataset>``.

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
    flat = {key: value for key, value in events.flat(parameters).items() if key not in ("fold", "seed")}
    own = {
        "kind": "run",
        "dataset": dataset,
        "variant": variant,
        "fold": fold,
        "seed": seed,
        "variant_fingerprint": fingerprint(flat),
        "mlflow.note.content": _described(params, variant),
    }
    start = events.start(
        run=f"{name}/fold{fold}/seed{seed}",
        experiment=experiment_of(params, dataset),
        name=f"{variant} fold{fold} seed{seed}",
        parameters={"variant": variant, **parameters, "fold": fold, "seed": seed},
        tags={**own, **_circumstances(), **tags},
        parent=name,
    )
    with _tracked(params, start, worked=True) as tracker:
        yield tracker


@contextmanager
def stage(
    params: Params, made_by: Mapping[str, Any], *, dataset: str | None = None, encoder: str | None = None
) -> Iterator[Tracker]:
    """Track a stage that computes: a run in the experiment ``<project>-stages``, unless it tells no metrics.

    A repetition with the same parameters, inputs and code continues its run; one that finds nothing to do tells no
    metrics and leaves none.

    Args:
        params: all parameters.
        made_by: from :func:`tgdfer.stages.made_by`: the stage, its parameters, fingerprints of inputs and code.
        dataset: the data set that it works on, if it is of one.
        encoder: the encoder that it makes or uses, if any.
    """
    subjects = [name for name in (dataset, encoder) if name]
    own = {
        "kind": "stage",
        "stage": made_by["stage"],
        "dataset": dataset,
        "encoder": encoder,
        "fingerprint": fingerprint({key: made_by[key] for key in ("parameters", "inputs", "code")}),
        "code": made_by["code"],
        **{f"input.{name}": value for name, value in made_by["inputs"].items()},
    }
    start = events.start(
        run="/".join(["stages", made_by["stage"], *subjects]),
        experiment=experiment_of(params, None),
        name=" ".join([made_by["stage"], *subjects]),
        parameters=made_by["parameters"],
        tags={**own, **_circumstances()},
    )
    with _tracked(params, start, worked=False) as tracker:
        yield tracker


@contextmanager
def _tracked(params: Params, start: Event, worked: bool) -> Iterator[Tracker]:
    tracker = Tracker(params, start, worked)
    try:
        yield tracker
    except BaseException as error:
        tracker.end("FAILED" if isinstance(error, Exception) else "KILLED", error)
        raise
    tracker.end("FINISHED")


def _circumstances() -> dict[str, Any]:
    """Tags that say how a run came to be; those that MLflow knows fill the UI's columns."""
    revision = git_revision()
    return {
        "dirty": revision["dirty"],
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "mlflow.source.name": shlex.join(["python", "-m", "tgdfer", *sys.argv[1:]]),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": revision["commit"],
        "mlflow.user": _user(),
    }


def _described(params: Params, variant: str) -> str | None:
    """The variant's name in print, and what it changes."""
    if variant not in params.variants:
        return None
    about = params.variants[variant]
    changes = events.flat(about.set.model_dump(exclude_defaults=True))
    return about.label + "".join(f"\n\n{key} = {value}" for key, value in sorted(changes.items()))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())
