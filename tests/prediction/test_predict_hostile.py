"""Predictions where names, lengths and places are odd: nothing breaks out or is lost, and no number is made up."""

from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import prediction_project as project
import pytest
from media import convert, images, run_ffmpeg, video
from PIL import Image
from prediction_project import RUN, face, film, picture, run

from tgdfer import Predictor
from tgdfer.config.data import FramesParams
from tgdfer.core.errors import UserError
from tgdfer.media import ffmpeg
from tgdfer.media.frame import Frame
from tgdfer.media.videos import duration, read_video, span
from tgdfer.prediction.annotate import annotate
from tgdfer.prediction.result import Person, Window
from tgdfer.prediction.timeline import draw, write_timeline
from tgdfer.prediction.windows import sliding_windows


def test_names_of_videos_break_out_of_nothing(inside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = (inside / "raw/clip0.mp4").read_bytes()
    names = [
        *("=1+cmd|' C calc'!A0", "+1", "-1", "@x", "a\nb: happy 100 %", "\x1b[2J", "<script>alert(1)<"),
        *("$x^{$", "%d", "é" * 120, "x" * 250, "Same", "same"),
    ]
    batch = tmp_path / "batch"
    batch.mkdir()
    for name in names:
        (batch / f"{name}.mp4").write_bytes(clip)
    latin = os.fsencode(batch) + b"/m\xfcller.mp4"
    Path(os.fsdecode(latin)).write_bytes(clip)
    monkeypatch.chdir(batch)
    out = tmp_path / "out"
    given = [path.name for path in sorted(Path().iterdir())]
    where = ["--run", str(inside / RUN), "--models", str(inside / "models"), "--output", str(out)]
    result = run(*where, "--crop", "none", "--no-picture", "--", *given)
    assert result.exit_code == 1, result.output
    assert len(result.stdout.splitlines()) == len(given) + 1
    assert "\x1b" not in result.stdout
    assert "m\\udcfcller.mp4: not predicted: the file's name is not in UTF-8" in result.stdout
    with (out / "predictions.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == len(given)
    assert {row["source"][0] for row in rows} >= {"'", "a", "<"}
    assert not {row["source"][0] for row in rows} & set("=+-@\t\r")
    made = [path for path in out.iterdir() if path.suffix == ".json"]
    assert len({path.name.casefold() for path in made}) == len(given) - 1
    assert all("prediction" in json.loads(path.read_text(encoding="utf-8")) for path in made)


@pytest.mark.parametrize("name", ["$x^{$", "a\nb\x1b[2J", "é" * 240, "m\udcfcller"])
def test_names_in_the_picture_are_text(predictor: Predictor, root: Path, tmp_path: Path, name: str) -> None:
    made = predictor.predict(root / "raw/clip0.mp4", crop="none")
    classes = dict(zip(["_a$x^{$", "<b>"], made.probabilities.values(), strict=True))
    odd = replace(made, source=f"{name}.mp4", persons=[Person(1, [_renamed(made.windows[0], classes)])])
    write_timeline(odd, tmp_path / "a.png")
    figure = draw(odd)
    (headline,) = [text for text in figure.texts if "uncertainty" in text.get_text()]
    lines = headline.get_text().splitlines()
    assert len(lines) == 1 + len(odd.notes)
    assert len(lines[0]) < 130
    legend = [text.get_text().partition("%  ")[2] for text in figure.axes[1].get_legend().get_texts()]
    assert sorted(legend) == ["<b>", "_a$x^{$"]


def _renamed(window: Window, probabilities: dict[str, float]) -> Window:
    names = list(probabilities)
    frames = [
        replace(one, probabilities=dict(zip(names, one.probabilities.values(), strict=True))) for one in window.frames
    ]
    return replace(window, probabilities=probabilities, frames=frames)


def test_links_that_lead_out_of_a_folder_are_predicted_only_by_name(inside: Path, tmp_path: Path) -> None:
    batch = tmp_path / "batch"
    images(batch / "clip", 2, 64)
    (batch / "clip/00003.jpg").symlink_to(images(tmp_path / "elsewhere", 1, 64).resolve() / "00001.jpg")
    (batch / "a.mp4").symlink_to(inside / "raw/clip0.mp4")
    (batch / "loop").symlink_to(batch)
    result = run(str(batch), "--json", "--output", str(tmp_path / "out"), "--crop", "none")
    assert result.exit_code == 1
    reasons = {Path(one["source"]).name: one["reason"] for one in json.loads(result.stdout)["failed"]}
    assert sorted(reasons) == ["a.mp4", "clip"]
    assert "a link that leads out of the root folder" in reasons["a.mp4"]
    assert "if you name the file itself" in reasons["a.mp4"]
    assert "00003.jpg is a link that leads out" in reasons["clip"]
    assert run(str(batch / "a.mp4"), "--output", str(tmp_path / "out")).exit_code == 0


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_place_that_cannot_be_written_is_said_before_the_work(inside: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    result = run("raw/clip0.mp4", "--output", str(tmp_path / place))
    assert isinstance(result.exception, UserError)
    assert "cannot be written" in str(result.exception)


def test_a_full_disk_is_said_in_a_line(inside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tgdfer.core.storage.write_json", full)
    result = run("raw/clip0.mp4", "--output", str(tmp_path / "out"))
    assert isinstance(result.exception, UserError)
    assert str(result.exception).endswith("out: cannot be written: No space left on device")


def test_a_gap_of_years_in_the_times_takes_no_years() -> None:
    times = [0.0, 0.5, 1e12, 1e12 + 0.5]
    frames = (Frame(index, time, b"", 1, 1) for index, time in enumerate(times))
    spans = list(sliding_windows(frames, 1.0, 0.5))
    assert {frame.index for span in spans for frame in span.frames} == {0, 1, 2, 3}
    assert len(spans) < 10


def test_a_video_whose_sound_or_header_is_longer_than_its_pictures(tmp_path: Path, predictor: Predictor) -> None:
    short = film(tmp_path / "a.mp4", [face(1)] * 12)
    sound = ["-f", "lavfi", "-i", "sine=d=30", "-c:v", "copy", "-map", "0:v", "-map", "1:a"]
    path = convert(short, tmp_path / "long.mp4", *sound)
    assert duration(path) == pytest.approx(30, abs=0.1)
    made = predictor.predict(path, window=2)
    assert made.duration_s == pytest.approx(1.2, abs=0.15)
    assert made.windows[-1].end_s == pytest.approx(1.2, abs=0.15)
    assert draw(made).axes
    annotate(made, tmp_path / "out.mp4")
    assert len(read_video(tmp_path / "out.mp4", FramesParams(sampling="all"))) >= 11


SOUND = ("-f", "lavfi", "-i", "sine=d=4", "-map", "0:v", "-map", "1:a")


@pytest.mark.parametrize(
    ("name", "options", "before"),
    [
        ("late.mp4", SOUND, ("-itsoffset", "1.2")),
        ("late.ts", SOUND, ("-itsoffset", "1.2")),
        ("one.mp4", ("-frames:v", "1"), ()),
        ("b-frames.h264", ("-bf", "3"), ()),
        ("uneven.mkv", ("-vf", "select='not(eq(mod(n,5),2))'", "-fps_mode", "passthrough"), ()),
        ("wide.mkv", ("-vf", "setsar=2/1"), ()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_annotated_copy_has_every_frame_at_its_time_and_the_sound(
    tmp_path: Path, predictor: Predictor, name: str, options: tuple[str, ...], before: tuple[str, ...]
) -> None:
    scenes = [picture((face(1, 130), 20, 30))] * 15 + [picture()] * 15
    path = convert(film(tmp_path / "a.mp4", scenes), tmp_path / name, *options, before=before)
    made = predictor.predict(path, crop="none" if name in ("one.mp4", "wide.mkv") else "face", window=0)
    annotate(made, tmp_path / "out.mp4")
    every = FramesParams(sampling="all", resize=None)
    shift = span(path, with_sound=True)[0] - span(path)[0]
    given = [one.time_s + shift for one in read_video(path, every)]
    copied = read_video(tmp_path / "out.mp4", every)
    assert [one.time_s for one in copied] == pytest.approx(given, abs=0.02)
    begin = given[0]
    assert all(coloured(one) for one in copied if made.crop == "none" or begin + 0.15 < one.time_s < begin + 1.2)
    assert not any(coloured(one) for one in copied if one.time_s > begin + 1.7) or made.crop == "none"
    assert (copied[0].width, copied[0].height) == (640, 92 + (240 if name == "wide.mkv" else 480))
    assert duration(tmp_path / "out.mp4") == pytest.approx(given[-1] + 0.1, abs=0.1)
    sound = ffmpeg.source(tmp_path / "out.mp4")["a?"].output("pipe:", f="s16le", ac=1, ar=1000)
    assert options is not SOUND or len(ffmpeg.run(ffmpeg.command(sound))[0]) == pytest.approx(2 * 4000, rel=0.02)


def test_an_annotated_copy_has_a_box_around_the_face(tmp_path: Path, predictor: Predictor) -> None:
    made = predictor.predict(film(tmp_path / "a.mp4", [picture((face(1, 130), 20, 30))] * 10), crop="face", window=0)
    annotate(made, tmp_path / "out.mp4")
    frame = read_video(tmp_path / "out.mp4", FramesParams(sampling="all", resize=None))[5]
    box = made.persons[0].boxes[0]
    left, middle = round(box.left * 640), round((box.top + box.height / 2) * 480)
    edge = np.asarray(Image.open(io.BytesIO(frame.jpeg)).convert("L"))[middle, left - 1 : left + 5].astype(int)
    assert edge.max() - edge.min() > 120, "a white line within a black one"


def coloured(frame: Frame) -> bool:
    """Whether the panel of an annotated copy shows bars."""
    bars = np.asarray(Image.open(io.BytesIO(frame.jpeg)).convert("RGB"))[-88:-48, 125:200].astype(int)
    return bool((bars.max(axis=-1) - bars.min(axis=-1) > 60).any())


def test_no_number_is_shown_while_no_face_is(tmp_path: Path, predictor: Predictor) -> None:
    scenes = [picture((face(1, 130), 20, 30))] * 25 + [picture()] * 40 + [picture((face(1, 130), 20, 30))] * 35
    made = predictor.predict(film(tmp_path / "a.mp4", scenes), window=2, stride=1, person="all")
    first, second = sorted(made.persons, key=lambda person: person.seen)
    (one,), (other,) = first.seen, second.seen
    assert one == (pytest.approx(0), pytest.approx(2.5, abs=0.5))
    assert other == (pytest.approx(6.5, abs=0.5), pytest.approx(10, abs=0.25))
    assert all(one[0] <= time <= one[1] for time, _ in first.curve)
    assert all(other[0] <= time <= other[1] for time, _ in second.curve)
    annotate(made, tmp_path / "out.mp4")
    frames = read_video(tmp_path / "out.mp4", FramesParams(sampling="all", resize=None))
    for frame in frames:
        seen = any(start - 0.3 <= frame.time_s <= end + 0.3 for start, end in (one, other))
        well = any(start + 0.3 <= frame.time_s <= end - 0.3 for start, end in (one, other))
        assert coloured(frame) if well else seen or not coloured(frame), frame.time_s


def test_windows_without_a_face_are_counted_once(tmp_path: Path, predictor: Predictor) -> None:
    made = predictor.predict(film(tmp_path / "room.mp4", [picture()] * 60), window=2)
    assert made.reason == f"no face found in any of {len(made.windows)} windows"
    assert not draw(made).axes


@pytest.mark.parametrize(
    ("name", "options", "before"),
    [
        ("one.mp4", ("-frames:v", "1"), ()),
        ("fast.mp4", ("-vf", "setpts=N/1000/TB", "-r", "1000"), ()),
        ("turned.mov", ("-c", "copy"), ("-display_rotation:v:0", "90")),
    ],
)
def test_odd_videos_get_an_answer(
    tmp_path: Path, predictor: Predictor, name: str, options: tuple[str, ...], before: tuple[str, ...]
) -> None:
    convert(film(tmp_path / "plain.mp4", [face(1)] * 15), tmp_path / name, *options, before=before)
    for window in (None, 0, 0.005):
        made = predictor.predict(tmp_path / name, crop="none", window=window)
        assert made.prediction in project.CLASSES
        assert made.duration_s >= 0
        assert draw(made).axes
        assert sum(frame.relevance for frame in made.windows[0].frames) == pytest.approx(1, abs=1e-5)
    assert name != "one.mp4" or len(made.windows[0].frames) == 1


def test_only_sound_has_no_number(tmp_path: Path, predictor: Predictor) -> None:
    run_ffmpeg("-f", "lavfi", "-i", "sine=d=20", tmp_path / "sound.mp4")
    with pytest.raises(UserError, match="no video stream"):
        predictor.predict(tmp_path / "sound.mp4")


def test_a_broken_middle_is_refused(tmp_path: Path, predictor: Predictor) -> None:
    path = video(tmp_path / "a.mp4", 60, width=320, height=240)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 40
    middle = slice(start + (len(data) - start) // 4, start + 3 * (len(data) - start) // 4)
    data[middle] = bytes(len(data[middle]))
    path.write_bytes(data)
    for window in (0, 2):
        with pytest.raises(UserError, match=r"frames can be decoded|Invalid data|cut off"):
            predictor.predict(path, crop="none", window=window)


def test_a_model_card_says_names_and_does_nothing_with_them(root: Path, predictor: Predictor, tmp_path: Path) -> None:
    from tgdfer.prediction.export import card

    about = predictor.saved.description
    odd = about.model_copy(update={"classes": ["<img src=x onerror=alert(1)>", "[a](javascript:b)\n# c"]})
    text = card(replace(predictor.saved, description=odd, run={**predictor.saved.run, "variant": "<script>"}))
    assert "<img" not in text
    assert "<script" not in text
    assert "[a](" not in text
    assert "\n# c" not in text
