"""Shards of frames: what came of a clip, and the Parquet files that hold the frames of many.

A shard is written whole or not at all, and says in its metadata what it was made from: the same plan and the same
sources give the same bytes.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tgdfer.config import dependencies
from tgdfer.config.params import FramesParams
from tgdfer.core import storage
from tgdfer.core.errors import UserError
from tgdfer.media import ffmpeg, images, videos
from tgdfer.media.sampling import Frame, UnusableError

ROWS_PER_GROUP = 1000
BYTES_PER_GROUP = 32 << 20
OF_THE_MACHINE = frozenset((errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN))
"""Errors that say nothing of a clip."""
WITHOUT_INFLUENCE = frozenset(("shards", "max_reject_fraction"))
"""Parameters of the section ``frames`` that change no frame of a clip."""


@dataclass(frozen=True)
class Clip:
    """What the stage needs to know of a clip; ``confined``: its files must lie below the root, links followed."""

    clip_id: str
    source: str
    kind: str
    confined: bool = True


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


@dataclass(frozen=True)
class Shard:
    """A shard to be: its file, its clips in order, and the fingerprint of what decides its bytes besides sources."""

    file: Path
    clips: tuple[Clip, ...]
    plan: str


def planned(files: list[Path], members: list[list[Clip]], params: FramesParams) -> list[Shard]:
    """The shards that ``params`` ask for, as made by this code and these tools."""
    chosen = {key: value for key, value in params.model_dump(mode="json").items() if key not in WITHOUT_INFLUENCE}
    tools = [ffmpeg.version(ffmpeg.executable()), *dependencies.made_by("frames", {}, {})["versions"].values()]
    code = dependencies.code_fingerprint("frames")
    plan = []
    for file, clips in zip(files, members, strict=True):
        rows = [[clip.clip_id, clip.source, clip.kind] for clip in clips]
        plan.append(Shard(file, tuple(clips), storage.fingerprint([chosen, rows, tools, code])))
    return plan


def take(root: Path, clip: Clip, params: FramesParams) -> Taken:
    """The frames of one clip, or why there are none."""
    path = root / clip.source
    crop = params.crop == "face"
    whole = params.model_copy(update={"resize": None}) if crop else params  # a face is cut out before it is resized
    try:
        if clip.confined and images.leads_out(path, root):
            raise UnusableError(f"{images.LEADS_OUT}; `links: anywhere` in the data set's section allows it")
        if clip.kind == "video":
            frames, source = videos.read_video(path, whole), fingerprint(root, clip, params)
        else:
            frames, source = images.read_images(path, whole, root if clip.confined else None)
        if crop:
            from tgdfer.media import faces

            frames, found = faces.crop(frames, params)
            return Taken(clip, frames, source=source, faces=found)
        return Taken(clip, frames, source=source)
    except UnusableError as error:
        reason = str(error)
    except OSError as error:
        if error.errno in OF_THE_MACHINE:
            raise UserError(f"{clip.source}: {error.strerror}; finished shards are kept: run the same again") from None
        # not the fingerprint of what can perhaps be read by now: a later call is to try again
        return Taken(clip, reason=f"cannot be read: {error.strerror}", source=_unreadable(error))
    return Taken(clip, reason=" ".join(reason.split()), source=fingerprint(root, clip, params))


def fingerprint(root: Path, clip: Clip, params: FramesParams) -> str:
    """SHA-256 of what a clip is made of on disk; a changed source remakes its shard."""
    path = root / clip.source
    try:
        if clip.confined and images.leads_out(path, root):
            raise UnusableError(images.LEADS_OUT)
        if clip.kind == "frames":
            return images.fingerprint(path, params, root if clip.confined else None)
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except (UnusableError, OSError) as error:
        return _unreadable(error)


def _unreadable(error: Exception) -> str:
    return f"unreadable: {type(error).__name__}"


def write(shard: Shard, taken: Iterable[Taken], crop: bool) -> None:
    """Write a shard from what came of its clips, in their order; only a row group of it is held in memory."""
    schema = storage.SCHEMAS["frames"]
    sources: list[str] = []
    rejects: list[list[str]] = []
    seconds: list[float] = []
    group: list[tuple[str, Frame]] = []
    faces: dict[str, list[int]] = {}
    size = 0
    # JPEG does not compress any further
    options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    with storage.atomic(shard.file) as part, pq.ParquetWriter(part, schema, **options) as writer:

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
            seconds.append(_seconds(one.frames))
            faces[one.clip.clip_id] = [one.faces, len(one.frames)]
            for frame in one.frames:
                group.append((one.clip.clip_id, frame))
                size += len(frame.jpeg)
                if len(group) >= ROWS_PER_GROUP or size >= BYTES_PER_GROUP:
                    flush()
                    size = 0
        flush()
        made_by = {
            "stage": "frames",
            "plan": shard.plan,
            "sources": combined(sources),
            "clips": len(seconds),
            "seconds": seconds,
            "rejects": rejects,
            **({"faces": faces} if crop else {}),
        }
        writer.add_key_value_metadata({storage.MADE_BY: json.dumps(made_by, sort_keys=True)})


def made_by(file: Path) -> dict[str, Any]:
    """What :func:`write` noted in a shard; empty where that is no shard that can be read."""
    try:
        return storage.made_by(file)
    except (pa.ArrowInvalid, OSError, ValueError):
        return {}


def combined(sources: Iterable[str]) -> str:
    """One fingerprint of those of all clips."""
    return hashlib.sha256("\n".join(sources).encode()).hexdigest()


def _seconds(frames: list[Frame]) -> float:
    """How long a clip is, as far as its frames say: n of them stand for n steps of time, and span one less."""
    span = frames[-1].time_s - frames[0].time_s
    return round(span * len(frames) / max(1, len(frames) - 1), 6)
