import numpy as np
import pytest

from tgdfer.core.classes import SEVEN
from tgdfer.demo.faces import Pose, draw, sample_pose, sample_scene
from tgdfer.demo.people import HAIRCUTS, sample_identity
from tgdfer.demo.units import EXPRESSIONS, INDEX, UNITS, sample_expression, vector

SIZE = 64


def still(seed: int = 0):
    rng = np.random.default_rng(seed)
    return sample_identity(rng), sample_scene(rng)


def test_expressions_cover_the_classes_with_known_units() -> None:
    assert set(EXPRESSIONS) == set(SEVEN)
    for variants in EXPRESSIONS.values():
        for weights in variants:
            assert set(weights) <= set(UNITS)
            assert all(0 < weight <= 1 for weight in weights.values())


@pytest.mark.parametrize("unit", UNITS)
def test_every_unit_moves_the_face_and_more_intensity_moves_it_more(unit: str) -> None:
    person, scene = still(3)
    rest = draw(person, vector({}), Pose(), scene, SIZE).astype(int)
    half, full = (draw(person, vector({unit: amount}), Pose(), scene, SIZE).astype(int) for amount in (0.5, 1.0))
    assert np.abs(half - rest).sum() > 0
    assert np.abs(full - rest).sum() > np.abs(half - rest).sum()


def test_brows_move_above_the_middle_and_the_mouth_below() -> None:
    person, scene = still(4)
    rest = draw(person, vector({}), Pose(), scene, SIZE).astype(int)
    for unit, upper in (("outer_brow_raise", True), ("lip_corner_depress", False), ("lip_stretch", False)):
        change = np.abs(draw(person, vector({unit: 1.0}), Pose(), scene, SIZE) - rest).sum((1, 2))
        share = change[: SIZE // 2].sum() / change.sum()
        assert (share > 0.8) if upper else (share < 0.2), unit


def test_the_same_draw_gives_the_same_pixels_and_only_noise_is_random() -> None:
    person, scene = still(5)
    units, pose = vector({"jaw_drop": 0.7}), Pose(yaw=0.2)
    first = draw(person, units, pose, scene, SIZE, np.random.default_rng(1))
    assert np.array_equal(first, draw(person, units, pose, scene, SIZE, np.random.default_rng(1)))
    plain = draw(person, units, pose, scene, SIZE)
    assert np.array_equal(plain, draw(person, units, pose, scene, SIZE))
    assert first.dtype == np.uint8 and first.shape == (SIZE, SIZE, 3)


def test_every_kind_of_person_can_show_everything() -> None:
    rng = np.random.default_rng(6)
    seen = set()
    for _ in range(100):
        person = sample_identity(rng)
        seen.add(person.haircut)
        units = sample_expression(str(rng.choice(SEVEN)), rng)
        assert draw(person, units, sample_pose(rng), sample_scene(rng), 32, rng).std() > 1
    assert seen == set(HAIRCUTS)


def test_all_units_at_once_beyond_their_range_still_draw() -> None:
    person, scene = still(7)
    for amount in (-1.0, 2.0):
        draw(person, np.full(len(UNITS), amount, np.float32), Pose(roll=3, yaw=1.5, pitch=-1.5), scene, 32)


def test_sampled_expressions_stay_near_a_variant() -> None:
    rng = np.random.default_rng(8)
    for label in SEVEN:
        variants = [vector(weights) for weights in EXPRESSIONS[label]]
        for _ in range(20):
            units = sample_expression(label, rng, spread=0.25)
            assert any(np.all(units <= v + 1e-6) and np.all(units >= 0.75 * v - 1e-6) for v in variants)
    assert sample_expression("happy", rng)[INDEX["lip_corner_depress"]] == 0
