"""Videos: the frames of a clip as JPEG with their true times, decoded once by ffmpeg."""

import os
import queue
import re
import subprocess
import threading
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

from tgdfer.config.data import FramesParams
from tgdfer.media import ffmpeg
from tgdfer.media.frame import Frame, UnusableError
from tgdfer.media.images import TOO_LARGE
from tgdfer.media.jpeg import jpeg_header, split_jpegs
from tgdfer.media.sampling import Sampler

QUALITY = 2
"""ffmpeg's scale for JPEG: 2 is the best that every reader understands."""
MAX_LOST = 0.1
"""The share of a video's packets that may fail to decode before the clip is refused."""
LATE_S = 0.1
"""A container that begins later than this may give the time of its end as its duration."""
_DURATION = re.compile(r"Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?), start: (-?\d+\.\d+)")
_NO_TIME = -(2**63)
_SUMMARY = re.compile(r"(\d+) packets read \(\d+ bytes\); (\d+) frames decoded")
_CUT_OFF = re.compile(r"partial file|ended prematurely|[Tt]runcat|Packet corrupt")


def read_video(path: Path, params: FramesParams) -> list[Frame]:
    """The frames of a video that ``params`` ask for.

    Rotation metadata is applied, non-square pixels are made square, and every frame keeps its own time (variable frame
    rates included).

    Raises:
        UnusableError: it is not a video, has no frames, or is too damaged to be trusted.
    """
    if params.sampling != "uniform":
        return list(_decode(path, params, Sampler(params), ffmpeg.TIMEOUT_S))
    _check_file(path)
    # counting packets is cheap; where the decoder finds another number of frames, that number counts
    sampler = Sampler(params, len(_packets(path)))
    frames = list(_decode(path, params, sampler, ffmpeg.TIMEOUT_S))
    if sampler.seen != sampler.total:
        frames = list(_decode(path, params, Sampler(params, sampler.seen), ffmpeg.TIMEOUT_S))
    return frames


def stream_video(path: Path, params: FramesParams) -> Iterator[Frame]:
    """As ``read_video``, one frame at a time while the video is decoded; for any sampling but ``uniform``.

    Raises:
        UnusableError: as ``read_video``, perhaps after many frames.
    """
    return _decode(path, params, Sampler(params), None)


def duration(path: Path) -> float | None:
    """The length of a video in seconds, from its container or else its packets; None if it is not a video."""
    try:
        output = ffmpeg.source(path)["V:0"].output("-", f="null", t=0)
        _, log = ffmpeg.run(ffmpeg.command(output, "info"))
        found = _DURATION.search(log)
        if found and float(found[4]) <= LATE_S:
            return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])
        start, end = span(path)
    except (ffmpeg.FFmpegError, UnusableError):
        return None
    return end - start


def span(path: Path, with_sound: bool = False) -> tuple[float, float]:
    """When the pictures of a video begin and end, in seconds; nothing is decoded.

    Time 0 is where the container begins, except that broadcast streams (MPEG) begin with the first stream that ffmpeg
    reads: the pictures, which is also how frames are read, or ``with_sound`` the earlier of pictures and sound.

    Raises:
        UnusableError: it is not a video.
    """
    packets = _packets(path, with_sound)
    if not packets:
        raise UnusableError("no frame could be decoded")
    # a trimmed video has packets before time 0, which no player shows
    return max(0.0, min(time for time, _ in packets)), max(time + length for time, length in packets)


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise UnusableError("is a folder, expected a video file")
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise UnusableError("no such file") from None
    if not size:
        raise UnusableError("file is empty (0 bytes)")


def _packets(path: Path, with_sound: bool = False) -> list[tuple[float, float]]:
    """The time and the length in seconds of every packet of a video, in the order of the file; nothing is decoded."""
    import ffmpeg as build

    try:
        given = ffmpeg.source(path)
        streams = [given["V:0"], *([given["a?"]] if with_sound else [])]
        out, _ = ffmpeg.run(ffmpeg.command(build.output(*streams, "pipe:", f="framecrc", codec="copy")))
    except ffmpeg.FFmpegError as error:
        raise UnusableError(_explain(path, str(error))) from None
    packets = list(_listed(out.decode("ascii", "replace").splitlines()))
    if any(shown is None for _, shown, _ in packets):  # a raw stream: only the order of decoding has times
        return [(decoded - packets[0][0], length) for decoded, _, length in packets]
    return [(shown, length) for _, shown, length in packets if shown is not None]


def _decode(path: Path, params: FramesParams, sampler: Sampler, timeout: float | None) -> Iterator[Frame]:
    _check_file(path)
    times, writing_end = _pipe_of_times()
    count = 0
    try:
        with writing_end:
            command = _command(path, params, sampler, writing_end.fileno())
            process = ffmpeg.Process(command, timeout, stdout=subprocess.PIPE, pass_fds=(writing_end.fileno(),))
        with process:
            assert process.stdout
            for jpeg in split_jpegs(process.stdout):
                time = next(filter(sampler.takes, times), None)
                header = jpeg_header(jpeg)
                if time is None or header is None:
                    raise UnusableError(f"ffmpeg wrote a broken frame after {count} frames")
                yield Frame(sampler.seen - 1, time, jpeg, header.width, header.height)
                count += 1
            log = process.finish()
    except ffmpeg.FFmpegError as error:
        raise UnusableError(_explain(path, str(error))) from None
    missing = sum(map(sampler.takes, times))
    if problem := damage(log):
        raise UnusableError(problem)
    if missing:
        raise UnusableError(f"ffmpeg wrote {count} frames where {count + missing} were chosen")
    if not count:
        raise UnusableError("no frame could be decoded")


def _command(path: Path, params: FramesParams, sampler: Sampler, times_to: int) -> list[str]:
    """ffmpeg writes the chosen frames to standard output and the times of all frames to the descriptor ``times_to``."""
    import ffmpeg as build

    both = ffmpeg.source(path)["V:0"].filter("settb", "1/1000000").filter_multi_output("split")
    chosen = both[0]
    if expression := sampler.expression():
        chosen = chosen.filter("select", expression)
    # not from the log, where the lines of several threads get mixed; flushed, so that no frame waits for its time
    times = both[1].output(
        f"pipe:{times_to}",
        f="framecrc",
        vcodec="wrapped_avframe",
        enc_time_base="1/1000000",
        flush_packets=1,
        **ffmpeg.passthrough(),
    )
    outputs = build.merge_outputs(_jpegs(chosen, params.resize), times)
    return ffmpeg.command(outputs, "verbose", "-filter_complex_threads", "1")


def _jpegs(stream: Any, resize: int | None) -> Any:
    """The output that writes JPEGs to standard output: square pixels, the shorter side at most ``resize`` pixels."""
    stream = stream.filter("scale", "max(1,round(iw*sar))", "ih").filter("setsar", 1)
    if resize:
        width, height = f"if(lte(iw,ih),min(iw,{resize}),-1)", f"if(lte(iw,ih),-1,min(ih,{resize}))"
        stream = stream.filter("scale", width, height, flags="bicubic")
    # one second per frame: the encoder's clock does not fit variable frame rates and must not merge two frames
    return (
        stream.filter("settb", "1")
        .filter("setpts", "N")
        .output(
            "pipe:1",
            f="image2pipe",
            vcodec="mjpeg",
            pix_fmt="yuvj420p",
            threads=1,
            enc_time_base="1/1",  # otherwise that of the video's rate, which may be below one frame a second
            **{"q:v": QUALITY, "flags:v": "+bitexact", **ffmpeg.passthrough()},
        )
    )


def _pipe_of_times() -> tuple[Iterator[float], IO[bytes]]:
    """Times in seconds as they arrive in a pipe, and its writing end; a thread reads, so that ffmpeg never waits."""
    reading_end, writing_end = os.pipe()
    arrived: queue.SimpleQueue[float | None] = queue.SimpleQueue()

    def read() -> None:
        try:
            with os.fdopen(reading_end, encoding="ascii", errors="replace") as lines:
                for _, shown, _ in _listed(lines):
                    arrived.put(shown)
        finally:
            arrived.put(None)

    threading.Thread(target=read, daemon=True).start()
    return iter(arrived.get, None), os.fdopen(writing_end, "wb")


def _listed(framecrc: Iterable[str]) -> Iterator[tuple[float, float | None, float]]:
    """When each packet of the first stream is decoded, shown (None if unknown) and for how long, in seconds."""
    base = Fraction(0)
    for line in framecrc:
        if line.startswith("#tb 0:"):
            base = Fraction(line.removeprefix("#tb 0:").strip())
        elif line.startswith("0,"):
            decoded, shown, length = (int(value) for value in line.split(",")[1:4])
            seconds = [round(float(value * base), 6) for value in (decoded, shown, length)]
            yield seconds[0], None if shown == _NO_TIME else seconds[1], seconds[2]


def _explain(path: Path, reason: str) -> str:
    """What ffmpeg says about a file, in plain words."""
    if "matches no streams" in reason or reason.startswith("Stream specifier"):
        return "no video stream"
    if "max pixel count" in reason:
        return TOO_LARGE
    with path.open("rb") as stream:
        head = stream.read(512)
    if head.isascii() and b"\0" not in head:
        return "a text file, not a video"
    if "not on whitelist" in reason:
        return "not one of the video formats that are read"
    return f"file is cut off or broken ({reason})" if "moov atom" in reason else reason


def damage(log: str) -> str | None:
    """Why a video that ffmpeg decoded to its end cannot be trusted all the same, from ffmpeg's log; None if it can."""
    # only errors and warnings: the file's own name and titles are in the log too; and broadcasts do lose packets
    lines = [line for line in log.splitlines() if ("[error]" in line or "[warning]" in line) and "mpegts" not in line]
    for line in lines:
        if cut := _CUT_OFF.search(line):
            return f"file is cut off ({cut[0]})"
    summary = _SUMMARY.search(log)
    # without an error, frames are missing on purpose: a trimmed video has an edit list that begins later
    if summary and any("[error]" in line for line in lines):
        packets, decoded = int(summary[1]), int(summary[2])
        if decoded < (1 - MAX_LOST) * packets:
            return f"only {decoded} of {packets} frames can be decoded: {ffmpeg.reason(log)}"
    return None
