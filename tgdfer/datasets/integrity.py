"""Find broken files by their sizes, headers and structure, without decoding.

The size of every file is checked, and the header of three images of every folder: the first, the middle, the last.
"""

import os
import stat
import struct
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tgdfer.datasets.listing import Clip
from tgdfer.media.frame import UnusableError
from tgdfer.media.images import LEADS_OUT, leads_out, list_images, open_image
from tgdfer.media.jpeg import jpeg_header

OUTLIER = 16
"""A clip is an outlier if it has this many times more, or fewer, frames than the median."""
THREADS = 8
LARGEST_INDEX = 16 << 20
"""How much of the index of an mp4 is looked at, in bytes."""
OTHERS = (
    *(b"FLV", b"RIFF", b"\x1aE\xdf\xa3", b"\0\0\x01\xba", b"\0\0\x01\xb3", b"0&\xb2u", b"OggS", b"GIF8"),
    *(b"\x06\x0e+4", b"DKIF", b"nut/", b"YUV4MPEG2", b".RMF", b"\x1f\x07\0", b"\0\0\0\x01", b"\0\0\x01"),
    b"\xff\xd8\xff",
)
"""First bytes of videos that are not mp4: flv, avi, mkv and webm, mpeg (program and video streams), wmv, ogg, gif, mxf,
ivf, nut, y4m, rm, dv, raw H.264 and H.265, motion JPEG. Transport streams have a G every 188 bytes, those of cameras
every 192."""


@dataclass(frozen=True)
class InspectedClip:
    """A clip, what is wrong with its files (None: nothing), and the number of frames of an image folder."""

    clip: Clip
    fault: str | None
    n_frames: int | None = None


def inspect(root: Path, clips: Iterable[Clip], deep: bool = False, confined: bool = False) -> list[InspectedClip]:
    """Check the files of every clip; ``deep`` decodes every image and reads every packet of a video.

    With ``confined``, links that lead out of the root are a fault.
    """

    def inspect_one(clip: Clip) -> InspectedClip:
        path, within = root / clip.source, root if confined else None
        try:
            if within and leads_out(path, within):
                return InspectedClip(clip, f"is {LEADS_OUT}")
            if clip.kind == "frames":
                names = list_images(path)
                return InspectedClip(clip, _folder_fault(path, names, deep, within), len(names))
            return InspectedClip(clip, video_fault(path) or (_packets_fault(path) if deep else None))
        except UnusableError as error:
            return InspectedClip(clip, str(error))
        except FileNotFoundError:
            return InspectedClip(clip, "no such file")
        except OSError as error:
            return InspectedClip(clip, f"cannot be read: {error.strerror}")

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(inspect_one, clips))


def outliers(inspected: list[InspectedClip]) -> list[str]:
    """The clips whose number of frames is far from that of the others."""
    counts = {one.clip.source: one.n_frames for one in inspected if one.n_frames}
    middle = median(counts.values()) if counts else 1
    return [
        f"{source}: {count} frames, the median is {middle:g}"
        for source, count in counts.items()
        if not middle / OUTLIER <= count <= middle * OUTLIER
    ]


def _folder_fault(path: Path, names: list[str], deep: bool, within: Path | None) -> str | None:
    for name in names:
        status = os.lstat(f"{path}/{name}")  # a Path object for each of a million files is slow
        if stat.S_ISLNK(status.st_mode):
            if within and leads_out(f"{path}/{name}", within):
                return f"image {name} is {LEADS_OUT}"
            status = os.stat(f"{path}/{name}")  # noqa: PTH116
        if not status.st_size:
            return f"image {name} is empty (0 bytes)"
    for name in names if deep else sorted({names[0], names[len(names) // 2], names[-1]}):
        data = (path / name).read_bytes()
        if deep or jpeg_header(data) is None:
            try:
                open_image(data)
            except ValueError as error:
                return f"image {name} cannot be decoded ({error})"
    return None


def video_fault(path: Path) -> str | None:
    """What is wrong with the structure of a video file, or None."""
    size = path.stat().st_size
    if not size:
        return "file is empty (0 bytes)"
    with path.open("rb") as stream:
        head = stream.read(200)
        if head[4:8] not in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip", b"pnot"):
            known = head.startswith(OTHERS) or head[::188] == b"GG" or head[4::192] == b"GG"
            return None if known else "does not begin like a video file"
        # an mp4 or mov is a sequence of boxes, which must fill the file; one of them must be the index
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
            if box[4:8] == b"moov":
                stream.seek(at)
                index = stream.read(min(length, LARGEST_INDEX))
            at += length
    if at > size:
        return f"file is truncated: {size} of at least {at} bytes"
    if b"moov" not in seen:
        return "has no index (moov atom not found)"
    # the handler of a track; an index may be compressed, or a fragmented file's longer than what is read
    with_video = b"vide" in index or b"cmov" in index or len(index) == LARGEST_INDEX
    return None if with_video else "no video stream"


def _packets_fault(path: Path) -> str | None:
    from tgdfer.media import ffmpeg

    try:
        _, err = ffmpeg.run(ffmpeg.command(ffmpeg.source(path)["V:0"].output("-", f="null")))
    except ffmpeg.FFmpegError as error:
        return str(error)
    return ffmpeg.reason(err) or None
