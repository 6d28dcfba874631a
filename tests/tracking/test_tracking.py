"""MLflow shows what the files of runs say: all of it, at any time, and as often as it is asked to."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import fmean, stdev

import pytest
import tracking_project as project
import training_project
from mlflow_server import Server
from tracking_project import OLD, RUN, client, params, points, runs

from tgdfer import tracking
from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.core.record import recorded
from tgdfer.stages.train import run as train
from tgdfer.tracking.server import pages
from tgdfer.tracking.wanted import wanted

VIEW = "workflowType=machine_learning&viewStateShareKey=tgdfer"
NAMES = {"probe", "probe fold1 seed0", "probe fold2 seed0"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project.make(tmp_path_factory.mktemp("made") / "project")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same project, trained with another learning rate."""
    return project.make(tmp_path_factory.mktemp("other") / "project", params(learning_rate=0.02))


@pytest.fixture(autouse=True)
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MLFLOW_TRACKING_URI", "SLURM_JOB_ID", "DVC_EXP_NAME", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    shutil.copytree(made, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def aliases() -> dict[str, str]:
    """The run that each alias of the registered model leads to."""
    model = client().get_registered_model("tgdfer-tiny")
    return {
        alias: client().get_model_version("tgdfer-tiny", version).run_id for alias, version in model.aliases.items()
    }


def in_another_process() -> None:
    """``update`` where MLflow remembers nothing."""
    subprocess.run([sys.executable, "-m", "tgdfer", "tracking"], check=True)


def test_everything_about_a_run_is_there_and_a_second_call_changes_nothing() -> None:
    with recorded({"stage": "frames", "parameters": {"a": 1}, "inputs": {}, "code": "c"}, "tiny") as numbers:
        numbers |= {"clips": 3, "loss": [2.0, 1.0]}
    assert tracking.update(params()) == 4
    assert set(runs()) == NAMES
    run, metrics = runs()["probe fold1 seed0"], storage.read_json(RUN / "metrics.json")
    record, rows = storage.read_json(RUN / "run.json"), storage.read_lines(RUN / "history.jsonl")
    assert run.info.status == "FINISHED" and run.data.tags["tgdfer.current"] == "true"
    assert run.data.params["training.learning_rate"] == "0.01" and run.data.params["fold"] == "1"
    assert points(run, "test/uar") == [(row["epoch"], row["test_uar"]) for row in rows]
    assert points(run, "train/loss") == [(row["epoch"], row["loss"]) for row in rows]
    assert points(run, "last/uar") == [(0, metrics["selections"]["last"]["uar"])]
    assert points(run, "recall/happy") == [(0, metrics["selections"]["last"]["recall"]["happy"])]
    assert min(run.data.metrics) == "last/uar", "some of the UI's lists begin with the first in the alphabet"
    assert next(iter(run.data.metrics)) == "last/uar", "and the compare page with the first that was logged"
    assert points(run, "system/process_memory_megabytes")
    files = {file.path for file in client().list_artifacts(run.info.run_id)}
    assert files == {"metrics.json", "history.jsonl", "run.json"}
    assert {data.dataset.name for data in run.inputs.dataset_inputs} == {"tiny fold1 train", "tiny fold1 test"}
    assert run.info.start_time < run.info.end_time
    assert (run.data.tags["tgdfer.fingerprint"], run.data.tags["mlflow.user"]) == (
        record["fingerprint"],
        record["user"],
    )

    variant = runs()["probe"]
    both = [runs()[f"probe fold{fold} seed0"] for fold in (1, 2)]
    assert all(run.data.tags["mlflow.parentRunId"] == variant.info.run_id for run in both)
    values = [run.data.metrics["last/uar"] for run in both]
    assert variant.data.metrics["last/uar"] == pytest.approx(fmean(values))
    assert variant.data.metrics["last/uar_std"] == pytest.approx(stdev(values))
    assert all(point.step == 0 for point in client().get_metric_history(variant.info.run_id, "last/uar"))
    assert next(iter(variant.data.metrics)) == "last/uar"
    stage = runs("tgdfer-stages")["frames tiny"]
    assert points(stage, "train/loss") == [(1, 2.0), (2, 1.0)] and stage.data.metrics["clips"] == 3

    experiment = client().get_experiment_by_name("tgdfer/tiny")
    assert "primary selection is `last`" in experiment.tags["mlflow.note.content"]
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert experiment.tags["mlflow.experiment.primaryMetric.name"] == "last/uar"
    view = json.loads(experiment.tags["mlflow.sharedViewState.tgdfer"])
    columns = [column.split("`")[1] for column in view["selectedColumns"] if column.startswith("metrics.")]
    assert columns[:2] == ["last/uar", "last/war"] and set(columns) <= set(runs()["probe"].data.metrics)
    assert pages(params()) == [f"#/experiments/{experiment.experiment_id}/runs?{VIEW}"]
    assert pages(params())[0] in experiment.tags["mlflow.note.content"]
    before = {name: run.to_dictionary() for name, run in runs().items()}
    assert tracking.update(params()) == 0
    assert {name: run.to_dictionary() for name, run in runs().items()} == before


def test_a_store_that_was_lost_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    tracking.update(params())
    before = {name: (run.data.metrics, run.data.params) for name, run in runs().items()}
    Path("mlflow").rename("lost")  # MLflow keeps a file open in the process that has used it
    in_another_process()
    Path("mlflow").rename("restored")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Path('restored').resolve()}/mlflow.db")
    assert {name: (run.data.metrics, run.data.params) for name, run in runs().items()} == before
    assert set(aliases()) == {"fold1-seed0", "fold2-seed0"}


def test_a_run_that_goes_on() -> None:
    kept, rows = project.unfinish(1)

    def now() -> tuple[str, str, int]:
        tracking.update(params())
        run = runs()["probe fold1 seed0"]
        return run.info.run_id, run.info.status, len(points(run, "train/loss"))

    run_id, *running = now()
    assert running == ["RUNNING", 1] and runs()["probe"].info.status == "RUNNING"
    storage.append_line(RUN / "history.jsonl", rows[1])
    assert now() == (run_id, "RUNNING", 2)
    attempt = storage.read_json(RUN / "attempt.json")
    storage.write_json(RUN / "attempt.json", {**attempt, "ended": attempt["started"], "failed": "RunError: why"})
    assert now() == (run_id, "FAILED", 2)
    assert runs()["probe fold1 seed0"].data.tags["tgdfer.error"] == "RunError: why"
    shutil.rmtree(RUN)
    RUN.mkdir()
    for name, content in kept.items():
        (RUN / name).write_bytes(content)
    assert now() == (run_id, "FINISHED", len(rows))
    assert "tgdfer.error" not in runs()["probe fold1 seed0"].data.tags
    assert tracking.update(params()) == 0


def test_a_run_that_was_made_again_replaces_what_was_there() -> None:
    tracking.update(params())
    first = runs()["probe fold1 seed0"].info.run_id
    (RUN / "run.json").unlink()
    train(params(), "tiny", "probe")
    tracking.update(params())
    again = runs()["probe fold1 seed0"]
    assert again.info.run_id != first and len(points(again, "train/loss")) == 3
    assert aliases()["fold1-seed0"] == again.info.run_id


def test_another_reference_has_its_models_logged_and_registered() -> None:
    tracking.update(params())
    both, first = training_project.params({**OLD, "other": OLD["probe"]}), aliases()
    train(both, "tiny", "other", folds=[1])
    assert tracking.update(both) == 2 and aliases() == first, "a variant that is not the reference has no model"
    changed = both.model_copy(update={"report": both.report.model_copy(update={"reference": "other"})})
    tracking.update(changed)
    assert aliases() == {"fold1-seed0": runs()["other fold1 seed0"].info.run_id}
    assert runs()["other fold1 seed0"].outputs.model_outputs
    tracking.update(both)
    assert aliases() == first and tracking.update(both) == 0


def test_current_is_what_the_files_say(other: Path) -> None:
    tracking.update(params())
    first = aliases()
    tracking.update(params(learning_rate=0.02))
    assert set(runs()) == {f"{name} (outdated)" for name in NAMES} and not aliases()
    Path("runs").rename("runs-before")
    shutil.copytree(other / "runs", "runs")
    tracking.update(params(learning_rate=0.02))
    assert set(runs()) == NAMES | {f"{name} (superseded)" for name in NAMES}
    now = runs()["probe fold1 seed0"]
    assert now.data.params["training.learning_rate"] == "0.02" and aliases()["fold1-seed0"] == now.info.run_id
    shutil.rmtree("runs")
    Path("runs-before").rename("runs")
    tracking.update(params())
    assert aliases() == first
    assert runs()["probe fold1 seed0"].info.run_id == first["fold1-seed0"]
    searched = client().search_runs(
        [client().get_experiment_by_name("tgdfer/tiny").experiment_id], "tags.`tgdfer.current` = 'true'"
    )
    assert {run.data.params["training.learning_rate"] for run in searched} == {"0.01"}


def test_an_experiment_of_dvc_in_a_copy_is_not_current(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking.update(params())
    first = aliases()
    copy = place / ".dvc" / "tmp" / "exps" / "tmpabc"
    shutil.copytree(place / "runs", copy / "runs")  # DVC checks out what it has
    shutil.copytree(place / "data", copy / "data")
    shutil.copytree(place / "models", copy / "models")
    with monkeypatch.context() as patch:
        patch.chdir(copy)
        patch.setenv("DVC_EXP_NAME", "longer")
        patch.setenv("DVC_ROOT", str(place))
        changed = params(learning_rate=0.02)
        assert train(changed, "tiny", "probe", folds=[1]) == 0
        tracking.update(changed)
        assert not (copy / "mlflow").exists()
    for changes in (2, 0):  # the experiment's runs are marked once
        assert set(runs()) == NAMES | {"probe [longer]", "probe fold1 seed0 [longer]"}
        assert runs()["probe fold1 seed0 [longer]"].data.tags["tgdfer.current"] == "false"
        assert runs()["probe fold1 seed0 [longer]"].data.tags["tgdfer.dvc_experiment"] == "longer"
        assert aliases() == first
        assert tracking.update(params()) == changes


def test_a_project_that_was_moved_takes_its_artifacts_along(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking.update(params())
    before = aliases()
    moved = place.rename(place.with_name("moved"))
    monkeypatch.chdir(moved)
    (RUN / "run.json").unlink()
    train(params(), "tiny", "probe")
    in_another_process()
    assert not place.exists()
    assert aliases()["fold2-seed0"] == before["fold2-seed0"]
    for run in runs().values():
        assert run.info.artifact_uri.startswith(moved.as_uri())
    model = client().get_model_version_by_alias("tgdfer-tiny", "fold2-seed0")
    where = client().get_logged_model(model.source.removeprefix("models:/")).artifact_location
    assert Path(where.removeprefix("file://"), "MLmodel").is_file()


def test_an_experiment_that_was_deleted_stays_deleted(other: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree("runs", "runs-before")
    shutil.rmtree("runs")
    shutil.copytree(other / "runs", "runs")
    tracking.update(params(learning_rate=0.02))
    old = client().get_experiment_by_name("tgdfer/tiny").experiment_id
    client().delete_experiment(old)
    shutil.rmtree("runs")
    Path("runs-before").rename("runs")
    tracking.update(params())
    assert "was deleted in MLflow" in caplog.text
    assert set(runs()) == NAMES
    assert client().get_experiment(old).lifecycle_stage == "deleted"


@pytest.mark.parametrize("name", ["history.jsonl", "metrics.json", "run.json", "model.json"])
def test_a_damaged_file_is_left_and_its_run_is_not_current(name: str) -> None:
    tracking.update(params())
    for content in (b"{", b"[]\n", b"null\n", b"\xff\n", b""):
        (RUN / name).write_bytes(content)
        tracking.update(params())
        assert (RUN / name).read_bytes() == content
        current = {name for name, run in runs().items() if run.data.tags["tgdfer.current"] == "true"}
        assert current == {"probe", "probe fold2 seed0"} and set(aliases()) == {"fold2-seed0"}


def test_mlflow_that_is_away_is_a_warning(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match="MLflow does not answer") as refused:
        tracking.update(params())
    assert "secret" not in str(refused.value)
    tracking.update_after(params())
    assert caplog.text.count("MLflow does not answer") == 1


def test_following_goes_on_after_a_file_was_replaced(monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    outcomes = iter([FileNotFoundError("metrics.json"), UserError("no server"), KeyboardInterrupt()])

    def update(params: object) -> int:
        raise next(outcomes)

    monkeypatch.setattr(tracking, "update", update)
    monkeypatch.setattr(tracking, "EVERY_S", 0)
    with pytest.raises(KeyboardInterrupt):
        tracking.follow(lambda: None)
    assert "metrics.json" in caplog.text and "no server" in caplog.text


def test_a_job_of_slurm_does_not_write_to_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    tracking.update_after(params())
    assert client().get_experiment_by_name("tgdfer/tiny") is None


def test_a_server_that_is_killed_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server(tmp_path / "server").start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    kept, rows = project.unfinish(1)
    tracking.update(params())
    server.kill()
    storage.append_line(RUN / "history.jsonl", rows[1])
    with pytest.raises(UserError):
        tracking.update(params())
    server.start()
    try:
        tracking.update(params())
        assert points(runs()["probe fold1 seed0"], "test/uar") == [(row["epoch"], row["test_uar"]) for row in rows[:2]]
        for name, content in kept.items():
            (RUN / name).write_bytes(content)
        tracking.update(params())
        assert len(points(runs()["probe fold1 seed0"], "test/uar")) == len(rows)
        assert client().list_artifacts(runs()["probe fold2 seed0"].info.run_id)
        assert set(aliases()) == {"fold1-seed0", "fold2-seed0"}
        assert capsys.readouterr().out == "", "MLflow prints two lines with links for each run"
    finally:
        server.kill()


def test_names_that_mlflow_does_not_take() -> None:
    metrics = storage.read_json(RUN / "metrics.json")
    metrics["selections"]["last"]["recall"] = {"überrascht!": 0.5, "absent": None}
    storage.write_json(RUN / "metrics.json", metrics)
    (run,) = [run for run in wanted(params()) if run.tags["tgdfer.run"] == "tiny/probe/fold1/seed0"]
    assert [point.key for point in run.points if point.key.startswith("recall/")] == ["recall/überrascht_"]
    assert paths.RUNS.is_dir()
