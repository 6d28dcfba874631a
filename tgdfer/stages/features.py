"""The features stage: every frame goes through the CLIP image encoder once, into a cache that all runs share."""

import math
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tgdfer.config import dependencies
from tgdfer.config.params import Params
from tgdfer.core import checksums, paths, storage
from tgdfer.core.devices import choose_device, own_gpu
from tgdfer.core.errors import UserError
from tgdfer.core.locks import writes
from tgdfer.core.parts import Part
from tgdfer.core.progress import log, track
from tgdfer.core.record import recorded
from tgdfer.features.shards import is_whole


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
    from tgdfer.encoders import load_encoder
    from tgdfer.encoders.precision import choose_dtype
    from tgdfer.features.elsewhere import write_listed
    from tgdfer.features.encoding import Encoding, encode_shards
    from tgdfer.features.frame_batches import ShardTask

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
