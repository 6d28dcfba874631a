"""Tracking: every run once, whatever is retried, killed or sent twice; and never a training that ends for its sake."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from mlflow_server import Server

from tgdfer import paths, storage, tracking
from tgdfer.params import Params, load_params
from tgdfer.tracking import events, load, tracker
from tgdfer.tracking.store import Store

ROOT = Path(__file__).parents[1]
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


KILLED = {"fingerprint": "f1", "kind": "run", "variant": "tgdfer"}
LOSSES = [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))]


def test_the_store_is_made_once() -> None:
    params = parameters()
    tracking.create_store(params)
    first = paths.EXPERIMENTS.read_bytes()
    assert json.loads(first) == {"made_by": "tgdfer tracking"}
    tracking.create_store(params)
    assert paths.EXPERIMENTS.read_bytes() == first
    experiment = Store(params).client.get_experiment_by_name("tgdfer/demo")
    assert experiment.artifact_location == Path("mlflow/artifacts").resolve().as_uri()


def test_a_run_is_kept_with_all_it_said() -> None:
    params = parameters()
    train(params, clips="abc")
    (run,) = runs(params)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "tgdfer fold1 seed0"
    assert run.data.params == {"variant": "tgdfer", "model.window": "4", "fold": "1", "seed": "0"}
    assert run.data.tags["tgdfer.run"] == "demo/tgdfer/fold1/seed0"
    assert run.data.tags["tgdfer.clips"] == "abc"
    assert history(params, run.info.run_id, "loss") == LOSSES
    assert "absent" not in run.data.metrics
    assert [file.path for file in Store(params).client.list_artifacts(run.info.run_id)] == ["metrics.json"]
    assert not events.pending()


@pytest.mark.parametrize("end", [RuntimeError("out of memory"), KeyboardInterrupt()], ids=["fails", "is interrupted"])
def test_a_retry_continues_its_run(end: BaseException) -> None:
    params = parameters()
    with pytest.raises(type(end)):
        train(params, epochs=2, end=end)
    assert runs(params)[0].info.status == ("FAILED" if isinstance(end, Exception) else "KILLED")
    train(params)
    (run,) = runs(params)
    assert run.info.status == "FINISHED"
    assert history(params, run.info.run_id, "loss") == LOSSES


def test_a_killed_attempt_loses_nothing_and_leaves_nothing() -> None:
    params = parameters()
    start = events.start("demo/tgdfer/fold1/seed0", "tgdfer/demo", "n", {}, KILLED)
    journal = events.Journal(events.file_of(start["run"]))
    journal.write(start)
    journal.write({"event": "metrics", "points": events.points({"loss": 1.0}, 0)})
    with journal.path.open("a") as stream:
        stream.write('{"event": "metr')  # SIGKILL in the middle of a line
    tracking.create_store(params)
    assert history(params, runs(params)[0].info.run_id, "loss") == [(0, 1.0)]
    assert events.pending(), "its job may still be writing"
    train(params)
    (run,) = runs(params)
    assert history(params, run.info.run_id, "loss") == LOSSES
    assert not events.pending()


def test_other_parameters_are_another_run_and_the_old_one_is_marked() -> None:
    params = parameters()
    train(params)
    with tracking.run(
        params, dataset="demo", variant="tgdfer", fold=1, seed=0, parameters={"x": 1}, tags={"fingerprint": "new"}
    ):
        pass
    current = {run.data.tags["tgdfer.fingerprint"]: run.data.tags["tgdfer.current"] for run in runs(params)}
    assert current == {"f1": "false", "new": "true"}


def test_the_variant_has_mean_and_deviation_over_its_runs() -> None:
    params = parameters()
    for fold in (1, 2, 3):
        train(params, fold)
    (parent,) = runs(params, "variant")
    assert parent.info.run_name == "tgdfer"
    assert parent.info.status == "FINISHED"
    assert {run.data.tags["mlflow.parentRunId"] for run in runs(params)} == {parent.info.run_id}
    assert parent.data.metrics["uar_mean"] == pytest.approx(0.4)
    assert parent.data.metrics["uar_std"] == pytest.approx(0.1)
    assert parent.data.metrics["runs"] == 3


def test_events_are_imported_and_twice_is_once(monkeypatch: pytest.MonkeyPatch) -> None:
    params = parameters(mode="auto")
    monkeypatch.setenv("SLURM_JOB_ID", "7")  # SQLite is left alone by jobs on many machines
    with pytest.raises(RuntimeError):
        train(params, epochs=2, end=RuntimeError("node died"))
    train(params)
    train(params, fold=2)
    assert runs(params) == []
    waiting = [(path, path.read_bytes()) for path in events.pending()]
    assert len(waiting) == 3

    monkeypatch.delenv("SLURM_JOB_ID")
    for _ in range(2):
        tracking.create_store(params)
        assert not events.pending()
        first, second = runs(params)
        assert (first.info.status, second.info.status) == ("FINISHED", "FINISHED")
        assert first.data.tags["tgdfer.slurm_job"] == "7"
        assert history(params, first.info.run_id, "loss") == LOSSES
        for path, content in waiting:  # as if the first import had been killed before it removed them
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def test_what_a_killed_attempt_left_goes_with_its_successor(monkeypatch: pytest.MonkeyPatch) -> None:
    params = parameters(mode="events")
    start = events.start("demo/tgdfer/fold1/seed0", "tgdfer/demo", "n", {}, KILLED)
    journal = events.Journal(events.file_of(start["run"]))
    journal.write(start)
    journal.write({"event": "metrics", "points": events.points({"loss": 1.0, "early": 2.0}, 0)})
    train(params)
    tracking.create_store(params)
    assert not events.pending()
    (run,) = runs(params)
    assert history(params, run.info.run_id, "loss") == LOSSES
    assert history(params, run.info.run_id, "early") == [(0, 2.0)]


def test_a_store_that_fails_never_ends_a_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    params = parameters()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # the discard port: nothing listens
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    train(params)
    assert len(events.pending()) == 1
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    tracking.create_store(params)
    (run,) = runs(params)
    assert history(params, run.info.run_id, "loss") == LOSSES
    assert run.info.status == "FINISHED"


def test_a_store_that_fails_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    params = parameters()
    monkeypatch.setattr(tracker, "FLUSH_POINTS", 1)
    monkeypatch.setattr(tracker, "RETRY_AFTER_S", 0)
    with tracking.run(
        params, dataset="demo", variant="tgdfer", fold=1, seed=0, parameters={}, tags={"fingerprint": "f1"}
    ) as told:
        told.metrics({"loss": 1.0}, 0)
        with monkeypatch.context() as broken:
            broken.setattr(told._sink, "apply", lambda event: 1 / 0)
            told.metrics({"loss": 0.5}, 1)
        told.metrics({"loss": 1 / 3}, 2)
    (run,) = runs(params)
    assert history(params, run.info.run_id, "loss") == LOSSES
    assert not events.pending()


def stage_runs(params: Params) -> list:
    store = Store(params)
    return store.client.search_runs([store.experiment("tgdfer-stages")])


MADE_BY = {"stage": "frames", "parameters": {"frames": {"shards": 8}}, "inputs": {"clips": "abc"}, "code": "def"}


def test_a_stage_leaves_one_run_whatever_is_repeated() -> None:
    params = parameters()
    for _ in range(2):
        with tracking.stage(params, MADE_BY, dataset="demo") as told:
            told.metrics({"clips": 7, "frames_per_s": 90.5})
    with pytest.raises(ValueError, match="disk"), tracking.stage(params, MADE_BY, dataset="mine"):
        raise ValueError("disk\nfull")
    failed, run = stage_runs(params)
    assert (run.info.run_name, run.info.status) == ("frames demo", "FINISHED")
    assert run.data.params == {"frames.shards": "8"}
    assert run.data.metrics.keys() >= {"clips", "frames_per_s", "seconds", "system/process_memory_megabytes"}
    assert {key: run.data.tags[f"tgdfer.{key}"] for key in ("stage", "dataset", "input.clips", "code", "current")} == {
        **{"stage": "frames", "dataset": "demo", "input.clips": "abc", "code": "def", "current": "true"}
    }
    assert (failed.info.status, failed.data.tags["tgdfer.error"]) == ("FAILED", "ValueError: disk full")

    with tracking.stage(params, {**MADE_BY, "inputs": {"clips": "other"}}, dataset="demo") as told:
        told.metrics({"clips": 8})
    with tracking.stage(params, MADE_BY, dataset="mine") as told:
        told.metrics({"clips": 9})
    found = {(run.info.run_name, run.data.metrics["clips"]): run.data.tags for run in stage_runs(params)}
    assert {key: tags["tgdfer.current"] for key, tags in found.items()} == {
        **{("frames demo", 7): "false", ("frames demo", 8): "true", ("frames mine", 9): "true"}
    }
    assert "tgdfer.error" not in found["frames mine", 9]
    assert not events.pending()


@pytest.mark.parametrize("mode", ["live", "events", "auto"])
def test_a_stage_with_nothing_to_do_leaves_nothing(mode: str) -> None:
    params = parameters(mode=mode)
    with tracking.stage(params, MADE_BY, dataset="demo"):
        pass
    assert not events.pending()
    tracking.create_store(params)
    assert stage_runs(params) == []


def test_a_short_run_waits_for_the_import_and_a_longer_one_is_live(monkeypatch: pytest.MonkeyPatch) -> None:
    params = parameters(mode="auto")
    train(params)
    assert len(events.pending()) == 1
    monkeypatch.setattr(tracker, "LIVE_AFTER_S", 0)
    train(params, fold=2)
    assert len(events.pending()) == 1
    assert [run.data.params["fold"] for run in runs(params)] == ["2"]
    tracking.import_waiting(params)
    assert [history(params, run.info.run_id, "loss") for run in runs(params)] == [LOSSES, LOSSES]
    assert not events.pending()


def test_a_short_run_does_not_load_mlflow() -> None:
    parameters(mode="auto")
    script = """
import sys
from tgdfer import tracking
from tgdfer.params import load_params
with tracking.stage(load_params(), {"stage": "s", "parameters": {}, "inputs": {}, "code": "c"}) as told:
    told.metrics({"clips": 1})
sys.exit("mlflow" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert len(events.pending()) == 1


def test_a_full_disk_ends_no_stage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    params = parameters()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with tracking.stage(params, MADE_BY, dataset="demo") as told:
        monkeypatch.setattr(events.Journal, "write", full)
        told.metrics({"clips": 1})
        told.artifact(Path("absent.json"))
    monkeypatch.setattr(events, "FOLDER", Path("params.yaml") / "no" / "folder")
    with tracking.stage(params, MADE_BY, dataset="demo") as told:
        told.metrics({"clips": 1})


def test_data_sets_and_the_model_are_named_once() -> None:
    params = parameters()
    for fold in (1, 1, 2):
        with tracking.run(
            params, dataset="demo", variant="tgdfer", fold=fold, seed=0, parameters={}, tags={"fingerprint": f"f{fold}"}
        ) as told:
            told.data("demo fold1 train", {"clips": "abc", "features": "def"}, "train", Path("data"), 40)
            Path("model.json").write_text(f"{fold}")
            told.artifact(Path("model.json"), "model")
            told.model("tgdfer-demo", f"fold{fold}-seed0", "about")
    first, _ = runs(params)
    (used,) = first.inputs.dataset_inputs
    assert (used.dataset.name, json.loads(used.dataset.profile)["num_rows"]) == ("demo fold1 train", 40)
    assert used.dataset.digest == storage.fingerprint({"clips": "abc", "features": "def"})[:12]
    assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "train")]
    client = Store(params).client
    versions = {version.version: version.run_id for version in client.search_model_versions("name = 'tgdfer-demo'")}
    assert list(versions.values()) == [run.info.run_id for run in reversed(runs(params))]
    for fold in (1, 2):
        version = client.get_model_version_by_alias("tgdfer-demo", f"fold{fold}-seed0")
        assert versions[version.version] == runs(params)[fold - 1].info.run_id
        files = Path(client.get_model_version_download_uri("tgdfer-demo", version.version).removeprefix("file://"))
        assert (files / "model.json").read_text() == f"{fold}"


def test_an_artifact_that_was_made_anew_is_not_taken_for_the_run_s(monkeypatch: pytest.MonkeyPatch) -> None:
    params = parameters(mode="events")
    train(params)
    Path("metrics.json").write_text('{"of": "another run"}')
    tracking.create_store(params)
    (run,) = runs(params)
    assert Store(params).client.list_artifacts(run.info.run_id) == []


def test_the_load_of_gpus_is_asked_of_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\necho "$@" > asked\necho "1, 87, 1024, 4096"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    found = load.Load().now()
    assert found["system/gpu_1_utilization_percentage"] == 87
    assert found["system/gpu_1_memory_usage_percentage"] == 25
    assert found["system/gpu_1_memory_usage_megabytes"] == pytest.approx(1073.74, abs=0.01)
    assert found["system/system_memory_usage_megabytes"] > 0
    assert Path("asked").read_text().split()[-2:] == ["-i", "1"]
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert not any("gpu" in key for key in load.Load().now())


def test_names_that_mlflow_refuses_are_written_another_way() -> None:
    params = parameters()
    with tracking.stage(params, MADE_BY, dataset="demo") as told:
        told.metrics({"last/recall_anger (strong)": 0.5})
    assert stage_runs(params)[0].data.metrics["last/recall_anger _strong_"] == 0.5


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(database, folder / "server.db")
    server = Server(folder).start()
    yield server
    server.kill()


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
    assert [file.path for file in client.list_artifacts(first.info.run_id)] == ["metrics.json"]
    assert client.get_model_version_by_alias("tgdfer-demo", "fold1-seed0").run_id == first.info.run_id
    assert [used.dataset.name for used in first.inputs.dataset_inputs] == ["demo fold1 train"]
    (parent,) = runs(params, "variant", "killed")
    assert parent.data.metrics["runs"] == 2
