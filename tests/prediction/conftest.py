"""A project with trained runs, made once for each module of tests."""

from contextlib import chdir
from pathlib import Path

import prediction_project
import pytest
from prediction_project import RUN

from tgdfer import Predictor


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return prediction_project.make(tmp_path_factory.mktemp("predict"))


@pytest.fixture(scope="module")
def predictor(root: Path) -> Predictor:
    return Predictor.from_run(root / RUN, models=root / "models", device="cpu")


@pytest.fixture
def inside(root: Path):
    """The project as the working directory."""
    with chdir(root):
        yield root
