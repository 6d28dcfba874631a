"""A project with trained runs, made once: tests that change it work on a copy."""

from contextlib import chdir
from pathlib import Path

import prediction_project
import pytest
from prediction_project import RUN

from tgdfer import Predictor


@pytest.fixture(scope="session")
def root(tmp_path_factory) -> Path:
    return prediction_project.make(tmp_path_factory.mktemp("predict"))


@pytest.fixture(scope="session")
def predictor(root: Path) -> Predictor:
    return Predictor.from_run(root / RUN, models=root / "models", device="cpu")


@pytest.fixture
def inside(root: Path):
    """The project as the working directory."""
    with chdir(root):
        yield root
