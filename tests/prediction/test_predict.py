"""Predictions: as the run itself had them, in windows along long videos, and no number without a face."""

import csv
import gc
import io
import json
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import prediction_project as project
import pytest
from media import convert, images, numbered, video
from PIL import Image
from prediction_project import RUN, face, film, picture
from typer.testing import CliRunner

from tgdfer import Predictor
from tgdfer.cli import app
from tgdfer.config.params import FramesParams
from tgdfer.core import storage
from tgdfer.core.errors import UserError
from tgdfer.media.frame import Frame, UnusableError
from tgdfer.media.shards import ClipSource, extract_clip
from tgdfer.media.videos import duration, read_video, stream_video
from tgdfer.prediction import NOTICE
from tgdfer.prediction.cropping import FaceCropper
from tgdfer.prediction.windows import sliding_windows


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return project.make(tmp_path_factory.mktemp("predict"))


@pytest.fixture(scope="module")
def predictor(root: Path) -> Predictor:
    return Predictor.from_run(root / RUN, models=root / "models", device="cpu")


@pytest.fixture
def inside(root: Path, monkeypatch) -> Path:
    monkeypatch.chdir(root)
    return root


def moving(count: int, *sizes: int) -> list[np.ndarray]:
    """A room with a face of each size, which move a little."""
    places = [(20 + step % 5, 30) for step in range(count)]
    return [
        picture(*((face(n, size), left + 150 * n, top) for n, size in enumerate(sizes)))
        for step, (left, top) in enumerate(places)
    ]


@pytest.mark.parametrize("variant", ["words", "probe"])
def test_a_clip_of_the_data_set_gets_what_the_run_gave_it(root: Path, variant: str) -> None:
    run = root / "runs/tiny" / variant / "fold1/seed0"
    model = Predictor.from_run(run, models=root / "models", device="cpu")
    rows = storage.read_table(run / "predictions.parquet", "predictions").to_pylist()
    rows = [row for row in rows if row["selection"] == "last"]
    assert len(rows) == 4
    for row in rows:
        made = model.predict(root / "raw" / f"{row['clip_id']}.mp4", window=0, crop="none")
        assert list(made.probabilities.values()) == pytest.approx(row["probabilities"], abs=1e-3)
        (window,) = made.windows
        assert [frame.index for frame in window.frames] == row["frame_index"]
        assert [frame.relevance for frame in window.frames] == pytest.approx(row["relevance"], abs=1e-3)
        assert sum(frame.relevance for frame in window.frames) == pytest.approx(1, abs=1e-5)
        assert made.prediction == max(made.probabilities, key=made.probabilities.get)
        assert made.duration_s == pytest.approx((14 + int(row["clip_id"][-1])) / project.FPS, abs=0.01)


def test_a_face_that_fills_the_picture_is_left_as_it_is(root: Path, predictor: Predictor) -> None:
    clip = root / "raw/clip2.mp4"
    plain, auto, cut = (predictor.predict(clip, crop=crop) for crop in ("none", "auto", "face"))
    assert auto.probabilities == plain.probabilities
    assert (plain.crop, auto.crop, cut.crop) == ("none", "none", "face")
    assert cut.windows[0].faces.with_face > 5


def test_a_small_face_is_cut_out_and_the_largest_of_several_is_followed(tmp_path: Path, predictor: Predictor) -> None:
    made = predictor.predict(film(tmp_path / "two.mp4", moving(10, 120, 64)))
    assert made.crop == "face"
    assert len(made.notes) == 2
    assert "several faces (up to 2" in made.notes[0]
    assert 0.2 < made.windows[0].faces.share < 0.4, "the large one"
    alone = predictor.predict(film(tmp_path / "one.mp4", moving(10, 120)))
    assert alone.notes == ["the model has only seen drawn faces: on people its numbers mean nothing"]
    for name, value in alone.probabilities.items():
        assert made.probabilities[name] == pytest.approx(value, abs=0.02)


@pytest.mark.parametrize("box", ["smooth", "union"])
def test_faces_are_cut_out_as_in_the_frames_stage(tmp_path: Path, box: str) -> None:
    params = FramesParams(crop="face", face_box=box, resize=48, sampling="all")
    film(tmp_path / "a.mp4", moving(6, 120))
    taken = extract_clip(tmp_path, ClipSource("a", "a.mp4", "video"), params)
    whole = read_video(tmp_path / "a.mp4", params.model_copy(update={"resize": None}))
    with ThreadPoolExecutor(2) as pool:
        shown = FaceCropper(pool, params, "auto", every=True)(whole)
        assert [shown.picture(place, params) for place in range(6)] == taken.frames
        assert shown.faces.with_face == 6


def test_no_face_is_an_answer_without_a_number(tmp_path: Path, predictor: Predictor) -> None:
    path = film(tmp_path / "room.mp4", [picture()] * 12)
    made = predictor.predict(path)
    assert made.reason == "no face found in 8 frames"
    assert made.probabilities == {}
    assert made.prediction is None
    assert made.entropy is None
    assert "no face found" in str(made)
    assert "%" not in str(made)
    told = made.to_dict()
    assert told["prediction"] is None
    assert told["probabilities"] == {}
    assert predictor.predict(path, crop="none").prediction in project.CLASSES


def test_windows_slide_along_a_long_video_and_tell_where_no_face_is(tmp_path: Path, predictor: Predictor) -> None:
    path = film(tmp_path / "long.mp4", moving(60, 130) + [picture()] * 60)
    made = predictor.predict(path, window=2, stride=1)
    assert [(window.start_s, window.end_s) for window in made.windows[:3]] == [(0, 2), (1, 3), (2, 4)]
    assert made.windows[-1].end_s == pytest.approx(12, abs=0.2)
    assert made.duration_s == pytest.approx(12, abs=0.2)
    seen = [window for window in made.windows if window.probabilities]
    assert [bool(window.probabilities) for window in made.windows] == [True] * len(seen) + [False] * (
        len(made.windows) - len(seen)
    )
    assert 5 <= len(seen) <= 6
    for window in seen:
        assert 1 < len(window.frames) <= 4
        assert all(window.start_s <= frame.time_s < window.end_s for frame in window.frames)
        assert window.frames[-1].time_s < 6.3, "frames after the face has gone take no part"
    for name in project.CLASSES:
        assert made.probabilities[name] == pytest.approx(np.mean([window.probabilities[name] for window in seen]))
    assert any("no face found in" in note for note in made.notes)
    times = [time for time, _ in made.relevance]
    assert times == sorted(set(times))
    assert 0 < len(made.thumbnails) < 20
    assert sum(one.decisive for one in made.thumbnails) == 3


@pytest.mark.parametrize(
    "rule", [{"sampling": "fps", "fps": 3.3}, {"sampling": "every", "every": 4}, {"sampling": "all", "resize": 24}]
)
def test_a_stream_gives_the_frames_of_the_frames_stage(tmp_path: Path, rule: dict) -> None:
    plain = video(tmp_path / "plain.mp4", 37, 12)
    uneven = convert(plain, tmp_path / "uneven.mkv", "-vf", "select='not(eq(mod(n,5),2))'", "-fps_mode", "passthrough")
    for path in (plain, uneven):
        params = FramesParams(**rule)
        assert list(stream_video(path, params)) == read_video(path, params)


def test_a_stream_can_be_left_and_says_what_is_wrong(tmp_path: Path) -> None:
    path = video(tmp_path / "a.mp4", 30)
    frames = stream_video(path, FramesParams(sampling="all"))
    assert next(frames).index == 0
    frames.close()
    whole = path.read_bytes()
    for data, said in ((whole[: len(whole) // 2], "cut off"), (b"text", "text file")):
        path.write_bytes(data)
        with pytest.raises(UnusableError, match=said):
            list(stream_video(path, FramesParams(sampling="all")))


def test_windows_hold_no_more_than_they_need() -> None:
    alive: weakref.WeakSet[Frame] = weakref.WeakSet()
    most = 0

    class Counted(Frame):
        __hash__ = object.__hash__

    def endless():
        for index in range(5000):
            frame = Counted(index, index / 10, b"", 1, 1)
            alive.add(frame)
            yield frame

    spans = sliding_windows(endless(), 2.0, 1.0)
    covered = set()
    for span in spans:
        most = max(most, len(alive))
        assert all(span.start <= frame.time_s <= span.end for frame in span.frames)
        covered |= {frame.index for frame in span.frames}
        del span
    gc.collect()
    assert covered == set(range(5000))
    assert most <= 35


def test_a_window_after_a_gap_and_a_stream_shorter_than_a_window() -> None:
    def at(*times: float) -> list[Frame]:
        return [Frame(index, time, b"", 1, 1) for index, time in enumerate(times)]

    def said(times, length, stride):
        return [[frame.time_s for frame in span.frames] for span in sliding_windows(at(*times), length, stride)]

    assert said([5, 5.5, 20, 20.5], 1, 1) == [[5, 5.5], [20, 20.5]]
    assert said([0, 1, 2], 10, 5) == [[0, 1, 2]]
    assert said([], 10, 5) == []
    assert said([0, 1, 2, 3, 4], 2, 2) == [[0, 1], [2, 3], [3, 4]]


def test_a_folder_of_images_is_a_clip(tmp_path: Path, predictor: Predictor) -> None:
    images(tmp_path / "grey", 5, 64)
    made = predictor.predict(tmp_path / "grey", crop="none")
    assert [frame.index for frame in made.windows[0].frames] == [0, 1, 2, 4]
    assert made.duration_s == pytest.approx(5 / 25)


@pytest.mark.parametrize(("window", "stride"), [(-1, None), (2, 3), (2, 0), (1, -1)])
def test_windows_out_of_range(root: Path, predictor: Predictor, window: float, stride: float | None) -> None:
    with pytest.raises(UserError, match="stride"):
        predictor.predict(root / "raw/clip0.mp4", window=window, stride=stride)


def run(*arguments: str):
    return CliRunner().invoke(app, ["--quiet", "predict", *arguments, "--run", str(RUN), "--device", "cpu"])


def test_a_bad_video_is_recorded_and_the_others_go_on(inside: Path, tmp_path: Path) -> None:
    batch = tmp_path / "batch"
    film(batch / "a" / "same.mp4", moving(10, 120))
    film(batch / "b" / "same.mp4", [picture()] * 10)
    whole = (inside / "raw/clip0.mp4").read_bytes()
    (batch / "broken <b>.mp4").write_bytes(whole[: len(whole) // 2])
    (batch / "notes.txt").write_text("no video")
    images(batch / "c", 3, 64)
    out = tmp_path / "out"
    result = run(str(batch), str(tmp_path / "missing.mp4"), "--output", str(out), "--json")
    assert result.exit_code == 1
    said = json.loads(result.stdout)
    assert said["notice"] == NOTICE
    assert len(said["predictions"]) == 3
    assert [one["prediction"] is None for one in said["predictions"]] == [False, True, True]
    reasons = {Path(one["source"]).name: one["reason"] for one in said["failed"]}
    assert reasons["missing.mp4"] == "no such file"
    assert "file is cut off" in reasons["broken <b>.mp4"]
    assert sorted(path.name for path in out.iterdir()) == [
        *("NOTICE.txt", "c.json", "c.png", "predictions.csv", "same-2.json", "same-2.png", "same.json", "same.png"),
    ]
    assert json.loads((out / "same.json").read_text()) == {**said["predictions"][0]}
    rows = list(csv.DictReader(io.StringIO((out / "predictions.csv").read_text())))
    assert len(rows) == 5
    assert float(rows[0]["p_happy"]) + float(rows[0]["p_sad"]) == pytest.approx(1, abs=1e-4)
    assert [row["p_happy"] for row in rows[1:]] == [""] * 4
    assert all(row["reason"] for row in rows[1:])


def test_what_is_printed_and_drawn(inside: Path, tmp_path: Path) -> None:
    long = film(tmp_path / "long.mp4", moving(40, 120))
    copy = tmp_path / "annotated.mp4"
    result = run(str(long), "--window", "1", "--output", str(tmp_path / "out"), "--annotate", str(copy))
    assert result.exit_code == 0, result.output
    assert "%" in result.stdout
    assert "windows" in result.stdout
    assert "s of video per second" in result.stdout
    assert result.stdout.rstrip().endswith(NOTICE)
    with Image.open(tmp_path / "out/long.png") as drawn:
        assert drawn.width > 800
        assert drawn.height > 600
    assert duration(copy) == pytest.approx(4, abs=0.3)
    frames = read_video(copy, FramesParams(sampling="uniform", max_frames=2))
    assert (frames[0].width, frames[0].height > 480) == (640, True)
    table = run(str(long), "--window", "1", "--output", str(tmp_path / "out"), "--csv", "--no-picture").stdout
    assert table == (tmp_path / "out/predictions.csv").read_text()
    assert len(table.splitlines()) == 1 + 7
    assert (tmp_path / "out/NOTICE.txt").read_text() == f"{NOTICE}\n"


def test_the_picture_of_no_face_holds_no_curve(predictor: Predictor, tmp_path: Path) -> None:
    from tgdfer.prediction.timeline import draw

    made = predictor.predict(film(tmp_path / "room.mp4", [picture()] * 12))
    figure = draw(made)
    assert not figure.axes
    assert any("no face found" in text.get_text() for text in figure.texts)
    assert any(NOTICE in text.get_text() for text in figure.texts)


def test_speed_is_seconds_of_video_in_a_second(root: Path, predictor: Predictor) -> None:
    made = predictor.predict(root / "raw/clip0.mp4")
    assert made.speed == pytest.approx(made.duration_s / made.seconds)
    assert made.to_dict()["speed"]["video_seconds_per_second"] > 0


def test_a_run_must_be_named(inside: Path) -> None:
    result = CliRunner().invoke(app, ["predict", "a.mp4"])
    assert "--run: expected a run" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no video given"),
        (["a.mp4", "--crop", "nose"], "auto, face, none"),
        (["a.mp4", "--json", "--csv"], "expected one of them"),
        (["a.mp4", "b.mp4", "--annotate", "c.mp4"], "expected one"),
        (["models"], "no video and no image"),
    ],
)
def test_a_wrong_call_says_what_to_do(inside: Path, arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert isinstance(result.exception, UserError)
    assert said in str(result.exception)


def test_the_package_stays_light() -> None:
    script = "import sys, tgdfer; print({'torch', 'numpy', 'pydantic'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


def test_duration(tmp_path: Path) -> None:
    assert duration(film(tmp_path / "a.mp4", numbered(30), 15)) == pytest.approx(2, abs=0.02)
    live = convert(tmp_path / "a.mp4", tmp_path / "live.mkv", "-c", "copy", "-live", "1")
    assert duration(live) == pytest.approx(2, abs=0.1), "as recorders write it, without a duration"
    (tmp_path / "b.mp4").write_text("no video")
    assert duration(tmp_path / "b.mp4") is None
