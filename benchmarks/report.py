"""Seconds of the report on synthetic run files: data sets x variants x folds x seeds, with no model behind them.

    python benchmarks/report.py FOLDER [--datasets 10] [--variants 60] [--folds 5] [--seeds 3] [--clips 1000]
    python benchmarks/report.py FOLDER --profile    # the first data set in this process, under cProfile
    python benchmarks/report.py FOLDER --checksums 2  # what the checksums cost: with and without, twice each

The tree is written into FOLDER once (minutes) and read as often as the script is called. The first data set has a truth
table, as the embedded one does. Printed: wall and CPU seconds of the stage, its worker processes included, and
whether a second call would write the same bytes (a checksum of everything in reports/).
"""

import argparse
import cProfile
import hashlib
import os
import pstats
import resource
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import yaml
from safetensors.numpy import save_file

from tgdfer.config.params import Params, load_params
from tgdfer.core import checksums, paths, storage
from tgdfer.core.classes import SEVEN
from tgdfer.evaluation import metrics
from tgdfer.runs.files import Key
from tgdfer.runs.state import Expected
from tgdfer.stages.report import make_part, run

SHARES = (0.21, 0.16, 0.23, 0.18, 0.13, 0.02, 0.07)
FRAMES = 16
TABLES = ("components", "temporal", "text", "visual-prompt", "aggregation", "baselines")
BY = {"stage": "benchmark"}


def main() -> None:
    """Write the tree if it is not there, and time the report on it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for name, value in (("datasets", 10), ("variants", 60), ("folds", 5), ("seeds", 3), ("clips", 1000)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--checksums", type=int, metavar="PAIRS")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(options.folder)
    if not Path("params.yaml").exists():
        write(options)
    params = load_params()
    if options.profile:
        profile = cProfile.Profile()
        profile.runcall(make_part, params, next(iter(params.datasets)))
        pstats.Stats(profile).sort_stats("cumulative").print_stats(45)
        return
    if options.checksums:
        compare_checksums(params, options.checksums)
        return
    before, start = _cpu(), time.perf_counter()
    run(params)
    wall = time.perf_counter() - start
    digest = hashlib.sha256()
    for path in sorted(paths.REPORTS.rglob("*")):
        digest.update(path.read_bytes() if path.is_file() else path.name.encode())
    print(f"wall {wall:.1f} s, CPU {_cpu() - before:.1f} s, bytes {digest.hexdigest()[:16]}")


def compare_checksums(params: Params, pairs: int) -> None:
    """Print the seconds of the tables and figures with the checksums of all files compared, and without.

    A data set is read with and without in turns; the page, which is made of the parts, compares no checksums.
    """
    found: dict[bool, list[np.ndarray]] = {True: [], False: []}
    for number, dataset in enumerate(params.datasets):
        each: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        for pair in range(pairs):
            for compared in (True, False) if (number + pair) % 2 else (False, True):
                checksums.forget()
                before, start = time.process_time(), time.perf_counter()
                with ExitStack() as stack:
                    if not compared:
                        stack.enter_context(patch("tgdfer.core.checksums.intact", lambda _: True))
                        stack.enter_context(patch("tgdfer.runs.state._damages", lambda *_: ()))
                    make_part(params, dataset)
                each[compared].append((time.process_time() - before, time.perf_counter() - start))
        for compared, seconds in each.items():
            found[compared].append(np.min(seconds, axis=0))
        compared, without = (np.sum(found[which], axis=0) for which in (True, False))
        print(
            f"{number + 1:2} data sets: CPU {compared[0]:6.1f} s with checksums, {without[0]:6.1f} s without: "
            f"{compared[0] / without[0]:.3f} times; wall {compared[1]:6.1f} s, {without[1]:6.1f} s: "
            f"{compared[1] / without[1]:.3f} times (load {os.getloadavg()[0]:.1f})",
            flush=True,
        )


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def write(options: argparse.Namespace) -> None:
    """A project: data tables, and what training leaves of every run."""
    names = [f"set{d}" for d in range(options.datasets)]
    variants = {
        f"v{v}": {
            "label": f"variant {v}",
            "tables": [*(["main"] if v % 10 == 0 else []), *(TABLES if v == 0 else TABLES[v % 6 : v % 6 + 1])],
            "set": {"model": {"window": 1 + 2 * v}},
        }
        for v in range(options.variants)
    }
    raw = {
        "datasets": {
            name: {"layout": "folder", "root": "raw", "annotations": "raw/clips.csv", "encoder": "demo-clip"}
            | ({"truth": "raw/truth.parquet"} if d == 0 else {})
            for d, name in enumerate(names)
        },
        **{name: {} for name in ("demo", "frames", "features", "bags", "model", "training", "tracking")},
        "seeds": list(range(options.seeds)),
        "variants": variants,
        "report": {"reference": "v0"},
    }
    label = np.random.default_rng(0).choice(len(SEVEN), options.clips, p=SHARES)
    fold = np.arange(options.clips) % options.folds + 1
    clip_id = np.array([f"{n:05d}" for n in range(options.clips)])
    peak = np.random.default_rng(1).integers(2, FRAMES - 2, options.clips)
    intensity = np.exp(-(((np.arange(FRAMES) - peak[:, None]) / 2) ** 2)).astype(np.float32)
    intensity[label == SEVEN.index("neutral")] = 0
    truth = {
        "clip_id": np.repeat(clip_id, FRAMES),
        "frame_index": np.tile(np.arange(FRAMES, dtype=np.int32), options.clips),
        "intensity": intensity.ravel(),
    }
    storage.write_table(Path("raw/truth.parquet"), "truth", truth, BY)
    # renamed at the end: a tree that was cut short is written again
    Path("params.part.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    params = load_params("params.part.yaml")
    for d, name in enumerate(names):
        _data(name, clip_id, label, fold)
        expected = Expected(params, name)
        for v, variant in enumerate(variants):
            rng = np.random.default_rng([d, v])
            runs = []
            for f in range(1, options.folds + 1):
                members = np.flatnonzero(fold == f)
                if v == 0 and f == 1:
                    _vectors(paths.run(name, variant, 1, 0), rng)
                for seed in range(options.seeds):
                    about = expected.made_by(Key(name, variant, f, seed))
                    _run(Key(name, variant, f, seed), about, clip_id[members], label[members], intensity[members], rng)
                    runs.append({"fold": f, "seed": seed, "folder": f"fold{f}/seed{seed}", "failed": None})
            storage.write_sealed(paths.variant(name, variant), {"dataset": name, "variant": variant, "runs": runs})
    Path("params.part.yaml").rename("params.yaml")


def _data(dataset: str, clip_id: np.ndarray, label: np.ndarray, fold: np.ndarray) -> None:
    n, folds = len(clip_id), int(fold.max())
    clips = {
        "clip_id": clip_id,
        "source": [f"{clip}.mp4" for clip in clip_id],
        "kind": ["video"] * n,
        "label": [SEVEN[c] for c in label],
        "n_frames": np.full(n, FRAMES, dtype=np.int32),
        "subject": [None] * n,
    }
    storage.write_table(paths.clips(dataset), "clips", clips, BY)
    every = np.repeat(np.arange(1, folds + 1, dtype=np.int32), n)
    split = np.where(np.tile(fold, folds) == every, "test", "train")
    storage.write_table(
        paths.folds(dataset), "folds", {"clip_id": np.tile(clip_id, folds), "fold": every, "split": split}, BY
    )
    storage.write_sealed(paths.frames(dataset), {"shards": [], "clips": n, "frames": FRAMES * n})


def _run(
    key: Key, about: dict[str, Any], clip_id: np.ndarray, label: np.ndarray, intensity: np.ndarray,
    rng: np.random.Generator, accuracy: float = 0.5,
) -> None:  # fmt: skip
    n, size, three = len(label), len(SEVEN), 3
    probabilities = rng.dirichlet(np.full(size, 0.6), three * n).astype(np.float32)
    picked = np.where(rng.random(three * n) < accuracy, np.tile(label, three), rng.integers(0, size, three * n))
    probabilities *= np.float32(0.5)
    probabilities[np.arange(three * n), picked] += np.float32(0.5)
    scores = np.exp(2 * np.tile(intensity, (three, 1)) + rng.normal(0, 0.7, (three * n, FRAMES))).astype(np.float32)
    scores /= scores.sum(axis=1, keepdims=True)
    selections = ("last", "best_val", "best_test")
    index = np.tile(np.arange(FRAMES, dtype=np.int32), three * n)
    columns = {
        "clip_id": np.tile(clip_id, three),
        "fold": np.full(three * n, key.fold, dtype=np.int32),
        "selection": np.repeat(selections, n),
        "label": np.tile(np.array(SEVEN)[label], three),
        "probabilities": _lists(probabilities.ravel(), size),
        "frame_index": _lists(index, FRAMES),
        "relevance": _lists(scores.ravel(), FRAMES),
    }
    folder = key.folder
    storage.write_table(folder / "predictions.parquet", "predictions", columns, BY)
    parts = np.split(probabilities, three)
    stored = {
        name: {"epoch": 30, **metrics.evaluate(p, label, SEVEN)} for name, p in zip(selections, parts, strict=True)
    }
    storage.write_json(
        folder / "metrics.json",
        {"classes": list(SEVEN), "n_test": n, "parameters_trainable": 12345, "selections": stored},
    )
    history = [
        {"epoch": e, "loss": 2 / e, "test_uar": 0.5 - 0.4 / e, "test_war": 0.5 - 0.4 / e, "learning_rate": 1e-3}
        for e in range(1, 31)
    ]
    for row in history:
        storage.append_line(folder / "history.jsonl", row)
    record = {
        **{name: about[name] for name in ("parameters", "inputs", "code")},
        "outputs": {path.name: storage.file_fingerprint(path) for path in folder.iterdir()},
        "git": {"commit": "a" * 40, "dirty": False}, "versions": {"python": "3"},
        "hardware": {"machine": "x86_64", "cpus": 2, "gpus": []}, "seconds": 10.0, "peak_memory_mb": 500.0,
        "fingerprint": "0" * 64,
    }  # fmt: skip
    storage.write_sealed(folder / "run.json", record)


def _vectors(folder: Path, rng: np.random.Generator, each: int = 6, dim: int = 512) -> None:
    """What the maps are drawn from: label features before and after the visual prompt, and frames, of some clips."""
    size = len(SEVEN)
    before = rng.normal(size=(size, dim)).astype(np.float16)
    after = before + rng.normal(0, 0.4, (size * each, size, dim)).astype(np.float16)
    label = np.repeat(np.arange(size), each)
    folder.mkdir(parents=True, exist_ok=True)
    frames = before[label, None] + rng.normal(0, 1.0, (size * each, FRAMES, dim)).astype(np.float16)
    values = {"labels_before": before, "labels_after": after, "label": label, "frames": frames}
    save_file({**values, "mask": np.ones((size * each, FRAMES), dtype=bool)}, folder / "vectors.safetensors")


def _lists(values: np.ndarray, length: int) -> pa.ListArray:
    return pa.ListArray.from_arrays(np.arange(0, len(values) + 1, length, dtype=np.int32), values)


if __name__ == "__main__":
    main()
