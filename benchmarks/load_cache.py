"""Loading a feature cache, and the peak memory of trainings on a small and on a large data set.

    python benchmarks/load_cache.py [--clips 10000 100000] [--frames 16] [--dim 512] [--shards 8]

For each size: GB/s from opening the cache until a training can take any batch; GB/s of reading every feature once, with
its checksum, in batches of 64 random clips; GB/s of copying the same clips from an array in memory, the bound of what
any way of reading can reach; GB/s of reading the same files; and the peak memory (VmHWM) of `tgdfer train` for an epoch
on one of five folds. Times are medians of five in a warm file cache: CPU time, which other programs disturb less.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
import yaml

from tgdfer.core import checksums, paths, storage
from tgdfer.core.classes import SEVEN
from tgdfer.features.bags import Bags
from tgdfer.features.cache import load_features
from tgdfer.features.shards import write_shard

NAME = "synthetic"
FOLDS = 5
BATCH = 64


def write_cache(clip_ids: list[str], frames: int, dim: int, shards: int) -> None:
    rng = np.random.default_rng(0)
    manifest = paths.features(NAME, "none")
    by_shard: list[list[str]] = [[] for _ in range(shards)]
    for clip in clip_ids:
        by_shard[paths.shard_number(clip, shards)].append(clip)
    listed = []
    for number, ids in enumerate(by_shard):
        rows = len(ids) * frames
        features = np.concatenate(
            [
                rng.standard_normal((len(part), dim), np.float32).astype(np.float16)
                for part in np.array_split(range(rows), 32)
            ]
        )
        path = manifest.parent / "cache" / f"shard-{number:05d}.arrow"
        index = np.tile(np.arange(frames, dtype=np.int32), len(ids))
        write_shard(path, np.repeat(ids, frames), index, features[None], {"cache": "c", "source": "none"})
        listed.append({**checksums.entry(path), "rows": rows})
    about = {"folder": "cache", "cache": "c", "shards": listed, "fingerprint": "f", "encoder": "none"}
    storage.write_sealed(manifest, about)


def write_project(args: argparse.Namespace, clips: int) -> None:
    """A project in the working directory that can be trained: five folds, one variant, one epoch."""
    clip_ids = [f"{number:06d}" for number in range(clips)]
    fold = np.arange(clips) % FOLDS + 1
    write_cache(clip_ids, args.frames, args.dim, args.shards)
    empty = [None] * clips
    columns = {"clip_id": clip_ids, "source": clip_ids, "kind": ["video"] * clips, "n_frames": empty, "subject": empty}
    storage.write_table(
        paths.clips(NAME), "clips", {**columns, "label": [SEVEN[n // FOLDS % 7] for n in range(clips)]}, {}
    )
    rows = {
        "clip_id": clip_ids * FOLDS,
        "fold": np.repeat(np.arange(1, FOLDS + 1), clips),
        "split": np.concatenate([np.where(fold == k, "test", "train") for k in range(1, FOLDS + 1)]),
    }
    storage.write_table(paths.folds(NAME), "folds", rows, {})
    storage.write_sealed(paths.encoder("none"), {"name": "none", "dim": args.dim, "fingerprint": "none"})
    section = {"layout": "folder", "root": "raw", "annotations": "raw", "encoder": "none"}
    params = {
        **{name: {} for name in ("demo", "frames", "features", "tracking")},
        "datasets": {NAME: section},
        "encoders": {"none": {"model": "none"}},
        "bags": {"frames": args.frames},
        "model": {"architecture": args.architecture, "text": "none"},
        "training": {"epochs": 1},
        "seeds": [0],
        "variants": {"one": {"label": "one", "tables": [], "set": {}}},
        "report": {"reference": "one"},
    }
    Path("params.yaml").write_text(yaml.safe_dump(params))


def median_seconds(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(6):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return statistics.median(seconds[1:])


def random_batches(clips: int) -> Sequence[torch.Tensor]:
    """Every clip once."""
    return torch.randperm(clips, generator=torch.Generator().manual_seed(0)).split(BATCH)


def read_all(bags: Bags) -> None:
    """Every feature once, in random order of the clips."""
    for indices in random_batches(len(bags)):
        bags._frames(indices, None, 0)


def copy_all(clips: np.ndarray) -> None:
    """The same of an array float16 [clips, numbers of a clip]."""
    out = np.empty((BATCH, clips.shape[1]), clips.dtype)
    for indices in random_batches(len(clips)):
        clips.take(indices.numpy(), axis=0, out=out[: len(indices)], mode="clip")


TRAINING = """
import atexit, pathlib, re
atexit.register(lambda: print(re.search("VmHWM: *\\t*(.*) kB", pathlib.Path("/proc/self/status").read_text())[1]))
from tgdfer.cli import main
main()
"""
"""Prints the peak of its own memory; that in the resource usage of a child includes this process, which started it."""


def peak_memory() -> float:
    """MB of a training."""
    command = [sys.executable, "-c", TRAINING, "--quiet", "train", "--dataset", NAME, "--variant", "one", "--fold", "1"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    said = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    return int(said.split()[-1]) / 2**10


def measure(args: argparse.Namespace, clips: int) -> float:
    write_project(args, clips)
    manifest = paths.features(NAME, "none")
    files = sorted((manifest.parent / "cache").iterdir())
    nbytes = clips * args.frames * args.dim * 2
    load = median_seconds(lambda: load_features(manifest))
    cache, everyone = load_features(manifest), torch.arange(clips)
    bags = Bags(cache, everyone, everyone, args.frames)
    batches = median_seconds(lambda: read_all(bags))
    copied = median_seconds(partial(copy_all, np.full((clips, args.frames * args.dim), 1, np.float16)))
    read = median_seconds(lambda: [file.read_bytes() for file in files])
    peak = peak_memory()
    gigabytes = nbytes / 1e9
    print(
        f"{clips:>8} {nbytes / 1e6:>8.0f} {gigabytes / load:>9.1f} {gigabytes / batches:>9.1f} "
        f"{gigabytes / copied:>9.1f} {gigabytes / read:>9.1f} {peak:>9.0f}",
        flush=True,
    )
    return peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--architecture", default="tgdfer")
    for name, default in (("frames", 16), ("dim", 512), ("shards", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    print(f"load before {os.getloadavg()[0]:.1f}")
    print(f"{'clips':>8} {'MB':>8} {'load GB/s':>9} {'batches':>9} {'copied':>9} {'files':>9} {'peak MB':>9}")
    peaks = []
    for clips in args.clips:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            peaks.append(measure(args, clips))
    print(f"peak memory of the largest against the smallest: {peaks[-1] / peaks[0]:.3f}")


if __name__ == "__main__":
    main()
