"""Layouts: every official and known shape of a data set gives the source's own counts, folds and labels."""

import re
import shutil
from pathlib import Path

import pytest
from media import images, listed, parameters, write_csv

from tgdfer.config.params import Params
from tgdfer.core import paths, storage
from tgdfer.core.classes import SEVEN
from tgdfer.core.errors import UserError
from tgdfer.datasets import read_listing
from tgdfer.stages.clips import run

pytestmark = pytest.mark.usefixtures("new_folder")


def folder(rows: list[str], header: str = "clip_id,path,label,fold") -> Params:
    params = listed(rows, header)
    for name in "abcdef":
        Path(f"raw/{name}.mp4").write_text(name)
    return params


def test_folder_with_folds_tests_every_clip_once() -> None:
    params = folder(["x,a.mp4,happy,1", "y,b.mp4,sad,2", "z,c.mp4,fear,2"])
    run(params, "mine")
    clips = storage.read_table(paths.clips("mine"), "clips").to_pylist()
    assert [(row["clip_id"], row["label"], row["kind"], row["source"]) for row in clips] == [
        ("x", "happy", "video", "a.mp4"),
        ("y", "sad", "video", "b.mp4"),
        ("z", "fear", "video", "c.mp4"),
    ]
    folds = storage.read_table(paths.folds("mine"), "folds").to_pylist()
    tested = {("x", 1), ("y", 2), ("z", 2)}
    assert {(row["clip_id"], row["fold"], row["split"]) for row in folds} == {
        (clip, fold, "test" if (clip, fold) in tested else "train") for clip in "xyz" for fold in (1, 2)
    }


def test_folder_with_a_split_subject_and_other_columns() -> None:
    images(Path("raw/pics"), 2)
    rows = ["x,a.mp4,happy,Train,p1,?", "y,pics,sad,test,p2,!"]
    params = folder(rows, header="clip_id,path,label,split,subject,note")
    listing = read_listing(params, "mine")
    assert [(member.clip_id, member.fold, member.split) for member in listing.folds] == [
        ("x", 1, "train"),
        ("y", 1, "test"),
    ]
    assert [(clip.kind, clip.subject) for clip in listing.clips] == [("video", "p1"), ("frames", "p2")]


GOOD = "g,f.mp4,happy,2"


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        (["x,gone.mp4,happy,1", GOOD], ["clips.csv, line 2", "path 'gone.mp4'", "no such file"]),
        ([GOOD, "x,a.mp4,joyful,1"], ["clips.csv, line 3", "label 'joyful'", "happy, sad"]),
        (["x,a.mp4,happy,1", GOOD, "x,b.mp4,sad,1"], ["line 4", "clip_id 'x'", "line 2"]),
        (["x,a.mp4,happy,0", GOOD], ["line 2", "fold '0'"]),
        (["x,a.mp4,happy,4", GOOD], ["the folds are 2, 4"]),
        ([",a.mp4,happy,1", GOOD], ["line 2", "clip_id"]),
        (["x,,happy,1", GOOD], ["line 2", "path is empty"]),
        (["x,.,happy,1", GOOD], ["line 2", "path is empty"]),
        ([], ["lists no clips"]),
    ],
)
def test_a_bad_row_is_named(rows: list[str], names: list[str]) -> None:
    params = folder(rows)
    with pytest.raises(UserError) as caught:
        run(params, "mine")
    assert all(name in str(caught.value) for name in names), str(caught.value)
    assert not paths.clips("mine").exists()


@pytest.mark.parametrize(
    ("header", "named"),
    [("clip_id,path,label", "fold"), ("clip_id,path,fold", "label"), ("clip_id,path,label,fold,split", "either")],
)
def test_a_bad_header_is_named(header: str, named: str) -> None:
    with pytest.raises(UserError, match=named):
        run(folder([], header=header), "mine")


@pytest.mark.parametrize(
    ("layout", "root", "annotations", "said"),
    [
        ("folder", "gone", "gone.csv", r"datasets\.mine\.root: gone: no such folder"),
        ("folder", "raw", "gone.csv", r"datasets\.mine\.annotations: gone\.csv"),
        ("folder", "raw", ".", r"^\.: is a folder, expected a CSV file"),
        ("foldr", "raw", "gone.csv", r"no layout 'foldr'; known: .*folder"),
    ],
)
def test_a_wrong_place_or_layout_is_named(layout: str, root: str, annotations: str, said: str) -> None:
    Path("raw").mkdir()
    section = {"layout": layout, "root": root, "annotations": annotations}
    with pytest.raises(UserError, match=said):
        run(parameters(Path(), {"mine": section}), "mine")


def test_a_changed_table_changes_the_clips_table_and_nothing_else_does() -> None:
    run(folder(["x,a.mp4,happy,1", GOOD]), "mine")
    first = paths.clips("mine").read_bytes()
    run(folder(["x,a.mp4,happy,1", GOOD]), "mine")
    assert paths.clips("mine").read_bytes() == first
    run(folder(["x,a.mp4,happy,1,0", GOOD + ",1"], header="clip_id,path,label,fold,sha256"), "mine")
    assert paths.clips("mine").read_bytes() != first


def dfew(
    lists: str = "{split}(single-labeled)",
    clips: str = "Clip/clip_224x224",
    labels: range = range(1, 8),
    name: str = "{:05d}",
    **options: str,
):
    """Ten clips, two of them in each test part; 7 labels in turn; unpadded numbers in the lists."""
    root = Path("DFEW")
    numbers = [1, 23, 456, 7890, 11111, 12, 13, 14, 15, 16]
    for number in numbers:
        if "original" in clips:
            (root / clips).mkdir(parents=True, exist_ok=True)
            (root / clips / f"{name.format(number)}.mp4").write_bytes(b"x")
        else:
            images(root / clips / name.format(number), 2, names=f"{number:05d}_{{:05d}}.jpg")
    for fold in range(1, 6):
        test = numbers[2 * fold - 2 : 2 * fold]
        for split in ("train", "test"):
            rows = [
                f"{number},{labels[step % 7]}"
                for step, number in enumerate(numbers)
                if (number in test) == (split == "test")
            ]
            path = root / "EmoLabel_DataSplit" / lists.format(split=split) / f"set_{fold}.csv"
            write_csv(path, "video_name,label", rows)
    section = {"layout": "dfew", "root": str(root), "annotations": str(root / "EmoLabel_DataSplit")}
    return parameters(Path(), {"dfew": {**section, "options": options}}), numbers


def changed(params: Params, **keys: object) -> Params:
    """``params`` with other ``keys`` in the entry of DFEW."""
    return params.model_copy(update={"datasets": {"dfew": params.datasets["dfew"].model_copy(update=keys)}})


@pytest.mark.parametrize(
    "lists", ["{split}(single-labeled)", "{split}_single_labeled", "{split}(single_labeled)", "{split}"]
)
@pytest.mark.parametrize(
    ("clips", "options"),
    [
        ("Clip/clip_224x224", {}),
        ("Clip/clip_224x224/clip_224x224", {}),
        ("clip/CLIP_224x224", {}),
        ("Clip/clip_224x224_16f", {"source": "16f"}),
        ("Clip/clip_224x16f", {"source": "16f"}),
        ("Clip/original", {"source": "original"}),
    ],
)
def test_dfew_in_every_known_shape(lists: str, clips: str, options: dict) -> None:
    params, numbers = dfew(lists, clips, **options)
    run(params, "dfew")
    assert read_listing(changed(params, annotations="DFEW"), "dfew") == read_listing(params, "dfew")
    table = {row["clip_id"]: row for row in storage.read_table(paths.clips("dfew"), "clips").to_pylist()}
    assert sorted(table) == sorted(f"{number:05d}" for number in numbers)
    for step, number in enumerate(numbers):
        row = table[f"{number:05d}"]
        assert row["label"] == SEVEN[step % 7]
        assert (Path("DFEW") / row["source"]).exists()
        assert row["kind"] == ("video" if "original" in clips else "frames")
    folds = storage.read_table(paths.folds("dfew"), "folds").to_pylist()
    for fold in range(1, 6):
        test = {row["clip_id"] for row in folds if row["fold"] == fold and row["split"] == "test"}
        assert test == {f"{number:05d}" for number in numbers[2 * fold - 2 : 2 * fold]}
        assert sum(row["fold"] == fold and row["split"] == "train" for row in folds) == 8


@pytest.mark.parametrize(("clips", "options"), [("Clip/clip_224x224", {}), ("Clip/original", {"source": "original"})])
def test_dfew_with_unpadded_names_on_disk(clips: str, options: dict) -> None:
    suffix = ".mp4" if options else ""
    params, numbers = dfew(clips=clips, name="{}", **options)
    found = {clip.clip_id: clip.source for clip in read_listing(params, "dfew").clips}
    assert found == {f"{number:05d}": f"{clips}/{number}{suffix}" for number in numbers}
    (Path("DFEW") / clips / f"00023{suffix}").mkdir()
    (Path("DFEW") / clips / f"1{suffix}").rename("gone")
    found = {clip.clip_id: clip.source for clip in read_listing(params, "dfew").clips}
    assert found["00023"] == f"{clips}/00023{suffix}", "the official form is preferred"
    assert found["00001"] == f"{clips}/00001{suffix}", "and expected of a clip that is not there"


def spreadsheet(text: str, form: str) -> bytes:
    """A list in a form that is in circulation, or in which spreadsheets of some countries save it."""
    if form == "suffixes":
        return re.sub(r"^(\d+),", r"\1.mp4, ", text, flags=re.MULTILINE).encode()
    text = text.replace("\n", "\r\n")
    if form == "utf-16":
        return text.replace(",", "\t").encode("utf-16")
    return (text.replace(",", ";") + ";\r\n").encode("utf-8-sig")


@pytest.mark.parametrize("form", ["utf-16", "semicolons", "suffixes"])
def test_lists_saved_by_a_spreadsheet_are_the_same_lists(form: str) -> None:
    params, _ = dfew()
    expected = read_listing(params, "dfew")
    for path in Path("DFEW/EmoLabel_DataSplit").rglob("*.csv"):
        path.write_bytes(spreadsheet(path.read_text(), form))
    assert read_listing(params, "dfew") == expected


def test_a_list_that_may_not_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    params, _ = dfew()

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=r"set_1\.csv: Permission denied$"):
        read_listing(params, "dfew")


def test_dfew_says_what_to_set() -> None:
    params, _ = dfew(clips="Clip/original")
    said = r"no folder Clip/clip_224x224; set datasets\.dfew\.options\.source to original"
    with pytest.raises(UserError, match=said):
        run(params, "dfew")
    shutil.move("DFEW/Clip/original", "DFEW/elsewhere")
    with pytest.raises(UserError, match=r"datasets\.dfew\.root must be the folder that contains Clip"):
        run(params, "dfew")


def test_a_root_that_holds_none_of_the_clips_is_refused_at_once() -> None:
    params, _ = dfew()
    shutil.rmtree("DFEW/Clip/clip_224x224")
    images(Path("DFEW/Clip/clip_224x224/other"), 1)
    said = r"datasets\.dfew\.root: DFEW: none of the 10 listed clips is there; the first is Clip/clip_224x224/00001"
    with pytest.raises(UserError, match=said):
        run(params, "dfew")


def test_dfew_needs_its_seven_classes() -> None:
    params, _ = dfew()
    said = r"datasets\.dfew\.classes: clip '00012' is 'disgust', which is not one of happy, sad"
    with pytest.raises(UserError, match=said):
        read_listing(changed(params, classes=["happy", "sad"]), "dfew")


def test_dfew_lists_that_count_from_0_are_refused_with_a_hint() -> None:
    params, _ = dfew(labels=range(7))
    with pytest.raises(UserError, match=r"set_1\.csv, line \d+: label 0.*counts the classes from 0.*1 happy"):
        run(params, "dfew")


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ("9999,8", r"set_3\.csv.*label 8 is not a class"),
        ("abc,1", r"set_3\.csv.*'abc,1'"),
        ("٣,1", r"set_3\.csv.*'٣,1'"),
        ("1,2", r"set_3\.csv.*is sad here, happy elsewhere"),
        ("1", r"set_3\.csv.*expected 2 fields"),
        ("11111,5", "'11111' is both train and test of fold 3"),
    ],
)
def test_dfew_with_a_bad_row(row: str, named: str) -> None:
    params, _ = dfew()
    path = Path("DFEW/EmoLabel_DataSplit/train(single-labeled)/set_3.csv")
    path.write_text(path.read_text() + row + "\n")
    with pytest.raises(UserError, match=named):
        run(params, "dfew")


def test_dfew_with_a_missing_list_or_an_unknown_option() -> None:
    params, _ = dfew()
    last = Path("DFEW/EmoLabel_DataSplit/test(single-labeled)/set_5.csv")
    last.write_text("video_name,label\n")
    with pytest.raises(UserError, match=r"set_5\.csv: lists no clips"):
        run(params, "dfew")
    last.unlink()
    with pytest.raises(UserError, match=r"set_5\.csv"):
        run(params, "dfew")
    with pytest.raises(UserError, match=r"options\.sauce: unknown option; layout dfew has source"):
        run(dfew(sauce="hot")[0], "dfew")
    with pytest.raises(UserError, match=r"options\.source: 'hot' is not one of frames, 16f, original"):
        run(dfew(source="hot")[0], "dfew")
