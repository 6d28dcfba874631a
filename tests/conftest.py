"""What every test starts from."""

import logging

import pytest


@pytest.fixture(autouse=True)
def _log() -> None:
    """Undo what a command of an earlier test did to the package's log, so that ``caplog`` sees each record once."""
    log = logging.getLogger("tgdfer")
    log.handlers.clear()
    log.setLevel(logging.INFO)
    log.propagate = True
