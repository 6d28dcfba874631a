"""Predictions: as the run itself had them, in windows along long videos, and no number without a face."""

import csv
import gc
import io
import json
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import prediction_project as project
import pytest
from media import convert, images, video
from PIL import Image
from prediction_project import RUN, face, film, picture, run
from typer.testing import CliRunner

from tgdfer import Predictor
from tgdfer.cli import app
from tgdfer.config.data import FramesParams
from tgdfer.core import storage
from tgdfer.core.errors import UserError
from tgdfer.media.frame import Frame, UnusableError
from tgdfer.media.shards import ClipSource, extract_clip
from tgdfer.media.videos import duration, read_video, stream_video
from tgdfer.prediction import NOTICE
from tgdfer.prediction.command import find_videos
from tgdfer.prediction.cropping import PersonCropper
from tgdfer.prediction.timeline import draw
from tgdfer.prediction.windows import sliding_windows


def moving(count: int, *sizes: int) -> list[np.ndarray]:
    """A room with a face of each size, which move a little."""
    places = [(20 + step % 5, 30) for step in range(count)]
    return [
        picture(*((face(n, size), left + 150 * n, top) for n, size in enumerate(sizes)))
        for step, (left, top) in enumerate(places)
    ]


@pytest.mark.parametrize("variant", ["words", "probe", "lora"])
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
        # the cache has 16-bit features, and the divergence from the average frame is a small difference
        assert [frame.relevance for frame in window.frames] == pytest.approx(row["relevance"], abs=5e-3)
        assert sum(frame.relevance for frame in window.frames) == pytest.approx(1, abs=1e-5)
        assert made.prediction == max(made.probabilities, key=made.probabilities.get)
        assert made.duration_s == pytest.approx((14 + int(row["clip_id"][-1])) / project.FPS, abs=0.01)


def test_a_face_that_fills_the_picture_is_left_as_it_is(root: Path, predictor: Predictor) -> None:
    clip = root / "raw/clip2.mp4"
    plain, auto, cut = (predictor.predict(clip, crop=crop) for crop in ("none", "auto", "face"))
    assert auto.probabilities == plain.probabilities
    assert (plain.crop, auto.crop, cut.crop) == ("none", "none", "face")
    assert cut.windows[0].faces.with_face > 5


def test_a_small_face_is_cut_out_and_everybody_has_an_own_answer(tmp_path: Path, predictor: Predictor) -> None:
    path = film(tmp_path / "two.mp4", moving(10, 120, 64))
    made = predictor.predict(path)
    assert made.crop == "face"
    assert made.notes[0].startswith("2 persons (after a cut, each counts again): the answer is for the largest")
    assert 0.2 < made.windows[0].faces.share < 0.4, "the large one"
    everybody = predictor.predict(path, person="all")
    large, small = everybody.persons
    assert (large.number, small.number) == (1, 2)
    assert large.probabilities == made.probabilities
    assert small.boxes[0].left > large.boxes[0].left + 0.2
    assert small.boxes[0].width < large.boxes[0].width
    assert not any("persons" in note for note in everybody.notes)
    assert (everybody.others_s, everybody.to_dict()["others_s"]) == ([], [])
    assert [row["person"] for row in everybody.rows()] == [1, 2]
    single = predictor.predict(film(tmp_path / "one.mp4", moving(10, 120)))
    assert "the model knows only drawn faces (its encoder): on people its numbers mean nothing" in single.notes
    for name, value in single.probabilities.items():
        assert made.probabilities[name] == pytest.approx(value, abs=0.04)


def test_when_somebody_else_is_on_screen_is_known(tmp_path: Path, predictor: Predictor) -> None:
    """The large face is there for eight seconds, the small one from the third to the sixth."""
    both, large = moving(8, 120, 64), moving(8, 120)
    film(tmp_path / "a.mp4", [(both if 30 <= step < 60 else large)[step % 8] for step in range(80)])
    made = predictor.predict(tmp_path / "a.mp4", window=2, stride=1)
    ((first, last),) = made.persons[0].seen
    assert (first, last) == (0, pytest.approx(8, abs=0.2))
    assert made.to_dict()["others_s"] == [[pytest.approx(3, abs=0.7), pytest.approx(6, abs=0.7)]]
    ((begin, end),) = made.others_s
    assert f"somebody else is on screen from {begin:.1f} to {end:.1f} s; --person all" in made.notes[0]


def test_a_cut_ends_a_person(tmp_path: Path, predictor: Predictor) -> None:
    first = [picture((face(1, 130), 90, 50))] * 40
    second = [255 - picture(), *[picture((face(2, 120), 95, 55)) // 2 + 120] * 40]
    path = film(tmp_path / "cut.mp4", [*first, *second[1:]])
    made = predictor.predict(path, window=2, stride=1, person="all")
    one, other = sorted(made.persons, key=lambda person: person.seen[0][0])
    assert one.seen[-1][1] <= 4.01
    assert other.seen[0][0] >= 3.99
    assert all(frame.time_s < 4 for window in one.windows for frame in window.frames), "no mean over two people"
    largest = predictor.predict(path, window=2, stride=1)
    assert [window for window in largest.windows if window.probabilities] == largest.persons[0].windows
    assert "another person was larger" in {window.reason for window in largest.without_face}


@pytest.mark.parametrize("box", ["smooth", "union"])
def test_faces_are_cut_out_as_in_the_frames_stage(tmp_path: Path, box: str) -> None:
    params = FramesParams(crop="face", face_box=box, resize=48, sampling="all")
    film(tmp_path / "a.mp4", moving(6, 120))
    taken = extract_clip(tmp_path, ClipSource("a", "a.mp4", "video"), params)
    whole = read_video(tmp_path / "a.mp4", params.model_copy(update={"resize": None}))
    (shown,) = PersonCropper(params, "auto", "largest", every=True)(whole)
    assert [shown.picture(place, params) for place in range(6)] == taken.frames
    assert shown.faces.with_face == 6


def test_no_face_is_an_answer_without_a_number(tmp_path: Path, predictor: Predictor) -> None:
    path = film(tmp_path / "room.mp4", [picture()] * 12)
    made = predictor.predict(path)
    assert made.reason == "no face found"
    assert made.probabilities == {}
    assert made.prediction is None
    assert made.entropy is None
    assert "no face found" in str(made)
    assert "%" not in str(made)
    answer = made.to_dict()
    assert answer["prediction"] is None
    assert answer["probabilities"] == {}
    figure = draw(made)
    assert not figure.axes, "no curve"
    texts = [text.get_text() for text in figure.texts]
    assert any("no face found" in text for text in texts)
    assert any(NOTICE in text for text in texts)
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
    assert 0 < len(made.persons[0].thumbnails) < 20
    assert sum(one.decisive for one in made.persons[0].thumbnails) == 3


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
    assert result.exit_code == 1, result.exception
    said = json.loads(result.stdout)
    assert said["notice"] == NOTICE
    assert len(said["predictions"]) == 3
    assert [one["prediction"] is None for one in said["predictions"]] == [False, True, True]
    reasons = {Path(one["source"]).name: one["reason"] for one in said["failed"]}
    assert reasons["missing.mp4"] == "no such file"
    assert "file is cut off" in reasons["broken <b>.mp4"]
    files = {f"{name}.{suffix}" for name in ("c", "same", "same-2") for suffix in ("html", "json", "png")}
    assert {path.name for path in out.iterdir() if path.name[0] != "."} == {
        *files,
        *("NOTICE.txt", "index.html", "predictions.csv"),
    }
    assert json.loads((out / "same.json").read_text()) == {**said["predictions"][0]}
    rows = list(csv.DictReader(io.StringIO((out / "predictions.csv").read_text())))
    assert len(rows) == 5
    assert float(rows[0]["p_happy"]) + float(rows[0]["p_sad"]) == pytest.approx(1, abs=1e-4)
    assert [row["p_happy"] for row in rows[1:]] == [""] * 4
    assert all(row["reason"] for row in rows[1:])


def test_a_second_prediction_into_a_folder_loses_nothing(inside: Path, tmp_path: Path) -> None:
    out, clip = tmp_path / "out", (inside / "raw/clip0.mp4").read_bytes()
    for name in ("a/one.mp4", "b/one.mp4", "index.mp4", "broken.mp4", "note.mp4"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(clip if name != "broken.mp4" else b"text")
    out.mkdir()
    (out / "note.json").write_text("{}")  # a file of the user with the name of a video

    def said(*names: str, options: tuple[str, ...] = ()) -> str:
        plain = ("--run", str(RUN), "--device", "cpu", "--output", str(out), "--crop", "none", "--no-picture", *options)
        return CliRunner().invoke(app, ["predict", *(str(tmp_path / name) for name in names), *plain]).stderr

    said("a/one.mp4", "broken.mp4")
    first = (out / "one.json").read_bytes()
    assert "2 rows of 2 other videos kept" in said("b/one.mp4", "index.mp4", "note.mp4")
    assert (out / "one.json").read_bytes() == first
    assert (out / "note.json").read_text() == "{}"
    again = said("a/one.mp4", options=("--page", "none"))
    assert f"one.mp4: replaces the earlier result in {out / 'one.json'}, {out / 'one.html'}" in again
    assert "1 earlier rows of the same videos replaced" in again
    with (out / "predictions.csv").open(newline="") as stream:
        rows = {row["source"].removeprefix(f"{tmp_path}/"): row["file"] for row in csv.DictReader(stream)}
    assert rows == {
        **{"a/one.mp4": "one", "b/one.mp4": "one-2", "index.mp4": "index-2", "note.mp4": "note-2"},
        "broken.mp4": "",
    }
    listed = (out / "index.html").read_text()
    assert [name for name in ("one-2.html", "index-2.html", "note-2.html") if name not in listed] == []
    before = (out / "predictions.csv").read_bytes()
    (tmp_path / "b/one.mp4").unlink()
    assert f"one.mp4: its earlier result is kept in {out}" in said("b/one.mp4")
    assert (out / "predictions.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "text"),
    [("predictions.csv", "source,p_calm\na,1\n"), ("index.html", "<h1>Mine</h1>"), ("NOTICE.txt", "Mine")],
)
def test_a_list_that_is_not_ours_is_not_replaced(inside: Path, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    result = run("raw/clip0.mp4", "--output", str(tmp_path))
    assert isinstance(result.exception, UserError)
    assert f"{name}: not " in str(result.exception)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, text)]


def test_an_annotated_copy_replaces_nothing(inside: Path, tmp_path: Path) -> None:
    for target in ("raw/clip0.mp4", "raw/clip1.mp4"):
        before = Path(target).read_bytes()
        result = run("raw/clip0.mp4", "--output", str(tmp_path), "--annotate", target)
        assert "exists already" in str(result.exception)
        assert Path(target).read_bytes() == before


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
    table = run(
        str(long), "--window", "1", "--output", str(tmp_path / "out"), "--csv", "--no-picture", "--page", "none"
    ).stdout
    assert table == (tmp_path / "out/predictions.csv").read_text()
    assert len(table.splitlines()) == 1 + 7
    assert (tmp_path / "out/NOTICE.txt").read_text() == f"{NOTICE}\n"
    assert not list((tmp_path / "out").glob("long.[ph]*")), "they would show the earlier windows"


def test_speed_is_seconds_of_video_in_a_second(root: Path, predictor: Predictor) -> None:
    made = predictor.predict(root / "raw/clip0.mp4")
    assert made.speed == pytest.approx(made.duration_s / made.seconds)
    assert made.to_dict()["speed"]["video_seconds_per_second"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no video given"),
        (["a.mp4", "--run", ""], "--run: expected a run"),
        (["a.mp4", "--crop", "nose"], "auto, face, none"),
        (["a.mp4", "--person", "me"], "largest, all"),
        (["a.mp4", "--page", "print"], "link, embed, none"),
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


def test_files_that_systems_leave_in_a_folder_are_not_videos(tmp_path: Path) -> None:
    for name in ("a.mp4", "._a.mp4", "~$a.mp4", "@eaDir/a.mp4", "__MACOSX/a.mp4", ".Trash/b.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list(find_videos([tmp_path])) == [tmp_path / "a.mp4"]
