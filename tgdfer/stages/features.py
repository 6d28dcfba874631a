"""The features stage: every frame goes through the CLIP image encoder once, into a cache that all runs share.

Threads decode and preprocess ahead of the model. Batches have fixed boundaries within a shard, and on a CPU each runs
on one thread: a shard's bytes depend neither on the other shards nor on the number of threads.
"""

import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tgdfer.config import dependencies
from tgdfer.config.data import FeaturesParams
from tgdfer.config.params import Params
from tgdfer.core import checksums, paths, storage
from tgdfer.core.determinism import deterministic
from tgdfer.core.devices import choose_device, own_gpu
from tgdfer.core.errors import UserError
from tgdfer.core.locks import writes
from tgdfer.core.parts import Part
from tgdfer.core.progress import Meter, log, track
from tgdfer.core.record import recorded
from tgdfer.encoders import Encoder, VisionTower, load_encoder
from tgdfer.encoders.precision import choose_dtype
from tgdfer.features.elsewhere import write_listed
from tgdfer.features.forward import Forward
from tgdfer.features.frame_batches import FrameBatch, ShardTask, decode, read_batches
from tgdfer.features.shards import is_whole, write_shard


def _outputs(params: Params, dataset: str, part: Part | None = None, lists: Sequence[Path] = ()) -> list[Path]:
    manifest = paths.features(dataset, params.dataset(dataset).encoder)
    return [part.list_of(manifest) if part else manifest]


@own_gpu()
@writes(_outputs)
def run(params: Params, dataset: str, part: Part | None = None) -> None:
    """Encode the frames of ``dataset`` with its encoder, or read its feature files; whole shards are kept.

    Several jobs may share the work: each calls this with its ``part``, which encodes its shards and lists them in a
    manifest; ``join`` makes one manifest of them. The files are the same.

    Raises:
        UserError: no frames or encoder yet, a frame shard that is not the one of its manifest, or a broken image.
    """
    section, settings = params.dataset(dataset), params.features
    frames_file, manifest_file = paths.frames(dataset), paths.features(dataset, section.encoder)
    frames, described = storage.read_sealed(frames_file), storage.read_sealed(paths.encoder(section.encoder))
    chosen = dependencies.settings(params, "features", dataset=dataset)
    inputs = {"frames": frames["fingerprint"], "encoder": described["fingerprint"]}
    made_by, keep = dependencies.made_by("features", chosen, inputs), None
    if section.features == "files":
        views, compute = 1, {"dtype": "float32", "device": "cpu", "versions": {}}
    else:
        encoder = load_encoder(section.encoder, "cpu")
        device = choose_device(settings.device, "features.device")
        dtype = choose_dtype(encoder, settings.dtype, device)
        views, keep = 1 + settings.views, settings.keep
        shape = encoder.token_shape(keep) if keep else [0]
        compute = {
            "dtype": str(dtype).removeprefix("torch."),
            "device": device.type,
            "versions": {name: version(name) for name in ("torch", "torchvision", "open_clip_torch")},
        }
    # features do not depend on what else is kept
    own = {key: value for key, value in chosen["features"].items() if key != "keep"}
    cache = storage.fingerprint({"made_by": {**made_by, "parameters": {**chosen, "features": own}}, "compute": compute})
    folder = manifest_file.parent / cache[:16]
    kept = storage.fingerprint({"cache": cache, "block": keep})
    beside = manifest_file.parent / kept[:16] if keep else None
    shards = [
        ShardTask(
            source,
            shard["sha256"],
            shard["rows"],
            folder / f"{source.stem}.arrow",
            beside and beside / f"{source.stem}.arrow",
        )
        for shard in (part.of(frames["shards"]) if part else frames["shards"])
        for source in [frames_file.parent / shard["file"]]
    ]
    todo = [
        shard
        for shard in shards
        if not (
            is_whole(shard.target, cache, shard.sha256)
            and (shard.tokens is None or is_whole(shard.tokens, kept, shard.sha256))
        )
    ]
    log.info(
        "features of %s by %s: %d of %d shards to do, %s on %s",
        *(dataset, section.encoder, len(todo), len(shards), compute["dtype"], compute["device"]),
    )
    if keep:
        rows = views * sum(shard.rows for shard in shards)
        log.info(
            "%s: tokens after block %d take %.3f GB: %d frames of %s numbers in float16",
            *(dataset, keep, 2 * rows * math.prod(shape) / 1e9, rows, " x ".join(map(str, shape))),
        )
    for shard in todo:
        for target in filter(None, (shard.target, shard.tokens)):
            for leftover in target.parent.glob(f".{target.name}.*.part"):  # of a job that was killed
                leftover.unlink()

    header = {"cache": cache, "encoder": section.encoder, "encoder_fingerprint": described["fingerprint"]}
    with recorded(made_by, dataset, section.encoder) as numbers:
        if todo:
            started = time.monotonic()
            if section.features == "files":
                for shard in track(todo, f"features {dataset}", unit="shards"):
                    write_listed(shard.source, Path(section.root), described["dim"], shard.target, header, shard.sha256)
            else:
                work = Encoding(encoder, settings, dtype, header, keep, kept)
                encode_shards(work, todo, device, f"features {dataset}")
            frames_done = sum(shard.rows for shard in todo)
            rate = frames_done / (time.monotonic() - started)
            numbers |= {"frames": frames_done, "shards": len(todo), "frames_per_s": rate, "views": views}

    def entries(files: Sequence[Path]) -> list[dict[str, Any]]:
        counted = zip(files, shards, strict=True)
        return [{**checksums.entry(file), "frames": one.rows, "rows": one.rows * views} for file, one in counted]

    listed = entries([shard.target for shard in shards])
    manifest = {
        "stage": "features",
        "encoder": section.encoder,
        "encoder_fingerprint": described["fingerprint"],
        "dim": described["dim"],
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
        "fingerprint": _fingerprint(cache, listed),
        "made_by": made_by,
    }
    if beside:
        others = entries([shard.tokens for shard in shards if shard.tokens])
        manifest["tokens"] = {
            "block": keep,
            "shape": shape,
            "folder": beside.name,
            "cache": kept,
            "shards": others,
            "fingerprint": _fingerprint(kept, others),
        }
    storage.write_sealed(part.list_of(manifest_file) if part else manifest_file, manifest)


@writes(lambda params, dataset, lists: _outputs(params, dataset))
def join(params: Params, dataset: str, lists: Sequence[Path]) -> None:
    """Write the manifest of ``dataset`` from the ``lists`` of all parts.

    Raises:
        UserError: the parts have other frames or another encoder than there are now, do not have all shards, or were
            encoded in different ways.
    """
    encoder_name = params.dataset(dataset).encoder
    frames, encoder = storage.read_sealed(paths.frames(dataset)), storage.read_sealed(paths.encoder(encoder_name))
    first, *others = parts = [storage.read_sealed(path) for path in lists]
    for path, other in zip(lists[1:], others, strict=True):
        if other["cache"] != first["cache"] or other.get("tokens", {}).get("cache") != first.get("tokens", {}).get(
            "cache"
        ):
            kinds = [f"{made['compute']['dtype']} on {made['compute']['device']}" for made in (first, other)]
            raise UserError(
                f"{lists[0]} and {path}: encoded in different ways ({kinds[0]}, {kinds[1]}); if the nodes differ, set "
                "features.dtype and features.device"
            )
    shards = {shard["file"]: shard for made in parts for shard in made["shards"]}
    inputs = {"frames": frames["fingerprint"], "encoder": encoder["fingerprint"]}
    if first["made_by"]["inputs"] != inputs or len(shards) != len(frames["shards"]):
        raise UserError(f"{lists[0].parent}: the parts lack the features of some frames; run all parts again")
    whole = {**first, **_joined(parts)}
    if "tokens" in first:
        whole["tokens"] = {**first["tokens"], **_joined([made["tokens"] for made in parts])}
    storage.write_sealed(paths.features(dataset, encoder_name), whole)


def _joined(caches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The shards of all parts of a cache, and their fingerprint."""
    listed = sorted((shard for cache in caches for shard in cache["shards"]), key=lambda shard: shard["file"])
    return {"shards": listed, "fingerprint": _fingerprint(caches[0]["cache"], listed)}


def _fingerprint(cache: str, listed: Sequence[Mapping[str, Any]]) -> str:
    return storage.fingerprint([cache, *(shard["sha256"] for shard in listed)])


@dataclass(frozen=True)
class Encoding:
    """How frames are encoded; ``header`` goes into every shard."""

    encoder: Encoder
    settings: FeaturesParams
    dtype: torch.dtype
    header: dict[str, Any]
    keep: int | None
    """The block after which tokens are kept."""
    kept: str
    """The cache of the tokens."""

    def tower(self, device: torch.device) -> VisionTower:
        """The image tower; with tokens, they follow each feature."""
        if self.keep is None:
            return self.encoder.vision_tower(self.dtype, device)
        return self.encoder.token_tower(self.keep, True, self.dtype, device)

    @property
    def batch(self) -> int:
        """Frames of a batch; with their views they are ``features.batch_size`` images."""
        return max(1, self.settings.batch_size // (1 + self.settings.views))


def encode_shards(work: Encoding, shards: list[ShardTask], device: torch.device, what: str) -> None:
    """Encode ``shards``, threads decoding ahead, and report the progress of ``what``; each is written when complete."""
    total = sum(-(-shard.rows // work.batch) for shard in shards)
    with deterministic(), Meter(what, total, "batches") as meter:
        _encode(work, shards, device, meter)


def _encode(work: Encoding, shards: list[ShardTask], device: torch.device, meter: Meter) -> None:
    threads = torch.get_num_threads()
    forward = Forward(work.tower(device), device)
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
    writer: _Writer | None = None
    try:
        while True:
            while len(waiting) < 2 * threads and (ahead := next(source, None)):
                waiting.append((ahead, pool.submit(prepare, ahead) if ahead.jpegs else None))
            if not waiting:
                return
            batch, future = waiting.popleft()
            writer = writer or _Writer(work, batch.shard)
            if future is not None:
                prepared = future.result()
                writer.add(batch, (prepared if on_cpu else forward(prepared)).cpu())
                meter.add()
            if batch.last:
                writer.write()
                writer = None
    finally:
        pool.shutdown(cancel_futures=True)
        if writer:
            writer.close()


class _Writer:
    """Collects the features of a shard, and its tokens in a file: they are too many for the memory."""

    def __init__(self, work: Encoding, shard: ShardTask) -> None:
        self.work, self.shard, self.views = work, shard, 1 + work.settings.views
        # not the batches: their JPEGs are too many for the memory
        self.clip_ids: list[str] = []
        self.index: list[int] = []
        self.features = [torch.zeros(0, work.encoder.dim, dtype=torch.float16)]
        self.tokens: np.ndarray | None = None
        self.rows = 0
        self.scratch = shard.tokens and shard.tokens.with_name(f".{shard.tokens.name}.tokens.part")

    def add(self, batch: FrameBatch, encoded: torch.Tensor) -> None:
        """Add the float16 rows of a batch, the views of a frame next to each other."""
        if not bool(torch.isfinite(encoded).all()):
            raise UserError(
                f"{self.shard.source}: {self.work.encoder.name} gives features that are not finite in "
                f"{self.work.dtype}; set features.dtype to float32"
            )
        self.clip_ids += batch.clip_ids
        self.index += batch.frame_index
        dim, frames = self.work.encoder.dim, len(batch.jpegs)
        self.features.append(encoded[:, :dim].clone())  # without the tokens, which it would hold in memory
        if self.scratch:
            if self.tokens is None:
                self.scratch.parent.mkdir(parents=True, exist_ok=True)
                shape = self.views, self.shard.rows, encoded.shape[1] - dim
                self.tokens = np.memmap(self.scratch, np.float16, "w+", shape=shape)
            tokens = encoded[:, dim:].view(frames, self.views, -1).permute(1, 0, 2).numpy()
            self.tokens[:, self.rows : self.rows + frames] = tokens
        self.rows += frames

    def write(self) -> None:
        """Write the shard, and that of its tokens."""
        clip_ids, index = self.clip_ids, np.array(self.index, np.int32)
        features = torch.cat(self.features).view(len(clip_ids), self.views, self.work.encoder.dim).permute(1, 0, 2)
        made_by = {**self.work.header, "source": self.shard.sha256}
        write_shard(self.shard.target, clip_ids, index, features.numpy(), made_by)
        if self.shard.tokens:
            size = math.prod(self.work.encoder.token_shape(self.work.keep or 1))
            tokens = np.zeros((self.views, 0, size), np.float16) if self.tokens is None else self.tokens
            write_shard(self.shard.tokens, clip_ids, index, tokens, {**made_by, "cache": self.work.kept})
        self.close()

    def close(self) -> None:
        """Remove the file."""
        self.tokens = None
        if self.scratch:
            self.scratch.unlink(missing_ok=True)
