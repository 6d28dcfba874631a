"""Seconds per epoch, clips per second and memory of training on a synthetic feature cache, for each architecture.

    python benchmarks/training.py [--clips 1400] [--frames 16] [--dim 128] [--epochs 4] [--folds 1] [--device auto]
    python benchmarks/training.py --clips 11697 --dim 512 --text ViT-B-32-quickgelu   # as large as DFEW
    python benchmarks/training.py --quick   # the same from a few steps: a minute or two on a processor

The cache holds `--frames` frames for each clip; a fold trains on four fifths of the clips and evaluates the others
after each epoch, as in the train stage. The text tower has random weights: speed does not depend on them. `--text`
names an open_clip model for it; without, it has the size of the embedded data set's own. Times are medians over epochs,
the first one left out, of wall and of CPU time; `all` is everything, from building the model to the last evaluation.
`--quick` computes an epoch from the median of some steps and one evaluation, in processor time on a CPU, so that other
work on the machine does not count; `text %` is the share of the text tower in a step.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F

from tgdfer.config.training import BagsParams, ModelParams, RunParams, TrainingParams
from tgdfer.core.classes import SEVEN
from tgdfer.core.determinism import deterministic
from tgdfer.core.devices import choose_device
from tgdfer.features.bags import Bags
from tgdfer.features.cache import FeatureCache
from tgdfer.features.shards import Shard
from tgdfer.model import build_model
from tgdfer.training.engine import Engine
from tgdfer.training.evaluation import batches, score
from tgdfer.training.folds import FoldBags

VARIANTS: dict[str, dict[str, Any]] = {
    "zero-shot": {"architecture": "zero-shot"},
    "linear-probe": {"architecture": "linear-probe"},
    "attention-mil": {"architecture": "attention-mil"},
    "bilstm-dmin": {"architecture": "bilstm-dmin"},
    "transformer-cls": {"architecture": "transformer-cls"},
    "tgdfer, no text": {"text": "none"},
    "tgdfer, fixed text": {"context_tokens": 0},
    "tgdfer, tokens before": {"context_place": "before"},
    "tgdfer": {},
}


QUICK = ["linear-probe", "transformer-cls", "tgdfer, no text", "tgdfer, fixed text", "tgdfer, tokens before", "tgdfer"]


def make_cache(clips: int, frames: int, dim: int) -> FeatureCache:
    """Random unit vectors in memory, the same number of frames for every clip."""
    features = torch.empty(1, clips * frames, dim, dtype=torch.float16)
    generator = torch.Generator().manual_seed(0)
    for start in range(0, clips * frames, 1 << 16):
        part = features[0, start : start + (1 << 16)]
        part.copy_(F.normalize(torch.randn(part.shape, generator=generator), dim=-1))
    names = pa.array(f"clip{i:06d}" for i in range(clips))
    index = np.tile(np.arange(frames, dtype=np.int32), clips)
    shard = Shard(names, np.arange(clips + 1) * frames, index, features.numpy())
    return FeatureCache.of([shard], "synthetic", "synthetic")


def make_fold(cache: FeatureCache, number: int, bags: BagsParams) -> FoldBags:
    """Every fifth clip is a test clip of fold ``number``; labels go round."""
    clips = torch.arange(len(cache.clip_ids))
    test = clips % 5 == number % 5

    def split(chosen: torch.Tensor) -> Bags:
        return Bags(cache, clips[chosen], clips[chosen] // 5 % len(SEVEN), bags.frames, bags.instance_frames)

    train, held = split(~test), split(test)
    return FoldBags(
        number,
        train,
        None,
        held,
        held.labels.numpy(),
        torch.zeros(0, dtype=torch.int64).numpy(),
        torch.bincount(train.labels, minlength=len(SEVEN)),
    )


def make_encoder(text: str | None, dim: int, device: torch.device) -> Any:
    """What a model needs of an encoder: a text tower of random weights."""
    import open_clip

    from tgdfer.encoders.text_tower import TextTower

    torch.manual_seed(0)
    if text:
        model = open_clip.create_model(text, load_weights=False, pretrained_text=False)
        tokenizer = open_clip.get_tokenizer(text)
    else:
        vision = {"layers": [1, 1, 1, 1], "width": 16, "head_width": 32, "image_size": 64}
        words = {"context_length": 48, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2}
        model = open_clip.CLIP(embed_dim=dim, vision_cfg=vision, text_cfg=words)
        tokenizer = open_clip.SimpleTokenizer(context_length=48)
    tower = TextTower(model.eval(), tokenizer, "synthetic").to(device)
    return SimpleNamespace(name="synthetic", dim=dim, logit_scale=100.0, text_tower=lambda: tower)


def measure(params: RunParams, cache: FeatureCache, folds: int, encoder: Any, device: torch.device) -> str:
    """Train ``folds`` folds and say how long an epoch took."""
    wall, cpu, memory = [], [], 0.0
    begin = time.perf_counter()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for number in range(1, folds + 1):
        with deterministic(params.training.threads), tempfile.TemporaryDirectory() as folder:
            fold = make_fold(cache, number, params.bags)
            torch.manual_seed(0)
            model = build_model(params.model, SEVEN, cache.dim, encoder)
            engine = Engine(model, fold, params, 0, device, Path(folder) / "checkpoint.pt", "benchmark")
            ticks = [(time.perf_counter(), time.process_time())]
            engine.run(lambda row, ticks=ticks: ticks.append((time.perf_counter(), time.process_time())))
            wall += [b[0] - a[0] for a, b in pairwise(ticks[1:])]
            cpu += [b[1] - a[1] for a, b in pairwise(ticks[1:])]
    total = time.perf_counter() - begin
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated(device) / 2**20
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    trainable = sum(parameter.numel() for parameter in engine.trainable)
    if not wall:
        return f"{trainable:>10,} {'-':>9} {'-':>9} {'-':>9} {total:>8.2f} {memory:>8.0f}"
    seconds = statistics.median(wall)
    speed = len(fold.train) / seconds
    return f"{trainable:>10,} {seconds:>9.3f} {statistics.median(cpu):>9.3f} {speed:>9.0f} {total:>8.2f} {memory:>8.0f}"


def measure_steps(params: RunParams, cache: FeatureCache, encoder: Any, device: torch.device, steps: int) -> str:
    """An epoch computed from ``steps`` training steps and one evaluation, and the share of the label features in it."""

    def seconds(work: Callable[[], Any], times: int) -> float:
        found = []
        clock = time.perf_counter if device.type == "cuda" else time.process_time
        for _ in range(times + 1):
            start = clock()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            found.append(clock() - start)
        return statistics.median(found[1:])

    with deterministic(params.training.threads), tempfile.TemporaryDirectory() as folder:
        fold = make_fold(cache, 1, params.bags)
        torch.manual_seed(0)
        model = build_model(params.model, SEVEN, cache.dim, encoder)
        engine = Engine(model, fold, params, 0, device, Path(folder) / "checkpoint.pt", "benchmark")
        chosen = torch.randperm(len(fold.train))[: params.training.batch_size]
        step = seconds(lambda: engine._train_step(chosen), steps)
        labels = getattr(engine.model, "labels", None)
        learnt = labels is not None and getattr(labels, "learnt", False)
        text = seconds(lambda: labels().sum().backward(), steps) if learnt else 0.0  # type: ignore[misc]
        test = seconds(lambda: score(engine.model, batches(fold.test, device)), 1)
    epoch = engine.steps * step + test
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated(device) / 2**20
    return (
        f"{1e3 * step:>9.1f} {100 * text / step:>7.0f} {test:>7.2f} {epoch:>9.1f} {len(fold.train) / epoch:>9.0f} "
        f"{memory:>8.0f} {5 * 50 * epoch / 3600:>12.2f}"
    )


def main() -> None:
    """Measure every variant, or the ones that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("clips", 1400), ("frames", 16), ("dim", 128), ("epochs", 4), ("folds", 1), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--text", default=None)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--variant", action="append", choices=list(VARIANTS))
    parser.add_argument("--quick", action="store_true", help="as large as DFEW, epochs computed from --steps steps")
    parser.add_argument("--steps", type=int, default=5)
    args = parser.parse_args()
    if args.quick:
        args.clips, args.dim, args.text = 11697, 512, args.text or "ViT-B-32-quickgelu"
    device = choose_device(args.device)
    cache = make_cache(args.clips, args.frames, args.dim)
    names = args.variant or (QUICK if args.quick else list(VARIANTS))
    runs = {
        name: RunParams(
            bags=BagsParams(),
            model=ModelParams(**VARIANTS[name]),
            training=TrainingParams(epochs=args.epochs, batch_size=args.batch_size, threads=args.threads),
        )
        for name in names
    }
    encoder = make_encoder(args.text, args.dim, device) if any(run.model.uses_text for run in runs.values()) else None
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {args.threads} threads"
    if args.quick:
        print(f"{args.clips} clips x {args.frames} frames x {args.dim}, text tower of {args.text}, {where}")
        print(f"{'':<20}   step ms  text %  test s   s/epoch   clips/s  peak MB 5 x 50 ep., h")
        for name, run in runs.items():
            print(f"{name:<20} {measure_steps(run, cache, encoder, device, args.steps)}", flush=True)
        return
    print(f"{args.clips} clips x {args.frames} frames x {args.dim}, {args.folds} folds x {args.epochs} epochs, {where}")
    print(f"{'':<20} {'trainable':>10} {'s/epoch':>9} {'cpu s':>9} {'clips/s':>9} {'all s':>8} {'peak MB':>8}")
    for name, run in runs.items():
        print(f"{name:<20} {measure(run, cache, args.folds, encoder, device)}", flush=True)


if __name__ == "__main__":
    main()
