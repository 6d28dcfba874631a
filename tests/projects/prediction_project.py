"""A small project with a trained run for tests of predictions: videos of drawn faces, through every stage."""

import os
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from features_project import make_encoder
from typer.testing import CliRunner

from tgdfer.cli import app
from tgdfer.config.params import Params
from tgdfer.core import paths
from tgdfer.demo import faces, people, units
from tgdfer.media import ffmpeg
from tgdfer.stages import features, frames, train
from tgdfer.stages.clips import run as make_tables

CLASSES = ["happy", "sad"]
FPS = 10.0
RUN = Path("runs/tiny/words/fold1/seed0")


@cache
def face(seed: int = 0, size: int = 96, label: str = "happy", strength: float = 1.0) -> np.ndarray:
    """A drawn face that fills its picture, uint8 [size, size, 3]."""
    rng = np.random.default_rng(seed)
    person = people.sample_identity(rng)
    scene = faces.sample_scene(rng, 0.0)
    return faces.draw(person, strength * units.sample_expression(label, rng, 0.0), faces.Pose(), scene, size)


def picture(*members: tuple[np.ndarray, int, int], width: int = 320, height: int = 240) -> np.ndarray:
    """A room with faces: each an image and where its left upper corner goes."""
    rng = np.random.default_rng(5)
    room = cv2.resize(rng.integers(60, 120, (6, 8, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    for image, left, top in members:
        room[top : top + len(image), left : left + len(image)] = image
    return room


def run(*arguments: str):
    """`tgdfer predict` with the run of the project in the working directory; later arguments replace earlier ones."""
    return CliRunner().invoke(app, ["--quiet", "predict", "--run", str(RUN), "--device", "cpu", *arguments])


def film(path: Path, pictures: list[np.ndarray], fps: float = FPS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = pictures[0].shape[:2]
    ffmpeg.encode_h264(path, pictures, fps, (width, height), preset="ultrafast")
    return path


def params(**keys) -> Params:
    variants = {
        "words": {"model": {"text": "class-name", "context_tokens": 2}},
        "probe": {"model": {"architecture": "linear-probe"}},
        "lora": {
            "model": {"text": "class-name", "context_tokens": 2, "adapt": "lora", "adapt_rank": 2},
            "training": {"encoder_learning_rate": 0.05},
        },
    }
    about = {"layout": "folder", "root": "raw", "annotations": "raw/clips.csv", "encoder": "demo-clip"}
    return Params.model_validate(
        {
            "datasets": {"tiny": {**about, "classes": CLASSES}},
            **{key: {} for key in ("demo", "model")},
            "frames": {"max_frames": 8, "shards": 1, **keys},
            "features": {"dtype": "float32", "device": "cpu", "keep": 1},
            "bags": {"frames": 4},
            "training": {"epochs": 4, "batch_size": 4, "warmup_epochs": 1, "validation_fraction": 0.0, "device": "cpu"},
            "tracking": {},
            "seeds": [0],
            "variants": {name: {"label": name, "tables": [], "set": value} for name, value in variants.items()},
            "report": {"reference": "words"},
        }
    )


def make(root: Path) -> Path:
    """The project in ``root``: every stage has run, a run of each variant is trained."""
    before = Path.cwd()
    root.mkdir(parents=True, exist_ok=True)
    os.chdir(root)
    try:
        rows = ["clip_id,path,label,fold"]
        for number in range(8):
            label = CLASSES[number % 2]
            name = f"clip{number}"
            strengths = np.concatenate([np.zeros(6), np.linspace(0, 1, 5), np.zeros(3 + number)])
            film(Path("raw") / f"{name}.mp4", [face(number, 96, label, float(s)) for s in strengths])
            rows.append(f"{name},{name}.mp4,{label},{1 + number // 2 % 2}")
        Path("raw/clips.csv").write_text("\n".join(rows) + "\n")
        make_encoder()
        chosen = params()
        make_tables(chosen, "tiny")
        frames.run(chosen, "tiny")
        features.run(chosen, "tiny")
        for variant in chosen.variants:
            assert train.run(chosen, "tiny", variant, folds=[1]) == 0
        assert (RUN / "model.json").is_file()
        assert paths.encoder("demo-clip").is_file()
    finally:
        os.chdir(before)
    return root
