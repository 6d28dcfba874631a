"""A tiny project for tests of the features stage: an encoder, frame shards with their manifest, and parameters."""

import io
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image

from tgdfer.config.params import Params
from tgdfer.core import checksums, storage
from tgdfer.encoders import write_encoder

CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
PREPROCESS = {
    "mean": [0.48, 0.46, 0.41],
    "std": [0.27, 0.26, 0.28],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


def params(**features) -> Params:
    return Params.model_validate(
        {
            "datasets": {
                "tiny": {"layout": "folder", "root": "raw", "annotations": "raw/a.csv", "encoder": "demo-clip"}
            },
            "features": {"batch_size": 8, "dtype": "float32", **features},
            **{key: {} for key in ("demo", "frames", "bags", "model", "training", "tracking")},
            "seeds": [0],
            "variants": {"a": {"label": "a", "tables": [], "set": {}}},
            "report": {"reference": "a"},
        }
    )


def make_encoder(name: str = "demo-clip", seed: int = 0, **preprocess) -> None:
    torch.manual_seed(seed)
    model = open_clip.model.CLIP(**CONFIG)
    write_encoder(Path("models") / name, model, CONFIG, {**PREPROCESS, **preprocess}, {"test": True})


def jpeg(rng: np.random.Generator, height: int, width: int) -> bytes:
    small = Image.fromarray(rng.integers(0, 256, (6, 7, 3), dtype=np.uint8))
    stream = io.BytesIO()
    small.resize((width, height), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def make_frames(
    shards: int = 3, clips: int = 8, seed: int = 0, dataset: str = "tiny"
) -> dict[str, list[tuple[int, bytes]]]:
    """Write frame shards and their manifest; of three or more, shard 1 stays empty. Returns frames by clip."""
    rng = np.random.default_rng(seed)
    folder = Path("data") / dataset / "frames"
    frames: dict[str, list[tuple[int, bytes]]] = {}
    listed = []
    for shard in range(shards):
        columns: dict[str, list] = {field.name: [] for field in storage.SCHEMAS["frames"]}
        mine = [] if shards >= 3 and shard == 1 else [f"clip-{n:03d}" for n in range(clips) if n % shards == shard]
        for clip in mine:
            frames[clip] = []
            for index in sorted(rng.choice(50, rng.integers(1, 9), replace=False)):
                height, width = (int(n) for n in rng.integers(24, 80, 2))
                data = jpeg(rng, height, width)
                frames[clip].append((int(index), data))
                row = (clip, int(index), float(index) / 25, data, width, height)
                for name, value in zip(columns, row, strict=True):
                    columns[name].append(value)
        path = folder / f"shard-{shard:05d}.parquet"
        storage.write_table(path, "frames", columns, {})
        rows = len(columns["clip_id"])
        listed.append({**checksums.entry(path), "rows": rows, "clips": len(mine)})
    manifest = {"stage": "frames", "shards": listed, "fingerprint": storage.fingerprint(listed), "rejects": 0}
    storage.write_sealed(folder / "manifest.json", manifest)
    return frames
