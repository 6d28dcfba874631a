"""The train stage: all folds and seeds of a variant; finished runs are kept, interrupted ones resumed."""

from __future__ import annotations

import errno
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from tgdfer.config.params import Params
from tgdfer.core import paths, storage
from tgdfer.core.allocation import map_large_blocks
from tgdfer.core.determinism import derive, deterministic
from tgdfer.core.devices import choose_device, own_gpu
from tgdfer.core.locks import only_writer
from tgdfer.core.monitor import Monitor
from tgdfer.core.progress import log, track
from tgdfer.evaluation import metrics
from tgdfer.model import build_model
from tgdfer.runs import files as runs
from tgdfer.runs.state import Expected, write_summary
from tgdfer.training.description import describe
from tgdfer.training.engine import Engine, RunError, Stopped
from tgdfer.training.evaluation import batches, shown_frames
from tgdfer.training.folds import FoldBags, Inputs, check_folds, check_views, load_inputs, make_fold
from tgdfer.training.vectors import chosen, vectors
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
    again: bool = False,
) -> int:
    """Train and evaluate ``variant`` on ``dataset``; by default on all folds, with the seeds of the parameters.

    A run whose parameters, inputs and code are as when it finished is kept, unless ``again``. A call for all folds and
    seeds writes summary.json when all runs are done.

    Returns:
        The exit code: 0, ``FAILED`` or ``INTERRUPTED``.

    Raises:
        UserError: a name is unknown, an earlier stage has not run, or a fold has no training or no test clips.
    """
    map_large_blocks()
    chosen = params.run(variant, dataset)
    device = choose_device(chosen.training.device, "training.device")
    inputs = load_inputs(params, dataset, tokens=chosen.model.adapts)
    check_folds(inputs, folds if folds is not None else list(inputs.folds))
    check_views(inputs, chosen.training.test_views)
    encoder_name = params.dataset(dataset).encoder
    storage.read_sealed(paths.encoder(encoder_name))  # an early error if the stage of the encoder has not run
    expected = Expected(params, dataset)
    wanted = [
        runs.Key(dataset, variant, fold, seed)
        for fold in (folds if folds is not None else inputs.folds)
        for seed in (seeds if seeds is not None else params.seeds)
    ]
    failed: dict[runs.Key, str] = {}

    def stop_if() -> None:
        if stopped():
            raise Stopped

    with deterministic(chosen.training.threads), _stop_signals() as stopped:
        todo = [key for key in wanted if again or not expected.state(key).done]
        if len(todo) < len(wanted):
            log.info(
                "%s/%s: %d of %d runs are finished already", dataset, variant, len(wanted) - len(todo), len(wanted)
            )
        encoder = _load_encoder(encoder_name, device) if todo and chosen.model.uses_encoder else None
        for key in track(todo, f"{dataset}/{variant}", unit="runs") if todo else ():
            if again:
                key.checkpoint.unlink(missing_ok=True)
            try:
                with only_writer(key.folder, key.checkpoint, waiting=stop_if):
                    if again or not expected.state(key).done:  # by another process, for which this one waited
                        _one_run(params, inputs, key, expected.made_by(key), encoder, device, stopped)
            except RunError as reason:
                log.error("%s: failed: %s", key, reason)
                failed[key] = str(reason)
                key.checkpoint.unlink(missing_ok=True)
            except Exception as error:
                if not _disk_is_full(error):
                    raise
                failed[key] = "no space left on the disk"
                log.error("%s: failed: %s; with more space the same command goes on", key, failed[key])
            except Stopped:
                log.warning("%s: stopped by a signal; run the same command to go on", key)
                return INTERRUPTED
        if folds is None and seeds is None:
            write_summary(expected, wanted, failed)
        elif todo:
            paths.variant(dataset, variant).unlink(missing_ok=True)  # it lists what these runs were before
    return FAILED if failed else 0


def _disk_is_full(error: Exception) -> bool:
    """Whether ``error`` is Python's, torch's or safetensors' way of saying so."""
    said = ("No space left", "quota exceeded", "file write failed")
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(text in str(error) for text in said)


def _one_run(
    params: Params,
    inputs: Inputs,
    key: runs.Key,
    about: dict[str, Any],
    encoder: Encoder | None,
    device: torch.device,
    stopped: Callable[[], bool],
) -> None:
    run = params.run(key.variant, key.dataset)
    fold = make_fold(inputs, key.fold, run, key.seed)
    torch.manual_seed(derive(key.seed, key.fold, "weights"))
    dim = encoder.dim if encoder and inputs.block else inputs.cache.dim
    model = build_model(run.model, inputs.classes, dim, encoder, inputs.block)
    if model.adaptation is not None:
        model.adaptation.recompute = run.training.recompute
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    engine = Engine(model, fold, run, key.seed, device, key.checkpoint, runs.run_fingerprint(about), stopped)
    with runs.attempt(key, about) as record, Monitor(partial(storage.append_line, key.folder / runs.SYSTEM)):
        engine.run(partial(storage.append_line, key.folder / "history.jsonl"))
        result = _metrics(key, inputs.classes, fold, engine)
        seconds = engine.seconds
        record |= {
            "encoder": inputs.cache.encoder,
            "seconds": round(seconds, 3),
            "peak_memory_mb": _peak_memory_mb(device),
            "device": str(device),
        }
        runs.write(
            key,
            about,
            result,
            _predictions(key, inputs.classes, fold, engine),
            vectors(engine.model, fold.test.batch(torch.from_numpy(chosen(fold.test_labels)), None, device)),
            own_state(model),
            describe(key.dataset, inputs.cache.encoder, about, model, dim, run.bags.frames, inputs.block),
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
        "n_test": len(fold.test),
        "parameters_trainable": sum(parameter.numel() for parameter in engine.trainable),
        "selections": {
            name: {"epoch": chosen.epoch, **metrics.evaluate(chosen.scores.probabilities, fold.test_labels, classes)}
            for name, chosen in sorted(engine.selections.items())
        },
    }


def _predictions(key: runs.Key, classes: list[str], fold: FoldBags, engine: Engine) -> pa.Table:
    """The rows of all test clips, selection after selection; padding is left out."""
    mask, frames = shown_frames(batches(fold.test, engine.device))
    clips = len(fold.test)
    columns: dict[str, Any] = {
        "clip_id": fold.test.clip_ids,
        "fold": np.full(clips, key.fold, np.int32),
        "label": [classes[label] for label in fold.test_labels],
        "frame_index": _lists(frames[mask], mask.sum(axis=1)),
    }
    tables = []
    for name, selected in sorted(engine.selections.items()):
        columns["selection"] = [name] * clips
        columns["probabilities"] = _lists(selected.scores.probabilities.ravel(), np.full(clips, len(classes)))
        columns["relevance"] = _lists(selected.scores.relevance[mask], mask.sum(axis=1))
        tables.append(pa.table(columns))
    return pa.concat_tables(tables).select(storage.SCHEMAS["predictions"].names).combine_chunks()


def _lists(values: np.ndarray, lengths: np.ndarray) -> pa.ListArray:
    """``values``, cut into lists of these ``lengths``."""
    return pa.ListArray.from_arrays(np.cumsum([0, *lengths]).astype(np.int32), values)


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
