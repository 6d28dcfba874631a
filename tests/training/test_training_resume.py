"""Runs that are interrupted, at any step and by any signal, end with the bytes of an undisturbed run."""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import training_project as project
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tgdfer.core import checksums, paths, storage
from tgdfer.stages import train as training
from tgdfer.training import engine

PROGRAM = Path(project.__file__)
CHECKPOINT = paths.checkpoint("tiny", "tgdfer", 1, 0)


@pytest.fixture
def folder(new_folder):
    project.make_project(views=2)
    return new_folder


class Killed(BaseException):
    """As a kill: nobody handles it."""


def train(**settings) -> int:
    return training.run(project.params(**settings), "tiny", "tgdfer")


def fresh() -> None:
    for path in [*Path("runs").rglob("*.json"), *Path("checkpoints").rglob("*.pt")]:
        path.unlink()


@pytest.mark.parametrize("changes", [{}, {"ema": 0.9, "mixing": 0.4}], ids=["plain", "average and mixing"])
def test_killed_at_any_step(folder, monkeypatch, changes):
    train(**changes)
    undisturbed = project.results()
    original = engine.Engine._train_step
    steps = 2 * 3 * 3  # folds, epochs, steps

    @settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.integers(0, steps - 1), min_size=1, max_size=3), st.sampled_from([0.0, 1e9]))
    def check(kills, save_every):
        fresh()
        monkeypatch.setattr(engine, "SAVE_EVERY_S", save_every)
        for kill in kills:
            left = [kill]

            def step(self, chosen, left=left):
                if left[0] == 0:
                    raise Killed
                left[0] -= 1
                original(self, chosen)

            monkeypatch.setattr(engine.Engine, "_train_step", step)
            torch.rand(3)
            with contextlib.suppress(Killed):
                train(**changes)
        monkeypatch.setattr(engine.Engine, "_train_step", original)
        assert train(**changes) == 0
        assert project.results() == undisturbed

    check()


def test_a_checkpoint_is_used_and_removed(folder, monkeypatch):
    monkeypatch.setattr(engine, "SAVE_EVERY_S", 0.0)
    original, calls = engine.Engine._train_step, []

    def step(self, chosen):
        if len(calls) == 5:
            raise Killed
        calls.append(1)
        original(self, chosen)

    monkeypatch.setattr(engine.Engine, "_train_step", step)
    with pytest.raises(Killed):
        train()
    assert CHECKPOINT.is_file()
    assert not Path("runs/tiny/tgdfer/fold1/seed0/metrics.json").exists()
    calls.clear()
    monkeypatch.setattr(engine.Engine, "_train_step", lambda self, chosen: (calls.append(1), original(self, chosen)))
    assert train() == 0
    assert len(calls) == 18 - 5
    assert not CHECKPOINT.exists()


def test_files_say_how_far_a_run_is(folder, monkeypatch):
    monkeypatch.setattr(engine, "SAVE_EVERY_S", 0.0)
    run, rows = Path("runs/tiny/tgdfer/fold1/seed0"), []
    finish, step = engine.Engine._finish_epoch, engine.Engine._train_step

    def fail(self):
        raise engine.RunError("on request") if self.epoch == 3 else Killed

    with monkeypatch.context() as patch:  # killed in the second epoch, after its first checkpoint
        patch.setattr(engine.Engine, "_finish_epoch", lambda self: finish(self) if self.epoch < 2 else fail(self))
        with pytest.raises(Killed):
            train()
    killed = storage.read_json(run / "attempt.json")
    assert killed["failed"] is None and killed["ended"] > killed["started"]
    assert [row["epoch"] for row in storage.read_lines(run / "history.jsonl")] == [1]
    with monkeypatch.context() as patch:  # resumed, and failed in the third
        patch.setattr(engine.Engine, "_finish_epoch", lambda self: finish(self) if self.epoch < 3 else fail(self))
        patch.setattr(
            engine.Engine,
            "_train_step",
            lambda self, chosen: (rows.append(storage.read_lines(run / "history.jsonl")), step(self, chosen)),
        )
        assert train() == 1
    assert [row["epoch"] for row in rows[0]] == [1], "what the checkpoint has, before the first step"
    assert [row["epoch"] for row in storage.read_lines(run / "history.jsonl")] == [1, 2]
    failed = storage.read_json(run / "attempt.json")
    assert failed["started"] == killed["started"] and failed["failed"] == "RunError: on request"
    assert not (run / "run.json").exists()
    assert train() == 0
    record = storage.read_json(run / "run.json")
    assert not (run / "attempt.json").exists() and record["started"] > failed["ended"]
    assert [row["epoch"] for row in storage.read_lines(run / "history.jsonl")] == [1, 2, 3]
    assert storage.read_lines(run / "system.jsonl")[-1]["system/process_memory_megabytes"] > 0


@pytest.mark.parametrize("damage", ["empty", "cut", "other", "on a GPU"])
def test_a_checkpoint_that_does_not_fit_is_not_used(folder, monkeypatch, caplog, damage):
    caplog.set_level(logging.INFO, "tgdfer")
    train()
    undisturbed = project.results()
    fresh()
    monkeypatch.setattr(engine, "SAVE_EVERY_S", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(engine.Engine, "_finish_epoch", lambda self: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            train(learning_rate=0.5) if damage == "other" else train()
    if damage == "on a GPU":  # the node of the retry has none
        state = torch.load(CHECKPOINT)
        torch.save({**state, "device": "cuda"}, CHECKPOINT)
    elif damage != "other":
        content = CHECKPOINT.read_bytes()
        CHECKPOINT.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    assert train() == 0
    assert "the run starts over" in caplog.text
    assert project.results() == undisturbed


def start(**settings) -> subprocess.Popen:
    command = [sys.executable, str(PROGRAM), "tgdfer", json.dumps(settings)]
    return subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True, cwd=Path.cwd()
    )


def wait_for_checkpoint(process: subprocess.Popen, newer_than: int = 0) -> int:
    for _ in range(6000):
        if CHECKPOINT.is_file() and CHECKPOINT.stat().st_mtime_ns > newer_than:
            return CHECKPOINT.stat().st_mtime_ns
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    raise AssertionError("no checkpoint came")


def test_signals(folder):
    """SIGKILL, then SIGTERM, then to the end: three processes make the bytes of one."""
    long = {"epochs": 40}
    process = start(**long)
    written = wait_for_checkpoint(process)
    process.kill()
    process.communicate()
    process = start(**long)
    wait_for_checkpoint(process, written)
    sent = time.monotonic()
    process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == training.INTERRUPTED, errors
    assert time.monotonic() - sent < 30, "the seconds until SLURM kills a process that has not ended"
    assert "resumed at epoch" in errors
    assert "stopped by a signal" in errors
    assert CHECKPOINT.is_file()
    assert not Path("runs/tiny/tgdfer/summary.json").exists()
    assert train(**long) == 0
    resumed = project.results()
    fresh()
    assert train(**long) == 0
    assert project.results() == resumed


def test_handlers_are_put_back(folder):
    before = signal.getsignal(signal.SIGTERM)
    train()
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_seconds_of_all_parts_of_a_run_add_up(folder, monkeypatch):
    monkeypatch.setattr(engine, "SAVE_EVERY_S", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(engine.Engine, "_finish_epoch", lambda self: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            train()
    state = torch.load(CHECKPOINT)
    with storage.atomic(CHECKPOINT, sealed=True) as part:
        torch.save({**state, "seconds": state["seconds"] + 1000, checksums.KEY: checksums.BLANK}, part)
    assert train() == 0
    seconds = storage.read_json(Path("runs/tiny/tgdfer/fold1/seed0/run.json"))["seconds"]
    assert 1000 < seconds < 1100
