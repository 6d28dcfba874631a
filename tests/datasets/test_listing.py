"""What all layouts share: names of classes, paths, folders, rows of lists, and folds."""

from collections import Counter
from pathlib import Path

import pytest

from tgdfer.core.classes import ELEVEN, SEVEN
from tgdfer.core.errors import UserError
from tgdfer.datasets.folds import cross_validation, dealt_folds, listed_folds, subject_folds
from tgdfer.datasets.listing import Clip, Complaints, below_root, class_of, clip_ids, first_folder, known_spellings
from tgdfer.datasets.lists import rows_of


@pytest.mark.parametrize(
    "spellings",
    [
        "happiness sadness neutral anger surprise disgust fear contempt anxiety helplessness disappointment",
        "Happy Sad Neutral Angry Surprise Disgust Fear contempt anxious helpless disappointed",
        "HAP SAD NEU ANG SUR DIS FEA contempt anxiety helplessness disappointment",
        "ha sa ne an su di fe contempt anxiety helplessness disappointment",
        "happy sad neutrality angry surprised disgusted fearful contempt anxiety helplessness disappointment",
    ],
)
def test_official_spellings_of_classes(spellings: str) -> None:
    assert [class_of(f" {spelling} ", ELEVEN, "") for spelling in spellings.split()] == list(ELEVEN)
    assert class_of("afraid", SEVEN, "") == "fear"
    assert class_of("Boredom", ["boredom"], "") == "boredom"
    assert known_spellings(["sad", "calm"]) == {"sadness": "sad", "sad": "sad", "sa": "sad", "calm": "calm"}
    assert class_of("sadness", ["sadness", "sad"], "") == "sadness", "a class of the data set comes first"
    with pytest.raises(UserError, match="here: label 'contempt' is not a class; the classes are happy, sad"):
        class_of("contempt", SEVEN, "here")


def test_paths_below_the_root() -> None:
    assert below_root("./a//b.mp4", "") == "a/b.mp4"
    assert below_root("a..b/c", "") == "a..b/c"


def test_the_id_of_a_clip_is_its_path_without_the_suffix_unless_two_would_be_one() -> None:
    kinds = {"a/b.c.mp4": "video", "a/d.x": "frames", "e.mp4": "video", "e.mov": "video", ".f": "video"}
    assert clip_ids(kinds) == ["a-b.c", "a-d.x", "e.mp4", "e.mov", ".f"]
    # what is longer now may be the id of another
    assert clip_ids({"g.mp4": "video", "g.mov": "video", "g.mp4.avi": "video"}) == ["g.mp4", "g.mov", "g.mp4.avi"]
    assert clip_ids({"h .mp4": "video", "h  .mp4": "video"}) == ["h .mp4", "h .mp4"], "for the reader to reject"


def test_the_first_folder_that_is_there(tmp_path: Path) -> None:
    for name in ("Clip/A/A", "clips/b", "clips/B"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "file").touch()
    assert first_folder(tmp_path, ["none", "file", "clip/a", "clips"]) == tmp_path / "Clip/A/A"
    assert first_folder(tmp_path, ["CLIPS/b"]) == tmp_path / "clips/b"
    assert first_folder(tmp_path, ["clips/x", "none"]) is None


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_rows_have_their_lines(tmp_path: Path, mark: str) -> None:
    table = tmp_path / "list.csv"
    table.write_text('a,b\n1,"x\ny"\n\n,\n2,z\n3\n4,w,v\n5,end'.replace(",", mark))
    complaints = Complaints(keep=True)
    header, rows = rows_of(table, complaints)
    assert header == ["a", "b"]
    assert [(line, list(row.values())) for line, row in rows] == [
        (3, ["1", "x\ny"]),
        (6, ["2", "z"]),
        (9, ["5", "end"]),
    ]
    assert complaints.found == [
        f"{table}, line {line}: expected 2 fields, as in the header; got {found}" for line, found in ((7, 1), (8, 3))
    ]
    with pytest.raises(UserError, match="line 7: expected 2 fields"):
        rows_of(table)


def clips(labels: str, subjects: str = "") -> list[Clip]:
    known = subjects or [None] * len(labels)
    return [Clip(f"c{n}", "", "video", label, subject=known[n]) for n, label in enumerate(labels)]


def fold_of(members) -> dict[str, int]:
    return {member.clip_id: member.fold for member in members if member.split == "test"}


def test_every_clip_is_tested_once_and_trained_on_in_all_other_folds() -> None:
    members = cross_validation({"a": 1, "b": 3, "c": 3, "d": 2})
    assert Counter(member.clip_id for member in members) == dict.fromkeys("abcd", 3)
    assert fold_of(members) == {"a": 1, "b": 3, "c": 3, "d": 2}
    assert all(member.split in ("train", "test") for member in members)


def test_folds_of_subjects_and_folds_without_them() -> None:
    found = fold_of(subject_folds(clips("hhhhhhh", "bacbade"), 2, ""))
    assert found == {"c0": 1, "c1": 1, "c2": 1, "c3": 1, "c4": 1, "c5": 2, "c6": 2}
    with pytest.raises(UserError, match="x: 2 subjects cannot be divided into 3 folds"):
        subject_folds(clips("hhh", "aab"), 3, "x")
    assert len(set(fold_of(subject_folds(clips("hhh", "abc"), 3, "x")).values())) == 3
    found = fold_of(dealt_folds(clips("hshsh")[::-1], 2, ""))
    assert found == {"c0": 1, "c2": 2, "c4": 1, "c1": 2, "c3": 1}
    assert set(fold_of(dealt_folds(clips("hshsh"), 3, "")).values()) == {1, 2, 3}
    with pytest.raises(UserError, match="x: no class has 3 clips, which 3 folds need"):
        dealt_folds(clips("hshs"), 3, "x")


def test_folds_of_a_list() -> None:
    assert fold_of(listed_folds({"a": "1", "b": "2"}, "")) == {"a": 1, "b": 2}
    assert [(m.clip_id, m.fold, m.split) for m in listed_folds({"a": "test", "b": "train"}, "")] == [
        ("a", 1, "test"),
        ("b", 1, "train"),
    ]
    for places, said in (
        ("tt", "no clip is train"),
        ("rr", "no clip is test"),
        ("11", "the folds are 1; expected"),
        ("13", "1, 3; expected"),
        ("23", "2, 3; expected"),
        ("1235", "1, 2, 3, 5; expected"),
    ):
        full = [{"t": "test", "r": "train"}.get(place, place) for place in places]
        with pytest.raises(UserError, match=said):
            listed_folds({str(n): place for n, place in enumerate(full)}, "x")
