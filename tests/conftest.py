"""What every test starts from, and the folder that many work in."""

import logging
from pathlib import Path

import pytest
from hypothesis import settings

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
    """Start with the slow tests, those that wait most first: a slow one at the end would leave the other cores idle."""
    items.sort(key=lambda item: [not item.get_closest_marker(mark) for mark in ("slurm", "graph")])


@pytest.fixture
def new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the working directory of the test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
