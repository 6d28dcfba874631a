"""The features stage: every frame goes through the CLIP image encoder once, into a cache that all runs share.

Threads decode and preprocess ahead of the model. Batches have fixed boundaries within a shard, and on a CPU each runs
on one thread: a shard's bytes depend neither on the other shards nor on the number of threads.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from tgdfer.config import dependencies
from tgdfer.config.params import Params
from tgdfer.config.sections import FeaturesParams
from tgdfer.core import paths, storage
from tgdfer.core.determinism import deterministic
from tgdfer.core.devices import choose_device, own_gpu
from tgdfer.core.errors import UserError
from tgdfer.core.progress import Meter, log
from tgdfer.core.record import recorded
from tgdfer.encoders import Encoder, load_encoder
from tgdfer.encoders.precision import choose_dtype
from tgdfer.features import cache as feature_cache
from tgdfer.features.forward import Forward
from tgdfer.features.frame_batches import FrameBatch, ShardTask, decode, read_batches


@own_gpu()
def run(params: Params, dataset: str) -> None:
    """Encode the frames of ``dataset`` with its encoder; whole shards of the same cache are kept.

    Raises:
        UserError: no frames or encoder yet, a frame shard that is not the one of its manifest, or a broken image.
    """
    encoder_name, settings = params.dataset(dataset).encoder, params.features
    frames_file, manifest_file = paths.frames(dataset), paths.features(dataset, encoder_name)
    frames = storage.read_json(frames_file)
    encoder = load_encoder(encoder_name, "cpu")
    devices = _devices(settings.device)
    dtype = choose_dtype(encoder, settings.dtype, devices[0])

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
        ShardTask(frames_file.parent / shard["file"], shard["sha256"], shard["rows"], folder / shard["file"])
        for shard in frames["shards"]
    ]
    todo = [shard for shard in shards if not feature_cache.is_whole(shard.target, cache, shard.sha256)]
    log.info(
        "features of %s by %s: %d of %d shards to do, %s on %s",
        *(dataset, encoder.name, len(todo), len(shards), compute["dtype"], ", ".join(map(str, devices))),
    )
    for path in [manifest_file, *(shard.target for shard in todo)]:
        for part in path.parent.glob(f".{path.name}.*.part"):  # left by a job that was killed
            part.unlink()

    views = 1 + settings.views
    header = {"cache": cache, "encoder": encoder.name, "encoder_fingerprint": encoder.fingerprint}
    work = Encoding(encoder, settings, dtype, header)
    with recorded(made_by, dataset, encoder.name) as numbers:
        if todo:
            started = time.monotonic()
            encode_shards(work, todo, devices, f"features {dataset}")
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
    storage.write_json(manifest_file, manifest)


def _devices(setting: str) -> list[torch.device]:
    """The chosen device, or every GPU where none is named."""
    first = choose_device(setting, "features.device")
    if setting in ("auto", "cuda") and first.type == "cuda":
        return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return [first]


@dataclass(frozen=True)
class Encoding:
    """How frames are encoded; ``header`` goes into every shard."""

    encoder: Encoder
    settings: FeaturesParams
    dtype: torch.dtype
    header: dict[str, Any]

    @property
    def batch(self) -> int:
        """Frames of a batch; with their views they are ``features.batch_size`` images."""
        return max(1, self.settings.batch_size // (1 + self.settings.views))


def encode_shards(work: Encoding, shards: list[ShardTask], devices: list[torch.device], what: str) -> None:
    """Encode ``shards``, each on the first device that is free, and report the progress of ``what``."""
    pending, stop = iter(shards), threading.Event()
    lock = threading.Lock()

    def take() -> Iterator[ShardTask]:
        while not stop.is_set():
            with lock:
                shard = next(pending, None)
            if shard is None:
                return
            yield shard

    threads = max(1, torch.get_num_threads() // len(devices))
    total = sum(-(-shard.rows // work.batch) for shard in shards)
    with deterministic(), Meter(what, total, "batches") as meter, ThreadPoolExecutor(len(devices)) as pool:
        jobs = [pool.submit(_encode, work, take(), device, threads, meter.add, stop) for device in devices]
        try:
            for job in as_completed(jobs):
                job.result()
        finally:
            stop.set()


def _encode(
    work: Encoding,
    shards: Iterable[ShardTask],
    device: torch.device,
    threads: int,
    batch_done: Callable[[], None],
    stop: threading.Event,
) -> None:
    """Encode ``shards`` on one device, ``threads`` threads decoding ahead; write each shard when it is complete."""
    forward = Forward(work.encoder.vision_tower(work.dtype, device), device)
    on_cpu = device.type == "cpu"

    def prepare(batch: FrameBatch) -> torch.Tensor:
        torch.set_num_threads(1)  # of the calling thread: batches run in parallel, each on one core
        images = decode(batch, work.encoder.preprocess, work.settings)
        if on_cpu:
            return forward(images)
        return images.pin_memory() if device.type == "cuda" else images

    source = read_batches(shards, work.batch)
    pool = ThreadPoolExecutor(threads)
    waiting: deque[tuple[FrameBatch, Future[torch.Tensor] | None]] = deque()
    encoded: list[tuple[FrameBatch, torch.Tensor]] = []
    try:
        while not stop.is_set():
            while len(waiting) < 2 * threads and (ahead := next(source, None)):
                waiting.append((ahead, pool.submit(prepare, ahead) if ahead.jpegs else None))
            if not waiting:
                return
            batch, future = waiting.popleft()
            if future is not None:
                prepared = future.result()
                encoded.append((batch, prepared if on_cpu else forward(prepared)))
                batch_done()
            if batch.last:
                _write(work, batch.shard, encoded)
                encoded = []
    finally:
        pool.shutdown(cancel_futures=True)


def _write(work: Encoding, shard: ShardTask, encoded: list[tuple[FrameBatch, torch.Tensor]]) -> None:
    views, dim = 1 + work.settings.views, work.encoder.dim
    clip_ids = [clip_id for batch, _ in encoded for clip_id in batch.clip_ids]
    index = [number for batch, _ in encoded for number in batch.frame_index]
    flat = torch.cat([torch.zeros(0, dim, dtype=torch.float16), *(features.cpu() for _, features in encoded)])
    if not bool(torch.isfinite(flat).all()):
        raise UserError(
            f"{shard.source}: {work.encoder.name} gives features that are not finite in {work.dtype}; "
            "set features.dtype to float32"
        )
    features = flat.view(len(clip_ids), views, dim).permute(1, 0, 2).numpy()
    made_by = {**work.header, "source": shard.sha256}
    feature_cache.write_shard(shard.target, clip_ids, np.array(index, np.int32), features, made_by)
