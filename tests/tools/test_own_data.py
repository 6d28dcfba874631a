"""Examples of your own data: what new-dataset takes for a clip, what it says about a list, and what it refuses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from features_project import make_encoder
from graphs import ROOT
from media import images, video

from tgdfer.config.params import load_params
from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.datasets import read_listing
from tgdfer.datasets.validate import check_dataset
from tgdfer.stages import clips, features, frames, train
from tgdfer.tools.scaffold import new_dataset
from tgdfer.tools.scaffold.folder import from_folder
from tgdfer.tools.scaffold.table import from_csv


def small_videos(folder: str, *names: str) -> None:
    for number, name in enumerate(names):
        video(Path(folder) / name, 3 + number % 3)


@pytest.fixture(autouse=True)
def _here(new_folder: Path) -> None:
    (new_folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())


def test_what_passes_validate_strict_trains() -> None:
    for label in ("Happiness", "sad"):
        small_videos(f"raw/{label}", *(f"{label}.{number}.mp4" for number in range(3)))
        for take in ("take1", "take2"):
            images(Path(f"raw/{label}/{label}.{take}"), 3)
        Path(f"raw/{label}/.DS_Store").touch()
    new_dataset(Path("params.yaml"), "mine", folder=Path("raw"), encoder="demo-clip")
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("epochs: 20", "epochs: 1"))
    params = load_params()
    assert check_dataset(params, "mine").ok
    make_encoder()
    clips.run(params, "mine")
    frames.run(params, "mine")
    features.run(params, "mine")
    for variant in ("linear-probe", "text-class-name"):
        assert train.run(params, "mine", variant, folds=[1]) == 0
    metrics = storage.read_json(paths.run("mine", "linear-probe", 1, 0) / "metrics.json")
    assert metrics["classes"] == ["happy", "sad"], "no output for a class without clips"


@pytest.mark.parametrize(
    "junk",
    [
        *(".ipynb_checkpoints/a-checkpoint.mp4", "__MACOSX/._a.mp4", "@eaDir/a.mp4", ".Trash/a.mp4", "~$a.mp4"),
        *("_gsdata_/a.mp4", "@Recycle/a.mp4", "found.000/a.mp4", "Temporary Items/a.mp4"),
    ],
)
def test_hidden_and_system_files_are_not_clips(junk: str) -> None:
    small_videos("raw/happy", "a.mp4", "b.mp4", "c.mp4")
    small_videos("raw/sad", "d.mp4")
    path = Path("raw/happy") / junk
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(Path("raw/happy/a.mp4").read_bytes())
    made = new_dataset(Path("params.yaml"), "mine", folder=Path("raw"), encoder="demo-clip")
    assert sorted(clip.source for clip in read_listing(load_params(), "mine").clips) == [
        *(f"happy/{name}.mp4" for name in "abc"),
        "sad/d.mp4",
    ]
    assert f"passed over: 1\n  1 hidden, or made by a system or program: happy/{junk}" in made.summary


def test_links_are_followed_and_loops_are_not() -> None:
    small_videos("raw/happy", "a.mp4", "b.mp4")
    small_videos("elsewhere/sad", "c.mp4", "d.mp4", "e.mp4")
    Path("raw/sad").symlink_to(Path("elsewhere/sad").resolve())
    Path("raw/happy/loop").symlink_to("..")
    Path("raw/happy/gone.mp4").symlink_to("nowhere.mp4")
    made = new_dataset(Path("params.yaml"), "mine", folder=Path("raw"), encoder="demo-clip")
    params = load_params()
    assert len(read_listing(params, "mine").clips) == 5
    assert params.datasets["mine"].links == "anywhere"
    assert "3 clips behind links out of raw, such as sad/c.mp4: the entry has `links: anywhere`" in made.summary
    assert "1 a link to a folder that it is in: happy/loop" in made.summary
    assert "1 a link that leads nowhere: happy/gone.mp4" in made.summary


def test_a_copy_in_train_of_a_test_clip_is_passed_over_and_two_labels_are_refused() -> None:
    for part in ("train", "test"):
        small_videos(f"raw/{part}/happy", f"{part}1.mp4", f"{part}2.mp4")
        small_videos(f"raw/{part}/sad", f"{part}3.mp4")
    os.link("raw/test/sad/test3.mp4", "raw/train/sad/copy.mp4")
    made = new_dataset(Path("params.yaml"), "mine", folder=Path("raw"), encoder="demo-clip")
    assert "1 with the content of another clip: train/sad/copy.mp4 = test/sad/test3.mp4" in made.summary
    os.link("raw/test/sad/test3.mp4", "raw/train/happy/copy.mp4")
    with pytest.raises(UserError, match=r"the same content has different labels: .*keep the right one"):
        new_dataset(Path("params.yaml"), "other", folder=Path("raw"), encoder="demo-clip", out=Path("o.csv"))


def listed(text: str, *names: str) -> Path:
    small_videos("raw", *(names or ("a.mp4", "b.mp4", "c.mp4", "d.mp4")))
    Path("raw/list.csv").write_text(text)
    return Path("raw/list.csv")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,label,actor\na.mp4,happy,x\nb.mp4,sad,\nc.mp4,sad,y", "line 3: 'actor' is empty here and in 1 of 3"),
        ("path,label,fold\na.mp4,happy,1\nb.mp4,sad,\nc.mp4,sad,2", "line 3: 'fold' is empty here"),
        ("path,label,split\na.mp4,happy,train\nb.mp4,sad,\nc.mp4,sad,test", "line 3: 'split' is empty"),
        ("path,label\na.mp4,happy\nb.mp4, \nc.mp4,sad", "line 3: 'label' is empty here"),
        ("path,label\na.mp4,\nb.mp4,", "the column of the label is empty in every row"),
        ("path,label\na.mp4,happy\n.\\b.mp4,sad", "line 3: path '.\\b.mp4': no such file below raw; here folders are"),
        ("path,label\nA.MP4,happy\nb.mp4,sad", "line 2: path 'A.MP4': no such file below raw; did you mean 'a.mp4'?"),
        ("path,label\na,happy\nb.mp4,sad", "line 2: path 'a': no such file below raw; did you mean 'a.mp4'?"),
        ("id,path,label\nx,a.mp4,happy\nx,b.mp4,sad", "line 2: a.mp4 and line 3: b.mp4 have one clip_id, 'x'"),
        (
            "path,Label,label\na.mp4,happy,1",
            "columns 'Label' and 'label' differ only in capitals and blanks; rename one",
        ),
        ("path,label,fold\na.mp4,happy,1\nb.mp4,sad,x", "line 3: b.mp4: fold or split 'x'; expected"),
    ],
)
def test_a_bad_row_is_named_with_its_line(text: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        from_csv(listed(text))
    assert said in str(caught.value)


def test_other_files_than_csv_are_refused_with_what_to_do() -> None:
    table = listed("")
    kinds = {"an Excel or OpenDocument workbook": b"PK\x03\x04", "a workbook of an old Excel": b"\xd0\xcf\x11\xe0\xa1"}
    for said, data in {**kinds, "a Parquet file": b"PAR1"}.items():
        table.write_bytes(data)
        with pytest.raises(UserError, match=f"list.csv: is {said}, expected a CSV; save the table as 'CSV UTF-8'"):
            from_csv(table)
    table.write_bytes("path,label\na.mp4,böse".encode("latin-1"))
    with pytest.raises(UserError, match=r"list.csv, line 2: not text in UTF-8 \(.* at byte 18\).*'CSV UTF-8'"):
        from_csv(table)


def test_quotes_after_blanks_and_the_line_of_excel() -> None:
    assert from_csv(listed('path, label\na.mp4, "sad"\nb.mp4, "happy"\nc.mp4,sad')).classes == ["happy", "sad"]
    table = listed("sep=;\npath;label;score (0,1)\na.mp4;sad;0,5\nb.mp4;happy;1,0\nc.mp4;sad;1")
    assert from_csv(table).classes == ["happy", "sad"]


def test_what_a_person_should_look_at_is_said() -> None:
    names = [f"{number}.mp4" for number in range(8)]
    labels = ["sadness"] * 4 + ["happy"] * 3 + ["saddness"]
    rows = [f"{name},{label},x" for name, label in zip(names, labels, strict=True)]
    made = new_dataset(Path("params.yaml"), "mine", listed("\n".join(["file,emotion,note", *rows]), *names))
    assert "columns     path from 'file', label from 'emotion'; not used: note" in made.summary
    assert "protection  none: the subjects are not known, so a person may be in training and test" in made.summary
    alike = "class 'saddness' (1 clip) is spelled almost like 'sadness', which is the class 'sad' (4 clips)"
    assert alike in made.summary
    assert "class 'saddness' (1 clip) is not tested in folds" in made.summary
    assert "there are no words for the class saddness" in made.summary
    card = Path("docs/datasets/mine.md").read_text()
    assert "| protection | none: the subjects are not known" in card
    verdict = check_dataset(load_params(), "mine")
    assert not verdict.ok
    assert "no words for the class saddness" in verdict.later_faults[0]
    with pytest.raises(UserError, match=r"no words for the class saddness, with which .* compare frames; add them"):
        clips.run(load_params(), "mine")


@pytest.mark.parametrize(
    ("subjects", "said"),
    [
        (["Anna", "ben", "anna", "BEN"], "doubtful: subjects whose names differ only in capitals"),
        (["3.0", "2", "3", "2.0"], "doubtful: subjects whose names differ only in capitals"),
        (["1", "02", "001", "2"], "doubtful: subjects whose names differ only in capitals"),
        (["p 1", "p2", "P1", "p 2"], "doubtful: subjects whose names differ only in capitals"),
        (["1", "10", "101", "1001"], "protection  no subject is in training and test of a fold"),
        (["a", "N/A", "b", "N/A"], "subject 'N/A' (2 clips) looks like a missing value"),
        (["a", "N/A", "b", "N/A"], "protection  partial: the subject of 2 of 4 clips is 'N/A'"),
        (["a", "a", "a", "a"], "made by this project: each class dealt out"),
    ],
)
def test_one_person_under_two_names_and_missing_values_are_said(subjects: list[str], said: str) -> None:
    rows = [f"{name}.mp4,{('happy', 'sad')[n % 2]},{subjects[n]}" for n, name in enumerate("abcd")]
    table = listed("\n".join(["path,label,Subject ID", *rows]))
    assert said in new_dataset(Path("params.yaml"), "mine", table, encoder="demo-clip").summary


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["1", "1.0", "2"], "the classes 1, 1.0, 2 are numbers, whose meaning differs between lists"),
        (["nan", "happy", "sad"], "class 'nan' (2 clips) looks like a missing value"),
        (["-1", "+1", "0,5"], "the classes +1, -1, 0,5 are numbers"),
        (["it's", "it\u2019s", "sad"], "class 'it\u2019s' (2 clips) is spelled almost like 'it's'"),
        (["\uff53ad", "happy", "sad"], "class '\uff53ad' (2 clips) is spelled almost like 'sad'"),
        (["s\u0430d", "happy", "sad"], "class 's\u0430d' (2 clips) is spelled almost like 'sad'"),
        (["'sad'", "happy", "sad"], "class ''sad'' (2 clips) is spelled almost like 'sad'"),
        (["happy", "sad", "happy"], "2 clips named like copies of others, such as a - Copy (2).mp4: keep one of each"),
    ],
)
def test_numbers_missing_values_and_copies_are_said(labels: list[str], said: str) -> None:
    names = ("a.mp4", "a - Copy (2).mp4", "a (1).mp4", "b.mp4", "c.mp4", "d (1).mp4")
    for number, name in enumerate(names):
        video(Path("raw") / name, 3 + number)
    rows = [f'{name},"{label}"' for name, label in zip(names, 2 * labels, strict=True)]
    Path("raw/list.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    assert said in new_dataset(Path("params.yaml"), "mine", Path("raw/list.csv"), encoder="demo-clip").summary


def test_columns_that_are_not_read_are_said() -> None:
    both = [f"{name}.mp4,{('happy', 'sad')[n % 2]},{1 + n // 2},train,0,1" for n, name in enumerate("abcd")]
    made = new_dataset(Path("params.yaml"), "mine", listed("\n".join(["path,label,cv_fold,split,start_s,End", *both])))
    assert "fold from 'cv_fold'; not used: split, start_s, End" in made.summary
    assert "not used: start_s, End: every clip is its whole video" in made.summary
    with pytest.raises(UserError, match=r"a\.mp4 is on line 2 already; cut the video into a file for each row"):
        from_csv(listed("path,label,onset\na.mp4,happy,0\na.mp4,sad,1"))


def test_train_and_test_in_each_class_folder_are_the_split() -> None:
    for label in ("happy", "sad"):
        small_videos(f"raw/{label}/Train", f"{label}1.mp4", f"{label}2.mp4")
        small_videos(f"raw/{label}/test", f"{label}3.mp4")
    understood = from_folder(Path("raw"))
    split_of = {member.clip_id: member.split for member in understood.listing.folds}
    assert {clip.source: split_of[clip.clip_id] for clip in understood.listing.clips} == {
        f"{label}/{place}/{label}{number}.mp4": place.lower()
        for label in ("happy", "sad")
        for place, number in (("Train", 1), ("Train", 2), ("test", 3))
    }
    small_videos("raw/sad", "outside.mp4")
    with pytest.raises(UserError, match="expected all or none"):
        from_folder(Path("raw"))


def test_one_clip_in_two_forms_and_copies_are_said() -> None:
    small_videos("raw/happy", "a.mp4", "a.mkv", "Copy of a.mp4", "b - Kopie.mp4", "b.mp4")
    images(Path("raw/sad/c"), 3)
    small_videos("raw/sad", "c.mp4", "d.mp4", "d_copy.mp4")
    made = new_dataset(Path("params.yaml"), "mine", folder=Path("raw"), encoder="demo-clip")
    assert "3 clips named like copies of others, such as happy/Copy of a.mp4" in made.summary
    assert "2 clips named like others in another form, such as happy/a.mkv and happy/a.mp4: if" in made.summary


def test_people_on_both_sides_of_listed_folds_are_said() -> None:
    rows = ["a.mp4,happy,1,anna", "b.mp4,sad,2,anna", "c.mp4,happy,1,ben", "d.mp4,sad,1,ben"]
    made = new_dataset(Path("params.yaml"), "mine", listed("\n".join(["path,label,fold,actor", *rows])))
    assert "protection  none: 1 of 2 subjects are in training and test of a fold" in made.summary
    assert "none: 1 of 2 subjects" in check_dataset(load_params(), "mine").protection


def test_folders_of_people_are_not_taken_for_classes() -> None:
    for person in ("anna", "ben"):
        small_videos(f"raw/{person}/happy", f"{person}.mp4")
        small_videos(f"raw/{person}/sad", f"{person}2.mp4")
    with pytest.raises(UserError, match=r"the first folders \(anna, ben\) are not classes, those below them are"):
        from_folder(Path("raw"))


def test_folders_of_people_with_the_class_in_the_file_names_are_not_taken_for_classes() -> None:
    for person in ("anna", "ben"):
        small_videos(f"raw/{person}", f"{person}-happy-1.mp4", f"{person}_SAD.mp4")
    with pytest.raises(UserError, match=r"\(anna, ben\) are not classes, the file names say them \(happy, sad\)"):
        from_folder(Path("raw"))
    Path("raw/anna/anna_SAD.mp4").unlink()
    Path("raw/ben/ben-happy-1.mp4").rename("raw/ben/sad-1.mp4")
    assert from_folder(Path("raw")).classes == ["anna", "ben"], "each folder has one class: its own word for it"


def test_a_class_without_clips_is_said() -> None:
    table = listed("clip_id,path,label,fold\na,a.mp4,happy,1\nb,b.mp4,sad,2\nc,c.mp4,happy,2\nd,d.mp4,sad,1")
    entry = f"  mine: {{layout: folder, root: raw, annotations: {table}, encoder: demo-clip}}\n"
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("datasets:\n", f"datasets:\n{entry}", 1))
    notes = check_dataset(load_params(), "mine").notes
    assert sum("has no clips, but gets an output of the model" in note for note in notes) == 5
