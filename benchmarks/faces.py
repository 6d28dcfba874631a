"""Find faces in made frames: recall, false boxes and frames per second on one core, for tilted and small faces.

    python benchmarks/faces.py FOLDER [--weights FILE.onnx] [--sizes 120 240] [--angles 0 20 40] [--every 1]

FOLDER holds photographs with one face near the middle of each. Each is made so many pixels long, turned by an angle (to
the left and to the right in turn) and pasted somewhere into a frame of 1280 x 720 pixels with a blurred background. A
face is found if a box is near the photograph's middle and of a plausible size; every other box is false. Then the
jitter: photographs as videos of 5 seconds, compressed by H.264, and by how many pixels the aligned face moves.
"""

import argparse
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from tgdfer.config.data import FramesParams
from tgdfer.media import ffmpeg, videos
from tgdfer.media.faces import crops
from tgdfer.media.faces.alignment import TEMPLATE, similarity
from tgdfer.media.faces.detection import Detection, Detector, detector
from tgdfer.media.faces.tracking import Tracker

WIDTH, HEIGHT = 1280, 720
SUFFIXES = (".jpg", ".jpeg", ".png")


def paste(photograph: np.ndarray, size: int, angle: float, rng: np.random.Generator) -> tuple[np.ndarray, float, float]:
    """A frame with the photograph somewhere in it, and where its middle is."""
    room = cv2.resize(rng.integers(60, 180, (9, 16, 3), dtype=np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    scale = size / max(photograph.shape[:2])
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    photograph = cv2.resize(photograph, None, fx=scale, fy=scale, interpolation=way)
    height, width = photograph.shape[:2]
    x, y = rng.uniform(250, WIDTH - 250), rng.uniform(180, HEIGHT - 180)
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1)
    turn[:, 2] += [x - (width - 1) / 2, y - (height - 1) / 2]
    inside = cv2.warpAffine(np.ones((height, width, 1), np.float32), turn, (WIDTH, HEIGHT))[..., None]
    return (room * (1 - inside) + cv2.warpAffine(photograph, turn, (WIDTH, HEIGHT)) * inside).astype(np.uint8), x, y


def is_it(face: Detection, x: float, y: float, size: int) -> bool:
    box = face.box
    return max(abs(box.x - x), abs(box.y - y)) < 0.25 * size and 0.3 * size < box.side < 1.5 * size


def finding(finder: Detector, photographs: list[np.ndarray], size: int, angle: int) -> None:
    rng = np.random.default_rng(0)
    found = false = 0
    seconds = 0.0
    for number, photograph in enumerate(photographs):
        frame, x, y = paste(photograph, size, angle if number % 2 else -angle, rng)
        began = time.process_time()
        (faces,) = finder.detect([frame])
        seconds += time.process_time() - began
        right = [is_it(face, x, y, size) for face in faces]
        found += any(right)
        false += len(right) - sum(right)
    count = len(photographs)
    print(
        f"{size} px, {angle} degrees: recall {found / count:.3f}, false boxes {100 * false / count:.1f} % of frames, "
        f"{count / seconds:.1f} frames a second on one core",
        flush=True,
    )


def jitter(finder: Detector, photographs: list[np.ndarray], side: int = 224, margin: float = 0.3) -> None:
    """How far the corners of the aligned face move on a still photograph, in pixels of the aligned face."""
    rng = np.random.default_rng(0)
    target = (TEMPLATE + margin) / (1 + 2 * margin) * side
    corners = np.array([[0, 0, 1], [side, 0, 1], [0, side, 1], [side, side, 1.0]])
    moved = []
    params = FramesParams(sampling="all", crop="face", align="similarity", face_size=side, face_margin=margin)
    for photograph in photographs:
        frame, _, _ = paste(photograph, 240, 0, rng)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "still.mp4"
            ffmpeg.encode_h264(path, [frame] * 125, 25, (WIDTH, HEIGHT), preset="ultrafast")
            frames = videos.read_video(path, params)
        tracker = Tracker(finder)
        for one in frames:
            tracker.add(one.index, one.time_s, crops.decode(one))
        if (track := crops.largest(tracker.tracks, frames)) is None:
            continue
        ways = [similarity(np.asarray(place), target) for place in crops.places(track, frames, params)]
        first = np.vstack([ways[0], [0, 0, 1]])
        # where the point of the frame that is at a corner of the first aligned face is in the others
        there = np.array([corners @ np.linalg.inv(first).T @ way.T for way in ways])
        moved.append(np.linalg.norm(there - there.mean(0), axis=2).max())
    print(
        f"jitter of {len(moved)} still faces: largest {max(moved):.2f} px, median {np.median(moved):.2f} px", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path, help="an ONNX file instead of the packaged CenterFace")
    parser.add_argument("--sizes", type=int, nargs="+", default=[120, 240])
    parser.add_argument("--angles", type=int, nargs="+", default=[0, 20, 40])
    parser.add_argument("--every", type=int, default=1, help="take every n-th photograph")
    parser.add_argument("--still", type=int, default=5, help="photographs whose jitter is measured")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    files = sorted(path for path in options.folder.iterdir() if path.suffix.lower() in SUFFIXES)[:: options.every]
    photographs = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in files]
    finder = detector(options.weights)
    for size in options.sizes:
        for angle in options.angles:
            finding(finder, photographs, size, angle)
    if options.still:
        jitter(finder, photographs[:: max(1, len(photographs) // options.still)][: options.still])


if __name__ == "__main__":
    main()
