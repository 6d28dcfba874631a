"""Killed at any moment and started again, frame extraction leaves the bytes of an undisturbed run."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from media import images, parameters, video, write_csv

from tgdfer.core import paths
from tgdfer.stages import frames
from tgdfer.stages.clips import run as make_tables

SCRIPT = """
from tgdfer.frames import extract
from tgdfer.config.params import load_params
extract(load_params(), "mine")
"""


def test_five_kills_leave_the_bytes_of_an_undisturbed_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    raw = tmp_path / "raw"
    rows = []
    for number in range(36):
        if number % 3:
            images(raw / f"c{number}", 4)
        else:
            video(raw / f"c{number}", 20, width=160, height=120)
        rows.append(f"c{number},c{number},happy,{number % 2 + 1}")
    table = write_csv(raw / "clips.csv", "clip_id,path,label,fold", rows)
    section = {"layout": "folder", "root": "raw", "annotations": str(table)}
    params = parameters(Path(), {"mine": section}, frames={"shards": 12})
    make_tables(params, "mine")
    folder = paths.frames("mine").parent
    started = time.monotonic()
    frames.extract(params, "mine")
    undisturbed = time.monotonic() - started
    expected = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(expected) == 14

    for path in folder.iterdir():
        path.unlink()
    chance = random.Random(7)
    kept = 0
    for _ in range(5):
        child = subprocess.Popen([sys.executable, "-c", SCRIPT], start_new_session=True, stderr=subprocess.DEVNULL)
        before = len(list(folder.glob("shard-*")))
        deadline = time.monotonic() + 20
        # wait for the first work of this start, then strike somewhere in it
        while not list(folder.glob(".shard-*.part")) and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(chance.random() * undisturbed / 4)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        kept += len(list(folder.glob("shard-*"))) >= before
    assert kept == 5
    frames.extract(params, "mine")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == expected
