"""Time of one training step (forward, loss, backward) and of AdamW for each architecture and its main options.

    python benchmarks/model_step.py [--dim 128] [--batch 64] [--frames 16] [--steps 30]

One thread. `cpu` is the median processor time of a step, `wall` the fastest step; both grow when the machine is busy.
The text tower has random weights and the demo encoder's size (width 64, 2 layers), whatever the features' dimension.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import open_clip
import torch
import torch.nn.functional as F

from tgdfer.config.training import ModelParams, TrainingParams
from tgdfer.core.classes import SEVEN
from tgdfer.encoders.demo_clip import CONFIG
from tgdfer.encoders.text_tower import TextTower
from tgdfer.model import build_model, losses
from tgdfer.training.optimiser import parameter_groups

FIXED = {"context_tokens": 0}
VARIANTS: dict[str, dict[str, Any]] = {
    "tgdfer, 8 learnt tokens": {},
    "tgdfer, 16 learnt tokens per class, 4 texts": {
        "context_tokens": 16,
        "context": "per-class",
        "descriptions_per_class": 4,
    },
    "tgdfer, fixed text": FIXED,
    "  temporal none": {**FIXED, "temporal": "none"},
    "  temporal short": {**FIXED, "temporal": "short"},
    "  temporal long": {**FIXED, "temporal": "long"},
    "  visual prompt none": {**FIXED, "visual_prompt": "none"},
    "  visual prompt pooled": {**FIXED, "visual_prompt": "pooled"},
    "  aggregation attention": {**FIXED, "aggregation": "attention"},
    "  aggregation log-sum-exp": {**FIXED, "aggregation": "log-sum-exp"},
    "  text none, visual prompt none": {"text": "none", "visual_prompt": "none"},
    "linear-probe": {"architecture": "linear-probe"},
    "attention-mil": {"architecture": "attention-mil"},
    "transformer-cls, fixed text": {"architecture": "transformer-cls", **FIXED},
    "transformer-cls, 8 learnt tokens": {"architecture": "transformer-cls"},
    "bilstm-dmin": {"architecture": "bilstm-dmin"},
}


def measured(work: Callable[[], None], steps: int) -> tuple[float, float]:
    """Median processor time and least wall time of ``work``, in milliseconds, after three calls to warm up."""
    cpu, wall = [], []
    for step in range(steps + 3):
        start_cpu, start = time.thread_time(), time.perf_counter()
        work()
        if step >= 3:
            cpu.append(time.thread_time() - start_cpu)
            wall.append(time.perf_counter() - start)
    return 1e3 * statistics.median(cpu), 1e3 * min(wall)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--steps", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    clip = open_clip.model.CLIP(**{**CONFIG, "embed_dim": options.dim}).eval()
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    encoder: Any = SimpleNamespace(
        name="random", dim=options.dim, logit_scale=14.3, text_tower=lambda: TextTower(clip, tokenizer, "random")
    )
    x = F.normalize(torch.randn(options.batch, options.frames, options.dim), dim=-1)
    mask = torch.ones(options.batch, options.frames, dtype=torch.bool)
    target = torch.randint(len(SEVEN), (options.batch,))
    counts = torch.bincount(target, minlength=len(SEVEN))
    print(
        f"batch {options.batch}, {options.frames} frames, {options.dim} dimensions, torch {torch.__version__}, 1 thread"
    )
    print(f"{'':45s} {'step ms: cpu':>12s} {'wall':>6s} {'AdamW ms: cpu':>14s} {'parameters':>11s}")
    for name, changes in VARIANTS.items():
        params = ModelParams(**changes)
        model = build_model(params, SEVEN, options.dim, encoder)
        optimiser = torch.optim.AdamW(parameter_groups(model, TrainingParams()))

        def step(model: Any = model, params: ModelParams = params) -> None:
            model.zero_grad()
            losses.loss(model(x, mask), target, params, counts)[0].backward()

        cpu, wall = measured(step, options.steps)
        adam, _ = measured(lambda optimiser=optimiser: optimiser.step(), options.steps)  # type: ignore[misc]
        size = sum(parameter.numel() for parameter in model.parameters())
        print(f"{name:45s} {cpu:12.2f} {wall:6.2f} {adam:14.2f} {size:11d}", flush=True)


if __name__ == "__main__":
    main()
