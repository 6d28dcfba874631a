"""One process at a time writes an output; what killed ones left is removed by the next."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tgdfer.core import storage
from tgdfer.core.locks import only_writer

HOLD = """
import sys
from pathlib import Path
from tgdfer.core.locks import only_writer
with only_writer(Path("out")):
    print("held", flush=True)
    sys.stdin.readline()
"""
COUNT = """
from pathlib import Path
from tgdfer.core.locks import only_writer
for _ in range(20):
    with only_writer(Path("out")):
        count = int(Path("count").read_text())
        Path("count").write_text(str(count + 1))
"""


def start(folder: Path, script: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_processes_take_turns_and_leave_no_lock(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    processes = [start(tmp_path, COUNT) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "60"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]


def test_a_process_that_waits_names_the_writer_and_may_give_up(
    new_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    other = start(new_folder, HOLD)
    assert other.stdout and other.stdout.readline() == "held\n"

    def give_up() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError), only_writer(Path("out"), waiting=give_up):
        raise AssertionError
    assert f"out: process {other.pid} on {os.uname().nodename} is writing it; waiting" in caplog.text
    other.kill()
    other.wait()
    with only_writer(Path("out")):
        pass


def test_half_written_files_of_a_killed_process_are_removed_and_no_others(new_folder: Path) -> None:
    left = [Path("out/deep/.a.txt.0123.part"), Path(".out.0123.part")]
    other = Path(".other.0123.part")
    for path in (*left, other, Path("out/kept.txt")):
        storage.write_text(path, "half")
    with only_writer(Path("out")):
        assert not any(path.exists() for path in left)
    assert other.exists() and Path("out/kept.txt").exists()
