"""The frames stage: clips (videos or image folders) -> Parquet shards of JPEG frames.

All cores work on clips, whose frames are written in order, a few clips at a time, so that memory does not grow with the
data set. A shard records what it was made from, and a later call keeps it if that has not changed. The same input
gives the same bytes, even if calls were killed in between.
"""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.parquet as pq

from tgdfer.config import dependencies
from tgdfer.config.ahead import feature_dim
from tgdfer.config.params import Params
from tgdfer.core import checksums, paths, storage
from tgdfer.core.errors import UserError
from tgdfer.core.locks import writes
from tgdfer.core.parts import Part
from tgdfer.core.progress import Meter, log
from tgdfer.core.provenance import cores
from tgdfer.core.record import recorded
from tgdfer.features.elsewhere import check_files
from tgdfer.media import ffmpeg, shards, sources, workers
from tgdfer.media.faces.detection import CERTAIN
from tgdfer.media.shards import ClipSource, ShardPlan, written

OTHERS = ("rejects.parquet", "faces.json")
"""What is written next to the shards."""
MANY_FOLDERS = 1000
"""With this many image folders, starting processes pays off."""


def _outputs(params: Params, dataset: str, part: Part | None = None, lists: Sequence[Path] = ()) -> list[Path]:
    return [part.list_of(paths.frames(dataset)) if part else paths.frames(dataset)]


@writes(_outputs)
def run(params: Params, dataset: str, part: Part | None = None, lists: Sequence[Path] = ()) -> None:
    """Write the frame shards, the rejects and, last, the manifest of ``dataset``.

    Several jobs may share the work: each calls this with its ``part``, which writes its shards and a list of them, and
    a last call gets the ``lists`` of all parts. The files are the same.

    Raises:
        UserError: there is no clips table or no data root, more than ``frames.max_reject_fraction`` of the clips are
            unusable, or the lists are not those of all shards.
    """
    section = params.dataset(dataset)
    params = params.model_copy(update={"frames": params.frames_of(dataset)})
    root, manifest = Path(section.root), paths.frames(dataset)
    if not root.is_dir():
        raise UserError(f"params.yaml: datasets.{dataset}.root: {root}: no such folder")
    clips = sources.read_clips(params, dataset)
    settings = dependencies.settings(params, "frames", dataset=dataset)
    made_by = dependencies.made_by("frames", settings, {"clips": storage.file_fingerprint(paths.clips(dataset))})
    if section.features == "files":
        _list_files(params, dataset, clips, part, made_by)
        return
    plans = shards.plan_shards(manifest.parent, clips, params.frames)
    chosen = part.of(plans) if part else plans
    if not part:
        _remove_others(manifest.parent, plans)
    made_by["versions"]["ffmpeg"] = ffmpeg.version(ffmpeg.executable())
    manifest.unlink(missing_ok=True)  # it describes shards that may be replaced
    if part:
        storage.write_sealed(part.list_of(manifest), {**_make(params, dataset, root, chosen), "made_by": made_by})
        return
    with recorded(made_by, dataset) as metrics:
        made = _join(lists, plans) if lists else _make(params, dataset, root, plans)
        records = [storage.made_by(plan.file) for plan in plans]
        _write_rejects(params, dataset, len(clips), records, made_by)
        _write_face_counts(params, dataset, records)
        sources.record(dataset, made["sources"])
        contents = _write_manifest(params, dataset, made["shards"], records, made_by)
        if made["written"]:
            rows = sum(shard["rows"] for shard in made["shards"] if shard["file"] in made["written"])
            metrics |= {name: contents[name] for name in ("clips", "frames", "rejects")}
            metrics |= {"shards": len(made["written"]), "frames_per_s": rows / made["seconds"]}


def _list_files(
    params: Params, dataset: str, clips: list[ClipSource], part: Part | None, made_by: dict[str, Any]
) -> None:
    """In place of frames, list the feature files of ``dataset``, once all of them are sound; parts have nothing to do.

    Raises:
        UserError: a file is broken; the log names each.
    """
    manifest, root = paths.frames(dataset), Path(params.dataset(dataset).root)
    if part:
        storage.write_sealed(part.list_of(manifest), {"shards": [], "made_by": made_by})
        return
    manifest.unlink(missing_ok=True)
    stats = sources.look(root, clips)
    frames, faults = check_files(root, [clip.source for clip in clips], feature_dim(params, dataset))
    for fault in faults:
        log.error("%s: %s", dataset, fault)
    if faults:
        raise UserError(f"{dataset}: {len(faults)} of {len(clips)} feature files are broken, the first: {faults[0]}")
    entries = []
    for path in manifest.parent.glob("*.*"):
        path.unlink()
    for number in range(params.frames.shards):
        rows = [
            (clip.clip_id, clip.source, count, storage.file_fingerprint(root / clip.source))
            for clip, count in sorted(zip(clips, frames, strict=True), key=lambda pair: pair[0].clip_id)
            if paths.shard_number(clip.clip_id, params.frames.shards) == number
        ]
        columns = zip(
            storage.SCHEMAS["feature_files"].names, zip(*rows, strict=True) if rows else [()] * 4, strict=True
        )
        path = manifest.with_name(f"shard-{number:05d}.parquet")
        storage.write_table(path, "feature_files", dict(columns), {})
        entries.append({**checksums.entry(path), "rows": sum(row[2] for row in rows), "clips": len(rows)})
    sources.record(dataset, stats)
    with recorded(made_by, dataset):
        _write_manifest(params, dataset, entries, [], made_by)


def _make(params: Params, dataset: str, root: Path, plans: list[ShardPlan]) -> dict[str, Any]:
    """Bring ``plans`` up to date: the list of their shards, those written, their sources, and the seconds it took."""
    started = time.monotonic()
    looked = sources.look(root, chain.from_iterable(plan.clips for plan in plans))  # before they are read
    written = _update_shards(params, dataset, root, plans)
    seconds = time.monotonic() - started
    with ThreadPoolExecutor(cores()) as pool:  # Python hashes large files in threads at the same time
        entries = list(pool.map(checksums.entry, [plan.file for plan in plans]))
    shards = [
        {**entry, "rows": pq.read_metadata(plan.file).num_rows, "clips": storage.made_by(plan.file)["clips"]}
        for plan, entry in zip(plans, entries, strict=True)
    ]
    names = [plan.file.name for plan in written]
    return {"shards": shards, "written": names, "sources": looked, "seconds": seconds}


def _join(lists: Sequence[Path], plans: list[ShardPlan]) -> dict[str, Any]:
    """The lists of several parts as one, in the order of ``plans``, which made them."""
    parts = [storage.read_sealed(path) for path in lists]
    shards = {shard["file"]: shard for part in parts for shard in part["shards"]}
    for plan in plans:
        if plan.file.name not in shards or written(plan.file).get("plan") != plan.fingerprint:
            raise UserError(f"{plan.file}: not made with the present parameters and data; run all parts again")
    return {
        "shards": [shards[plan.file.name] for plan in plans],
        "written": [name for part in parts for name in part["written"]],
        "sources": {clip_id: stats for part in parts for clip_id, stats in part["sources"].items()},
        "seconds": sum(part["seconds"] for part in parts),
    }


def _remove_others(folder: Path, plans: list[ShardPlan]) -> None:
    """Remove the shards of a division into another number of shards."""
    files = {plan.file for plan in plans}
    for path in folder.glob("shard-*.parquet"):
        if path not in files:
            path.unlink()


def _update_shards(params: Params, dataset: str, root: Path, plans: list[ShardPlan]) -> list[ShardPlan]:
    """Write the shards that are missing or outdated; returns them."""
    clips = [clip for plan in plans for clip in plan.clips]
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
    path = paths.frames(dataset).with_name(OTHERS[0])
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
    """Write in how many frames of each clip a face was found, how large and how surely, where faces are cropped."""
    path = paths.frames(dataset).with_name(OTHERS[1])
    if params.frames.crop == "face":
        counts = chain.from_iterable(record["faces"].items() for record in records)
        storage.write_json(path, dict(counts))
    else:
        path.unlink(missing_ok=True)


def _write_manifest(
    params: Params,
    dataset: str,
    entries: list[dict[str, Any]],
    records: list[dict[str, Any]],
    made_by: dict[str, Any],
) -> dict[str, Any]:
    seconds = [length for record in records for length in record["seconds"]]
    others = [paths.frames(dataset).with_name(name) for name in OTHERS]
    contents = {
        "stage": "frames",
        "fingerprint": storage.fingerprint([entry["sha256"] for entry in entries]),
        "shards": entries,
        "files": [checksums.entry(path) for path in others if path.exists()],
        "clips": sum(entry["clips"] for entry in entries),
        "frames": sum(entry["rows"] for entry in entries),
        "rejects": sum(len(record["rejects"]) for record in records),
        "clip_seconds": round(median(seconds), 3) if seconds else None,
        "made_by": made_by,
    }
    if params.frames.crop == "face":
        found = [one for record in records for one in record["faces"].values()]
        sides = [one["side"] for one in found if one["side"] is not None]
        contents["searched"] = sum(one["frames"] for one in found)
        contents["with_face"] = sum(one["with_face"] for one in found)
        contents["face_side"] = median(sides) if sides else None
        contents["doubtful_faces"] = sum(one["score"] is not None and one["score"] < CERTAIN for one in found)
    storage.write_sealed(paths.frames(dataset), contents)
    log.info(
        "%s: %d frames of %d clips in %d shards, %d clips rejected",
        *(dataset, contents["frames"], contents["clips"], len(entries), contents["rejects"]),
    )
    return contents
