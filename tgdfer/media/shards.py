"""Shards: Parquet files with the frames of many clips.

A shard is written whole or not at all, and its metadata says what it was made from: the same plan and the same sources
give the same bytes.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tgdfer.config import dependencies
from tgdfer.config.data import FramesParams
from tgdfer.core import checksums, paths, storage
from tgdfer.core.errors import UserError
from tgdfer.core.locks import only_writer
from tgdfer.media import ffmpeg, images, videos
from tgdfer.media.frame import Frame, UnusableError, clip_seconds

if TYPE_CHECKING:
    from tgdfer.media.faces.crops import FacesFound

ROWS_PER_GROUP = 1000
BYTES_PER_GROUP = 32 << 20
MACHINE_ERRORS = frozenset((errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN))
"""Errors that are not the clip's fault."""
NO_INFLUENCE = frozenset(("shards", "max_reject_fraction"))
"""Keys of the section ``frames`` that change no frame of a clip."""


@dataclass(frozen=True)
class ClipSource:
    """Where a clip's frames come from: ``source`` is a path below the data set's root, ``kind`` video or frames.

    ``confined``: its files must be inside the root, links followed. ``sha256``: of the video, where it is recorded.
    """

    clip_id: str
    source: str
    kind: str
    confined: bool = True
    sha256: str | None = None


@dataclass
class ExtractedClip:
    """A clip's frames, or the ``reason`` why there are none.

    ``source`` is the fingerprint of what it was read from, ``faces`` what was found where faces are cropped.
    """

    clip: ClipSource
    frames: list[Frame] = field(default_factory=list)
    reason: str | None = None
    source: str = ""
    faces: FacesFound | None = None


@dataclass(frozen=True)
class ShardPlan:
    """A shard's file, its clips in order, and the fingerprint of all that decides its bytes apart from the sources."""

    file: Path
    clips: tuple[ClipSource, ...]
    fingerprint: str


Each = Callable[[Callable[[ClipSource], Any], Iterable[ClipSource]], Iterable[Any]]
"""The type of ``map`` over clips."""


def plan_shards(folder: Path, clips: Iterable[ClipSource], params: FramesParams) -> list[ShardPlan]:
    """The shards of ``clips`` in ``folder`` with these parameters, this code and these tools."""
    members: list[list[ClipSource]] = [[] for _ in range(params.shards)]
    for clip in sorted(clips, key=lambda clip: clip.clip_id):
        members[paths.shard_number(clip.clip_id, params.shards)].append(clip)
    chosen = params.model_dump(mode="json", exclude=set(NO_INFLUENCE))
    tools = [ffmpeg.version(ffmpeg.executable()), *dependencies.made_by("frames", {}, {})["versions"].values()]
    code = dependencies.code_fingerprint("frames")
    if params.face_detector is not None and Path(params.face_detector).is_file():
        tools.append(storage.file_fingerprint(Path(params.face_detector)))
    plans = []
    for number, member in enumerate(members):
        rows = [[clip.clip_id, clip.source, clip.kind] for clip in member]
        fingerprint = storage.fingerprint([chosen, rows, tools, code])
        plans.append(ShardPlan(folder / f"shard-{number:05d}.parquet", tuple(member), fingerprint))
    return plans


def extract_clip(root: Path, clip: ClipSource, params: FramesParams) -> ExtractedClip:
    """Read the frames of a clip below ``root``."""
    path = root / clip.source
    crop = params.crop == "face"
    whole = params.model_copy(update={"resize": None}) if crop else params  # a face is cut out before it is resized
    try:
        if clip.confined and images.leads_out(path, root):
            raise UnusableError(f"{images.LEADS_OUT}; `links: anywhere` in the data set's section allows it")
        if clip.kind == "video":
            frames, source = videos.read_video(path, whole), source_fingerprint(root, clip, params)
        else:
            frames, source = images.read_images(path, whole, root if clip.confined else None)
        if crop:
            from tgdfer.media.faces.crops import crop_clip

            frames, found = crop_clip(frames, params)
            return ExtractedClip(clip, frames, source=source, faces=found)
        return ExtractedClip(clip, frames, source=source)
    except UnusableError as error:
        reason = " ".join(str(error).split())
        return ExtractedClip(clip, reason=reason, source=source_fingerprint(root, clip, params))
    except OSError as error:
        if error.errno in MACHINE_ERRORS:
            raise UserError(
                f"{clip.source}: {error.strerror}; finished shards are kept: run the same command again"
            ) from None
        # by now the file may be readable; its fingerprint here would keep a later call from trying again
        return ExtractedClip(clip, reason=f"cannot be read: {error.strerror}", source=_unreadable(error))


def source_fingerprint(root: Path, clip: ClipSource, params: FramesParams) -> str:
    """SHA-256 of the files that a clip is read from; if they change, its shard is made again."""
    path = root / clip.source
    try:
        if clip.confined and images.leads_out(path, root):
            raise UnusableError(images.LEADS_OUT)
        if clip.kind == "frames":
            return images.fingerprint(path, params, root if clip.confined else None)
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if clip.sha256 not in (None, found):
            raise UserError(f"{path}: differs from {checksums.SUMS} in {root}; {storage.remedy(path)}")
        return found
    except (UnusableError, OSError) as error:
        return _unreadable(error)


def _unreadable(error: Exception) -> str:
    return f"unreadable: {type(error).__name__}"


def combined_fingerprint(sources: Iterable[str]) -> str:
    """One fingerprint for the sources of all clips of a shard."""
    return hashlib.sha256("\n".join(sources).encode()).hexdigest()


def update_shard(
    plan: ShardPlan, root: Path, params: FramesParams, advance: Callable[[int], object], each: Each = map
) -> bool:
    """Write a shard unless its file is whole, from the same plan and sources; returns whether it was written.

    ``advance`` is called with the number of clips that are done. ``each`` is ``map``, or does the same for several
    clips at once.
    """

    def extracted() -> Iterator[ExtractedClip]:
        for clip in each(lambda clip: extract_clip(root, clip, params), plan.clips):
            yield clip
            advance(1)

    with only_writer(plan.file):
        if is_current(plan, root, params, each):
            advance(len(plan.clips))
            return False
        write_shard(plan, extracted(), params.crop == "face")
    return True


def written(file: Path) -> dict[str, Any]:
    """What ``write_shard`` recorded about a shard; empty for a file that is missing or damaged."""
    return storage.made_by(file) if file.exists() and checksums.intact(file) else {}


def is_current(plan: ShardPlan, root: Path, params: FramesParams, each: Each = map) -> bool:
    """Whether a shard's file is whole, and made from the plan and from the sources as they are now."""
    recorded = written(plan.file)
    if recorded.get("plan") != plan.fingerprint:
        return False
    sources = each(lambda clip: source_fingerprint(root, clip, params), plan.clips)
    return bool(recorded["sources"] == combined_fingerprint(sources))


def write_shard(plan: ShardPlan, clips: Iterable[ExtractedClip], crop: bool) -> None:
    """Write a shard from its clips, in their order; only one row group is in memory."""
    schema = storage.SCHEMAS["frames"]
    sources: list[str] = []
    rejects: list[list[str]] = []
    seconds: list[float] = []
    faces: dict[str, dict[str, Any]] = {}
    rows: list[dict[str, Any]] = []
    size = 0
    # JPEG does not compress any further
    options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    with storage.atomic(plan.file, sealed=True) as part, pq.ParquetWriter(part, schema, **options) as writer:

        def write_group() -> None:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema), row_group_size=max(1, len(rows)))
            rows.clear()

        for clip in clips:
            sources.append(clip.source)
            if clip.reason is not None:
                rejects.append([clip.clip.clip_id, clip.reason])
                continue
            seconds.append(round(clip_seconds(clip.frames), 6))
            if clip.faces is not None:
                faces[clip.clip.clip_id] = vars(clip.faces)
            for frame in clip.frames:
                rows.append({"clip_id": clip.clip.clip_id, "frame_index": frame.index, **vars(frame)})
                size += len(frame.jpeg)
                if len(rows) >= ROWS_PER_GROUP or size >= BYTES_PER_GROUP:
                    write_group()
                    size = 0
        write_group()
        made_by = {
            "stage": "frames",
            "plan": plan.fingerprint,
            "sources": combined_fingerprint(sources),
            "clips": len(seconds),
            "seconds": seconds,
            "rejects": rejects,
            **({"faces": faces} if crop else {}),
        }
        writer.add_key_value_metadata(storage.metadata(made_by))
