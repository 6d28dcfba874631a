"""Long videos as a stream: frames come one by one from ffmpeg as it decodes, and none is held."""

from __future__ import annotations

import os
import queue
import re
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO

from tgdfer.config.params import FramesParams
from tgdfer.media import ffmpeg, videos
from tgdfer.media.images import jpeg_header
from tgdfer.media.sampling import Frame, UnusableError

CHUNK = 1 << 16
_DURATION = re.compile(r"Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)")
_ALL = f"{ffmpeg.BESIDE}-all"


def duration(path: Path) -> float | None:
    """The seconds of a video, as its container says them or else its packets; None where this is no video."""
    try:
        command = ffmpeg.source(path)["V:0"].output("-", f="null", t=0).compile(cmd=ffmpeg.executable())
        _, said = ffmpeg.run([command[0], "-nostdin", "-hide_banner", *command[1:]])
        found = _DURATION.search(said)
        if found:
            return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])
        times = videos.packet_times(path)
    except ffmpeg.FFmpegError:
        return None  # whoever reads it will say why
    return times[-1] - times[0] if times else None


def frames(path: Path, params: FramesParams) -> Iterator[Frame]:
    """The frames that ``params`` asks for (sampling fps, every or all) in their order, while the video is decoded.

    Raises:
        UnusableError: it is no video, or too damaged to be trusted; perhaps after many frames.
    """
    with tempfile.TemporaryFile() as said, _Clock() as chosen, _Clock() as every:
        command = [
            word.replace(_ALL, f"pipe:{every.end}").replace(ffmpeg.BESIDE, f"pipe:{chosen.end}")
            for word in _command(path, params)
        ]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            pass_fds=(chosen.end, every.end),
        )
        assert process.stdout
        chosen.start()
        every.start()
        count = 0
        try:
            index, at = -1, None
            for jpeg in _split(process.stdout):
                time = chosen.next()
                while time is not None and at != time:  # the number of a frame is that of its time among all times
                    index, at = index + 1, every.next()
                    if at is None:
                        break
                header = jpeg_header(jpeg)
                if time is None or at is None or header is None:
                    raise UnusableError(f"ffmpeg wrote a frame without a time after {count} frames")
                yield Frame(index, time, jpeg, header.width, header.height)
                count += 1
            status = process.wait()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        said.seek(0)
        text = said.read().decode("utf-8", "replace")
    if status:
        raise UnusableError(videos.in_plain_words(path, ffmpeg.reason(text) or f"ffmpeg ended with status {status}"))
    complaint = videos.complaint(text)
    if complaint or not count:
        raise UnusableError(complaint or "no frame could be decoded")


def _command(path: Path, params: FramesParams) -> list[str]:
    import ffmpeg as build

    both = ffmpeg.source(path)["V:0"].filter_multi_output("split")
    stream = both[0]
    if params.sampling == "fps":
        # the first frame at or after every tick, as tgdfer.media.sampling.choose has it
        tick = "floor(({}-start_t)*" + repr(params.fps) + "+1e-6)"
        rule = f"if(isnan(prev_selected_t),1,gt({tick.format('t')},{tick.format('prev_selected_t')}))"
        stream = stream.filter("select", rule)
    elif params.sampling == "every":
        stream = stream.filter("select", f"not(mod(n,{params.every}))")
    taken = stream.filter_multi_output("split")
    # a line must not wait in ffmpeg for others: its frame would wait with it
    clocks = [
        videos.times_of(taken[1], ffmpeg.BESIDE, flush_packets=1),
        videos.times_of(both[1], _ALL, flush_packets=1),
    ]
    command = build.merge_outputs(videos.jpegs(taken[0], params.resize), *clocks).compile(cmd=ffmpeg.executable())
    extra = ["-nostdin", "-nostats", "-hide_banner", "-filter_complex_threads", "1", "-loglevel", "level+verbose"]
    return [command[0], *extra, *command[1:]]


class _Clock:
    """The times that ffmpeg lists in a pipe, read by a thread so that ffmpeg never waits for a reader."""

    def __init__(self) -> None:
        self._read, self.end = os.pipe()
        self._times: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._open = True

    def start(self) -> None:
        """Read; the writing end is now another process' alone."""
        os.close(self.end)
        self._open = False
        self._thread.start()

    def next(self) -> float | None:
        """The next time in seconds; None at the end."""
        return self._times.get()

    def _drain(self) -> None:
        base = Fraction(0)
        with os.fdopen(self._read, encoding="ascii", errors="replace") as lines:
            for line in lines:
                if line.startswith("#tb 0:"):
                    base = Fraction(line.removeprefix("#tb 0:").strip())
                elif line.strip() and line[0] != "#":
                    self._times.put(round(float(int(line.split(",")[2]) * base), 6))
        self._times.put(None)

    def __enter__(self) -> _Clock:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open:
            os.close(self.end)
            os.close(self._read)
        else:
            self._thread.join()


def _split(stream: IO[bytes]) -> Iterator[bytes]:
    """The JPEGs of a stream of one after the other, each as soon as it is whole."""
    data = bytearray()
    at, scan = 2, False
    while True:
        if scan:  # in the scan itself 0xFF is always followed by 0x00
            end = data.find(b"\xff\xd9", at)
            if end >= 0:
                yield bytes(data[: end + 2])
                del data[: end + 2]
                at, scan = 2, False
                continue
            at = max(at, len(data) - 1)
        elif len(data) >= at + 4:  # segments carry their length
            scan = data[at + 1] == 0xDA
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
            continue
        more = stream.read1(CHUNK)  # type: ignore[attr-defined]
        if not more:
            return
        data += more
