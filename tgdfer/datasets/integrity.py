"""Files that cannot be what they should be, found by their sizes, headers and structure, without decoding.

The size of every file is looked at, and the inside of three images of every folder: the first, the middle, the last.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import log
from pathlib import Path
from statistics import median

from tgdfer.datasets.listing import Clip
from tgdfer.media.images import LEADS_OUT, UnusableError, jpeg_header, leads_out, list_images, open_image

OUTLIER = 16
"""A clip of so many times more, or fewer, frames than the median is named."""
THREADS = 8
OTHERS = (b"FLV", b"RIFF", b"\x1aE\xdf\xa3", b"\0\0\x01\xba", b"\0\0\x01\xb3", b"0&\xb2u", b"OggS")
"""First bytes of videos that are no mp4: flv, avi, mkv and webm, mpeg of two kinds, wmv, ogg. Transport streams have a
G every 188 bytes, those of cameras every 192."""


@dataclass(frozen=True)
class Found:
    """What is wrong with a clip's files, if anything, and how many frames it has where that costs nothing to know."""

    clip: Clip
    fault: str | None
    n_frames: int | None = None


def look(root: Path, clips: Iterable[Clip], deep: bool = False, confined: bool = False) -> list[Found]:
    """Look at the files of every clip; ``deep`` decodes every image and lists every packet of a video.

    ``confined``: links that lead out of the root are a fault.
    """
    within = root if confined else None
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda clip: _look_at(root / clip.source, clip, deep, within), clips))


def outliers(found: list[Found]) -> list[str]:
    """The clips whose number of frames is far from that of the others."""
    counts = [one.n_frames for one in found if one.n_frames]
    if not counts:
        return []
    middle = median(counts)
    return [
        f"{one.clip.source}: {one.n_frames} frames, the median is {middle:g}"
        for one in found
        if one.n_frames and abs(log(one.n_frames / middle)) > log(OUTLIER)
    ]


def _look_at(path: Path, clip: Clip, deep: bool, within: Path | None) -> Found:
    try:
        if within and leads_out(path, within):
            return Found(clip, f"is {LEADS_OUT}")
        if clip.kind == "frames":
            return _folder(path, clip, deep, within)
        size = path.stat().st_size
        fault = "file is empty (0 bytes)" if not size else video_fault(path, size)
        if deep and fault is None:
            fault = _packets_fault(path)
        return Found(clip, fault)
    except FileNotFoundError:
        return Found(clip, "no such file")
    except OSError as error:
        return Found(clip, f"cannot be read: {error.strerror}")


def _folder(path: Path, clip: Clip, deep: bool, within: Path | None) -> Found:
    try:
        names = list_images(path)
    except UnusableError as error:
        return Found(clip, str(error))
    for name in names:
        about = os.lstat(f"{path}/{name}")  # a Path for each of a million files is slow
        if stat.S_ISLNK(about.st_mode):
            if within and leads_out(f"{path}/{name}", within):
                return Found(clip, f"image {name} is {LEADS_OUT}", len(names))
            about = os.stat(f"{path}/{name}")  # noqa: PTH116
        if not about.st_size:
            return Found(clip, f"image {name} is empty (0 bytes)", len(names))
    for name in names if deep else sorted({names[0], names[len(names) // 2], names[-1]}):
        with open(f"{path}/{name}", "rb") as stream:  # noqa: PTH123
            data = stream.read()
        if deep or jpeg_header(data) is None:
            try:
                open_image(data)
            except ValueError as error:
                return Found(clip, f"image {name} cannot be decoded ({error})", len(names))
    return Found(clip, None, len(names))


def video_fault(path: Path, size: int) -> str | None:
    """What is wrong with the structure of a video file; None where nothing shows."""
    with path.open("rb") as stream:
        head = stream.read(200)
        if head.startswith(OTHERS) or head[::188] == b"GG" or head[4::192] == b"GG":
            return None
        if head[4:8] not in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip", b"pnot"):
            return "is no video file that is known by its first bytes"
        # an mp4 or mov is a row of boxes, which must fill the file and of which one must be the index
        at, seen = 0, set()
        while at + 8 <= size:
            stream.seek(at)
            box = stream.read(16)
            length = struct.unpack(">I", box[:4])[0]
            if length == 1 and len(box) == 16:
                length = struct.unpack(">Q", box[8:16])[0]
            elif length == 0:
                length = size - at
            if length < 8 or not box[4:8].isascii():
                break
            seen.add(box[4:8])
            at += length
    if at > size:
        return f"file is cut off: {size} of at least {at} bytes"
    return None if b"moov" in seen else "has no index (moov atom not found)"


def _packets_fault(path: Path) -> str | None:
    from tgdfer.media import ffmpeg

    command = ffmpeg.source(path)["V:0"].output("-", f="null").compile(cmd=ffmpeg.executable())
    try:
        _, err = ffmpeg.run([command[0], "-nostdin", "-loglevel", "level+error", *command[1:]])
    except ffmpeg.FFmpegError as error:
        return str(error)
    return ffmpeg.reason(err) or None
