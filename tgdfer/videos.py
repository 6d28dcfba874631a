"""Videos: the chosen frames of a clip as JPEG, with their true times, by one pass of ffmpeg."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from tgdfer import ffmpeg
from tgdfer.images import jpeg_header, split_jpegs
from tgdfer.params import FramesParams
from tgdfer.sampling import Frame, UnusableError, choose, uniform

QUALITY = 2
"""ffmpeg's scale for JPEG: 2 is the best that every reader understands."""
LOST = 0.1
"""Share of a video's packets that may fail to decode before the clip is refused."""
_SHOWN = re.compile(r"\[showinfo@(all|kept) @ \S+\] \[info\] n: *\d+ pts: *(-?\d+|NOPTS) ")
_TIME_BASE = re.compile(r"\[showinfo@all @ \S+\] \[info\] config in time_base: (\d+)/(\d+)")
_SUMMARY = re.compile(r"Input stream #\d+:\d+ \(video\): (\d+) packets read .*; (\d+) frames decoded")
_CUT_OFF = re.compile(r"partial file|[Tt]runcat")


@dataclass(frozen=True)
class Pass:
    """What one pass over a video says: the time of every frame, the numbers of those kept, and the output."""

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
        raise UnusableError(_in_plain_words(path, str(error))) from None
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


def _in_plain_words(path: Path, reason: str) -> str:
    if "matches no streams" in reason:
        return "no video stream"
    with path.open("rb") as stream:
        head = stream.read(512)
    if head.isascii() and b"\0" not in head:
        return f"a text file, no video ({reason})"
    return f"file is cut off or broken ({reason})" if "moov atom" in reason else reason


def _chosen(path: Path, params: FramesParams) -> Pass:
    """Run ffmpeg such that the frames of the sampling rule come out."""
    if params.sampling == "uniform":
        # the packets are counted first, which decodes nothing; the pass then says how many frames there really were
        wanted = uniform(_count_packets(path), params.max_frames)
        done = _decode(path, params, _select(wanted))
        if done.kept != choose(done.times, params):
            done = _decode(path, params, _select(choose(done.times, params)))
    elif params.sampling == "every":
        done = _decode(path, params, f"not(mod(n,{params.every}))")
    elif params.sampling == "fps":
        tick, last = (f"floor((({time})-start_t)*{params.fps!r}+1e-6)" for time in ("t", "prev_selected_t"))
        done = _decode(path, params, f"if(isnan(prev_selected_t),1,gt({tick},{last}))")
    else:
        done = _decode(path, params, None)
    if not done.complaint and done.kept != choose(done.times, params):
        raise UnusableError("its frames cannot be numbered (does their size change on the way?)")
    return done


def _select(frames: list[int]) -> str | None:
    """The expression that keeps ``frames``; None where they are all there is to keep."""
    if frames == list(range(len(frames))):
        return f"lt(n,{len(frames)})" if frames else None
    return "+".join(f"eq(n,{frame})" for frame in frames)


def _input(path: Path, **options: Any) -> Any:
    import ffmpeg as build

    # file: makes any name a name; nothing that a file says may lead to the network
    return build.input(f"file:{path}", protocol_whitelist="file", threads=1, **options)


def _run(stream: Any, level: str) -> tuple[bytes, str]:
    command = stream.compile(cmd=ffmpeg.executable())
    extra = ["-nostdin", "-nostats", "-hide_banner", "-filter_complex_threads", "1", "-loglevel", f"level+{level}"]
    return ffmpeg.run([command[0], *extra, *command[1:]])


def _count_packets(path: Path) -> int:
    out, _ = _run(_input(path)["V:0"].output("pipe:", f="framecrc", codec="copy"), "error")
    return sum(1 for line in out.splitlines() if line and not line.startswith(b"#"))


def _decode(path: Path, params: FramesParams, select: str | None) -> Pass:
    stream = _input(path)["V:0"].filter("showinfo@all", checksum=0)
    if select:
        stream = stream.filter("select", select)
    stream = stream.filter("showinfo@kept", checksum=0)
    stream = stream.filter("scale", "max(1,round(iw*sar))", "ih").filter("setsar", 1)
    if params.resize:
        side = params.resize
        wide, high = f"if(lte(iw,ih),min(iw,{side}),-1)", f"if(lte(iw,ih),-1,min(ih,{side}))"
        stream = stream.filter("scale", wide, high, flags="bicubic")
    # a second a frame: the encoder's own clock, which variable frame rates do not fit, must not merge two frames
    stream = (
        stream.filter("settb", "1")
        .filter("setpts", "N")
        .output(
            "pipe:",
            f="image2pipe",
            vcodec="mjpeg",
            pix_fmt="yuvj420p",
            threads=1,
            **{"q:v": QUALITY, "flags:v": "+bitexact", **ffmpeg.passthrough()},
        )
    )
    out, err = _run(stream, "verbose")
    times: list[float] = []
    kept: list[int] = []
    base = Fraction(0)
    for line in err.splitlines():
        if "showinfo@" in line:
            if shown := _SHOWN.search(line):
                if shown[1] == "kept":
                    kept.append(len(times) - 1)  # the frame that was shown to the first filter just before
                else:
                    times.append(times[-1] if shown[2] == "NOPTS" and times else _seconds(shown[2], base))
            elif config := _TIME_BASE.search(line):
                base = Fraction(int(config[1]), int(config[2]))
    return Pass(times, kept, out, _complaint(err))


def _seconds(pts: str, base: Fraction) -> float:
    return 0.0 if pts == "NOPTS" else float(int(pts) * base)


def _complaint(err: str) -> str | None:
    """Why a video that ffmpeg came through is not to be trusted all the same; None where it is."""
    errors = [line for line in err.splitlines() if "[error]" in line or "[warning]" in line]
    for line in errors:
        if _CUT_OFF.search(line):
            return f"file is cut off: {ffmpeg.reason(line.replace('[warning]', '[error]'))}"
    summary = _SUMMARY.search(err)
    if summary:
        packets, decoded = int(summary[1]), int(summary[2])
        if decoded < (1 - LOST) * packets:
            return f"only {decoded} of {packets} frames can be decoded: {ffmpeg.reason(err)}"
    return None
