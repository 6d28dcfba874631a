"""A small project for tests of training: clips, folds and a feature cache with a signal in a few frames of each clip.

As a program it trains the variant of its first argument with the settings of its second, a JSON object, and exits as
the command line does; it writes a checkpoint every few steps. With a third argument it kills itself after the first.
"""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np

from tgdfer.config.params import Params
from tgdfer.core import checksums, paths, storage
from tgdfer.features.shards import write_shard

CLASSES = ["happy", "sad", "angry"]
SMALL = {"epochs": 3, "batch_size": 8, "learning_rate": 0.01, "warmup_epochs": 1, "validation_fraction": 0.2}
VARIANTS = {
    "probe": {"model": {"architecture": "linear-probe"}},
    "mil": {"model": {"architecture": "attention-mil"}},
    "tgdfer": {"model": {"text": "none", "dropout": 0.3}},
}


def params(variants: dict | None = None, seeds: tuple[int, ...] = (0,), **training) -> Params:
    chosen = variants or VARIANTS
    return Params.model_validate(
        {
            "datasets": {
                "tiny": {
                    "layout": "folder",
                    "root": "raw",
                    "annotations": "raw/a.csv",
                    "encoder": "demo-clip",
                    "classes": CLASSES,
                }
            },
            **{key: {} for key in ("demo", "frames", "features", "model")},
            "bags": {"frames": 4},
            "training": {**SMALL, **training},
            "tracking": {},
            "seeds": list(seeds),
            "variants": {name: {"label": name, "tables": [], "set": value} for name, value in chosen.items()},
            "report": {"reference": next(iter(chosen))},
        }
    )


def write_features(clips: dict[str, int], dim: int = 16, seed: int = 0, views: int = 1, broken: str = "") -> None:
    """A feature cache and encoder.json: clips (class by id) have 2 to 9 frames, of which one or two show the class.

    The features of the clip ``broken`` are not finite.
    """
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(max(clips.values(), default=0) + 1, dim)) * 2
    ids, frames, features = [], [], []
    for clip, label in sorted(clips.items()):
        length = int(rng.integers(2, 10))
        x = rng.normal(size=(views, length, dim))
        x[:, rng.integers(0, length, 2)] += signal[label]
        ids += [clip] * length
        frames += list(range(length))
        features.append(x / np.linalg.norm(x, axis=-1, keepdims=True) if clip != broken else np.full_like(x, np.nan))
    folder = paths.features("tiny", "demo-clip").parent
    shard = folder / "cache" / "shard-00000.arrow"
    block = np.concatenate(features, axis=1).astype(np.float16)
    write_shard(shard, ids, np.array(frames, np.int32), block, {"cache": "cache", "source": "none"})
    sha = storage.file_fingerprint(shard)
    storage.write_sealed(
        folder / "manifest.json",
        {
            "stage": "features",
            "encoder": "demo-clip",
            "encoder_fingerprint": "none",
            "dim": dim,
            "dtype": "float16",
            "views": ["plain", *(f"view{i}" for i in range(1, views))],
            "folder": "cache",
            "cache": "cache",
            "shards": [{**checksums.entry(shard), "rows": len(ids) * views}],
            "fingerprint": sha,
            "made_by": {},
        },
    )
    storage.write_sealed(paths.encoder("demo-clip"), {"name": "demo-clip", "dim": dim, "fingerprint": "none"})


def write_tables(
    clips: dict[str, int], folds: list[tuple[str, int, str]], subjects: dict[str, str] | None = None
) -> None:
    """The clips table and the folds table (clip, fold, split)."""
    ids = sorted(clips)
    columns = {
        "clip_id": ids,
        "source": [f"{clip}.mp4" for clip in ids],
        "kind": ["video"] * len(ids),
        "label": [CLASSES[clips[clip]] for clip in ids],
        "n_frames": [None] * len(ids),
        "subject": [(subjects or {}).get(clip) for clip in ids],
    }
    storage.write_table(paths.clips("tiny"), "clips", columns, {})
    rows = {"clip_id": [f[0] for f in folds], "fold": [f[1] for f in folds], "split": [f[2] for f in folds]}
    storage.write_table(paths.folds("tiny"), "folds", rows, {})


def make_project(count: int = 48, folds: int = 2, **features) -> dict[str, int]:
    """Write a whole small project; returns the class index of each clip."""
    clips = {f"clip{i:03d}": i % len(CLASSES) for i in range(count)}
    rows = [
        (clip, fold, "test" if i // len(CLASSES) % folds == fold - 1 else "train")
        for fold in range(1, folds + 1)
        for i, clip in enumerate(clips)
    ]
    write_tables(clips, rows)
    write_features(clips, **features)
    return clips


def results(folder: Path = Path("runs")) -> dict[str, bytes]:
    """The bytes of every file of the runs that is the same whenever the run is."""
    weights = ("vectors.safetensors", "model.safetensors")
    names = ("metrics.json", "history.jsonl", "predictions.parquet", *weights, "summary.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.name in names}


if __name__ == "__main__":
    from tgdfer.core.progress import setup_logging
    from tgdfer.stages.train import run
    from tgdfer.training import engine

    setup_logging()
    engine.SAVE_EVERY_S = 0.05 if len(sys.argv) < 4 else 0.0
    save = engine.Engine._save

    def save_and_die(self) -> None:
        save(self)
        os.kill(os.getpid(), signal.SIGKILL)

    if len(sys.argv) == 4:
        engine.Engine._save = save_and_die
    sys.exit(run(params(**json.loads(sys.argv[2])), "tiny", sys.argv[1]))
