"""Face crops: one face is followed, its box is stable, and a clip without a face says so."""

import io
from pathlib import Path

import numpy as np
import pytest
from media import images
from PIL import Image

from tgdfer.config.params import FramesParams
from tgdfer.media import faces
from tgdfer.media.faces import Box
from tgdfer.media.frame import Frame
from tgdfer.media.images import encode
from tgdfer.media.shards import ClipSource, extract_clip

FACE = FramesParams(crop="face", face_margin=0.0)


def picture(width: int = 80, height: int = 60) -> Frame:
    """Brightness grows from left to right, so that a crop says where it was cut."""
    ramp = np.repeat(np.linspace(0, 240, width)[None, :], height, axis=0).astype(np.uint8)
    return Frame(0, 0.0, encode(Image.fromarray(ramp)), width, height)


def brightness(frame: Frame) -> float:
    return float(np.asarray(Image.open(io.BytesIO(frame.jpeg)).convert("L")).mean())


def test_the_largest_face_is_followed_through_gaps_and_others_are_left() -> None:
    big = [Box(50 + step, 50, 40) for step in range(5)]
    small = [Box(150, 50, 20) for _ in range(5)]
    candidates = [[big[0], small[0]], [small[1], big[1]], [small[2]], [big[3], small[3]], [big[4]]]
    assert faces.follow(candidates) == [big[0], big[1], None, big[3], big[4]]


def test_a_smooth_box_keeps_its_size_and_bridges_gaps() -> None:
    track = [Box(10, 10, 8), None, Box(14, 10, 12), Box(16, 10, 10), None]
    path = faces.smooth(track)
    assert {box.side for box in path} == {10}
    xs = [box.x for box in path]
    assert xs == sorted(xs)
    assert max(np.diff(xs)) < 3


def test_a_united_box_holds_every_box_and_does_not_move() -> None:
    track = [Box(10, 10, 8), None, Box(30, 12, 10)]
    path = faces.union(track)
    assert len(set(path)) == 1
    assert path[0].x - path[0].side / 2 <= 6
    assert path[0].x + path[0].side / 2 >= 35


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_crops_are_square_of_one_size_and_inside_the_picture(monkeypatch, margin: float) -> None:
    where = iter([Box(5, 30, 20), Box(6, 30, 22), Box(7, 30, 20)])
    monkeypatch.setattr(faces, "find", lambda frame: [next(where)])
    cut, found = faces.crop_clip([picture()] * 3, FramesParams(crop="face", face_margin=margin))
    assert found == 3
    side = round(20 * (1 + 2 * margin))
    assert {(frame.width, frame.height) for frame in cut} == {(side, side)}
    assert brightness(cut[0]) == pytest.approx(240 * (side / 2) / 80, abs=6)  # pushed in from the left border


def test_a_margin_wider_than_the_picture_leaves_a_black_border_to_a_united_box_alone(monkeypatch) -> None:
    white = Frame(0, 0.0, encode(Image.new("RGB", (80, 60), "white")), 80, 60)
    for rule, size, black in (("smooth", 60, False), ("union", 130, True)):
        where = iter([Box(35, 25, 40), Box(45, 35, 40)])
        monkeypatch.setattr(faces, "find", lambda frame, where=where: [next(where)])
        cut, _ = faces.crop_clip([white] * 2, FramesParams(crop="face", face_margin=0.8, face_box=rule))
        assert {(frame.width, frame.height) for frame in cut} == {(size, size)}
        assert (brightness(cut[0]) < 250) == black


@pytest.mark.parametrize(
    ("found", "frames", "enough"),
    [(0, 1, False), (1, 1, True), (1, 2, False), (2, 2, True), (1, 9, False), (2, 20, True), (2, 21, False)],
)
def test_a_face_counts_if_it_is_found_twice_and_in_a_tenth_of_the_frames(found: int, frames: int, enough: bool) -> None:
    assert faces.shows_face([Box(1, 1, 1)] * found + [None] * (frames - found)) == enough


def test_a_face_found_once_among_many_frames_is_no_face(monkeypatch) -> None:
    calls = iter([[Box(30, 30, 20)], *[[] for _ in range(11)]])
    monkeypatch.setattr(faces, "find", lambda frame: next(calls))
    cut, found = faces.crop_clip([picture()] * 12, FramesParams(crop="face", no_face="centre"))
    assert found == 0
    assert {(frame.width, frame.height) for frame in cut} == {(60, 60)}
    assert brightness(cut[0]) == pytest.approx(120, abs=4)


def test_a_clip_without_a_face_is_rejected_or_cut_at_its_centre(tmp_path: Path) -> None:
    images(tmp_path / "clip", 3, size=64)
    clip = ClipSource("c", "clip", "frames")
    rejected = extract_clip(tmp_path, clip, FACE)
    assert rejected.reason == "no face in 3 frames"
    assert rejected.frames == []
    centred = extract_clip(tmp_path, clip, FramesParams(crop="face", no_face="centre", resize=32))
    assert centred.reason is None
    assert [(frame.width, frame.height) for frame in centred.frames] == [(32, 32)] * 3
    assert centred.faces == 0
    assert centred.source == rejected.source
