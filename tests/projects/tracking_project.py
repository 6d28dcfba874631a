"""A place with a fresh tracking database, a training that only tells, and what MLflow then holds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from tgdfer import tracking
from tgdfer.config.params import Params, load_params
from tgdfer.tracking import tracker
from tgdfer.tracking.store import Store

ROOT = Path(__file__).parents[2]
URI = "sqlite:///mlflow/mlflow.db"


def parameters(**tracking_settings: str) -> Params:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["tracking"].update({"mode": "live", **tracking_settings})
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    return load_params()


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new database: its migration takes seconds, so it is made once and copied."""
    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(file.parent)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        Store(parameters(uri=f"sqlite:///{file}"))
    return file


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: Path) -> None:
    for name in ("MLFLOW_TRACKING_URI", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracker, "_failed_at", None)
    Path("mlflow").mkdir()
    shutil.copy(database, "mlflow/mlflow.db")


def train(
    params: Params, fold: int = 1, seed: int = 0, epochs: int = 3, end: BaseException | None = None, **tags: str
) -> None:
    with tracking.run(
        params,
        dataset="demo",
        variant="tgdfer",
        fold=fold,
        seed=seed,
        parameters={"model": {"window": 4}},
        tags={"fingerprint": f"f{fold}", **tags},
    ) as told:
        for epoch in range(epochs):
            told.metrics({"loss": 1 / (epoch + 1), "uar": 0.1 * (epoch + fold), "absent": None}, epoch)
        if end is not None:
            raise end
        Path("metrics.json").write_text("{}")
        told.artifact(Path("metrics.json"))


def runs(params: Params, kind: str = "run", variant: str = "tgdfer") -> list:
    store = Store(params)
    asked = f"tags.\"tgdfer.kind\" = '{kind}' and tags.\"tgdfer.variant\" = '{variant}'"
    found = store.client.search_runs([store.experiment("tgdfer/demo")], asked, max_results=1000)
    return sorted(found, key=lambda run: run.info.run_name)


def history(params: Params, run_id: str, key: str) -> list[tuple[int, float]]:
    points = Store(params).client.get_metric_history(run_id, key)
    return sorted((point.step, point.value) for point in points)


LOSSES = [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))]


def stage_runs(params: Params) -> list:
    store = Store(params)
    return store.client.search_runs([store.experiment("tgdfer-stages")])


MADE_BY = {"stage": "frames", "parameters": {"frames": {"shards": 8}}, "inputs": {"clips": "abc"}, "code": "def"}
KILLED = {"fingerprint": "f1", "kind": "run", "variant": "tgdfer"}
