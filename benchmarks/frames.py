"""Frame extraction against bare ffmpeg and against plain reads, side by side in one run, and its peak memory.

    python benchmarks/frames.py FOLDER [--clips 60] [--folders 6000] [--rounds 3] [--only videos|folders] [--memory]

Videos: frames a second of the stage (every frame of every clip, all cores) against as many bare ffmpeg processes at
once that write the same JPEGs to a pipe. Image folders (16 JPEGs of about 10 kB each): against as many `cat` processes
that read the same files and write nothing. Cold: the files are only on the disk, as those of a data set that is larger
than the memory. Warm: they are in memory, so the stage is compared with memory bandwidth, though it hashes and writes.
Memory: the peak of the stage and of its processes together, on N clips and on 10 N clips.
"""

import argparse
import contextlib
import io
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import yaml
from PIL import Image, ImageFilter

from tgdfer.config.params import Params, load_params
from tgdfer.core import paths, storage
from tgdfer.core.provenance import cores
from tgdfer.media import ffmpeg
from tgdfer.stages import frames
from tgdfer.stages.clips import run as list_clips

SHIPPED = Path(__file__).parents[1] / "params.yaml"


def scene(number: int, frame: int, height: int = 240, width: int = 320) -> np.ndarray:
    """Something that moves, with edges and noise."""
    y, x = np.mgrid[:height, :width]
    waves = 128 + 60 * np.sin((x + 3 * frame) / (9 + number % 7)) + 40 * np.cos((y - 2 * frame) / 11)
    noise = np.random.default_rng(number * 1000 + frame).normal(0, 6, (height, width))
    return np.repeat(np.clip(waves + noise, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def pictures(count: int) -> list[bytes]:
    """JPEGs of 224 x 224 pixels and about 10 kB, as aligned faces are."""
    found = []
    for number in range(count):
        out = io.BytesIO()
        noise = np.random.default_rng(number).normal(128, 38, (224, 224, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noise).filter(ImageFilter.GaussianBlur(1.6)).save(out, "JPEG", quality=90)
        found.append(out.getvalue())
    return found


def project(kind: str, clips: int) -> Params:
    """A `folder` data set of ``clips`` videos or image folders below ./raw."""
    raw = Path("raw") / f"{kind}-{clips}"
    rows = ["clip_id,path,label,fold"]
    jpegs: list[bytes] = []
    for number in range(clips):
        path = raw / (f"{number}.mp4" if kind == "videos" else f"{number:05d}")
        if not path.exists():
            if kind == "videos":
                raw.mkdir(parents=True, exist_ok=True)
                if number >= 60:  # memory is not asked for content
                    shutil.copy(raw / f"{number % 60}.mp4", path)
                else:
                    drawn = (scene(number, step) for step in range(75))
                    ffmpeg.encode_h264(path, drawn, 25, (320, 240), preset="veryfast")
            else:
                jpegs = jpegs or pictures(64)
                path.mkdir(parents=True)
                for step in range(16):
                    (path / f"{number:05d}_{step + 1:05d}.jpg").write_bytes(jpegs[(number * 16 + step) % 64])
        rows.append(f"{number},{path.name},happy,{number % 2 + 1}")
    (raw / "clips.csv").write_text("\n".join(rows) + "\n")
    params = yaml.safe_load(SHIPPED.read_text())
    section = {"layout": "folder", "root": str(raw), "annotations": str(raw / "clips.csv"), "encoder": "demo-clip"}
    params["datasets"] = {kind: section}
    params["frames"] = {"sampling": "all", "shards": 8}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    loaded = load_params()
    list_clips(loaded, kind)
    return loaded


def stage(params: Params, kind: str) -> tuple[float, int]:
    shutil.rmtree(paths.frames(kind).parent, ignore_errors=True)
    started = time.perf_counter()
    frames.run(params, kind)
    return time.perf_counter() - started, storage.read_json(paths.frames(kind))["frames"]


def bare(path: Path) -> int:
    """One plain ffmpeg, as one would type it, its JPEGs read from a pipe and dropped."""
    command = f"-nostdin -loglevel error -threads 1 -i {path} -q:v 2 -threads 1 -f image2pipe -c:v mjpeg -"
    return len(subprocess.run([ffmpeg.executable(), *command.split()], capture_output=True, check=True).stdout)


def plain_read(sources: list[Path]) -> None:
    """All files by as many `cat` as cores."""
    command = ["xargs", "-0", f"-P{cores()}", "-n256", "cat"]
    subprocess.run(command, input=b"\0".join(map(os.fsencode, sources)), stdout=subprocess.DEVNULL, check=True)


def settle(sources: list[Path], cold: bool) -> None:
    """Bring the files into memory, or drop them from the page cache; nothing is left to be written."""
    os.sync()
    for path in sources:
        handle = os.open(path, os.O_RDONLY)
        if cold:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        else:
            os.read(handle, os.fstat(handle).st_size)
        os.close(handle)


def side_by_side(kind: str, clips: int, rounds: int) -> None:
    params = project(kind, clips)
    raw = Path(params.dataset(kind).root)
    sources = sorted(raw.glob("*.mp4")) if kind == "videos" else sorted(raw.glob("*/*.jpg"))
    for cold in (False, True):
        ours, theirs = [], []
        for _ in range(rounds):
            settle(sources, cold)
            started = time.perf_counter()
            if kind == "videos":
                with ThreadPoolExecutor(cores()) as pool:
                    list(pool.map(bare, sources))
            else:
                plain_read(sources)
            theirs.append(time.perf_counter() - started)
            settle(sources, cold)
            seconds, count = stage(params, kind)
            ours.append(seconds)
        ratios = [their / our for our, their in zip(ours, theirs, strict=True)]
        print(
            f"{kind}, {'cold' if cold else 'warm'}: {count} frames; stage {count / np.median(ours):.0f} frames/s, "
            f"{'bare ffmpeg' if kind == 'videos' else 'plain read'} {count / np.median(theirs):.0f} frames/s, "
            f"ratio {np.median(ratios):.2f} (median of {rounds}, {min(ratios):.2f} to {max(ratios):.2f}, "
            f"{cores()} cores)",
            flush=True,
        )


def peak(clips: int, kind: str) -> float:
    """Peak resident memory in MB of a process that runs the stage, together with that of its Python processes."""
    project(kind, clips)
    process = psutil.Popen([sys.executable, __file__, ".", "--peak-of", kind], stderr=subprocess.DEVNULL)
    most: dict[int, int] = {}
    while process.poll() is None:
        for one in (process, *process.children()):
            with contextlib.suppress(psutil.Error):
                # not ffmpeg, which ends with every clip and begins as a copy of this process
                if one.pid == process.pid or any("multiprocessing" in word for word in one.cmdline()):
                    most[one.pid] = max(most.get(one.pid, 0), one.memory_info().rss)
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(process.returncode)
    return sum(most.values()) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=60, help="videos")
    parser.add_argument("--folders", type=int, default=6000, help="image folders")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("videos", "folders"))
    parser.add_argument("--memory", action="store_true", help="peak memory instead of speed")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(options.folder)
    if options.peak_of:
        stage(load_params(), options.peak_of)
        return
    for kind, clips in (("videos", options.clips), ("folders", options.folders)):
        if options.only in (None, kind):
            if options.memory:
                small, large = peak(clips, kind), peak(10 * clips, kind)
                print(
                    f"{kind}: peak {small:.0f} MB for {clips} clips, {large:.0f} MB for {10 * clips}: "
                    f"{large / small:.2f} times",
                    flush=True,
                )
            else:
                side_by_side(kind, clips, options.rounds)


if __name__ == "__main__":
    main()
