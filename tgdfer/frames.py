"""The frames stage: clips (videos or image folders) -> Parquet shards of JPEG frames.

All cores work on clips, whose frames are written in order, a few clips at a time, so that memory does not grow with the
data set. A shard is written whole or not at all, and says in its metadata what it was made from; a later call keeps it
if that is still so. The same input gives the same bytes, killed in between or not.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from tgdfer import paths, stages, storage
from tgdfer.errors import UserError
from tgdfer.media import ffmpeg, images, videos
from tgdfer.media.sampling import Frame, UnusableError
from tgdfer.params import FramesParams, Params
from tgdfer.progress import log, track

T = TypeVar("T")
R = TypeVar("R")
ROWS_PER_GROUP = 1000
BYTES_PER_GROUP = 32 << 20
WITHOUT_INFLUENCE = frozenset(("shards", "max_reject_fraction"))
"""Parameters of the section ``frames`` that change no frame of a clip."""


@dataclass(frozen=True)
class Clip:
    """What the stage needs to know of a clip."""

    clip_id: str
    source: str
    kind: str


@dataclass
class Taken:
    """What came of a clip: its frames, or the reason why there are none; and the fingerprint of its source.

    ``faces`` counts the frames in which a face was found, where faces are cropped.
    """

    clip: Clip
    frames: list[Frame] = field(default_factory=list)
    reason: str | None = None
    source: str = ""
    faces: int = 0


def shard_of(clip_id: str, shards: int) -> int:
    """The shard that a clip belongs to, by a hash of its id."""
    return int(hashlib.sha256(clip_id.encode()).hexdigest()[:8], 16) % shards


def workers() -> int:
    """How many clips are worked on at once: the cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    granted = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return max(1, min(cores, int(granted)) if granted.isdigit() else cores)


def extract(params: Params, dataset: str) -> None:
    """The frames stage: write the shards, the rejects and, last, the manifest of ``dataset``.

    Raises:
        UserError: no clips table, no data root, or more than ``frames.max_reject_fraction`` of the clips are unusable.
    """
    section = params.dataset(dataset)
    root = Path(section.root)
    if not root.is_dir():
        raise UserError(f"params.yaml: datasets.{dataset}.root: {root}: no such folder")
    table = storage.read_table(paths.clips(dataset), "clips")
    rows = zip(*(table.column(name).to_pylist() for name in ("clip_id", "source", "kind")), strict=True)
    clips = sorted((Clip(*row) for row in rows), key=lambda clip: clip.clip_id)
    folder = paths.frames(dataset).parent
    shards: list[list[Clip]] = [[] for _ in range(params.frames.shards)]
    for clip in clips:
        shards[shard_of(clip.clip_id, len(shards))].append(clip)
    files = [folder / f"shard-{number:05d}.parquet" for number in range(len(shards))]
    _tidy(folder, files)
    plans = [_plan(params.frames, shard) for shard in shards]
    with ThreadPoolExecutor(workers()) as pool:
        try:
            kept = _still_right(pool, root, params.frames, files, shards, plans)
            if kept:
                log.info("%s: %d of %d frame shards are up to date", dataset, len(kept), len(shards))
            todo = [number for number in range(len(shards)) if number not in kept]
            if todo:
                paths.frames(dataset).unlink(missing_ok=True)  # it describes shards that are about to go
            work = [clip for number in todo for clip in shards[number]]
            taken = _in_order(pool, lambda clip: take(root, clip, params.frames), work)
            taken = track(taken, f"{dataset}: frames", total=len(work), unit="clips") if work else taken
            for number in todo:
                with_faces = params.frames.crop == "face"
                _write_shard(files[number], plans[number], (next(taken) for _ in shards[number]), with_faces)
            next(taken, None)  # lets the progress end
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    _finish(params, dataset, files, len(clips))


def take(root: Path, clip: Clip, params: FramesParams) -> Taken:
    """The frames of one clip, or why there are none."""
    path = root / clip.source
    crop = params.crop == "face"
    whole = params.model_copy(update={"resize": None}) if crop else params  # a face is cut out before it is resized
    try:
        if clip.kind == "video":
            frames, source = videos.read_video(path, whole), _fingerprint(root, clip, params)
        else:
            frames, source = images.read_images(path, whole)
        if crop:
            from tgdfer.media import faces  # OpenCV is loaded where it is needed

            frames, found = faces.crop(frames, params)
            return Taken(clip, frames, source=source, faces=found)
        return Taken(clip, frames, source=source)
    except UnusableError as error:
        reason = str(error)
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    return Taken(clip, reason=" ".join(reason.split()), source=_fingerprint(root, clip, params))


def _fingerprint(root: Path, clip: Clip, params: FramesParams) -> str:
    """SHA-256 of what a clip is made of on disk; a changed source remakes its shard."""
    path = root / clip.source
    try:
        if clip.kind == "frames":
            return images.fingerprint(path, params)
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except (UnusableError, OSError) as error:
        return f"unreadable: {type(error).__name__}"


def _plan(params: FramesParams, shard: list[Clip]) -> str:
    """The fingerprint of all that decides a shard's bytes besides the sources' content."""
    chosen = {key: value for key, value in params.model_dump(mode="json").items() if key not in WITHOUT_INFLUENCE}
    rows = [[clip.clip_id, clip.source, clip.kind] for clip in shard]
    tools = [ffmpeg.version(ffmpeg.executable()), *stages.made_by("frames", {}, {})["versions"].values()]
    return storage.fingerprint([chosen, rows, tools, stages.code_fingerprint("frames")])


def _combined(sources: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sources).encode()).hexdigest()


def _still_right(
    pool: ThreadPoolExecutor,
    root: Path,
    params: FramesParams,
    files: list[Path],
    shards: list[list[Clip]],
    plans: list[str],
) -> set[int]:
    """The shards that were made by this very plan from sources that have not changed."""
    kept = set()
    for number, (path, shard, plan) in enumerate(zip(files, shards, plans, strict=True)):
        if not path.is_file():
            continue
        try:
            made_by = _made_by(path)
        except (pa.ArrowInvalid, OSError, ValueError):
            continue
        if made_by.get("plan") == plan:
            sources = _in_order(pool, lambda clip: _fingerprint(root, clip, params), shard)
            if made_by["sources"] == _combined(sources):
                kept.add(number)
    return kept


def _in_order(pool: ThreadPoolExecutor, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """``work`` on every item by the pool, results in the order of the items, only a few of them ahead."""
    ahead: deque[Future[R]] = deque()
    for item in items:
        ahead.append(pool.submit(work, item))
        if len(ahead) >= 2 * pool._max_workers:
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


def _write_shard(path: Path, plan: str, taken: Iterable[Taken], crop: bool) -> None:
    schema = storage.SCHEMAS["frames"]
    sources: list[str] = []
    rejects: list[list[str]] = []
    group: list[tuple[str, Frame]] = []
    faces: dict[str, list[int]] = {}
    clips = size = 0
    # JPEG does not compress any further
    options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    with storage.atomic(path) as part, pq.ParquetWriter(part, schema, **options) as writer:

        def flush() -> None:
            columns = {
                "clip_id": [clip_id for clip_id, _ in group],
                "frame_index": [frame.index for _, frame in group],
                "time_s": [frame.time_s for _, frame in group],
                "jpeg": [frame.jpeg for _, frame in group],
                "width": [frame.width for _, frame in group],
                "height": [frame.height for _, frame in group],
            }
            writer.write_table(pa.table(columns, schema=schema), row_group_size=max(1, len(group)))
            group.clear()

        for one in taken:
            sources.append(one.source)
            if one.reason is not None:
                rejects.append([one.clip.clip_id, one.reason])
                continue
            clips += 1
            faces[one.clip.clip_id] = [one.faces, len(one.frames)]
            for frame in one.frames:
                group.append((one.clip.clip_id, frame))
                size += len(frame.jpeg)
                if len(group) >= ROWS_PER_GROUP or size >= BYTES_PER_GROUP:
                    flush()
                    size = 0
        flush()
        made_by = {"stage": "frames", "plan": plan, "sources": _combined(sources), "clips": clips, "rejects": rejects}
        if crop:
            made_by["faces"] = faces
        writer.add_key_value_metadata({storage.MADE_BY: json.dumps(made_by, sort_keys=True)})


def _made_by(path: Path) -> dict[str, Any]:
    # written when the shard is closed, hence beside the schema and not in it
    found: dict[str, Any] = json.loads((pq.read_metadata(path).metadata or {}).get(storage.MADE_BY, b"{}"))
    return found


def _tidy(folder: Path, files: list[Path]) -> None:
    """Remove what a killed run left half written, and the shards of another number of shards."""
    names = {path.name for path in files}
    for path in folder.glob("*shard-*.parquet*"):
        if path.name not in names:
            path.unlink()


def _finish(params: Params, dataset: str, files: list[Path], total: int) -> None:
    """Write rejects and manifest from the shards alone."""
    manifest = paths.frames(dataset)
    shards: list[dict[str, Any]] = []
    rejects: list[tuple[str, str]] = []
    faces: dict[str, list[int]] = {}
    for path in files:
        made_by = _made_by(path)
        rejects += [(clip_id, reason) for clip_id, reason in made_by["rejects"]]
        faces.update(made_by.get("faces", {}))
        shards.append(
            {
                "file": path.name,
                "rows": pq.read_metadata(path).num_rows,
                "clips": made_by["clips"],
                "sha256": storage.file_fingerprint(path),
            }
        )
    rejects.sort()
    chosen = stages.settings(params, "frames", dataset=dataset)
    inputs = {"clips": storage.file_fingerprint(paths.clips(dataset))}
    made_by = stages.made_by("frames", chosen, inputs)
    made_by["versions"]["ffmpeg"] = ffmpeg.version(ffmpeg.executable())
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
    kept, rows = (sum(shard[key] for shard in shards) for key in ("clips", "rows"))
    storage.write_json(
        manifest,
        {
            "stage": "frames",
            "fingerprint": storage.fingerprint([shard["sha256"] for shard in shards]),
            "shards": shards,
            "clips": kept,
            "frames": rows,
            "rejects": len(rejects),
            "clip_seconds": _typical_seconds(files),
            **({"with_face": sum(found for found, _ in faces.values())} if params.frames.crop == "face" else {}),
            "made_by": made_by,
        },
    )
    log.info(
        "%s: %d frames of %d clips in %d shards, %d clips rejected", dataset, rows, kept, len(shards), len(rejects)
    )


def _typical_seconds(files: list[Path]) -> float | None:
    """The median duration of the clips, as far as the frames that were taken say it; None without clips."""
    lengths: list[float] = []
    for path in files:
        table = pq.read_table(path, columns=["clip_id", "time_s"]).group_by("clip_id")
        spans = table.aggregate([("time_s", "min"), ("time_s", "max"), ("time_s", "count")]).to_pylist()
        # n frames stand for n steps of time, and span one less
        lengths += [
            (one["time_s_max"] - one["time_s_min"]) * one["time_s_count"] / max(1, one["time_s_count"] - 1)
            for one in spans
        ]
    return round(median(lengths), 3) if lengths else None


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
