"""The frames stage: clips (videos or image folders) -> Parquet shards of JPEG frames.

All cores work on clips, whose frames are written in order, a few clips at a time, so that memory does not grow with the
data set. A shard is written whole or not at all, and says in its metadata what it was made from; a later call keeps it
if that is still so. The same input gives the same bytes, killed in between or not.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
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
from tgdfer.media import ffmpeg, shards
from tgdfer.media.shards import Clip, Shard
from tgdfer.media.workforce import Processes, Threads, Workforce

MANY = 1000
"""With so many image folders it pays to start processes."""


def shard_of(clip_id: str, shards: int) -> int:
    """The shard that a clip belongs to, by a hash of its id."""
    return int(hashlib.sha256(clip_id.encode()).hexdigest()[:8], 16) % shards


def extract(params: Params, dataset: str) -> None:
    """The frames stage: write the shards, the rejects and, last, the manifest of ``dataset``.

    Raises:
        UserError: no clips table, no data root, or more than ``frames.max_reject_fraction`` of the clips are unusable.
    """
    section = params.dataset(dataset)
    params = params.model_copy(update={"frames": params.frames_of(dataset)})
    root = Path(section.root)
    if not root.is_dir():
        raise UserError(f"params.yaml: datasets.{dataset}.root: {root}: no such folder")
    table = storage.read_table(paths.clips(dataset), "clips")
    rows = zip(*(table.column(name).to_pylist() for name in ("clip_id", "source", "kind")), strict=True)
    confined = section.links == "inside"
    clips = sorted(
        (Clip(clip_id, source, kind, confined) for clip_id, source, kind in rows), key=lambda clip: clip.clip_id
    )
    folder = paths.frames(dataset).parent
    members: list[list[Clip]] = [[] for _ in range(params.frames.shards)]
    for clip in clips:
        members[shard_of(clip.clip_id, len(members))].append(clip)
    files = [folder / f"shard-{number:05d}.parquet" for number in range(len(members))]
    chosen = dependencies.settings(params, "frames", dataset=dataset)
    made_by = dependencies.made_by("frames", chosen, {"clips": storage.file_fingerprint(paths.clips(dataset))})
    _tidy(folder, files)
    with recorded(made_by, dataset) as numbers:
        started = time.monotonic()
        todo = _make(params, dataset, root, clips, shards.planned(files, members, params.frames))
        seconds = time.monotonic() - started
        _finish(params, dataset, files, len(clips), made_by)
        if todo:
            manifest = storage.read_json(paths.frames(dataset))
            rows = sum(shard["rows"] for shard in manifest["shards"] if shard["file"] in todo)
            numbers |= {name: manifest[name] for name in ("clips", "frames", "rejects")}
            numbers |= {"shards": len(todo), "frames_per_s": rows / seconds}


def _make(params: Params, dataset: str, root: Path, clips: list[Clip], plan: list[Shard]) -> set[str]:
    """Make the shards that are missing or no longer right; returns their names."""
    with _workforce(clips, len(plan)) as work:
        maybe = [shard for shard in plan if shards.made_by(shard.file).get("plan") == shard.plan]
        kept = set()
        if maybe:
            with Meter(f"{dataset}: sources", sum(len(shard.clips) for shard in maybe), "clips") as meter:
                found = work.sources(maybe, root, params.frames, meter.add)
            kept = {
                shard.file
                for shard, source in zip(maybe, found, strict=True)
                if shards.made_by(shard.file)["sources"] == source
            }
            if kept:
                log.info("%s: %d of %d frame shards are up to date", dataset, len(kept), len(plan))
        todo = [shard for shard in plan if shard.file not in kept]
        if todo:
            paths.frames(dataset).unlink(missing_ok=True)  # it describes shards that are about to go
            with Meter(f"{dataset}: frames", sum(len(shard.clips) for shard in todo), "clips") as meter:
                work.make(todo, root, params.frames, meter.add)
    return {shard.file.name for shard in todo}


def _workforce(clips: list[Clip], at_most: int) -> Workforce:
    """Processes for many image folders, threads for all else."""
    # more than there are cores: while some wait for the disk, others work
    count = min(2 * cores(), at_most)
    if count > 1 and len(clips) >= MANY and all(clip.kind == "frames" for clip in clips):
        return Processes(count)
    return Threads(cores())


def _tidy(folder: Path, files: list[Path]) -> None:
    """Remove what a killed run left half written, and the shards of another number of shards."""
    names = {path.name for path in files}
    for path in folder.glob("*shard-*.parquet*"):
        if path.name not in names:
            path.unlink()


def _finish(params: Params, dataset: str, files: list[Path], total: int, about: Mapping[str, Any]) -> None:
    """Write rejects and manifest from the shards alone."""
    manifest = paths.frames(dataset)
    entries: list[dict[str, Any]] = []
    rejects: list[tuple[str, str]] = []
    seconds: list[float] = []
    faces: dict[str, list[int]] = {}
    with ThreadPoolExecutor(cores()) as pool:  # hashing leaves Python to other threads
        digests = list(pool.map(storage.file_fingerprint, files))
    for path, digest in zip(files, digests, strict=True):
        made_by = storage.made_by(path)
        rejects += [(clip_id, reason) for clip_id, reason in made_by["rejects"]]
        seconds += made_by["seconds"]
        faces.update(made_by.get("faces", {}))
        rows = pq.read_metadata(path).num_rows
        entries.append({"file": path.name, "rows": rows, "clips": made_by["clips"], "sha256": digest})
    rejects.sort()
    made_by = {**about, "versions": {**about["versions"], "ffmpeg": ffmpeg.version(ffmpeg.executable())}}
    columns = {
        "clip_id": [clip_id for clip_id, _ in rejects],
        "stage": ["frames"] * len(rejects),
        "reason": [reason for _, reason in rejects],
    }
    storage.write_table(manifest.with_name("rejects.parquet"), "rejects", columns, made_by)
    _judge(params, dataset, rejects, total)
    counts = manifest.with_name("faces.json")
    if params.frames.crop == "face":
        storage.write_json(counts, {clip_id: {"with_face": a, "frames": b} for clip_id, (a, b) in faces.items()})
    else:
        counts.unlink(missing_ok=True)
    kept, rows = (sum(shard[key] for shard in entries) for key in ("clips", "rows"))
    storage.write_json(
        manifest,
        {
            "stage": "frames",
            "fingerprint": storage.fingerprint([shard["sha256"] for shard in entries]),
            "shards": entries,
            "clips": kept,
            "frames": rows,
            "rejects": len(rejects),
            "clip_seconds": round(median(seconds), 3) if seconds else None,
            **({"with_face": sum(found for found, _ in faces.values())} if params.frames.crop == "face" else {}),
            "made_by": made_by,
        },
    )
    log.info(
        "%s: %d frames of %d clips in %d shards, %d clips rejected", dataset, rows, kept, len(entries), len(rejects)
    )


def _judge(params: Params, dataset: str, rejects: list[tuple[str, str]], total: int) -> None:
    """Name the rejects in the log; stop the run where there are too many."""
    for clip_id, reason in rejects[:20]:
        log.warning("%s: clip %s rejected: %s", dataset, clip_id, reason)
    if len(rejects) > 20:
        log.warning("%s: and %d more clips rejected, see rejects.parquet", dataset, len(rejects) - 20)
    allowed = params.frames.max_reject_fraction
    if len(rejects) > allowed * total or len(rejects) == total:
        (reason, count), *_ = Counter(reason for _, reason in rejects).most_common(1) or [("there are no clips", 0)]
        raise UserError(
            f"{paths.frames(dataset).with_name('rejects.parquet')}: {len(rejects)} of {total} clips cannot be used, "
            f"frames.max_reject_fraction allows {allowed:g}; {count} of them: {reason}"
        )
