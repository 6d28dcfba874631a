"""The frames stage: clips (videos or image folders) -> Parquet shards of JPEG frames.

All cores work on clips, whose frames are written in order, a few clips at a time, so that memory does not grow with the
data set. A shard records what it was made from, and a later call keeps it if that has not changed. The same input
gives the same bytes, even if calls were killed in between.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.parquet as pq

from tgdfer.config import dependencies
from tgdfer.config.params import Params
from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.core.progress import Meter, log
from tgdfer.core.provenance import cores
from tgdfer.core.record import recorded
from tgdfer.media import ffmpeg, shards, workers
from tgdfer.media.shards import ClipSource, ShardPlan

MANY_FOLDERS = 1000
"""With this many image folders, starting processes pays off."""


def run(params: Params, dataset: str) -> None:
    """Write the frame shards, the rejects and, last, the manifest of ``dataset``.

    Raises:
        UserError: there is no clips table or no data root, or more than ``frames.max_reject_fraction`` of the clips are
            unusable.
    """
    section = params.dataset(dataset)
    params = params.model_copy(update={"frames": params.frames_of(dataset)})
    root, manifest = Path(section.root), paths.frames(dataset)
    if not root.is_dir():
        raise UserError(f"params.yaml: datasets.{dataset}.root: {root}: no such folder")
    clips = _read_clips(dataset, confined=section.links == "inside")
    plans = shards.plan_shards(manifest.parent, clips, params.frames)
    _remove_leftovers(manifest.parent, plans)
    settings = dependencies.settings(params, "frames", dataset=dataset)
    made_by = dependencies.made_by("frames", settings, {"clips": storage.file_fingerprint(paths.clips(dataset))})
    made_by["versions"]["ffmpeg"] = ffmpeg.version(ffmpeg.executable())
    with recorded(made_by, dataset) as metrics:
        started = time.monotonic()
        manifest.unlink(missing_ok=True)  # it describes shards that may be replaced
        written = _update_shards(params, dataset, root, clips, plans)
        seconds = time.monotonic() - started
        records = [storage.made_by(plan.file) for plan in plans]
        _write_rejects(params, dataset, len(clips), records, made_by)
        _write_face_counts(params, dataset, records)
        contents = _write_manifest(params, dataset, plans, records, made_by)
        if written:
            rows = sum(shard["rows"] for shard, plan in zip(contents["shards"], plans, strict=True) if plan in written)
            metrics |= {name: contents[name] for name in ("clips", "frames", "rejects")}
            metrics |= {"shards": len(written), "frames_per_s": rows / seconds}


def _read_clips(dataset: str, confined: bool) -> list[ClipSource]:
    table = storage.read_table(paths.clips(dataset), "clips").select(["clip_id", "source", "kind"])
    return [ClipSource(**row, confined=confined) for row in table.to_pylist()]


def _remove_leftovers(folder: Path, plans: list[ShardPlan]) -> None:
    """Remove half-written files of killed calls, and the shards of a division into another number of shards."""
    files = {plan.file for plan in plans}
    for path in folder.glob("*shard-*.parquet*"):
        if path not in files:
            path.unlink()


def _update_shards(
    params: Params, dataset: str, root: Path, clips: list[ClipSource], plans: list[ShardPlan]
) -> list[ShardPlan]:
    """Write the shards that are missing or outdated; returns them."""
    processes = min(2 * cores(), len(plans))  # more than cores: while some wait for the disk, others work
    only_folders = all(clip.kind == "frames" for clip in clips)
    with Meter(f"{dataset}: frames", len(clips), "clips") as meter:
        if processes > 1 and len(clips) >= MANY_FOLDERS and only_folders:
            written = workers.with_processes(plans, root, params.frames, meter.add, processes)
        else:
            written = workers.with_threads(plans, root, params.frames, meter.add, cores())
    if len(written) < len(plans):
        log.info("%s: %d of %d frame shards are up to date", dataset, len(plans) - len(written), len(plans))
    return written


def _write_rejects(
    params: Params, dataset: str, total: int, records: Iterable[dict[str, Any]], made_by: dict[str, Any]
) -> None:
    """Write the table of rejects and log them; a UserError if there are too many."""
    rejects = sorted((clip_id, reason) for record in records for clip_id, reason in record["rejects"])
    path = paths.frames(dataset).with_name("rejects.parquet")
    columns = {
        "clip_id": [clip_id for clip_id, _ in rejects],
        "stage": ["frames"] * len(rejects),
        "reason": [reason for _, reason in rejects],
    }
    storage.write_table(path, "rejects", columns, made_by)
    for clip_id, reason in rejects[:20]:
        log.warning("%s: clip %s rejected: %s", dataset, clip_id, reason)
    if len(rejects) > 20:
        log.warning("%s: and %d more clips rejected, see rejects.parquet", dataset, len(rejects) - 20)
    allowed = params.frames.max_reject_fraction
    if len(rejects) > allowed * total or len(rejects) == total:
        (reason, count), *_ = Counter(reason for _, reason in rejects).most_common(1) or [("there are no clips", 0)]
        raise UserError(
            f"{path}: {len(rejects)} of {total} clips cannot be used, frames.max_reject_fraction allows {allowed:g}; "
            f"{count} of them: {reason}"
        )


def _write_face_counts(params: Params, dataset: str, records: Iterable[dict[str, Any]]) -> None:
    """Write how many frames of each clip show a face, where faces are cropped."""
    path = paths.frames(dataset).with_name("faces.json")
    if params.frames.crop == "face":
        counts = chain.from_iterable(record["faces"].items() for record in records)
        storage.write_json(path, {clip_id: {"with_face": a, "frames": b} for clip_id, (a, b) in counts})
    else:
        path.unlink(missing_ok=True)


def _write_manifest(
    params: Params, dataset: str, plans: list[ShardPlan], records: list[dict[str, Any]], made_by: dict[str, Any]
) -> dict[str, Any]:
    with ThreadPoolExecutor(cores()) as pool:  # Python hashes large files in threads at the same time
        digests = list(pool.map(storage.file_fingerprint, [plan.file for plan in plans]))
    entries = [
        {"file": plan.file.name, "rows": pq.read_metadata(plan.file).num_rows, "clips": record["clips"], "sha256": sha}
        for plan, record, sha in zip(plans, records, digests, strict=True)
    ]
    seconds = [length for record in records for length in record["seconds"]]
    contents = {
        "stage": "frames",
        "fingerprint": storage.fingerprint(digests),
        "shards": entries,
        "clips": sum(entry["clips"] for entry in entries),
        "frames": sum(entry["rows"] for entry in entries),
        "rejects": sum(len(record["rejects"]) for record in records),
        "clip_seconds": round(median(seconds), 3) if seconds else None,
        "made_by": made_by,
    }
    if params.frames.crop == "face":
        contents["with_face"] = sum(found for record in records for found, _ in record["faces"].values())
    storage.write_json(paths.frames(dataset), contents)
    log.info(
        "%s: %d frames of %d clips in %d shards, %d clips rejected",
        *(dataset, contents["frames"], contents["clips"], len(entries), contents["rejects"]),
    )
    return contents
