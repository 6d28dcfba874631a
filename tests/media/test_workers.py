"""Shards are updated by threads or processes: the same bytes, also after kills, and no process is left behind."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from media import clip_project, frame_files, images, video

from tgdfer.config.data import FramesParams
from tgdfer.config.params import Params
from tgdfer.core import paths, provenance, storage
from tgdfer.core.errors import UserError
from tgdfer.core.parts import Part
from tgdfer.core.paths import shard_number
from tgdfer.media import workers
from tgdfer.media.shards import ShardPlan
from tgdfer.stages import frames

SCRIPT = """
from tgdfer.config.params import load_params
from tgdfer.stages import frames
frames.MANY_FOLDERS = {many}
frames.cores = lambda: 2
frames.run(load_params(), "mine")
"""


pytestmark = pytest.mark.usefixtures("new_folder")


def image_project(clips: int = 24, size: int = 16) -> Params:
    for number in range(clips):
        images(Path("raw") / f"c{number}", 3, size=size)
    Path("raw/c5/00002.jpg").write_bytes(b"no picture")
    return clip_project(Path("raw"), [f"c{number}" for number in range(clips)], shards=5)


def start_over() -> dict[str, bytes]:
    """Remove what the stage wrote; returns it."""
    files = frame_files()
    for name in files:
        (paths.frames("mine").parent / name).unlink()
    return files


def started(many: int) -> subprocess.Popen[bytes]:
    """The stage in its own process group, after it has begun to write a shard."""
    folder = paths.frames("mine").parent
    process = subprocess.Popen([sys.executable, "-c", SCRIPT.format(many=many)], start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(folder.glob(".shard-*.part")):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return process


def test_cores_are_those_granted_to_a_job_and_macos_has_no_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert provenance.cores() == 7
    for granted, expected in (("3", 3), ("64", 7), ("0", 1), ("", 7)):
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", granted)
        assert provenance.cores() == expected


def test_processes_write_the_bytes_that_threads_write(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def times() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in paths.frames("mine").parent.glob("shard-*")}

    params = image_project()
    frames.run(params, "mine")
    assert storage.read_json(paths.frames("mine"))["rejects"] == 1
    expected = start_over()

    used = []
    with_processes = workers.with_processes
    monkeypatch.setattr(frames, "MANY_FOLDERS", 24)
    monkeypatch.setattr(frames, "cores", lambda: 2)
    monkeypatch.setattr(workers, "with_processes", lambda *call: used.append(call[-1]) or with_processes(*call))
    caplog.set_level("INFO", "tgdfer")
    frames.run(params, "mine")
    assert used == [4], "two for each core"
    assert frame_files() == expected
    assert any("mine: frames: 24 clips in" in line for line in caplog.messages)

    # a changed source
    images(Path("raw/c7"), 2, size=20)
    before = times()
    caplog.clear()
    frames.run(params, "mine")
    assert {name for name, time in times().items() if time != before[name]} == {
        f"shard-{shard_number('c07', 5):05d}.parquet"
    }
    assert "mine: 4 of 5 frame shards are up to date" in caplog.messages
    assert any("mine: frames: 24 clips in" in line for line in caplog.messages), "kept clips count, and none twice"


def test_parts_write_the_bytes_of_one_job() -> None:
    params = image_project()
    frames.run(params, "mine")
    expected = start_over()
    manifest, parts = paths.frames("mine"), [Part(number, 3) for number in (3, 1, 2)]
    for part in parts:
        frames.run(params, "mine", part)
    lists = [part.list_of(manifest) for part in parts]
    with pytest.raises(UserError, match=r"shard-0000\d.parquet: not made with the present parameters and data"):
        frames.run(params, "mine", lists=lists[:2])
    frames.run(params, "mine", lists=lists)
    for path in lists:
        path.unlink()
    assert frame_files() == expected


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/2/3", "a/b", "1/"])
def test_a_part_of_the_wrong_form_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=f"--part {text}: expected"):
        Part.parse(text)


def die(plan: ShardPlan, root: Path, params: FramesParams) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_reported_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_update", die)
    plan = ShardPlan(tmp_path / "shard-00000.parquet", (), "")
    with pytest.raises(UserError, match=r"was killed.*finished shards are kept"):
        workers.with_processes([plan], tmp_path, FramesParams(), lambda count: None, 1)


def test_a_killed_parent_leaves_no_process_and_the_next_run_the_same_bytes() -> None:
    params = image_project(clips=60, size=256)
    frames.run(params, "mine")
    expected = start_over()
    parent = started(many=1)
    children = psutil.Process(parent.pid).children(recursive=True)
    parent.kill()
    parent.wait()
    assert len(children) >= 2
    assert not psutil.wait_procs(children, timeout=10)[1]
    frames.run(params, "mine")
    assert frame_files() == expected


def test_five_kills_leave_the_bytes_of_an_undisturbed_run() -> None:
    for number in range(36):
        if number % 3:
            images(Path("raw") / f"c{number}", 4)
        else:
            video(Path("raw") / f"c{number}", 20, width=160, height=120)
    params = clip_project(Path("raw"), [f"c{number}" for number in range(36)], shards=12)
    begin = time.monotonic()
    frames.run(params, "mine")
    undisturbed = time.monotonic() - begin
    expected = start_over()
    assert len(expected) == 12 + 2
    chance = random.Random(7)
    before = 0
    for _ in range(5):
        process = started(many=1000)
        time.sleep(chance.random() * undisturbed / 8)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it was killed at work"
        kept = len(list(paths.frames("mine").parent.glob("shard-*")))
        assert kept >= before
        before = kept
    frames.run(params, "mine")
    assert frame_files() == expected
