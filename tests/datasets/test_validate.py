"""The check of the data: what is published is confirmed, every planted fault is named, and nothing else is."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from media import convert, images, listed, parameters, video, write_csv
from typer.testing import CliRunner

from tgdfer.cli import app
from tgdfer.core.classes import SEVEN
from tgdfer.core.errors import UserError
from tgdfer.datasets.integrity import InspectedClip, inspect, outliers, video_fault
from tgdfer.datasets.listing import Clip
from tgdfer.datasets.published import PUBLISHED, published
from tgdfer.datasets.validate import check_dataset, validate

NUMBERS = list(range(1, 41))
LISTS = Path("DFEW/EmoLabel_DataSplit")
CLIPS = Path("DFEW/Clip/clip_224x224")


@pytest.fixture
def dfew(new_folder: Path):
    for number in NUMBERS:
        images(CLIPS / f"{number:05d}", 3, size=8)
    for fold in range(1, 6):
        for split in ("train", "test"):
            rows = [f"{n},{n % 7 + 1}" for n in NUMBERS if (n % 5 + 1 == fold) == (split == "test")]
            write_csv(LISTS / f"{split}(single-labeled)" / f"set_{fold}.csv", "video_name,label", rows)
    return parameters(Path(), {"dfew": {"layout": "dfew", "root": "DFEW", "annotations": str(LISTS)}})


def change(path: str, edit: Callable[[str], str]) -> None:
    file = LISTS / path
    file.write_text(edit(file.read_text()))


def plant() -> list[str]:
    """Ten faults of ten kinds; what must be said of each."""
    change("train(single-labeled)/set_1.csv", lambda text: text.replace("\n2,3\n", "\n2,3\n2,3\n"))
    change("train(single-labeled)/set_2.csv", lambda text: text + "6,7\n")
    change("train(single-labeled)/set_3.csv", lambda text: text.replace("\n3,4\n", "\n3,9\n"))
    change("train(single-labeled)/set_4.csv", lambda text: text.replace("\n5,6\n", "\n5,5\n"))
    change("train(single-labeled)/set_5.csv", lambda text: text + "x7,y\n")
    change("train(single-labeled)/set_5.csv", lambda text: text.replace("\n10,4\n", "\n"))
    for file in (CLIPS / "00011").iterdir():
        file.unlink()
    shutil.rmtree(CLIPS / "00012")
    (CLIPS / "00013" / "00002.jpg").write_bytes(b"")
    (CLIPS / "00014" / "00003.jpg").write_bytes((CLIPS / "00014" / "00003.jpg").read_bytes()[:200])
    return [
        "clip '00002' is listed twice in train of fold 1",
        "clip '00006' is both train and test of fold 2",
        "set_3.csv, line 3: label 9 is not a class",
        "set_4.csv, line 5: clip 00005 is surprise here, disgust elsewhere",
        "set_5.csv, line 33: 'x7,y', expected a clip number",
        "clip '00010' is in no list of fold 5",
        "00011: folder holds no images",
        "00012: no such folder",
        "00013: image 00002.jpg is empty",
        "00014: image 00003.jpg cannot be decoded",
    ]


def test_a_right_tree_has_no_faults(dfew) -> None:
    verdict = check_dataset(dfew, "dfew")
    assert verdict.annotation_faults == []
    assert verdict.file_faults == []
    found = {check.what: check.found for check in verdict.checks}
    assert found["clips"] == 40
    assert found["fold 1 train"] == 32
    assert found["fold 1 test"] == 8
    assert sum(found[f"class {name}"] for name in SEVEN) == 40


def test_ten_planted_faults_are_named_and_nothing_else(dfew) -> None:
    expected = plant()
    verdict = check_dataset(dfew, "dfew")
    faults = verdict.annotation_faults + verdict.file_faults
    for text in expected:
        assert sum(text in fault for fault in faults) == 1, (text, faults)
    assert len(faults) == 10


def test_a_clip_that_is_tested_twice_and_one_that_is_far_too_long(dfew) -> None:
    change("test(single-labeled)/set_1.csv", lambda text: text + "6,7\n")
    change("train(single-labeled)/set_1.csv", lambda text: text.replace("\n6,7\n", "\n"))
    images(CLIPS / "00020", 60, size=8)
    verdict = check_dataset(dfew, "dfew")
    assert verdict.annotation_faults == ["clip '00006' is tested in folds 1 and 2"]
    assert verdict.file_faults == ["Clip/clip_224x224/00020: 60 frames, the median is 3"]


def test_exit_codes_and_json(dfew) -> None:
    runner = CliRunner()
    command = ["validate", "--dataset", "dfew"]
    assert runner.invoke(app, command).exit_code == 0
    result = runner.invoke(app, [*command, "--strict", "--json"])
    assert result.exit_code == 1  # 40 clips are not 11,697
    (report,) = json.loads(result.stdout)
    assert report["checks"][0] == {"what": "clips", "expected": 11697, "found": 40, "verdict": "differs"}
    assert not report["ok"]
    plant()
    result = runner.invoke(app, [*command, "--strict", "--json"])
    assert result.exit_code == 1
    (report,) = json.loads(result.stdout)
    assert len(report["annotation_faults"]) == 6
    assert len(report["file_faults"]) == 4


def test_bad_annotations_are_an_error_and_bad_files_a_finding(dfew, capsys: pytest.CaptureFixture) -> None:
    (CLIPS / "00013" / "00002.jpg").write_bytes(b"")
    assert not validate(dfew, "dfew")
    assert "00013: image 00002.jpg is empty" in capsys.readouterr().out
    change("train(single-labeled)/set_3.csv", lambda text: text.replace("\n3,4\n", "\n3,9\n"))
    with pytest.raises(UserError, match=r"dfew: 1 faults in annotations, the first: .*set_3\.csv, line 3: label 9"):
        validate(dfew, "dfew")


def test_a_table_of_videos(new_folder: Path) -> None:
    good = video(Path("raw/good.mp4"), 5)
    Path("raw/cut.mp4").write_bytes(good.read_bytes()[:-100])
    Path("raw/text.mp4").write_text("words\n" * 50)
    Path("raw/empty.mp4").write_bytes(b"")
    rows = [f"{name},{name}.mp4,happy,{fold}" for name, fold in (("good", 1), ("cut", 1), ("text", 2), ("empty", 2))]
    verdict = check_dataset(listed([*rows, "gone,gone.mp4,sad,1", "x,good.mp4,odd,1"]), "mine")
    assert len(verdict.annotation_faults) == 2
    assert "line 6: path 'gone.mp4'" in verdict.annotation_faults[0]
    assert "line 7: label 'odd'" in verdict.annotation_faults[1]
    assert [fault.split(":")[0] for fault in verdict.file_faults] == ["cut.mp4", "text.mp4", "empty.mp4"]
    assert all(check.verdict == "-" for check in verdict.checks)


def test_every_image_is_looked_at_and_links_out_of_the_root_are_named(new_folder: Path) -> None:
    outside = images(Path("outside"), 1) / "00001.jpg"
    for name in "abcdefg":
        images(Path("raw") / name, 9)
    Path("raw/a/00004.jpg").write_bytes(b"")
    Path("raw/b/00005.jpg").write_bytes(b"not an image")
    Path("raw/c/00009.jpg").write_bytes(b"not an image")
    Path("raw/d/00001.jpg").write_bytes(b"not an image")
    Path("raw/e/00002.jpg").unlink()
    Path("raw/e/00002.jpg").symlink_to(outside.resolve())
    Path("raw/f/00002.jpg").unlink()
    Path("raw/f/00002.jpg").symlink_to("00001.jpg")
    Path("raw/h").symlink_to(outside.parent.resolve())
    found = inspect(Path("raw"), [Clip(name, name, "frames", "") for name in "abcdefgh"], confined=True)
    faults = {one.clip.source: one.fault for one in found}
    assert {name: (fault or "").partition(" (")[0] for name, fault in faults.items()} == {
        "a": "image 00004.jpg is empty",
        "b": "image 00005.jpg cannot be decoded",
        "c": "image 00009.jpg cannot be decoded",
        "d": "image 00001.jpg cannot be decoded",
        "e": "image 00002.jpg is a link that leads out of the root folder",
        "f": "",
        "g": "",
        "h": "is a link that leads out of the root folder",
    }
    assert [one.n_frames for one in found] == [9] * 7 + [None]
    trusting = inspect(Path("raw"), [Clip(name, name, "frames", "") for name in "eh"])
    assert [one.fault for one in trusting] == [None, None]


@pytest.mark.parametrize(
    ("counts", "named"), [([4, 4, 64], []), ([4, 4, 65], [2]), ([64, 64, 4], []), ([64, 64, 3], [2]), ([], [])]
)
def test_outliers_have_16_times_more_or_fewer_frames(counts: list[int], named: list[int]) -> None:
    found = [InspectedClip(Clip(str(n), str(n), "frames", ""), None, count) for n, count in enumerate(counts)]
    found.append(InspectedClip(Clip("v", "v", "video", ""), None))
    assert [fault.split(":")[0] for fault in outliers(found)] == list(map(str, named))


def test_what_is_wrong_with_an_mp4(tmp_path: Path) -> None:
    path = video(tmp_path / "a.mp4", 5)
    data = path.read_bytes()

    def fault(changed: bytes) -> str | None:
        path.write_bytes(changed)
        return video_fault(path)

    assert fault(data) is None
    assert fault(data[:-1]) == f"file is truncated: {len(data) - 1} of at least {len(data)} bytes"
    assert fault(data.replace(b"moov", b"free")) == "has no index (moov atom not found)"
    assert fault(data.replace(b"vide", b"soun")) == "no video stream", "a recording of sound"
    assert fault(b"") == "file is empty (0 bytes)"
    assert fault(b"words " * 100) == "does not begin like a video file"
    large = b"\0\0\0\x01mdat" + (16).to_bytes(8, "big")
    assert fault(data + large) is None, "a box with a length of 64 bits"
    assert fault(data + b"\0\0\0\0mdat123") is None, "a box that reaches to the end"
    assert fault(b"\0\0\0\x08ftyp\0\0\0\x04junk") == "has no index (moov atom not found)"


def test_what_is_published_depends_on_the_part_that_is_read() -> None:
    sizes = {option: published("mafw", {"labels": option}) for option in ("single", "compound")}
    assert sizes["single"] == published("mafw", {}) == PUBLISHED["mafw", "single"]
    assert sizes["compound"] is None
    assert published("ravdess", {}) == PUBLISHED["ravdess", "speech"]
    assert published("ravdess", {"channel": "song"}) == PUBLISHED["ravdess", "song"]
    assert published("folder", {}) is None


def test_counts_are_printed_and_faults_after_the_first_50_are_only_counted(dfew, capsys: pytest.CaptureFixture) -> None:
    for folder in CLIPS.iterdir():
        (folder / "00001.jpg").write_bytes(b"")
    shutil.rmtree(CLIPS / "00001")
    for number in range(41, 60):
        change("test(single-labeled)/set_1.csv", lambda text, number=number: text + f"{number},1\n")
    both = dfew.model_copy(update={"datasets": dict.fromkeys(("dfew", "again"), dfew.datasets["dfew"])})
    assert not validate(both, strict=True)
    lines = capsys.readouterr().out.splitlines()
    lines = lines[: lines.index("again (DFEW)")]
    assert lines[0] == "dfew (DFEW)"
    assert lines[1].split() == ["published", "found", "verdict"]
    assert lines[2].split() == ["clips", "11697", "59", "differs"]
    assert "class happy" in lines[3] and lines[3].split()[2] == "-"
    assert "faults in files: 59" in lines
    assert "  and 9 more; --json lists all" in lines
    assert sum("is empty (0 bytes)" in line or "no such folder" in line for line in lines) == 50


def test_one_video_under_two_names_is_named(new_folder: Path) -> None:
    video(Path("raw/a.mp4"), 2)
    params = listed(["x,a.mp4,happy,1", "y,./a.mp4,happy,2"])
    (fault,) = check_dataset(params, "mine").annotation_faults
    assert "clips 'x' (a.mp4, line 2) and 'y' (a.mp4, line 3) have the same content" in fault


@pytest.mark.parametrize(
    "name", ["a.mov", "a.avi", "a.mkv", "a.webm", "a.flv", "a.mpg", "a.m1v", "a.ts", "a.mts", "a.wmv"]
)
def test_whole_videos_of_other_kinds_pass(tmp_path: Path, name: str) -> None:
    codec = {
        "a.webm": ("-c:v", "libvpx-vp9", "-cpu-used", "8"),
        "a.flv": ("-c:v", "flv"),
        "a.mpg": ("-r", "25", "-c:v", "mpeg1video"),
        "a.m1v": ("-r", "25", "-c:v", "mpeg1video"),
        "a.mts": ("-c:v", "libx264", "-f", "mpegts", "-mpegts_m2ts_mode", "1"),
    }.get(name, ("-c:v", "mpeg4"))
    path = convert(video(tmp_path / "source.mp4", 4), tmp_path / name, *codec)
    assert video_fault(path) is None


def test_deep_reads_what_a_look_passes_over(new_folder: Path) -> None:
    images(Path("raw/a"), 9)
    images(Path("raw/b"), 9)
    (Path("raw/a") / "00003.jpg").write_bytes(b"no image")
    params = listed(["a,a,happy,1", "b,b,sad,2"])
    assert check_dataset(params, "mine").file_faults == []
    (fault,) = check_dataset(params, "mine", deep=True).file_faults
    assert fault.startswith("a: image 00003.jpg cannot be decoded")


@pytest.mark.parametrize("key", PUBLISHED, ids=str)
def test_published_counts_add_up(key: tuple[str, str]) -> None:
    known = PUBLISHED[key]
    assert all(train + test == known.clips for train, test in known.folds)
    assert not known.classes or sum(known.classes.values()) == known.clips
    assert not known.first_test or sum(known.first_test.values()) == known.folds[0][1]
    if len(known.folds) > 1:
        assert sum(test for _, test in known.folds) == known.clips


@pytest.mark.parametrize(("calm", "clips", "neutral"), [("neutral", 1440, 288), ("drop", 1248, 96)])
def test_the_published_counts_of_ravdess_follow_the_option_calm(calm: str, clips: int, neutral: int) -> None:
    known = published("ravdess", {"calm": calm})
    assert known and known.clips == sum(known.classes.values()) == clips
    assert known.classes["neutral"] == neutral and "calm" not in known.classes
