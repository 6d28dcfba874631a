"""Stages leave runs: one each, whatever is repeated; and never a stage that waits or ends for its sake."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tracking_project import LOSSES, MADE_BY, ROOT, database, history, parameters, place, runs, stage_runs, train  # noqa: F401 (fixtures)

from tgdfer import tracking
from tgdfer.tracking import events, tracker


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
from tgdfer.config.params import load_params
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


def test_a_disk_that_is_full_for_a_while_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    params = parameters()
    written: list[int] = []

    class Disk:
        """Takes a few bytes of the third line, and then nothing until the sixth try."""

        def __init__(self, file: io.FileIO) -> None:
            self.file = file

        def write(self, content: bytes) -> int:
            written.append(len(content))
            if len(written) == 3:
                return self.file.write(content[:5])
            if 3 < len(written) < 6:
                raise OSError(28, "No space left on device")
            return self.file.write(content)

        def close(self) -> None:
            self.file.close()

    made = events.Journal.__init__

    def on_it(self: events.Journal, path: Path) -> None:
        made(self, path)
        self._file = Disk(self._file)  # type: ignore[assignment]

    monkeypatch.setattr(events.Journal, "__init__", on_it)
    monkeypatch.setattr(tracker, "FLUSH_POINTS", 1)
    train(params)
    (run,) = runs(params)
    assert history(params, run.info.run_id, "loss") == LOSSES
    assert run.info.status == "FINISHED"
    assert len(written) > 6
    assert not events.pending()


def test_an_artifact_that_is_not_there_costs_itself_alone() -> None:
    params = parameters()
    with tracking.stage(params, MADE_BY, dataset="demo") as told:
        told.artifact(Path("absent.json"))
        told.metrics({"clips": 7})
    (run,) = stage_runs(params)
    assert (run.data.metrics["clips"], run.info.status) == (7, "FINISHED")


def test_the_ui_shows_the_store_of_the_parameters(tmp_path: Path) -> None:
    parameters(uri="sqlite:///mlflow/other.db")
    Path("mlflow/mlflow.db").rename("mlflow/other.db")
    Path("Makefile").write_text((ROOT / "Makefile").read_text().replace("ui: venv", "ui:"))
    mlflow = tmp_path / "bin" / "mlflow"
    mlflow.parent.mkdir()
    mlflow.write_text('#!/bin/sh\necho "$@" > asked\n')
    mlflow.chmod(0o755)
    there = f"{mlflow.parent}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["make", "ui"], env={**os.environ, "PATH": there}, check=True, capture_output=True)
    assert f"--backend-store-uri sqlite:///{tmp_path}/mlflow/other.db " in Path("asked").read_text()


def test_names_that_mlflow_refuses_are_written_another_way() -> None:
    params = parameters()
    with tracking.stage(params, MADE_BY, dataset="demo") as told:
        told.metrics({"last/recall_anger (strong)": 0.5})
    assert stage_runs(params)[0].data.metrics["last/recall_anger _strong_"] == 0.5
