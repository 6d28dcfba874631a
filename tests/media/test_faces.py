"""Face crops: one face is followed, its box is stable, and a clip without a face says so."""

import io
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import prediction_project as project
import pytest
from media import images
from PIL import Image

from tgdfer.config.data import FramesParams
from tgdfer.media.faces import alignment, crops
from tgdfer.media.faces.detection import Box, Detection, Detector, distinct
from tgdfer.media.faces.tracking import Tracker
from tgdfer.media.frame import Frame
from tgdfer.media.images import encode
from tgdfer.media.shards import ClipSource, extract_clip

FACE = FramesParams(crop="face", face_margin=0.0)


def picture(width: int = 80, height: int = 60, lighter: int = 0) -> Frame:
    """Brightness grows from left to right, so that a crop says where it was cut."""
    ramp = np.repeat(np.linspace(lighter, 240 + lighter, width)[None, :], height, axis=0).astype(np.uint8)
    return Frame(0, 0.0, encode(Image.fromarray(ramp)), width, height)


def clip(count: int) -> list[Frame]:
    return [replace(picture(lighter=5 * (index % 2)), index=index, time_s=index / 10) for index in range(count)]


class Searching:
    """A detector that finds the given faces, search by search, and counts how often it searched a whole frame.

    Between the searches it finds them where they are looked for, or with ``again=False`` not at all.
    """

    def __init__(self, *faces: list[Box], again: bool = True) -> None:
        self.faces, self.again, self.searched = list(faces), again, 0

    def detect(self, images: list[np.ndarray]) -> list[list[Detection]]:
        self.searched += 1
        return [[Detection(box, 0.9, points(box)) for box in self.faces[self.searched - 1]]]

    def look_again(self, looks):
        return [face if self.again else None for _, face in looks]


def found_at(monkeypatch: pytest.MonkeyPatch, boxes: list[list[Box]]) -> None:
    """Faces are found in these boxes, frame by frame."""
    monkeypatch.setattr(crops, "detector", lambda weights: Searching(*boxes, again=False))


def points(box: Box) -> np.ndarray:
    return ((alignment.TEMPLATE - 0.5) * box.side + (box.x, box.y)).astype(np.float32)


def brightness(frame: Frame) -> float:
    return float(np.asarray(Image.open(io.BytesIO(frame.jpeg)).convert("L")).mean())


def test_a_smooth_box_keeps_its_size_and_bridges_gaps() -> None:
    track = [Box(10, 10, 8), None, Box(14, 10, 12), Box(16, 10, 10), None]
    path = crops.smooth_boxes(track)
    assert {box.side for box in path} == {10}
    xs = [box.x for box in path]
    assert xs == sorted(xs)
    assert max(np.diff(xs)) < 3


def test_a_united_box_holds_every_box_and_does_not_move() -> None:
    track = [Box(10, 10, 8), None, Box(30, 12, 10)]
    path = crops.union(track)
    assert len(set(path)) == 1
    assert path[0].x - path[0].side / 2 <= 6
    assert path[0].x + path[0].side / 2 >= 35


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_crops_are_square_of_one_size_and_inside_the_picture(monkeypatch, margin: float) -> None:
    found_at(monkeypatch, [[Box(5, 30, 20)], [Box(6, 30, 22)], [Box(7, 30, 20)]])
    cut, found = crops.crop_clip(clip(3), FramesParams(crop="face", face_margin=margin))
    assert (found.with_face, found.frames, found.side, found.score) == (3, 3, 20, 0.9)
    side = round(20 * (1 + 2 * margin))
    assert {(frame.width, frame.height) for frame in cut} == {(side, side)}
    assert brightness(cut[0]) == pytest.approx(240 * (side / 2) / 80, abs=6)  # pushed in from the left border


def test_a_margin_wider_than_the_picture_leaves_a_black_border_to_a_united_box_alone(monkeypatch) -> None:
    images = [Image.new("L", (80, 60), grey) for grey in (255, 250)]
    frames = [Frame(number, number / 10, encode(image), 80, 60) for number, image in enumerate(images)]
    for rule, size, black in (("smooth", 60, False), ("union", 130, True)):
        found_at(monkeypatch, [[Box(35, 25, 40)], [Box(45, 35, 40)]])
        cut, _ = crops.crop_clip(frames, FramesParams(crop="face", face_margin=0.8, face_box=rule))
        assert {(frame.width, frame.height) for frame in cut} == {(size, size)}
        assert (brightness(cut[0]) < 250) == black


@pytest.mark.parametrize(
    ("found", "frames", "enough"),
    [(0, 1, False), (1, 1, True), (1, 2, False), (2, 2, True), (1, 9, False), (2, 20, True), (2, 21, False)],
)
def test_a_face_counts_if_it_is_found_twice_and_in_a_tenth_of_the_frames(found: int, frames: int, enough: bool) -> None:
    assert crops.shows_face(found, frames) == enough


def test_a_face_found_once_among_many_frames_is_no_face(monkeypatch) -> None:
    found_at(monkeypatch, [[Box(30, 30, 20)], *[[] for _ in range(11)]])
    cut, found = crops.crop_clip(clip(12), FramesParams(crop="face", no_face="centre"))
    assert found.with_face == 0
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
    assert centred.faces.with_face == 0
    assert centred.source == rejected.source


@pytest.mark.parametrize("roll", [0, 25, -40])
def test_landmarks_are_brought_to_the_template_by_a_rotation_a_scale_and_a_shift(roll: int) -> None:
    turn = cv2.getRotationMatrix2D((0, 0), roll, 1.7)
    found = alignment.TEMPLATE @ turn[:, :2].T * 60 + (200, 90)
    way = alignment.similarity(found, alignment.TEMPLATE * 112)
    assert found @ way[:, :2].T + way[:, 2] == pytest.approx(alignment.TEMPLATE * 112, abs=1e-6)


def test_an_aligned_face_is_upright_wherever_it_is_turned() -> None:
    mark = np.zeros((300, 400, 3), np.uint8)
    upright = alignment.TEMPLATE * 100 + (150, 100)
    for x, y in upright:
        cv2.circle(mark, (round(x), round(y)), 4, (255, 255, 255), -1)
    straight = alignment.align(mark, upright, 96, 0.2).astype(float)
    turn = cv2.getRotationMatrix2D((200, 150), 40, 1)
    turned = alignment.align(cv2.warpAffine(mark, turn, (400, 300)), upright @ turn[:, :2].T + turn[:, 2], 96, 0.2)
    assert straight.max() > 200
    assert np.corrcoef(straight.ravel(), turned.astype(float).ravel())[0, 1] > 0.97


def test_an_aligned_face_at_the_border_has_no_black_wedge() -> None:
    white = np.full((100, 100, 3), 255, np.uint8)
    aligned = alignment.align(white, alignment.TEMPLATE * 60 + (-10, 50), 64, 0.5)
    assert aligned.min() == 255


def test_a_large_face_is_made_small_without_skipping_pixels() -> None:
    stripes = np.zeros((900, 900, 3), np.uint8)
    stripes[:, ::2] = 255
    aligned = alignment.align(stripes, alignment.TEMPLATE * 800 + 50, 64, 0.0)
    assert 120 < aligned.min() <= aligned.max() < 136


def test_smoothed_landmarks_bridge_gaps_and_keep_what_does_not_move() -> None:
    still = alignment.TEMPLATE * 100
    shifted = still + np.array([10, 0])
    path = alignment.smooth([still, shifted], [0.0, 1.0], [0.0, 0.5, 1.0])
    assert path[1] == pytest.approx((still + shifted) / 2, abs=1e-6)
    jitter = np.random.default_rng(0).normal(0, 1, (50, 5, 2))
    times = [index / 25 for index in range(50)]
    smoothed = alignment.smooth(list(still + jitter), times, times)
    assert smoothed.std(axis=0).mean() < 0.45 * jitter.std(axis=0).mean()


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (60, 80, 3)).astype(np.uint8)


def test_whole_frames_are_searched_now_and_then_and_a_still_face_stays_where_it_is() -> None:
    finder = Searching([Box(30, 30, 20)], [Box(31.5, 30, 20)], [Box(29, 31, 20)])
    tracker = Tracker(finder, search_s=0.5)
    for index in range(12):
        ((track, face),) = tracker.add(index, index / 10, noise(0))
        assert (track.person, face.box) == (0, Box(30, 30, 20))
    assert finder.searched == 3


def test_while_nobody_is_found_searches_become_rarer_until_a_cut() -> None:
    finder = Searching(*[[]] * 20)
    tracker = Tracker(finder, search_s=0.5)
    searched = []
    for index in range(60):
        before = finder.searched
        tracker.add(index, index / 25, np.full((60, 80, 3), 255 if index < 40 else 0, np.uint8))
        if finder.searched > before:
            searched.append(index)
    assert searched[:6] == [0, 1, 2, 4, 8, 16]
    assert searched[6] == 29, "half a second later"
    assert searched[7:12] == [40, 41, 42, 44, 48]


def test_a_cut_ends_a_track() -> None:
    tracker = Tracker(Searching([Box(30, 30, 20)], [Box(30, 30, 20)]))
    white, black = np.full((60, 80, 3), 255, np.uint8), np.zeros((60, 80, 3), np.uint8)
    for index, image in enumerate([white, white, black, black]):
        tracker.add(index, index / 25, image)
    assert tracker.cuts == [2]
    assert [(track.person, sorted(track.faces)) for track in tracker.tracks] == [(0, [0, 1]), (1, [2, 3])]
    assert [sorted(track.faces) for track in tracker.forget_before(2)] == [[2, 3]]


def test_two_people_who_cross_keep_their_numbers() -> None:
    places = [20, 30, 40, 50, 60]
    finder = Searching(*[[Box(x, 30, 18), Box(80 - x, 34, 18)] for x in places])
    tracker = Tracker(finder, search_s=0.0)
    for index, x in enumerate(places):
        image = np.full((60, 80, 3), 128, np.uint8)
        for where, colour in ((80 - x, (40, 200, 60)), (x, (220, 60, 30))):
            image[20:44, max(0, where - 10) : where + 10, :] = colour
            image[28:32, max(0, where - 6) : where, :] = 255 - np.array(colour)
        tracker.add(index, index / 10, image)
    assert len(tracker.tracks) == 2
    assert [round(face.box.x) for face in tracker.tracks[0].faces.values()] in (places, places[::-1])


@pytest.mark.parametrize("angle", [0, 25, -35])
def test_the_packaged_detector_finds_a_turned_face_and_the_aligned_one_is_upright(angle: int) -> None:
    image = cv2.resize(project.picture((project.face(1, 64), 120, 80)), (640, 480), interpolation=cv2.INTER_CUBIC)
    turn = cv2.getRotationMatrix2D((304, 224), angle, 1)
    image = cv2.warpAffine(image, turn, (640, 480), borderMode=cv2.BORDER_REFLECT)
    finder = Detector()
    ((face,),) = finder.detect([image])
    assert max(abs(face.box.x - 304), abs(face.box.y - 224)) < 20
    assert face.roll == pytest.approx(-angle, abs=8)
    ((aligned,),) = finder.detect([alignment.align(image, face.landmarks, 160, 0.3)])
    assert abs(aligned.roll) < 6


def test_of_overlapping_candidates_the_better_one_is_kept_and_only_so_many() -> None:
    places = {0.3: 20, 0.9: 22, 0.5: 60, 0.4: 100}
    faces = [Detection(Box(x, 20, 20), score, points(Box(x, 20, 20))) for score, x in places.items()]
    assert [face.score for face in distinct(faces)] == [0.9, 0.5, 0.4]
    assert [face.score for face in distinct(faces, 2)] == [0.9, 0.5]


@pytest.mark.parametrize(("others", "found"), [([], [0.8]), ([0.9], [0.9])])
def test_faint_candidates_are_turned_further_only_where_no_face_is_found(
    others: list[float], found: list[float]
) -> None:
    """A face is one with a mark above it; the faint one has its mark there only when it is turned by 50 degrees."""
    frame = np.zeros((320, 320, 3), np.uint8)
    angle = np.radians(50)
    cv2.circle(frame, (round(160 + 51 * np.sin(angle)), round(160 - 51 * np.cos(angle))), 6, (255, 255, 255), -1)

    if others:
        cv2.circle(frame, (60, 26), 4, (255, 255, 255), -1)

    class Faint:
        def find(self, images, lowest):
            return [self.view(image) if len(image) == 128 else self.whole(image, lowest) for image in images]

        def whole(self, image, lowest):
            scores = {0.03: Box(160, 160, 60), **dict.fromkeys(others, Box(60, 60, 40))}
            share = len(image) / 320
            return [self.face(box, score, share) for score, box in scores.items() if score >= lowest]

        def view(self, image):
            face = self.face(Box(64, 64, 64), 0.8, 1.0)
            return [face] if image[4:20, 56:72].mean() > 50 else []

        def face(self, box, score, share):
            half = box.side / 2
            return np.array([box.x - half, box.y - half, 2 * half, 2 * half]) * share, score, points(box) * share

    finder = Detector()
    finder._network = Faint()
    assert [face.score for face in finder.detect([frame])[0]] == found
