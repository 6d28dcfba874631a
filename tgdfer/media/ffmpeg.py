"""ffmpeg: find it, build its command lines with ffmpeg-python, run it with a time limit, report failures in one line.

The system's ffmpeg is used if there is one (``TGDFER_FFMPEG`` names another), else the one in the imageio-ffmpeg
wheel. That wheel has no ffprobe, so everything about a video is asked of ffmpeg itself.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np

from tgdfer.core.errors import UserError
from tgdfer.core.storage import atomic

VARIABLE = "TGDFER_FFMPEG"
TIMEOUT_S = 600.0
"""The longest time for one clip: a file that sends ffmpeg into a loop must not stop a run."""
MP4_ARGS = {"f": "mp4", "movflags": "+faststart", "map_metadata": "-1", "fflags": "+bitexact"}
MAX_PIXELS = 1 << 26
"""The largest picture, twice 8K: a file of a few bytes can claim a size that no memory holds."""
# formats that refer to other files are left out: playlists (concat, HLS, DASH), scripts and file name patterns
_CONTAINERS = (
    "mov,matroska,webm,avi,flv,live_flv,mpeg,mpegts,mpegvideo,m4v,asf,ogg,mxf,nut,wtv,dv,rm,gif,apng,ivf,h264,hevc,mjpeg,"
    "yuv4mpegpipe,jpeg_pipe,png_pipe,bmp_pipe,webp_pipe,tiff_pipe"
)
UNTRUSTED = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS, "max_pixels": MAX_PIXELS}
"""Input options for a file from a stranger: one video of a sane size that reaches neither the network nor other
files."""


class FFmpegError(Exception):
    """ffmpeg failed on a file. The message is its reason in one line."""


def executable() -> str:
    """The path of the ffmpeg in use.

    Raises:
        UserError: ``TGDFER_FFMPEG`` names no program, or there is no ffmpeg anywhere.
    """
    named = os.environ.get(VARIABLE)
    found = shutil.which(named or "ffmpeg")
    if found:
        return found
    if named:
        raise UserError(f"{VARIABLE}={named}: no such program; name an ffmpeg or unset it")
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (RuntimeError, ImportError):
        raise UserError(f"no ffmpeg: install it, or set {VARIABLE} to one, or reinstall imageio-ffmpeg") from None


@lru_cache
def version(program: str) -> str:
    """The version that ``program`` reports, for provenance: other versions decode and encode differently."""
    out = subprocess.run([program, "-version"], capture_output=True, text=True, check=False, timeout=60).stdout
    match = re.match(r"ffmpeg version (\S+)", out)
    if not match:
        raise UserError(f"{program}: does not answer to -version as ffmpeg does")
    return match[1]


def source(path: Path, **options: Any) -> Any:
    """ffmpeg-python's input for a video file.

    Raises:
        FFmpegError: ffmpeg-python cannot express the file's name.
    """
    import ffmpeg as build

    if not os.fspath(path).isascii() and "\ufffd" in os.fsencode(path).decode("utf-8", "replace"):
        raise FFmpegError("the file's name is not in UTF-8: rename it")
    # "file:" keeps ffmpeg from reading a name as an option, a URL or a pattern
    return build.input(f"file:{path}", **UNTRUSTED, threads=1, **options)


def passthrough() -> dict[str, str]:
    """The output option that writes every frame once, whatever its time; ffmpeg 5.1 renamed it."""
    match = re.match(r"n?(\d+)\.(\d+)", version(executable()))
    old = match is not None and (int(match[1]), int(match[2])) < (5, 1)
    return {"vsync": "passthrough"} if old else {"fps_mode": "passthrough"}


def command(output: Any, loglevel: str = "error", *options: str) -> list[str]:
    """The command line for ffmpeg-python's ``output``; each line of the log begins with its level."""
    program, *rest = output.compile(cmd=executable(), overwrite_output=True)
    common = ["-nostdin", "-hide_banner", "-nostats", "-loglevel", f"level+{loglevel}"]
    return [program, *common, *options, *rest]


class Process:
    """A program at work, killed when its block is left or after ``timeout`` seconds (None: no limit).

    ``pipes`` are ``stdin``, ``stdout`` and ``pass_fds`` as ``subprocess.Popen`` takes them; nothing by default.
    """

    def __init__(self, command: list[str], timeout: float | None = TIMEOUT_S, **pipes: Any) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed in __exit__); a pipe nobody reads would block it
        self._timeout, self._late = timeout, False
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, **pipes}
        self._process = subprocess.Popen(command, stderr=self._log, **pipes)
        self.stdin, self.stdout = self._process.stdin, self._process.stdout
        self._timer = threading.Timer(timeout or 0, self._stop)
        if timeout is not None:
            self._timer.start()

    def _stop(self) -> None:
        self._late = True
        self._process.kill()

    def finish(self) -> str:
        """Wait for the end and return the log.

        Raises:
            FFmpegError: it exited with an error or ran out of time.
            UserError: it was killed from outside.
        """
        status = self._process.wait()
        if self._late:
            raise FFmpegError(f"ffmpeg did not end within {self._timeout:g} s")
        if status == -signal.SIGKILL:
            raise UserError("ffmpeg was killed, most likely for lack of memory; run the same command again to go on")
        self._log.seek(0)
        log = self._log.read().decode("utf-8", "replace")
        if status:
            raise FFmpegError(reason(log) or f"ffmpeg exited with status {status}")
        return log

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._process.kill()
        self._process.wait()
        if self.stdout:
            self.stdout.close()
        self._log.close()


def run(command: list[str], timeout: float = TIMEOUT_S) -> tuple[bytes, str]:
    """Run ``command`` to its end; returns its standard output and its log. Raises as ``Process.finish``."""
    with Process(command, timeout, stdout=subprocess.PIPE) as process:
        assert process.stdout
        return process.stdout.read(), process.finish()


def feed(command: list[str], chunks: Iterable[bytes], timeout: float = TIMEOUT_S) -> None:
    """Run ``command`` to its end with ``chunks`` as its standard input. Raises as ``Process.finish``."""
    with Process(command, timeout, stdin=subprocess.PIPE) as process:
        assert process.stdin
        try:
            for chunk in chunks:
                process.stdin.write(chunk)
            process.stdin.close()
        except BrokenPipeError:
            pass  # it ended early: finish says why
        process.finish()


def reason(log: str) -> str:
    """The first line of a log that says what is wrong, without addresses, prefixes and paths."""
    lines = [line for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if "[error]" in line or "[fatal]" in line or "[panic]" in line] or lines
    for line in errors:
        plain = re.sub(r"\[[^\]]*\]\s*", "", line).strip()
        plain = re.sub(r"^Error opening input( file)?:? (.*: )?(?=[A-Z])", "", plain)
        if plain:
            return plain[:200]
    return ""


def encode_h264(
    path: Path,
    frames: Iterable[np.ndarray],
    fps: float,
    size: tuple[int, int],
    crf: int = 20,
    preset: str = "fast",
) -> None:
    """Write an H.264 mp4 of ``frames``, atomically and with the same bytes for the same frames.

    Args:
        path: the file to write.
        frames: uint8 RGB images [height, width, 3].
        fps: frames per second.
        size: (width, height) in pixels, both even.
        crf: x264's constant rate factor, 0 (lossless) to 51.
        preset: x264's preset, from ultrafast to veryslow.

    Raises:
        ValueError: a frame of another shape or type, or no frame at all.
        FFmpegError: ffmpeg cannot write it.
    """
    import ffmpeg as build

    width, height = size

    def raw() -> Iterable[bytes]:
        count = 0
        for count, frame in enumerate(frames, start=1):
            if frame.shape != (height, width, 3) or frame.dtype != np.uint8:
                expected = (height, width, 3)
                raise ValueError(f"{path}: frame {count} is {frame.dtype}{frame.shape}, expected uint8{expected}")
            yield frame.tobytes()
        if not count:
            raise ValueError(f"{path}: no frames to write")

    with atomic(path) as part:
        # one thread and bitexact flags keep thread counts, versions and dates out of the file
        output = build.input("pipe:", f="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", r=fps).output(
            str(part),
            vcodec="libx264",
            pix_fmt="yuv420p",
            crf=crf,
            preset=preset,
            threads=1,
            **{"flags:v": "+bitexact", "x264-params": "threads=1:lookahead-threads=1"},
            **MP4_ARGS,
        )
        feed(command(output), raw())
