"""The train stage: every fold and seed of a variant in one process; finished runs are kept, broken-off ones resumed."""

from __future__ import annotations

import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tgdfer.config.params import Params
from tgdfer.core import storage
from tgdfer.core.determinism import derive, deterministic
from tgdfer.core.devices import choose_device, own_gpu
from tgdfer.core.monitor import Monitor
from tgdfer.core.progress import log, track
from tgdfer.evaluation import metrics
from tgdfer.model import build_model
from tgdfer.runs import files as runs
from tgdfer.runs.state import Expected, write_summary
from tgdfer.training.description import describe
from tgdfer.training.distributed import Group, joined
from tgdfer.training.engine import Engine, RunError, Stopped
from tgdfer.training.evaluation import frames_and_relevance
from tgdfer.training.folds import FoldBags, Inputs, check_folds, load_inputs, make_fold
from tgdfer.training.vectors import vectors
from tgdfer.training.weights import own_state

if TYPE_CHECKING:
    from tgdfer.encoders import Encoder

FAILED = 1
"""Exit code: at least one run has no result."""
INTERRUPTED = 75
"""Exit code (EX_TEMPFAIL): a signal asked to stop; the same command goes on where it stopped."""
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""What batch systems send before they kill."""


@own_gpu()
def run(
    params: Params,
    dataset: str,
    variant: str,
    folds: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
) -> int:
    """Train and evaluate ``variant`` on ``dataset``; by default on all folds, with the seeds of the parameters.

    A run whose parameters, inputs and code are as when it finished is kept. summary.json is written when all runs of
    the variant are done, also those of folds and seeds that this call did not ask for.

    Returns:
        The exit code: 0, ``FAILED`` or ``INTERRUPTED``.

    Raises:
        UserError: a name is unknown, an earlier stage has not run, or a fold has no training or no test clips.
    """
    chosen = params.run(variant)
    device = choose_device(chosen.training.device, "training.device")
    inputs = load_inputs(params, dataset)
    check_folds(inputs, folds if folds is not None else list(inputs.folds))
    encoder_name = params.dataset(dataset).encoder
    expected = Expected(params, dataset)
    wanted = [
        runs.Key(dataset, variant, fold, seed)
        for fold in (folds if folds is not None else inputs.folds)
        for seed in (seeds if seeds is not None else params.seeds)
    ]
    failed: dict[runs.Key, str] = {}
    with joined(device) as group, deterministic(chosen.training.threads), _stop_signals() as stopped:
        done = group.gather([expected.state(key).done for key in wanted])[0]
        todo = [key for key, finished in zip(wanted, done, strict=True) if not finished]
        if len(todo) < len(wanted):
            log.info(
                "%s/%s: %d of %d runs are finished already", dataset, variant, len(wanted) - len(todo), len(wanted)
            )
        encoder = _load_encoder(encoder_name, device) if todo and chosen.model.uses_text else None
        for key in track(todo, f"{dataset}/{variant}", unit="runs") if todo and group.first else todo:
            try:
                _one_run(params, inputs, key, expected.made_by(key), encoder, device, stopped, group)
            except RunError as reason:
                log.error("%s: failed: %s", key, reason)
                failed[key] = str(reason)
                key.checkpoint.unlink(missing_ok=True)
            except Stopped:
                log.warning("%s: stopped by a signal; run the same command to go on", key)
                return INTERRUPTED
        if group.first:
            every = [runs.Key(dataset, variant, fold, seed) for fold in inputs.folds for seed in params.seeds]
            if not write_summary(expected, every, failed):
                log.info(
                    "%s/%s: other folds or seeds are still to be run; then the summary is written", dataset, variant
                )
    return FAILED if failed else 0


def _one_run(
    params: Params,
    inputs: Inputs,
    key: runs.Key,
    about: dict[str, Any],
    encoder: Encoder | None,
    device: torch.device,
    stopped: Callable[[], bool],
    group: Group,
) -> None:
    run = params.run(key.variant)
    fold = make_fold(inputs, key.fold, run.bags, run.training.validation_fraction, device)
    torch.manual_seed(derive(key.seed, key.fold, "weights"))
    model = build_model(run.model, inputs.classes, inputs.cache.dim, encoder)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    engine = Engine(model, fold, run, key.seed, device, key.checkpoint, runs.run_fingerprint(about), stopped, group)
    if not group.first:
        engine.run()
        return
    with runs.attempt(key, about) as record, Monitor(partial(storage.append_line, key.folder / runs.SYSTEM)):
        engine.run(partial(storage.append_line, key.folder / "history.jsonl"))
        result = _metrics(key, inputs.classes, fold, engine)
        seconds = engine.seconds
        record |= {
            "encoder": inputs.cache.encoder,
            "seconds": round(seconds, 3),
            "peak_memory_mb": _peak_memory_mb(device),
            "device": str(device),
            "processes": group.size,
        }
        runs.write(
            key,
            about,
            result,
            _predictions(key, inputs.classes, fold, engine),
            vectors(engine.model, engine.test_parts, np.asarray(fold.test_labels)),
            own_state(model),
            describe(key.dataset, inputs.cache.encoder, about, model, inputs.cache.dim, run.bags.frames),
            record,
        )
        key.checkpoint.unlink(missing_ok=True)
    last = result["selections"]["last"]
    log.info(
        "%s: %d epochs in %.1f s; last epoch UAR %.1f %%, WAR %.1f %%",
        *(key, last["epoch"], seconds, 100 * last["uar"], 100 * last["war"]),
    )


def _metrics(key: runs.Key, classes: list[str], fold: FoldBags, engine: Engine) -> dict[str, Any]:
    return {
        "dataset": key.dataset,
        "variant": key.variant,
        "fold": key.fold,
        "seed": key.seed,
        "classes": classes,
        "n_train": int(fold.train_counts.sum()),
        "n_val": len(fold.validation_labels),
        "n_test": len(fold.test_ids),
        "parameters_trainable": sum(parameter.numel() for parameter in engine.trainable),
        "selections": {
            name: {"epoch": chosen.epoch, **metrics.evaluate(chosen.scores.probabilities, fold.test_labels, classes)}
            for name, chosen in sorted(engine.selections.items())
        },
    }


def _predictions(key: runs.Key, classes: list[str], fold: FoldBags, engine: Engine) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        name: [] for name in ("clip_id", "fold", "selection", "label", "probabilities", "frame_index", "relevance")
    }
    for name, chosen in sorted(engine.selections.items()):
        columns["clip_id"] += fold.test_ids
        columns["fold"] += [key.fold] * len(fold.test_ids)
        columns["selection"] += [name] * len(fold.test_ids)
        columns["label"] += [classes[label] for label in fold.test_labels]
        columns["probabilities"] += list(chosen.scores.probabilities)
        for column, values in frames_and_relevance(engine.test_parts, chosen.scores).items():
            columns[column] += values
    return columns


def _peak_memory_mb(device: torch.device) -> float:
    """On a GPU what this run allocated there, else what the process held at most."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def _load_encoder(name: str, device: torch.device) -> Encoder:
    from tgdfer.encoders import load_encoder

    return load_encoder(name, str(device))


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """A function that says whether one of ``SIGNALS`` has come since; handlers are as before afterwards."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event.is_set
        return
    before = {number: signal.signal(number, lambda *_: event.set()) for number in SIGNALS}
    try:
        yield event.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
