"""Wall time of the whole graph on 1, 8 and 64 nodes, by simulation, with a job for each variant and for each run.

    python benchmarks/scaling.py

The times of the stages are those of docs/scaling.md, measured on two CPU cores; a node runs one job at a time. A stage
begins when the one before it has ended, and the longest job starts first, as long trainings should.
"""

import heapq
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tgdfer.config.params import load_params

NODES = 1, 8, 64
SEEDS = 3
EPOCHS = 30
START_S = 15.0
"""Seconds from the submission of a job to its first work, and from its end until that is noticed."""


@dataclass(frozen=True)
class Size:
    """A data set: frames, folds, and the seconds of an epoch with learnable tokens, other text or none, and a probe."""

    name: str
    frames: float
    folds: int
    epochs: tuple[float, float, float]


SIZES = (
    Size("DFEW", 0.37e6, 5, (106, 18, 0.6)),
    Size("FERV39k", 1.25e6, 1, (348, 60, 2)),
    Size("1 million clips", 32e6, 5, (9000, 1560, 52)),
)
FRAMES_PER_S = 1230
"""Of the frames stage, from H.264 videos."""
FEATURES_PER_S = 38
"""Of the features stage, ViT-B/32 in bfloat16 on the CPU."""


def trainings(size: Size) -> list[float]:
    """The seconds of one run of every variant of params.yaml."""
    params = load_params(Path(__file__).parents[1] / "params.yaml")
    seconds = []
    for name in params.variants:
        model = params.run(name).model
        learnt, other, probe = size.epochs
        epoch = learnt if model.uses_text and model.context_tokens else other
        seconds.append(EPOCHS * (probe if model.architecture in ("linear-probe", "zero-shot") else epoch))
    return seconds


def wall(jobs: list[float], nodes: int) -> float:
    """Seconds until all ``jobs`` are done on ``nodes``, the longest first."""
    free = [0.0] * nodes
    for seconds in sorted(jobs, reverse=True):
        heapq.heappush(free, heapq.heappop(free) + START_S + seconds)
    return max(free)


def split(seconds: float, jobs: int) -> list[float]:
    """A stage's seconds, shared by ``jobs``."""
    return [seconds / jobs] * jobs


def simulated(size: Size, nodes: int, fine: bool) -> tuple[float, float, float]:
    """Seconds of frames, features and trainings; ``fine``: with a part of the shards or a run in a job."""
    jobs = nodes if fine else 1
    runs = size.folds * SEEDS
    variants = trainings(size)
    trained = [seconds for seconds in variants for _ in range(runs)] if fine else [runs * s for s in variants]
    frames, features = size.frames / FRAMES_PER_S, size.frames / FEATURES_PER_S
    return wall(split(frames, jobs), nodes), wall(split(features, jobs), nodes), wall(trained, nodes)


def shown(seconds: float) -> str:
    """In the most fitting unit."""
    for limit, unit, length in ((5400, "min", 60), (172800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.1f} days"


def main() -> None:
    """Print a row for each size, number of nodes and grain."""
    print("| data set | nodes | a job is | frames | features | trainings | all |\n|---|---|---|---|---|---|---|")
    for size in SIZES:
        for nodes in NODES:
            for fine in (False, True):
                parts = simulated(size, nodes, fine)
                times = " | ".join(shown(seconds) for seconds in (*parts, sum(parts)))
                print(f"| {size.name} | {nodes} | {'a part, a run' if fine else 'a stage, a variant'} | {times} |")


if __name__ == "__main__":
    main()
