import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgdfer.config.data import RenderParams
from tgdfer.config.params import Params, load_params
from tgdfer.core import paths, storage
from tgdfer.core.classes import SEVEN
from tgdfer.core.errors import UserError
from tgdfer.demo import rendering, script
from tgdfer.stages import render, render_demo

ROOT = Path(__file__).parents[2]
VIDEOS, JOURNAL = paths.DEMO_ROOT / rendering.VIDEOS, paths.DEMO_ROOT / rendering.JOURNAL


@pytest.fixture
def small(new_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    params = load_params(ROOT / "params.yaml")
    monkeypatch.setattr(script, "FRAMES", (12, 15))
    return params.model_copy(update={"demo": params.demo.model_copy(update={"clips": 14, "folds": 2, "size": 32})})


@settings(max_examples=40)
@given(clips=st.integers(14, 400), folds=st.integers(2, 6), seed=st.integers(0, 5))
def test_folds_are_disjoint_in_people_and_test_every_class(clips: int, folds: int, seed: int) -> None:
    if clips < folds * len(SEVEN):
        with pytest.raises(UserError, match=r"demo\.clips"):
            script.plan(clips, folds, seed)
        return
    rows = script.plan(clips, folds, seed)
    assert len(rows) == clips
    assert len({row.clip_id for row in rows}) == clips
    assert [row.number for row in rows] == list(range(clips))
    homes = {(row.subject, row.fold) for row in rows}
    assert len(homes) == len({subject for subject, _ in homes})
    for fold in range(1, folds + 1):
        assert {row.label for row in rows if row.fold == fold} == set(SEVEN)
    sizes = Counter(row.fold for row in rows)
    assert max(sizes.values()) - min(sizes.values()) <= 1


def test_shares_are_kept_when_there_are_many_clips() -> None:
    assert sum(script.SHARES.values()) == pytest.approx(1)
    counts = Counter(row.label for row in script.plan(1400, 5, 0))
    for label, share in script.SHARES.items():
        assert counts[label] / 1400 == pytest.approx(share, abs=0.005)


def test_a_script_depends_only_on_its_seed_and_number() -> None:
    row = script.plan(70, 2, 0)[11]
    first, again = script.write_script(row, 0), script.write_script(replace(row, clip_id="other"), 0)
    assert np.array_equal(first.units, again.units) and first.poses == again.poses
    assert not np.array_equal(first.units[:5], script.write_script(row, 1).units[:5])


def test_truth_follows_the_label_and_is_short() -> None:
    parts = []
    for row in script.plan(210, 3, 4):
        what = script.write_script(row, 4)
        assert len(what.units) == len(what.intensity) == len(what.poses)
        assert script.FRAMES[0] <= len(what.units) <= script.FRAMES[1]
        assert what.units.min() >= 0 and what.units.max() <= 1
        assert what.intensity.min() >= 0 and what.intensity.max() <= 1
        if row.label == "neutral":
            assert what.intensity.mean() > 0.7
        else:
            assert what.intensity.max() > 0.25
            parts.append((what.intensity > 0.05).mean())
            # where the truth is high the units of the class are
            peak = int(what.intensity.argmax())
            assert what.units[peak].max() >= 0.6 * what.intensity[peak]
    assert np.mean(parts) < 0.35


def test_only_the_face_depends_on_the_class() -> None:
    rows = script.plan(700, 5, 0)
    scripts = [script.write_script(row, 0) for row in rows]
    facts = {
        "place in the list": [row.number for row in rows],
        "frames": [len(one.units) for one in scripts],
        "fps": [one.fps for one in scripts],
        "compression": [one.crf for one in scripts],
        "noise": [one.scene.noise for one in scripts],
        "light": [one.scene.light for one in scripts],
        "backdrop": [one.scene.backdrop.mean() for one in scripts],
        "yaw": [one.poses[0].yaw for one in scripts],
        "person": [one.person.skin.mean() for one in scripts],
    }
    labels = np.array([row.label for row in rows])
    for what, values in facts.items():
        ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
        for label in SEVEN:
            chosen = ranks[labels == label]
            error = ranks.std() / np.sqrt(len(chosen))
            assert abs(chosen.mean() - ranks.mean()) < 3.5 * error, (what, label)


@given(
    frames=st.integers(1, 80),
    start=st.floats(-5, 80),
    length=st.floats(1, 40),
    peak=st.floats(0.1, 1),
    seed=st.integers(0, 99),
)
def test_envelopes_stay_in_their_part(frames: int, start: float, length: float, peak: float, seed: int) -> None:
    values = script.envelope(frames, start, length, peak, np.random.default_rng(seed))
    t = np.arange(frames)
    assert values.shape == (frames,)
    assert (values >= 0).all() and (values <= peak + 1e-6).all()
    assert (values[(t <= start) | (t >= start + length)] < 1e-6).all()


def test_a_rendered_set_is_what_the_folder_layout_reads_with_the_truth_of_every_frame(small: Params) -> None:
    render_demo.run(small, workers=1)
    rows = list(csv.DictReader(paths.DEMO_CLIPS.open(encoding="utf-8")))
    assert list(rows[0]) == list(rendering.COLUMNS)
    assert len(rows) == 14
    truth = storage.read_table(paths.DEMO_TRUTH, "truth").to_pandas()
    for row in rows:
        video = paths.DEMO_ROOT / row["path"]
        assert storage.file_fingerprint(video) == row["sha256"]
        frames = truth[truth.clip_id == row["clip_id"]].frame_index.tolist()
        assert frames == list(range(len(frames))) and len(frames) >= 12
        capture = cv2.VideoCapture(str(video))
        assert all(capture.read()[0] for _ in frames) and not capture.read()[0]
    assert set(truth.clip_id) == {row["clip_id"] for row in rows}


def test_a_second_rendering_keeps_finished_videos_and_makes_the_others_again(
    small: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    render_demo.run(small, workers=1)
    before = {path: path.read_bytes() for path in (paths.DEMO_CLIPS, paths.DEMO_TRUTH, JOURNAL)}
    times = {path: path.stat().st_mtime_ns for path in VIDEOS.glob("*.mp4")}
    lost, broken = sorted(times)[:2]
    lost.unlink()
    broken.write_bytes(b"cut short")
    stray = VIDEOS / "demo-99999.mp4"
    stray.write_bytes(b"of an older list")
    half = VIDEOS / ".demo-00003.mp4.0123.part"
    half.write_bytes(b"of a killed rendering")
    with JOURNAL.open("a") as journal:
        journal.write('["demo-000')  # a killed run's last line
    render_demo.run(small, workers=1)
    assert {path: path.read_bytes() for path in before} == before
    kept = {path for path, stamp in times.items() if path.stat().st_mtime_ns == stamp}
    assert kept == set(times) - {lost, broken}
    assert not stray.exists() and not half.exists()


def test_a_full_disk_is_a_line_and_keeps_what_is_finished(small: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = render_demo.ffmpeg.encode_h264

    def full(path: Path, *rest: object) -> None:
        if path.stem.endswith("3"):
            raise render_demo.ffmpeg.FFmpegError("No space left on device")
        encode(path, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(render_demo.ffmpeg, "encode_h264", full)
        with pytest.raises(UserError, match=r"demo-00003\.mp4: cannot be written \(No space left on device\)"):
            render_demo.run(small, workers=1)
    kept = {path.name: path.stat().st_mtime_ns for path in VIDEOS.glob("*.mp4")}
    assert len(kept) == 2
    render_demo.run(small, workers=1)
    assert {path.name: path.stat().st_mtime_ns for path in VIDEOS.glob("*.mp4") if path.name in kept} == kept


def test_other_parameters_render_again(small: Params) -> None:
    render_demo.run(small, workers=1)
    first = paths.DEMO_CLIPS.read_text(encoding="utf-8")
    render_demo.run(small.model_copy(update={"demo": small.demo.model_copy(update={"seed": 1})}), workers=1)
    assert paths.DEMO_CLIPS.read_text(encoding="utf-8") != first
    journal = [json.loads(line) for line in JOURNAL.read_text(encoding="utf-8").splitlines()]
    assert len(journal) == 14


def test_the_number_of_workers_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = load_params(ROOT / "params.yaml")
    few = params.model_copy(update={"demo": params.demo.model_copy(update={"clips": 14, "folds": 2, "size": 32})})
    made = []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        monkeypatch.chdir(folder)
        render_demo.run(few, workers=workers)
        made.append((paths.DEMO_CLIPS.read_bytes(), paths.DEMO_TRUTH.read_bytes()))
    assert made[0] == made[1]


def test_another_rendered_set_has_other_people_light_and_shares(small: Params) -> None:
    shares = dict(zip(script.SHARES, (1, 1, 1, 1, 1, 1, 8), strict=True))
    about = RenderParams(clips=28, folds=2, size=32, seed=1, light=0.6, shares=shares)
    params = small.model_copy(update={"renders": {"other": about, "same": about.model_copy(update={"light": 1.0})}})
    for name in params.renders:
        render.run(params, name, workers=1)
    rows = list(csv.DictReader(paths.rendered("other").open(encoding="utf-8")))
    assert Counter(row["label"] for row in rows)["fear"] == 16
    assert {row["fold"] for row in rows} == {"1", "2"}
    videos = [paths.RAW / name / rows[0]["path"] for name in params.renders]
    dim, bright = (cv2.VideoCapture(str(video)).read()[1].mean() for video in videos)
    assert dim < 0.9 * bright
    truth = storage.read_table(paths.rendered("other").with_name("truth.parquet"), "truth")
    assert set(truth["clip_id"].to_pylist()) == {row["clip_id"] for row in rows}
    one, other = (script.write_script(script.plan(28, 2, seed)[0], seed).person for seed in (0, 1))
    assert not np.array_equal(one.skin, other.skin)
    with pytest.raises(UserError, match="renders: no 'third'; known: other, same"):
        render.run(params, "third")
