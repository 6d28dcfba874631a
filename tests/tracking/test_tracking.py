"""Tracking: every run once, whatever is retried, killed or sent twice; and never a training that ends for its sake."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tracking_project import KILLED, LOSSES, database, history, parameters, place, runs, train  # noqa: F401 (fixtures)

from tgdfer import tracking
from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.tracking import events, load, tracker
from tgdfer.tracking.models import folder_of
from tgdfer.tracking.store import Store


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


def test_a_damaged_file_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    params = parameters(mode="events")
    train(params)
    (whole,) = events.pending()
    damaged = events.FOLDER / "demo" / "a" / "1.jsonl"  # before it in the order of the import
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"\0\0\0\n" + whole.read_bytes())
    assert not tracking.broke_off("demo/a")
    tracking.create_store(params)
    assert events.pending() == [damaged]
    assert len(runs(params)) == 1


def test_a_file_that_its_own_process_has_sent_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    params = parameters(mode="events")
    train(params)
    listed = [events.FOLDER / "demo" / "a" / "1.jsonl", *events.pending()]
    monkeypatch.setattr(events, "pending", lambda run=None: listed)
    tracking.create_store(params)
    assert len(runs(params)) == 1


def test_mlflow_that_is_away_is_an_error_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    params = parameters()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match="MLflow does not answer") as failure:
        tracking.create_store(params)
    assert "secret" not in str(failure.value)
    with pytest.raises(UserError, match="MLflow has no such model"):
        folder_of(params, "models:/tgdfer-demo@fold1-seed0")
    assert not paths.EXPERIMENTS.exists()


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
    (parent,) = runs(params, "variant")
    assert [(whole.dataset.name, whole.dataset.digest) for whole in parent.inputs.dataset_inputs] == [
        ("demo", used.dataset.digest)
    ]
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
