"""The features stage: every frame goes through the CLIP image encoder once, into a cache that all runs share.

Threads decode and preprocess ahead of the model. Batches have fixed boundaries within a shard, and on a CPU each one
runs on one thread beside the others: a shard's bytes depend neither on the other shards nor on the number of threads.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from tgdfer.config import dependencies
from tgdfer.config.params import FeaturesParams, Params
from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.core.progress import log, track
from tgdfer.core.record import recorded
from tgdfer.encoders import Encoder, choose_device, load_encoder
from tgdfer.encoders.precision import choose_dtype
from tgdfer.features import cache as feature_cache
from tgdfer.features.cache import FeatureCache, load_features
from tgdfer.features.forward import Forward, repeatable
from tgdfer.features.frame_batches import Batch, Shard, decode, read_batches

__all__ = ["FeatureCache", "encode", "load_features"]


def encode(params: Params, dataset: str) -> None:
    """Encode the frames of ``dataset`` with its encoder; whole shards of the same cache are kept.

    Raises:
        UserError: no frames or encoder yet, a frame shard that is not the one of its manifest, or a broken image.
    """
    frames_file = paths.frames(dataset)
    frames = storage.read_json(frames_file)
    encoder = load_encoder(params.dataset(dataset).encoder, "cpu")
    settings = params.features
    devices = _devices(settings.device)
    dtype = choose_dtype(encoder, settings.dtype, devices[0])
    manifest_file = paths.features(dataset, encoder.name)

    made_by = dependencies.made_by(
        "features",
        dependencies.settings(params, "features", dataset=dataset),
        {"frames": frames["fingerprint"], "encoder": encoder.fingerprint},
    )
    compute = {
        "dtype": str(dtype).removeprefix("torch."),
        "device": devices[0].type,
        "versions": {name: version(name) for name in ("torch", "torchvision", "open_clip_torch")},
    }
    cache = storage.fingerprint({"made_by": made_by, "compute": compute})
    folder = manifest_file.parent / cache[:16]
    shards = [
        Shard(frames_file.parent / shard["file"], shard["sha256"], shard["rows"], folder / shard["file"])
        for shard in frames["shards"]
    ]
    todo = [shard for shard in shards if not feature_cache.is_whole(shard.target, cache, shard.sha256)]
    log.info(
        "features of %s by %s: %d of %d shards to do, %s on %s",
        *(dataset, encoder.name, len(todo), len(shards), compute["dtype"], ", ".join(map(str, devices))),
    )
    for shard in todo:  # what a killed job was writing
        for part in folder.glob(f".{shard.target.name}.*.part"):
            part.unlink()
    views = 1 + settings.views
    total = sum(-(-shard.rows // _frames_per_batch(settings)) for shard in todo)
    header = {"cache": cache, "encoder": encoder.name, "encoder_fingerprint": encoder.fingerprint}
    work = Work(encoder, settings, dtype, header)
    with recorded(made_by, dataset, encoder.name) as numbers:
        started = time.monotonic()
        for _ in track(run(work, todo, devices), f"features {dataset}", total, "batches"):
            pass
        if todo:
            frames_done = sum(shard.rows for shard in todo)
            rate = frames_done / (time.monotonic() - started)
            numbers |= {"frames": frames_done, "shards": len(todo), "frames_per_s": rate, "views": views}

    listed = [
        {
            "file": shard.target.name,
            "frames": shard.rows,
            "rows": shard.rows * views,
            "sha256": storage.file_fingerprint(shard.target),
        }
        for shard in shards
    ]
    manifest = {
        "stage": "features",
        "encoder": encoder.name,
        "encoder_fingerprint": encoder.fingerprint,
        "dim": encoder.dim,
        "dtype": "float16",
        "views": ["plain", *(f"view-{number}" for number in range(1, views))],
        "folder": folder.name,
        "cache": cache,
        "compute": compute,
        "frames": {
            "settings": frames.get("made_by", {}).get("parameters", {}).get("frames"),
            "clip_seconds": frames.get("clip_seconds"),
        },
        "shards": listed,
        "fingerprint": storage.fingerprint([cache, *(shard["sha256"] for shard in listed)]),
        "made_by": made_by,
    }
    for part in manifest_file.parent.glob(f".{manifest_file.name}.*.part"):
        part.unlink()
    storage.write_json(manifest_file, manifest)


def _devices(setting: str) -> list[torch.device]:
    first = choose_device(setting)
    if setting in ("auto", "cuda") and first.type == "cuda":
        return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return [first]


def _frames_per_batch(settings: FeaturesParams) -> int:
    return max(1, settings.batch_size // (1 + settings.views))


@dataclass(frozen=True)
class Work:
    """What is to be done to every frame; ``header`` goes into every shard."""

    encoder: Encoder
    settings: FeaturesParams
    dtype: torch.dtype
    header: dict[str, Any]


def run(work: Work, shards: list[Shard], devices: list[torch.device]) -> Iterator[None]:
    """Encode ``shards``, one stream of batches per device; yields once per batch."""
    if not shards:
        return
    pending, lock = iter(shards), threading.Lock()

    def take() -> Iterator[Shard]:
        while True:
            with lock:
                shard = next(pending, None)
            if shard is None:
                return
            yield shard

    threads = max(1, torch.get_num_threads())
    with repeatable():
        if len(devices) == 1:
            yield from stream(work, take(), devices[0], threads)
        else:
            yield from _beside([stream(work, take(), device, max(1, threads // len(devices))) for device in devices])


def _beside(streams: list[Iterator[None]]) -> Iterator[None]:
    """Run ``streams`` in a thread each; yields whenever one of them does, and raises what one of them raises."""
    done: queue.SimpleQueue[BaseException | bool] = queue.SimpleQueue()
    stop = threading.Event()

    def drain(batches: Iterator[None]) -> None:
        try:
            for _ in batches:
                done.put(True)
                if stop.is_set():
                    return
            done.put(False)
        except BaseException as error:
            done.put(error)

    for batches in streams:
        threading.Thread(target=drain, args=(batches,), daemon=True).start()
    running = len(streams)
    try:
        while running:
            item = done.get()
            if isinstance(item, BaseException):
                raise item
            running -= not item
            if item:
                yield
    finally:
        stop.set()


def stream(work: Work, shards: Iterable[Shard], device: torch.device, threads: int) -> Iterator[None]:
    """Encode ``shards`` on one device, ``threads`` threads decoding ahead; writes each shard when it is complete."""
    tower = work.encoder.vision_tower(work.dtype, device)
    forward = Forward(tower, device)
    on_cpu = device.type == "cpu"

    def prepare(batch: Batch) -> torch.Tensor:
        torch.set_num_threads(1)  # holds for the calling thread: batches run beside each other, each on one core
        images = decode(batch, work.encoder.preprocess, work.settings)
        if on_cpu:
            return forward(images)
        return images.pin_memory() if device.type == "cuda" else images

    pool = ThreadPoolExecutor(threads)
    waiting: deque[tuple[Batch, Future[torch.Tensor] | None]] = deque()
    parts: list[torch.Tensor] = []
    clip_ids: list[str] = []
    frame_index: list[int] = []
    try:
        source = read_batches(shards, _frames_per_batch(work.settings))
        exhausted = False
        while waiting or not exhausted:
            while not exhausted and len(waiting) < 2 * threads:
                batch = next(source, None)
                if batch is None:
                    exhausted = True
                else:
                    waiting.append((batch, pool.submit(prepare, batch) if batch.jpegs else None))
            if not waiting:
                break
            batch, future = waiting.popleft()
            if future is not None:
                result = future.result()
                parts.append(result if on_cpu else forward(result))
                clip_ids += batch.clip_ids
                frame_index += batch.frame_index
            if batch.last:
                _write(work, batch.shard, clip_ids, frame_index, parts)
                parts, clip_ids, frame_index = [], [], []
            if future is not None:
                yield
    finally:
        pool.shutdown(cancel_futures=True)


def _write(work: Work, shard: Shard, clip_ids: list[str], frame_index: list[int], parts: list[torch.Tensor]) -> None:
    views, dim = 1 + work.settings.views, work.encoder.dim
    flat = torch.cat(parts).cpu() if parts else torch.zeros(0, dim, dtype=torch.float16)
    if not bool(torch.isfinite(flat).all()):
        raise UserError(
            f"{shard.source}: {work.encoder.name} gives features that are not finite in {work.dtype}; "
            "set features.dtype to float32"
        )
    features = flat.view(len(clip_ids), views, dim).permute(1, 0, 2).numpy()
    made_by = {**work.header, "source": shard.sha256}
    feature_cache.write_shard(shard.target, clip_ids, np.array(frame_index, np.int32), features, made_by)
