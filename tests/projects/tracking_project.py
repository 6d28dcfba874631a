"""A small trained project in a folder, a fresh MLflow database, and what MLflow then contains."""

import os
import shutil
from pathlib import Path
from typing import Any

import training_project
import yaml

from tgdfer.config.params import Params
from tgdfer.core import storage
from tgdfer.stages.train import run as train
from tgdfer.tracking.server import connected

RUN = Path("runs/tiny/probe/fold1/seed0")
OLD = {"probe": {"model": {"architecture": "linear-probe"}}}


def params(**training: Any) -> Params:
    return training_project.params(OLD, **training)


def make(root: Path, chosen: Params | None = None) -> Path:
    """Clips, features and two trained folds of one variant in ``root``, and a fresh database."""
    before = Path.cwd()
    root.mkdir(parents=True)
    os.chdir(root)
    try:
        chosen = chosen or params()
        training_project.make_project()
        Path("params.yaml").write_text(yaml.safe_dump(chosen.model_dump(mode="json")))
        assert train(chosen, "tiny", "probe") == 0
        client()
    finally:
        os.chdir(before)
    return root


def client() -> Any:
    """A client of the project's database or server; the database is made if there is none."""
    with connected(params()) as found:
        return found


def runs(experiment: str = "tgdfer/tiny") -> dict[str, Any]:
    """The runs of an experiment by the name that the UI shows."""
    found = client().get_experiment_by_name(experiment)
    return {run.info.run_name: run for run in client().search_runs([found.experiment_id])}


def points(run: Any, key: str) -> list[tuple[int, float]]:
    return sorted((point.step, point.value) for point in client().get_metric_history(run.info.run_id, key))


def unfinish(epochs: int, **attempt: Any) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """Set a finished run back to one that has trained ``epochs``; returns its files and its whole history."""
    kept = {path.name: path.read_bytes() for path in RUN.iterdir()}
    rows = storage.read_lines(RUN / "history.jsonl")
    record = storage.read_json(RUN / "run.json")
    shutil.rmtree(RUN)
    started = {key: value for key, value in record.items() if key not in ("outputs", "ended", "seconds", "checksum")}
    storage.write_json(RUN / "attempt.json", {**started, **attempt})
    for row in rows[:epochs]:
        storage.append_line(RUN / "history.jsonl", row)
    return kept, rows
