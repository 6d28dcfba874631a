"""Many image folders are worked on by processes: the same bytes, the same progress, and nobody is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from media import images, parameters, write_csv

from tgdfer.config.params import FramesParams, Params
from tgdfer.core import paths, provenance, storage
from tgdfer.core.errors import UserError
from tgdfer.media import workforce
from tgdfer.media.shards import Shard
from tgdfer.stages import frames
from tgdfer.stages.clips import run as make_tables

SCRIPT = """
from tgdfer import frames
from tgdfer.config.params import load_params
frames.MANY = 1
frames.cores = lambda: 2
frames.extract(load_params(), "mine")
"""


def test_cores_are_those_that_a_job_was_granted_and_macos_has_no_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert provenance.cores() == 7
    for granted, expected in (("3", 3), ("64", 7), ("0", 1), ("", 7)):
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", granted)
        assert provenance.cores() == expected


def project(tmp_path: Path, clips: int = 24, size: int = 16) -> Params:
    rows = []
    for number in range(clips):
        folder = images(tmp_path / "raw" / f"c{number}", 3, size=size)
        if number == 5:
            (folder / "00002.jpg").write_bytes(b"no picture")
        rows.append(f"c{number:02d},c{number},happy,{number % 2 + 1}")
    table = write_csv(tmp_path / "raw" / "clips.csv", "clip_id,path,label,fold", rows)
    section = {"layout": "folder", "root": "raw", "annotations": str(table)}
    params = parameters(Path(), {"mine": section}, frames={"shards": 5})
    make_tables(params, "mine")
    return params


def contents() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in paths.frames("mine").parent.iterdir()}


def test_processes_write_the_bytes_that_threads_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    params = project(tmp_path)
    frames.extract(params, "mine")
    expected = contents()
    manifest = storage.read_json(paths.frames("mine"))
    assert manifest["rejects"] == 1
    for path in paths.frames("mine").parent.iterdir():
        path.unlink()

    used = []
    monkeypatch.setattr(frames, "MANY", 24)
    monkeypatch.setattr(frames, "cores", lambda: 2)
    monkeypatch.setattr(frames, "Processes", lambda count: used.append(count) or workforce.Processes(count))
    monkeypatch.setattr("tgdfer.core.progress.log.propagate", True)
    with caplog.at_level("INFO", "tgdfer"):
        frames.extract(params, "mine")
    assert used == [4], "two for each core"
    assert contents() == expected
    assert any("mine: frames: 24 clips in" in line for line in caplog.messages)

    # a changed source remakes its shard alone
    clip = "c07"
    images(tmp_path / "raw" / "c7", 2, size=20)
    before = {path.name: path.stat().st_mtime_ns for path in paths.frames("mine").parent.glob("shard-*")}
    caplog.clear()
    with caplog.at_level("INFO", "tgdfer"):
        frames.extract(params, "mine")
    after = {path.name: path.stat().st_mtime_ns for path in paths.frames("mine").parent.glob("shard-*")}
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {f"shard-{frames.shard_of(clip, 5):05d}.parquet"}
    assert "mine: 4 of 5 frame shards are up to date" in caplog.messages


def die(root: Path, shard: Shard, params: FramesParams) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_said_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workforce, "_make", die)
    shard = Shard(tmp_path / "shard-00000.parquet", (), "")
    with workforce.Processes(1) as work, pytest.raises(UserError, match=r"was killed.*finished shards are kept"):
        work.make([shard], tmp_path, FramesParams(), lambda count: None)


def test_a_killed_parent_leaves_no_process_and_the_next_run_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    params = project(tmp_path, clips=60, size=256)
    frames.extract(params, "mine")
    expected = contents()
    for path in paths.frames("mine").parent.iterdir():
        path.unlink()
    parent = subprocess.Popen([sys.executable, "-c", SCRIPT], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while not list(paths.frames("mine").parent.glob(".shard-*.part")) and time.monotonic() < deadline:
        time.sleep(0.001)
    children = psutil.Process(parent.pid).children(recursive=True)
    parent.kill()
    parent.wait()
    assert len(children) >= 2
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    frames.extract(params, "mine")
    assert contents() == expected
