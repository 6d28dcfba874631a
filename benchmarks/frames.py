"""Frame extraction against bare ffmpeg and against plain reads, side by side in one run, and its peak memory.

    python benchmarks/frames.py FOLDER [--clips 60] [--cold] [--memory]

Videos: frames a second of the stage (every frame of every clip, all cores) against as many bare ffmpeg processes at
once that write the same JPEGs to a pipe. Image folders: against reading the same files, with as many threads.
Memory: the peak of the stage on N clips and on 10 N clips, each in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from tgdfer import frames, paths, storage
from tgdfer.datasets import make_tables
from tgdfer.media import ffmpeg
from tgdfer.params import Params, load_params

SHIPPED = Path(__file__).parents[1] / "params.yaml"


def scene(number: int, frame: int, height: int = 240, width: int = 320) -> np.ndarray:
    """Something that moves, with edges and noise."""
    y, x = np.mgrid[:height, :width]
    waves = 128 + 60 * np.sin((x + 3 * frame) / (9 + number % 7)) + 40 * np.cos((y - 2 * frame) / 11)
    noise = np.random.default_rng(number * 1000 + frame).normal(0, 6, (height, width))
    return np.repeat(np.clip(waves + noise, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def project(kind: str, clips: int, copies: int = 1) -> Params:
    """A `folder` data set of ``clips`` videos or image folders below ./raw, each listed ``copies`` times."""
    raw = Path("raw") / kind
    rows = ["clip_id,path,label,fold"]
    for number in range(clips):
        path = raw / (f"{number}.mp4" if kind == "videos" else str(number))
        if not path.exists():
            if kind == "videos":
                raw.mkdir(parents=True, exist_ok=True)
                ffmpeg.encode_h264(path, (scene(number, step) for step in range(75)), 25, (320, 240), preset="veryfast")
            else:
                path.mkdir(parents=True)
                for step in range(40):
                    Image.fromarray(scene(number, step, 224, 224)).save(path / f"{step:05d}.jpg", quality=90)
        rows += [f"{number}-{copy},{path.name},happy,{number % 2 + 1}" for copy in range(copies)]
    (raw / "clips.csv").write_text("\n".join(rows) + "\n")
    params = yaml.safe_load(SHIPPED.read_text())
    section = {"layout": "folder", "root": str(raw), "annotations": str(raw / "clips.csv"), "encoder": "demo-clip"}
    params["datasets"] = {kind: section}
    params["frames"] = {"sampling": "all", "shards": 8}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    loaded = load_params()
    make_tables(loaded, kind)
    return loaded


def stage(params: Params, kind: str) -> tuple[float, int]:
    shutil.rmtree(paths.frames(kind).parent, ignore_errors=True)
    started = time.perf_counter()
    frames.extract(params, kind)
    return time.perf_counter() - started, storage.read_json(paths.frames(kind))["frames"]


def bare(path: Path) -> int:
    """One plain ffmpeg, as one would type it, its JPEGs read from a pipe and dropped."""
    command = f"-nostdin -loglevel error -threads 1 -i {path} -q:v 2 -threads 1 -f image2pipe -c:v mjpeg -"
    return len(subprocess.run([ffmpeg.executable(), *command.split()], capture_output=True, check=True).stdout)


def forget(sources: list[Path]) -> None:
    """Drop the files from the page cache, as a data set larger than memory is not in it."""
    os.sync()
    for path in sources:
        with path.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def side_by_side(clips: int, rounds: int, cold: bool) -> None:
    for kind in ("videos", "folders"):
        params = project(kind, clips)
        raw = Path("raw") / kind
        sources = sorted(raw.glob("*.mp4")) if kind == "videos" else sorted(raw.glob("*/*.jpg"))
        ours, theirs = [], []
        for _ in range(rounds):
            if cold:
                forget(sources)
            with ThreadPoolExecutor(frames.workers()) as pool:
                started = time.perf_counter()
                list(pool.map(bare if kind == "videos" else Path.read_bytes, sources))
                theirs.append(time.perf_counter() - started)
            if cold:
                forget(sources)
            seconds, count = stage(params, kind)
            ours.append(seconds)
        ratio = np.median(theirs) / np.median(ours)
        print(
            f"{kind}: {count} frames; stage {count / np.median(ours):.0f} frames/s, "
            f"{'bare ffmpeg' if kind == 'videos' else 'plain read'} {count / np.median(theirs):.0f} frames/s, "
            f"ratio {ratio:.2f} ({'cold' if cold else 'warm'} files, median of {rounds}, {frames.workers()} cores)"
        )


def peak(clips: int, copies: int, kind: str) -> float:
    """Peak resident memory in MB of a process that runs the stage."""
    project(kind, clips, copies)
    command = [sys.executable, __file__, ".", "--peak-of", kind]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cold", action="store_true", help="drop the files from the page cache before every round")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(options.folder)
    if options.peak_of:
        stage(load_params(), options.peak_of)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    side_by_side(options.clips, options.rounds, options.cold)
    if options.memory:
        for kind in ("videos", "folders"):
            small, large = peak(options.clips, 1, kind), peak(options.clips, 10, kind)
            print(f"{kind}: peak {small:.0f} MB for {options.clips} clips, {large:.0f} MB for {10 * options.clips}")


if __name__ == "__main__":
    main()
