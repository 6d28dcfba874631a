"""Where every file of a project lies, relative to its root (the working directory of all stages)."""

from pathlib import Path

DATA = Path("data")
MODELS = Path("models")
RUNS = Path("runs")
CHECKPOINTS = Path("checkpoints")
REPORTS = Path("reports")
MLFLOW = Path("mlflow")
STAGE_RECORDS = Path("logs") / "stages"

DEMO_ROOT = DATA / "raw" / "demo"
DEMO_CLIPS = DEMO_ROOT / "clips.csv"
DEMO_TRUTH = DEMO_ROOT / "truth.parquet"
REPORT_PAGE = REPORTS / "index.html"
REPORT_METRICS = REPORTS / "metrics.json"


def clips(dataset: str) -> Path:
    """The clips table."""
    return DATA / dataset / "clips.parquet"


def folds(dataset: str) -> Path:
    """The folds table."""
    return DATA / dataset / "folds.parquet"


def frames(dataset: str) -> Path:
    """The manifest of the frame shards, which are next to it; written last."""
    return DATA / dataset / "frames" / "manifest.json"


def features(dataset: str, encoder: str) -> Path:
    """The manifest of the feature cache; its shards are in a folder next to it, named by the cache's fingerprint."""
    return DATA / dataset / "features" / encoder / "manifest.json"


def encoder(name: str) -> Path:
    """The description of an encoder; its open_clip config and weights are next to it (an open_clip ``local-dir``)."""
    return MODELS / name / "encoder.json"


def variant(dataset: str, name: str) -> Path:
    """The summary of all runs of a variant; the runs are next to it."""
    return RUNS / dataset / name / "summary.json"


def run(dataset: str, name: str, fold: int, seed: int) -> Path:
    """The folder of one run; ``tgdfer.runs.files.FILES`` lists its files."""
    return RUNS / dataset / name / f"fold{fold}" / f"seed{seed}"


def checkpoint(dataset: str, name: str, fold: int, seed: int) -> Path:
    """The checkpoint for resuming a run; outside the declared outputs, which the graph deletes before a retry."""
    return CHECKPOINTS / dataset / name / f"fold{fold}-seed{seed}.pt"
