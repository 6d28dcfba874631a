"""What every test starts from, and the folders that many work in."""

import logging
import os

# several processes share the cores: torch's threads would wait for each other and use more than twice the time
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock
from hypothesis import settings

if TYPE_CHECKING:
    from reader import Reader

# a machine that is busy with something else is not a fault
settings.register_profile("no deadline", settings(), deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(autouse=True)
def _log() -> None:
    """Undo what a command of an earlier test did to the package's log, so that ``caplog`` sees each record once."""
    log = logging.getLogger("tgdfer")
    log.handlers.clear()
    log.setLevel(logging.INFO)
    log.propagate = True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the slow tests: one that starts last leaves the other cores idle."""
    kinds = ("slurm", "test_docs_way.py", "graph", "workflow")  # marks, a module of many minutes, a folder
    items.sort(key=lambda item: [kind not in item.keywords for kind in kinds])


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> "Reader":
    """A reader with a tiny project that is finished, made once for all processes of the tests: copy it."""
    from reader import after_quickstart

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished"
    with FileLock(f"{folder}.lock"):
        return after_quickstart(folder)


@pytest.fixture
def new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the working directory of the test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
