"""ffmpeg: find it, build its command lines with ffmpeg-python, run it without hanging, say in a line what failed.

The system's ffmpeg is used if there is one (``TGDFER_FFMPEG`` names another), else the one that the imageio-ffmpeg
wheel carries. There may be no ffprobe beside it, so whatever is to be known about a video comes from ffmpeg itself.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tgdfer.core.errors import UserError
from tgdfer.core.storage import atomic

VARIABLE = "TGDFER_FFMPEG"
TIMEOUT_S = 600.0
"""Longest time for one clip; a file that makes ffmpeg loop must not stop a run."""
BESIDE = "tgdfer-second-pipe"
"""Stands for the second pipe in a command line."""
MP4_ARGS = {"f": "mp4", "movflags": "+faststart", "map_metadata": "-1", "fflags": "+bitexact"}

MOST_PIXELS = 1 << 26
"""Of a picture: twice those of 8K. A file of a few bytes can ask for far more than any memory holds."""
# playlists (concat, HLS, DASH), scripts and name patterns are formats too, which lead to other files: none is here
_CONTAINERS = (
    "mov,matroska,webm,avi,flv,live_flv,mpeg,mpegts,mpegvideo,m4v,asf,ogg,mxf,nut,wtv,dv,rm,gif,apng,ivf,h264,hevc,mjpeg,"
    "yuv4mpegpipe,jpeg_pipe,png_pipe,bmp_pipe,webp_pipe,tiff_pipe"
)
GUARDED = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS, "max_pixels": MOST_PIXELS}
"""For a stranger's file: it is one video of a sane size, and leads neither to the network nor to other files."""


class FFmpegError(Exception):
    """ffmpeg failed on a file. The message is its reason in one line."""


def executable() -> str:
    """Path of the ffmpeg in use.

    Raises:
        UserError: ``TGDFER_FFMPEG`` names no program, or there is no ffmpeg anywhere.
    """
    named = os.environ.get(VARIABLE)
    if named:
        found = shutil.which(named)
        if not found:
            raise UserError(f"{VARIABLE}={named}: no such program; name an ffmpeg or unset it")
        return found
    found = shutil.which("ffmpeg")
    if found:
        return found
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (RuntimeError, ImportError):
        raise UserError(f"no ffmpeg: install it, or set {VARIABLE} to one, or reinstall imageio-ffmpeg") from None


def source(path: Path, **options: Any) -> Any:
    """ffmpeg's input of a video file; an FFmpegError where its name cannot be said."""
    import ffmpeg as build

    if not os.fspath(path).isascii() and "\ufffd" in os.fsencode(path).decode("utf-8", "replace"):
        raise FFmpegError("the file's name is not in UTF-8: rename it")
    # file: makes any name a name
    return build.input(f"file:{path}", **GUARDED, threads=1, **options)


@lru_cache
def version(program: str) -> str:
    """The version that ``program`` reports of itself, for provenance: other versions decode and encode otherwise."""
    out = subprocess.run([program, "-version"], capture_output=True, text=True, check=False, timeout=60).stdout
    match = re.match(r"ffmpeg version (\S+)", out)
    if not match:
        raise UserError(f"{program}: does not answer as an ffmpeg does to -version")
    return match[1]


def passthrough() -> dict[str, str]:
    """The output option that passes every frame on once, whatever its time; its name changed with ffmpeg 5.1."""
    match = re.match(r"n?(\d+)\.(\d+)", version(executable()))
    old = match is not None and (int(match[1]), int(match[2])) < (5, 1)
    return {"vsync": "passthrough"} if old else {"fps_mode": "passthrough"}


def run(command: list[str], feed: Iterable[Any] | None = None, timeout: float = TIMEOUT_S) -> tuple[bytes, str]:
    """Run ``command`` to its end and return what it wrote to standard output and to standard error.

    Both are read while it runs (a full pipe would stop it), its input is ``feed`` or nothing, and it is killed after
    ``timeout`` seconds.

    Raises:
        FFmpegError: it exited with an error, or did not end in time.
        UserError: somebody else killed it.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE if feed is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    if feed is None:
        return _communicate(process, timeout)
    return _run_fed(process, feed, timeout)


def run_beside(command: list[str], timeout: float = TIMEOUT_S) -> tuple[bytes, str, bytes]:
    """As :func:`run`, for a command that writes to a second pipe as well: the word ``BESIDE`` in it stands for that.

    Returns:
        What it wrote to standard output, to standard error, and to the second pipe.
    """
    read_end, write_end = os.pipe()
    beside: list[bytes] = []

    def drain() -> None:
        with os.fdopen(read_end, "rb") as stream:
            beside.append(stream.read())

    reader = threading.Thread(target=drain, daemon=True)
    reader.start()
    try:
        filled = [word.replace(BESIDE, f"pipe:{write_end}") for word in command]
        process = subprocess.Popen(
            filled,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(write_end,),
        )
    finally:
        os.close(write_end)
    try:
        out, err = _communicate(process, timeout)
    finally:
        reader.join()
    return out, err, beside[0]


def _communicate(process: subprocess.Popen[bytes], timeout: float) -> tuple[bytes, str]:
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise FFmpegError(f"ffmpeg did not end within {timeout:g} s") from None
    except BaseException:
        process.kill()
        process.wait()
        raise
    return out, _checked(process.returncode, err)


def _run_fed(process: subprocess.Popen[bytes], feed: Iterable[Any], timeout: float) -> tuple[bytes, str]:
    assert process.stdin and process.stdout and process.stderr
    late = threading.Event()

    def stop() -> None:
        late.set()
        process.kill()

    read: dict[str, bytes] = {}
    streams = {"out": process.stdout, "err": process.stderr}
    readers = [
        threading.Thread(target=lambda name=name, stream=stream: read.update({name: stream.read()}), daemon=True)
        for name, stream in streams.items()
    ]
    timer = threading.Timer(timeout, stop)
    for thread in (*readers, timer):
        thread.start()
    try:
        try:
            for chunk in feed:
                process.stdin.write(chunk)
            process.stdin.close()
        except BrokenPipeError:
            pass  # it ended early; its exit status and standard error say why
        process.wait()
    except BaseException:
        process.kill()
        raise
    finally:
        timer.cancel()
        process.wait()
        for thread in readers:
            thread.join()
    if late.is_set():
        raise FFmpegError(f"ffmpeg did not end within {timeout:g} s")
    return read["out"], _checked(process.returncode, read["err"])


def _checked(status: int, err: bytes) -> str:
    text = err.decode("utf-8", "replace")
    if status == -signal.SIGKILL:  # no fault of the file's
        raise UserError("ffmpeg was killed, most likely for lack of memory; run the same command again to go on")
    if status:
        raise FFmpegError(reason(text) or f"ffmpeg exited with status {status}")
    return text


def reason(err: str) -> str:
    """The first line of ffmpeg's standard error that says what is wrong, without addresses, prefixes and paths."""
    said = [line for line in err.splitlines() if line.strip()]
    errors = [line for line in said if "[error]" in line or "[fatal]" in line or "[panic]" in line] or said
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
    import ffmpeg

    width, height = size

    def raw() -> Iterable[bytes]:
        count = 0
        for count, frame in enumerate(frames, start=1):
            if frame.shape != (height, width, 3) or frame.dtype != np.uint8:
                wanted = (height, width, 3)
                raise ValueError(f"{path}: frame {count} is {frame.dtype}{frame.shape}, expected uint8{wanted}")
            yield frame.tobytes()
        if not count:
            raise ValueError(f"{path}: no frames to write")

    with atomic(path) as part:
        # one thread and bitexact flags: no thread count, no version and no date in the file
        stream = ffmpeg.input("pipe:", f="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", r=fps).output(
            str(part),
            vcodec="libx264",
            pix_fmt="yuv420p",
            crf=crf,
            preset=preset,
            threads=1,
            **{"flags:v": "+bitexact", "x264-params": "threads=1:lookahead-threads=1"},
            **MP4_ARGS,
        )
        command = stream.compile(cmd=executable(), overwrite_output=True)
        run([command[0], "-loglevel", "level+error", "-nostats", *command[1:]], feed=raw())
