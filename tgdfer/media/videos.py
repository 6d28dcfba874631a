"""Videos: the chosen frames of a clip as JPEG, with their true times, by one pass of ffmpeg."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from tgdfer.config.params import FramesParams
from tgdfer.media import ffmpeg
from tgdfer.media.images import TOO_LARGE, jpeg_header, split_jpegs
from tgdfer.media.sampling import Frame, UnusableError, choose

QUALITY = 2
"""ffmpeg's scale for JPEG: 2 is the best that every reader understands."""
LOST = 0.1
"""Share of a video's packets that may fail to decode before the clip is refused."""
_SUMMARY = re.compile(r"(\d+) packets read \(\d+ bytes\); (\d+) frames decoded")
_CUT_OFF = re.compile(r"partial file|ended prematurely|[Tt]runcat|Packet corrupt")


@dataclass(frozen=True)
class Pass:
    """What one pass over a video says: the time of every frame in seconds, the numbers of those kept, the output."""

    times: list[float]
    kept: list[int]
    output: bytes
    complaint: str | None


def read_video(path: Path, params: FramesParams) -> list[Frame]:
    """The chosen frames of a video.

    Rotation metadata is applied, pixels that are not square are made so, every frame keeps its own time (variable
    frame rates included), and the file is decoded once.

    Raises:
        UnusableError: it is no video, holds no frames, or is too damaged to be trusted.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise UnusableError("no such file") from None
    if path.is_dir():
        raise UnusableError("is a folder, expected a video file")
    if not size:
        raise UnusableError("file is empty (0 bytes)")
    try:
        done = _chosen(path, params)
    except ffmpeg.FFmpegError as error:
        raise UnusableError(in_plain_words(path, str(error))) from None
    if not done.times:
        raise UnusableError(done.complaint or "no frame could be decoded")
    if done.complaint:
        raise UnusableError(done.complaint)
    jpegs = split_jpegs(done.output)
    if len(jpegs) != len(done.kept):
        raise UnusableError(f"ffmpeg wrote {len(jpegs)} frames where {len(done.kept)} were chosen")
    frames = []
    for index, jpeg in zip(done.kept, jpegs, strict=True):
        header = jpeg_header(jpeg)
        if header is None:
            raise UnusableError(f"ffmpeg wrote a broken JPEG for frame {index}")
        frames.append(Frame(index, done.times[index], jpeg, header.width, header.height))
    return frames


def in_plain_words(path: Path, reason: str) -> str:
    """What ffmpeg says of a file, as a person would."""
    if "matches no streams" in reason:
        return "no video stream"
    if "max pixel count" in reason:
        return TOO_LARGE
    with path.open("rb") as stream:
        head = stream.read(512)
    if head.isascii() and b"\0" not in head:
        return "a text file, no video"
    if "not on whitelist" in reason:
        return "none of the video formats that are read"
    return f"file is cut off or broken ({reason})" if "moov atom" in reason else reason


def _chosen(path: Path, params: FramesParams) -> Pass:
    """Run ffmpeg such that the frames of the sampling rule come out."""
    # the packets' times say which frames to keep without decoding anything; the decoded frames then have the last word
    times = packet_times(path) if params.sampling in ("uniform", "fps") else None
    done = _decode(path, params, None if times is None else choose(times, params))
    if not done.complaint and done.kept != choose(done.times, params):
        done = _decode(path, params, choose(done.times, params))
    return done


def _select(params: FramesParams, frames: list[int] | None) -> str | None:
    """The expression that keeps ``frames``, or those of the rule where they are not given; None keeps all."""
    if frames is None:
        return f"not(mod(n,{params.every}))" if params.sampling == "every" else None
    if frames == list(range(len(frames))):
        return f"lt(n,{max(1, len(frames))})"
    return "+".join(f"eq(n,{frame})" for frame in frames)


def jpegs(stream: Any, resize: int | None) -> Any:
    """The output that writes frames to standard output as JPEG: square pixels, the shorter side at most ``resize``."""
    stream = stream.filter("scale", "max(1,round(iw*sar))", "ih").filter("setsar", 1)
    if resize:
        wide, high = f"if(lte(iw,ih),min(iw,{resize}),-1)", f"if(lte(iw,ih),-1,min(ih,{resize}))"
        stream = stream.filter("scale", wide, high, flags="bicubic")
    # a second a frame: the encoder's own clock, which variable frame rates do not fit, must not merge two frames
    return (
        stream.filter("settb", "1")
        .filter("setpts", "N")
        .output(
            "pipe:1",
            f="image2pipe",
            vcodec="mjpeg",
            pix_fmt="yuvj420p",
            threads=1,
            **{"q:v": QUALITY, "flags:v": "+bitexact", **ffmpeg.passthrough()},
        )
    )


def times_of(stream: Any, to: str, **options: Any) -> Any:
    """The output that lists the frames' times, in microseconds, in the file or pipe ``to``."""
    return stream.output(
        to,
        f="framecrc",
        vcodec="wrapped_avframe",
        enc_time_base="1/1000000",
        **ffmpeg.passthrough(),
        **options,
    )


def _run(stream: Any, level: str) -> tuple[bytes, str, bytes]:
    command = stream.compile(cmd=ffmpeg.executable())
    extra = ["-nostdin", "-nostats", "-hide_banner", "-filter_complex_threads", "1", "-loglevel", f"level+{level}"]
    return ffmpeg.run_beside([command[0], *extra, *command[1:]])


def packet_times(path: Path) -> list[float]:
    """The times of a video's packets in seconds, ascending; nothing is decoded."""
    out, _, _ = _run(ffmpeg.source(path)["V:0"].output("pipe:", f="framecrc", codec="copy"), "error")
    return sorted(_times(out))


def _times(framecrc: bytes) -> list[float]:
    """The presentation times in seconds of a framecrc listing."""
    base = Fraction(0)
    times = []
    for line in framecrc.decode("ascii", "replace").splitlines():
        if line.startswith("#tb 0:"):
            base = Fraction(line.removeprefix("#tb 0:").strip())
        elif line and line[0] != "#":
            times.append(round(float(int(line.split(",")[2]) * base), 6))
    return times


def _decode(path: Path, params: FramesParams, wanted: list[int] | None) -> Pass:
    import ffmpeg as build

    both = ffmpeg.source(path)["V:0"].filter_multi_output("split")
    stream, select = both[0], _select(params, wanted)
    if select:
        stream = stream.filter("select", select)
    pictures = jpegs(stream, params.resize)
    # every frame's time by a way of its own: log lines of several threads get mixed
    clock = times_of(both[1], ffmpeg.BESIDE)
    out, err, listing = _run(build.merge_outputs(pictures, clock), "verbose")
    times = _times(listing)
    if wanted is None:
        kept = list(range(0, len(times), params.every if params.sampling == "every" else 1))
    else:
        kept = [frame for frame in wanted if frame < len(times)]
    return Pass(times, kept, out, complaint(err))


def complaint(err: str) -> str | None:
    """Why a video that ffmpeg came through is not to be trusted all the same; None where it is."""
    # not what the file says of itself: its name and titles hold any words; and streams from the air lose packets
    said = [line for line in err.splitlines() if ("[error]" in line or "[warning]" in line) and "mpegts" not in line]
    for line in said:
        if cut := _CUT_OFF.search(line):
            return f"file is cut off ({cut[0]})"
    summary = _SUMMARY.search(err)
    # an edit that begins later, as a trimmed video has it, leaves frames out without a word
    if summary and any("[error]" in line for line in said):
        packets, decoded = int(summary[1]), int(summary[2])
        if decoded < (1 - LOST) * packets:
            return f"only {decoded} of {packets} frames can be decoded: {ffmpeg.reason(err)}"
    return None
