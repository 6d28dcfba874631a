"""Predict a long video: seconds of video per second, and memory along the way.

    python benchmarks/predict.py --run runs/demo/tgdfer/fold1/seed0 [--minutes 30] [--video VIDEO] [--crop auto]

The video is made here: drawn faces that move through a room, 640 x 360 pixels, 25 frames a second, or VIDEO, repeated
until it is long enough. Memory is that of this process and its ffmpeg together, sampled five times a second.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import psutil

from tgdfer import Predictor
from tgdfer.demo import faces, people, units
from tgdfer.media import ffmpeg

SIZE = (640, 360)
FPS = 25
SECONDS = 8


def make_loop(path: Path) -> None:
    """A few seconds of a face that wanders and changes, encoded once."""
    rng = np.random.default_rng(0)
    person, scene = people.sample_identity(rng), faces.sample_scene(rng, 0.0)
    width, height = SIZE
    room = cv2.resize(rng.integers(60, 120, (9, 16, 3), dtype=np.uint8), SIZE, interpolation=cv2.INTER_CUBIC)
    smile = units.sample_expression("happy", rng, 0.0)

    def frames():
        for step in range(FPS * SECONDS):
            turn = 2 * np.pi * step / (FPS * SECONDS)
            picture = room.copy()
            face = faces.draw(person, max(0.0, np.sin(turn)) * smile, faces.Pose(), scene, 160)
            left, top = round((width - 160) * (0.5 + 0.3 * np.sin(turn))), round((height - 160) / 2)
            picture[top : top + 160, left : left + 160] = face
            yield picture

    ffmpeg.encode_h264(path, frames(), FPS, SIZE)


def repeat(source: Path, target: Path, seconds: float) -> None:
    loop = ["-stream_loop", "-1", "-i", str(source), "-t", str(seconds), "-map", "0:v:0", "-c", "copy", str(target)]
    ffmpeg.run([ffmpeg.executable(), "-nostdin", "-loglevel", "error", *loop])


class Memory:
    """The memory of this process and its children, in MB, with the time it was looked at."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(0.2):
            total = me.memory_info().rss
            for child in me.children(recursive=True):
                try:
                    total += child.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.seen.append((time.monotonic(), total / 2**20))

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def peaks(self, parts: int) -> list[float]:
        """The peak in each of so many equal parts of the time."""
        start, end = self.seen[0][0], self.seen[-1][0]
        part = [min(parts - 1, int(parts * (when - start) / max(1e-9, end - start))) for when, _ in self.seen]
        return [
            max((value for p, (_, value) in zip(part, self.seen, strict=True) if p == k), default=0)
            for k in range(parts)
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True)
    parser.add_argument("--models", default="models")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--video", type=Path)
    parser.add_argument("--crop", choices=("auto", "face", "none"), default="auto")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    predictor = Predictor.from_run(args.run, args.models, args.device)
    with tempfile.TemporaryDirectory() as name:
        loop, video = Path(name) / "loop.mp4", Path(name) / "long.mp4"
        if args.video is None:
            make_loop(loop)
        repeat(args.video or loop, video, 60 * args.minutes)
        predictor.predict(args.video or loop, crop=args.crop)  # imports and allocators warm up
        cpu = time.process_time()
        with Memory() as memory:
            made = predictor.predict(video, crop=args.crop)
        cpu = time.process_time() - cpu
    seen = sum(bool(window.probabilities) for window in made.windows)
    print(
        f"{made.duration_s / 60:.1f} min of video, {len(made.windows)} windows, {seen} with a face, crop {made.crop}: "
        f"{made.seconds:.1f} s, {made.speed:.1f} s of video per second "
        f"({os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; CPU {cpu:.1f} s without ffmpeg's)"
    )
    print("peak memory in each fifth of the time, MB: " + ", ".join(f"{value:.0f}" for value in memory.peaks(5)))


if __name__ == "__main__":
    main()
