"""Loading a feature cache into training-ready tensors: GB/s against reading the same files, and peak memory.

    python benchmarks/load_cache.py [--clips 10000] [--frames 16] [--dim 512] [--shards 8] [--repeats 5]

Peak memory is the process's resident peak during the load, less what it held before (Linux).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from tgdfer.core import storage
from tgdfer.features.cache import load_features, write_shard


def memory(field: str) -> int:
    """VmRSS or VmHWM (the peak) of this process in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return 1024 * int(line.split()[1])


def write_cache(folder: Path, clips: int, frames: int, dim: int, shards: int) -> Path:
    rng = np.random.default_rng(0)
    by_shard: list[list[str]] = [[] for _ in range(shards)]
    for number in range(clips):
        clip = f"{number:05d}"
        by_shard[int(hashlib.sha256(clip.encode()).hexdigest()[:8], 16) % shards].append(clip)
    listed = []
    for number, ids in enumerate(by_shard):
        rows = len(ids) * frames
        features = rng.standard_normal((1, rows, dim), np.float32).astype(np.float16)
        path = folder / "cache" / f"shard-{number:05d}.parquet"
        names = [clip for clip in ids for _ in range(frames)]
        write_shard(path, names, np.tile(np.arange(frames, dtype=np.int32), len(ids)), features, {"cache": "c"})
        listed.append({"file": path.name, "rows": rows, "sha256": ""})
    about = {"dim": dim, "views": ["plain"], "folder": "cache", "cache": "c", "shards": listed}
    storage.write_json(folder / "manifest.json", {**about, "fingerprint": "", "encoder": "none"})
    return folder / "manifest.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("clips", 10_000), ("frames", 16), ("dim", 512), ("shards", 8), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        manifest = write_cache(Path(name), args.clips, args.frames, args.dim, args.shards)
        files = sorted((Path(name) / "cache").iterdir())
        nbytes = args.clips * args.frames * args.dim * 2
        print(f"{nbytes / 1e6:.0f} MB of features in {args.shards} shards, load before {os.getloadavg()[0]:.1f}")

        load_features(manifest)  # imports and allocators warm up
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = memory("VmRSS")
        cache = load_features(manifest)
        peak = memory("VmHWM") - before
        assert cache.features.shape == (1, args.clips * args.frames, args.dim)
        print(f"peak memory {peak / 1e6:.0f} MB, {peak / nbytes:.2f} times the features' bytes")
        del cache

        loading, reading = [], []
        for _ in range(args.repeats):
            started = time.perf_counter()
            cache = load_features(manifest)
            loading.append(time.perf_counter() - started)
            del cache
            started = time.perf_counter()
            for file in files:
                file.read_bytes()
            reading.append(time.perf_counter() - started)
        load, read = statistics.median(loading), statistics.median(reading)
        print(f"loading {load:.3f} s, {nbytes / load / 1e9:.2f} GB/s; ", end="")
        print(f"reading the files {read:.3f} s, {nbytes / read / 1e9:.2f} GB/s: {load / read:.1f} times as long")


if __name__ == "__main__":
    main()
