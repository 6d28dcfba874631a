"""The path of every file of a project, relative to its root (the working directory of all stages).

A study (``studies/<name>.yaml``) has its own runs and reports, in ``studies/<name>/``; data and encoders are shared.
"""

import hashlib
import os
import re
from pathlib import Path

from tgdfer.core.errors import UserError

DATA = Path("data")
MODELS = Path("models")
MLFLOW = Path("mlflow")
STUDIES = Path("studies")

RAW = DATA / "raw"
DEMO_ROOT = RAW / "demo"
DEMO_CLIPS = DEMO_ROOT / "clips.csv"
DEMO_TRUTH = DEMO_ROOT / "truth.parquet"

STUDY_VARIABLE = "TGDFER_STUDY"
"""The environment variable that names the study, for this process and those that it starts."""

STUDY: str
"""The chosen study; empty for the base, which is params.yaml by itself."""
RUNS: Path
CHECKPOINTS: Path
REPORTS: Path
REPORT_PAGE: Path
REPORT_METRICS: Path
LOGS: Path
STAGE_RECORDS: Path
SNAKEMAKE: str
"""Snakemake on this machine, for the study."""


def choose_study(name: str) -> None:
    """Use the runs, checkpoints, reports and logs of the study called ``name``; of the base where it is empty.

    Raises:
        UserError: this cannot be the name of a study.
    """
    global STUDY, RUNS, CHECKPOINTS, REPORTS, REPORT_PAGE, REPORT_METRICS, LOGS, STAGE_RECORDS, SNAKEMAKE
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]*|", name):
        raise UserError(
            f"study '{name}': expected letters, digits, - and _, such as low-shot for studies/low-shot.yaml"
        )
    os.environ[STUDY_VARIABLE] = STUDY = name
    home = STUDIES / name if name else Path()
    RUNS, CHECKPOINTS, REPORTS, LOGS = home / "runs", home / "checkpoints", home / "reports", home / "logs"
    REPORT_PAGE, REPORT_METRICS = REPORTS / "index.html", REPORTS / "metrics.json"
    STAGE_RECORDS = LOGS / "stages"
    SNAKEMAKE = "snakemake --profile local" + (f" --config study={name} --" if name else "")


choose_study(os.environ.get(STUDY_VARIABLE, ""))


def workspace() -> Path:
    """The project's root; of the copy that `dvc exp run --temp` or `--queue` works in, that of the workspace."""
    return Path(os.environ["DVC_ROOT"]).resolve() if "DVC_EXP_NAME" in os.environ else Path.cwd()


def in_copy() -> bool:
    """Whether the working directory is such a copy."""
    return workspace() != Path.cwd()


def rendered(name: str) -> Path:
    """The list of clips of a rendered data set; its truth and videos are next to it."""
    return RAW / name / DEMO_CLIPS.name


def clips(dataset: str) -> Path:
    """The clips table."""
    return DATA / dataset / "clips.parquet"


def folds(dataset: str) -> Path:
    """The folds table."""
    return DATA / dataset / "folds.parquet"


def frames(dataset: str) -> Path:
    """The manifest of the frame shards, which are next to it; written last."""
    return DATA / dataset / "frames" / "manifest.json"


def sources(dataset: str) -> Path:
    """The sizes and times, on this machine, of the sources that the frames were made from; not an output."""
    return DATA / dataset / "sources.parquet"


def shard_number(clip_id: str, shards: int) -> int:
    """The number of the shard that a clip is in, a hash of its id."""
    return int(hashlib.sha256(clip_id.encode()).hexdigest()[:8], 16) % shards


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


def transfer(source: str, target: str, variant: str) -> Path:
    """The predictions of the runs of a variant on ``source`` for the test clips of ``target``."""
    return RUNS.with_name("transfer") / source / target / f"{variant}.parquet"


def checkpoint(dataset: str, name: str, fold: int, seed: int) -> Path:
    """The checkpoint for resuming a run; outside the declared outputs, which the graph deletes before a retry."""
    return CHECKPOINTS / dataset / name / f"fold{fold}-seed{seed}.pt"


def command(path: Path) -> str | None:
    """The command that makes the file at ``path``; None for a file that no stage makes."""
    match path.parts:
        case ("data", "raw", "demo", *_):
            return "tgdfer render-demo"
        case ("data", dataset, "clips.parquet" | "folds.parquet"):
            return f"tgdfer clips --dataset {dataset}"
        case ("data", dataset, "frames" | "features" as stage, *_):
            return f"tgdfer {stage} --dataset {dataset}"
        case ("models", "demo-clip", *_):
            return "tgdfer train-demo-encoder"
        case ("models", name, *_):
            return f"tgdfer import-encoder --name {name}"
        case ("runs", dataset, variant, *_):
            return f"tgdfer train --dataset {dataset} --variant {variant}"
        case ("transfer", source, target, variant):
            return f"tgdfer transfer --source {source} --target {target} --variant {variant.removesuffix('.parquet')}"
        case ("reports", *_):
            return "tgdfer report"
    return None
