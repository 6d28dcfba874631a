"""The t-SNE maps: neighbours stay neighbours, the same vectors the same map, and runs without vectors."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from report_project import VARIANTS, Project

from tgdfer.core import paths
from tgdfer.reporting import maps
from tgdfer.runs.results import Experiment, collect


@pytest.fixture
def experiment(new_folder: Path) -> Experiment:
    return collect(Project(variants={"tgdfer": VARIANTS["tgdfer"]}, clips=60, folds=2, truth=False).write(), "demo")


def test_groups_stay_together_and_the_map_is_the_same_twice() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(4), 15)
    vectors = (np.eye(4, 12)[groups] + rng.normal(0, 0.1, (60, 12))) * rng.uniform(1, 9, (60, 1))
    places = maps.embed(vectors.astype(np.float32))
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1) + np.eye(60) * 1e9
    assert (groups[distance.argmin(axis=1)] == groups).mean() > 0.95
    assert np.array_equal(places, maps.embed(vectors.astype(np.float32)))


def test_every_class_has_its_star_and_a_dot_for_each_clip(experiment: Experiment) -> None:
    figure = maps.draw(experiment, "tgdfer")
    assert figure is not None
    labels, frames = figure.axes
    stars = [line for line in labels.lines if line.get_marker() == "*"]
    assert len({to_hex(star.get_color()) for star in stars}) == len(stars) == 7
    assert [len(dots.get_offsets()) for dots in labels.collections] == [14] * 7  # type: ignore[arg-type]
    assert [len(dots.get_offsets()) for dots in frames.collections] == [2 * maps.FRAMES] * 7  # type: ignore[arg-type]
    assert frames.get_title(loc="left").endswith("fold 1, seed 0")


def test_there_is_no_map_without_vectors_and_damaged_ones_are_named(experiment: Experiment) -> None:
    path = paths.run("demo", "tgdfer", 1, 0) / "vectors.safetensors"
    path.write_bytes(b"no")
    assert maps.draw(experiment, "tgdfer") is None
    assert "vectors.safetensors: not the file that its stage wrote" in experiment.problems[-1]
    path.unlink()
    assert maps.draw(experiment, "tgdfer") is None
