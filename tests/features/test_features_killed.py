"""A features stage that is killed again and again leaves the bytes of one that was not."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

from features_project import make_encoder, make_frames, params

from tgdfer.core import paths
from tgdfer.features.forward import Forward
from tgdfer.stages import features

KILLS = 5


def work(folder: str) -> None:
    """Run the stage with a pause after each batch, as a large model has one, so that kills fall anywhere in it."""
    os.chdir(folder)
    plain = Forward.__call__

    def slow(self, images):
        time.sleep(0.01)
        return plain(self, images)

    Forward.__call__ = slow  # type: ignore[method-assign]
    features.run(params(views=1), "tiny")


def produced() -> dict[str, bytes]:
    folder = paths.features("tiny", "demo-clip").parent
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def remove_cache() -> None:
    for path in sorted(paths.features("tiny", "demo-clip").parent.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()


def test_five_kills_change_nothing(tmp_path, monkeypatch):
    context = multiprocessing.get_context("forkserver")  # imports once, then starts processes in no time
    context.set_forkserver_preload(["tgdfer.features.encoding", "open_clip", "features_project"])

    def run(after: float | None) -> int:
        process = context.Process(target=work, args=(str(Path.cwd()),))
        process.start()
        process.join(after)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        return process.exitcode

    for name in ("undisturbed", "killed"):
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        make_encoder()
        make_frames(shards=6, clips=24)
    monkeypatch.chdir(tmp_path / "undisturbed")
    assert run(None) == 0  # starts the server too
    whole = produced()
    remove_cache()
    started = time.monotonic()
    assert run(None) == 0
    duration = time.monotonic() - started
    assert produced() == whole

    monkeypatch.chdir(tmp_path / "killed")
    kills, waits = 0, random.Random(0)
    while kills < KILLS:
        kills += run(duration * waits.uniform(0.2, 0.9)) == -signal.SIGKILL
        if paths.features("tiny", "demo-clip").exists():  # it was done before the signal: begin again
            remove_cache()
    assert run(None) == 0
    assert produced() == whole
