"""Many processes that track at once, and a server that dies while they do: nothing is lost."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow_server import Server
from tracking_project import LOSSES, database, history, parameters, place, runs, train  # noqa: F401 (fixtures)

from tgdfer import tracking
from tgdfer.config.params import load_params
from tgdfer.core import paths, storage
from tgdfer.tracking import events, tracker
from tgdfer.tracking.store import Store


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Iterator[Server]:  # noqa: F811
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(database, folder / "server.db")
    server = Server(folder).start()
    yield server
    server.kill()


HOLD = """
import sys, time
from mlflow_server import guarded
print(guarded(["sleep", "60"]).pid, flush=True)
time.sleep(60)
"""


def test_a_server_does_not_outlive_the_tests_that_are_killed() -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent
    )
    assert holder.stdout is not None
    group = int(holder.stdout.readline())
    os.killpg(group, 0)
    holder.kill()
    holder.communicate()
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("it is still there")


WRITERS, EPOCHS = 16, 5


def write(fold: int, folder: str, uri: str) -> None:
    os.chdir(folder)
    os.environ["MLFLOW_TRACKING_URI"] = uri
    tracker.FLUSH_POINTS = 1  # every epoch is sent
    train(load_params(), fold, epochs=EPOCHS)


@pytest.mark.parametrize("where", ["a new database", "a server"])
def test_sixteen_writers_at_once_lose_nothing(
    where: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    params = parameters()
    Path("mlflow/mlflow.db").unlink()  # a new one is opened by all at once, although experiments.json is there
    storage.write_json(paths.EXPERIMENTS, {})
    uri = request.getfixturevalue("server").uri if where == "a server" else f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow.store.tracking.sqlalchemy_store", "tgdfer.tracking"])
    jobs = [context.Process(target=write, args=(fold, str(tmp_path), uri)) for fold in range(1, WRITERS + 1)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(120)
    assert [job.exitcode for job in jobs] == [0] * WRITERS
    assert not events.pending()
    found = runs(params)
    assert sorted(int(run.data.params["fold"]) for run in found) == list(range(1, WRITERS + 1))
    client = Store(params).client
    for run in found:
        assert run.info.status == "FINISHED"
        assert set(run.data.params) == {"variant", "model.window", "fold", "seed"}
        for key in ("loss", "uar"):
            assert len(history(params, run.info.run_id, key)) == EPOCHS
        assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["metrics.json"]
    (parent,) = runs(params, "variant")
    assert parent.data.metrics["runs"] == WRITERS
    assert parent.info.status == "FINISHED"


def test_a_server_killed_in_mid_run_costs_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    params = parameters()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(tracker, "FLUSH_POINTS", 1)
    with tracking.run(
        params, dataset="demo", variant="killed", fold=1, seed=0, parameters={"x": 1}, tags={"fingerprint": "f1"}
    ) as told:
        told.metrics({"loss": 1.0}, 0)
        (run,) = runs(params, variant="killed")
        assert history(params, run.info.run_id, "loss") == [(0, 1.0)]
        server.kill()
        told.metrics({"loss": 0.5}, 1)
        Path("metrics.json").write_text("{}")
        told.artifact(Path("metrics.json"))
        told.artifact(Path("metrics.json"), "model")
        told.data("demo fold1 train", {"clips": "abc"}, "train", Path("data"), 40)
        told.model("tgdfer-demo", "fold1-seed0", "about")
        told.metrics({"loss": 1 / 3}, 2)
    with tracking.run(  # the next run of the process, which does not wait for the server again
        params, dataset="demo", variant="killed", fold=2, seed=0, parameters={"x": 1}, tags={"fingerprint": "f2"}
    ) as told:
        told.metrics({"loss": 1.0}, 0)
    assert len(events.pending()) == 2
    server.start()
    assert runs(params, variant="killed")[0].info.status == "RUNNING"
    tracking.create_store(params)
    assert not events.pending()
    first, second = runs(params, variant="killed")
    assert (first.info.run_id, first.info.status, second.info.status) == (run.info.run_id, "FINISHED", "FINISHED")
    assert history(params, first.info.run_id, "loss") == LOSSES
    client = Store(params).client
    assert [file.path for file in client.list_artifacts(first.info.run_id)] == ["metrics.json", "model"]
    assert client.get_model_version_by_alias("tgdfer-demo", "fold1-seed0").run_id == first.info.run_id
    assert [used.dataset.name for used in first.inputs.dataset_inputs] == ["demo fold1 train"]
    (parent,) = runs(params, "variant", "killed")
    assert parent.data.metrics["runs"] == 2
