"""FERV39k, MAFW, RAVDESS, CREMA-D and AFEW: small trees in the official layouts and their known variants."""

from collections import Counter
from pathlib import Path

import pytest
from media import images, parameters

from tgdfer.config.params import load_params
from tgdfer.core import paths, storage
from tgdfer.core.classes import ELEVEN, SEVEN
from tgdfer.core.errors import UserError
from tgdfer.datasets import read_listing
from tgdfer.datasets.listing import Complaints
from tgdfer.datasets.validate import check_dataset
from tgdfer.stages.clips import run

pytestmark = pytest.mark.usefixtures("new_folder")


def read(layout: str, root: str, annotations: str | None = None, classes: tuple[str, ...] = SEVEN, **options: str):
    section = {"layout": layout, "root": root, "annotations": annotations or root, "options": options}
    params = parameters(Path(), {"d": {**section, "classes": list(classes)}}).only(
        ["linear-probe"]
    )  # reads no text: some classes have no words
    run(params, "d")
    clips = {row["clip_id"]: row for row in storage.read_table(paths.clips("d"), "clips").to_pylist()}
    folds = storage.read_table(paths.folds("d"), "folds").to_pylist()
    assert len(read_listing(params, "d").clips) == len(clips)
    return clips, {(row["clip_id"], row["fold"]): row["split"] for row in folds}


def people(clips: dict, folds: dict, fold: int, split: str) -> set[str]:
    return {clips[clip]["subject"] for (clip, number), side in folds.items() if (number, side) == (fold, split)}


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"x")


FERV = {"Crime/Angry/0063": "angry", "Crime/Surprise/0001": "surprise", "School/Fear/0100": "fear"}


def ferv(folder: str = "2_ClipsforFaceCrop", separator: str = " ", last: str = "\n") -> None:
    for clip in FERV:
        images(Path("F") / folder / clip, 1)
    lists = Path("F/4_setups/All_scenes")
    lists.mkdir(parents=True, exist_ok=True)
    rows = [f"{clip}{separator}{clip.split('/')[1]}" for clip in FERV]
    (lists / "train_All.csv").write_text("\n".join(rows[:2]) + last)
    (lists / "test_All.csv").write_text(rows[2] + last)


@pytest.mark.parametrize("annotations", ["F/4_setups", "F/4_setups/All_scenes", "F"])
@pytest.mark.parametrize("folder", ["2_ClipsForFaceCrop", "2_ClipsforFaceCrop/2_ClipsforFaceCrop", "."])
@pytest.mark.parametrize(("separator", "last"), [(" ", "\n"), (",", ""), (";", "\n"), ("\t", "\r\n")])
def test_ferv39k(annotations: str, folder: str, separator: str, last: str) -> None:
    ferv(folder, separator, last)
    clips, folds = read("ferv39k", "F", annotations)
    assert {clip: row["label"] for clip, row in clips.items()} == FERV
    assert clips["Crime/Angry/0063"]["subject"] == "Crime"
    assert all((Path("F") / row["source"]).is_dir() for row in clips.values())
    assert folds == {(clip, 1): "test" if clip.startswith("School") else "train" for clip in FERV}


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ("Crime/Angry/0064 3", "label 3 is a number"),
        ("Crime/Angry/0064 Bored", "label 'Bored' is not a class"),
        ("Crime/Angry", "expected 'Scene/Emotion/0000 Emotion'"),
        ("Crime/Angry Angry", "line 2: 'Crime/Angry Angry', expected 'Scene/Emotion/0000 Emotion'"),
        ("../Angry/0064 Angry", "'..'"),
        ("Crime/Angry/0063 Angry", "'Crime/Angry/0063' is both train and test of fold 1"),
        ("School/Fear/0100 Sad", "clip School/Fear/0100 is sad here, fear elsewhere"),
        ("School/Fear/0100 Fear", "listed twice"),
    ],
)
def test_ferv39k_with_a_bad_row(row: str, named: str) -> None:
    ferv()
    path = Path("F/4_setups/All_scenes/test_All.csv")
    path.write_text(path.read_text() + row + "\n")
    with pytest.raises(UserError) as caught:
        read("ferv39k", "F", "F/4_setups")
    assert named in str(caught.value)


TRAIN = dict.fromkeys(range(1, 6), "train")
MAFW = [
    ("00001", "anger", "angry"),
    ("00002", "contempt", "contempt"),
    ("00025", "happiness", "happy"),
    ("00100", "helplessness", "helplessness"),
    ("10045", "surprise", "surprise"),
]


def mafw(base: str, captions: str, kind: str, labels: str = "single", extra: str = "") -> None:
    for fold in range(1, 6):
        folder = Path("M") / base / labels / captions / f"set_{fold}"
        folder.mkdir(parents=True, exist_ok=True)
        for split in ("train", "test"):
            rows = [
                f"{clip}.mp4 {spelling}".encode()
                if captions == "no_caption"
                else f"{clip}.mp4\t{spelling}\t".encode() + "微笑".encode()[:4] + b"\tA man smiles."
                for step, (clip, spelling, _) in enumerate(MAFW)
                if (step + 1 == fold) == (split == "test")
            ]
            if extra and fold == 1 and split == "train":
                rows.append(extra.encode())
            (folder / f"{split}.txt").write_bytes(b"\n".join(rows))
    for clip, _, _ in MAFW:
        if "clips" in kind:
            touch(f"M/data/{kind}/{clip}.mp4")
        else:
            images(Path("M/data") / kind / clip, 1, names="{}.png")


@pytest.mark.parametrize("base", ["Train & Test Set", "Train_Test_Set", "split"])
@pytest.mark.parametrize("captions", ["no_caption", "with_caption"])
@pytest.mark.parametrize("kind", ["frames", "faces", "clips", "clips/unzip"])
def test_mafw(base: str, captions: str, kind: str) -> None:
    mafw(base, captions, kind)
    for annotations in (f"M/{base}", "M"):
        clips, folds = read("mafw", "M", annotations, ELEVEN)
        assert {clip: row["label"] for clip, row in clips.items()} == {clip: label for clip, _, label in MAFW}
        assert all((Path("M") / row["source"]).exists() for row in clips.values())
        for step, (clip, _, _) in enumerate(MAFW):
            assert {fold: folds[clip, fold] for fold in range(1, 6)} == {**TRAIN, step + 1: "test"}


def test_mafw_faces_come_before_frames_unless_asked_for() -> None:
    mafw("split", "no_caption", "frames")
    mafw("split", "no_caption", "faces")
    assert read("mafw", "M", None, ELEVEN)[0]["00001"]["source"] == "data/faces/00001"
    assert read("mafw", "M", None, ELEVEN, source="frames")[0]["00001"]["source"] == "data/frames/00001"


def test_mafw_compound_labels() -> None:
    mafw("split", "no_caption", "frames", "compound", extra="7.mp4 disgust_anger_sadness")
    classes = (*ELEVEN, "sad_angry_disgust")
    clips, _ = read("mafw", "M", None, classes, labels="compound")
    assert clips["00007"]["label"] == "sad_angry_disgust"
    with pytest.raises(UserError, match="add 'sad_angry_disgust' to"):
        read("mafw", "M", None, ELEVEN, labels="compound")


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ("00007.avi anger", "expected '00025.mp4 anger'"),
        ("00007.mp4 bored", "line 5: label 'bored' is not a class"),
        ("00007.mp4 anger2", "line 5: '00007.mp4 anger2', expected '00025.mp4 anger'"),
        ("10045.mp4 anger", "is angry here, surprise elsewhere|is surprise here, angry elsewhere"),
    ],
)
def test_mafw_with_a_bad_row(extra: str, named: str) -> None:
    mafw("split", "no_caption", "frames", extra=extra)
    with pytest.raises(UserError, match=named):
        read("mafw", "M", None, ELEVEN)


def test_mafw_needs_its_eleven_classes() -> None:
    mafw("split", "no_caption", "frames")
    with pytest.raises(UserError, match="add 'contempt' to"):
        read("mafw", "M")


def ravdess(folder: str = "Actor_{:02d}") -> None:
    for actor in range(1, 25):
        for modality in ("01", "02", "03"):
            suffix = "wav" if modality == "03" else "mp4"
            for channel in ("01", "02"):
                for emotion in range(1, 9):
                    name = f"{modality}-{channel}-{emotion:02d}-01-02-01-{actor:02d}.{suffix}"
                    touch(f"R/{folder.format(actor)}/{name}")
        touch(f"R/{folder.format(actor)}/readme.txt")


EIGHT = (*SEVEN, "calm")


@pytest.mark.parametrize("folder", ["Actor_{:02d}", "Video_Speech_Actor_{0:02d}/Actor_{0:02d}", "."])
def test_ravdess(folder: str) -> None:
    ravdess(folder)
    clips, folds = read("ravdess", "R", classes=EIGHT)
    assert len(clips) == 24 * 8
    assert clips["01-01-06-01-02-01-12"]["label"] == "fear"
    assert clips["01-01-08-01-02-01-12"]["label"] == "surprise"
    assert clips["01-01-02-01-02-01-12"]["label"] == "calm"
    assert clips["01-01-06-01-02-01-12"]["subject"] == "12"
    tested = {fold: people(clips, folds, fold, "test") for fold in range(1, 7)}
    assert tested[1] == {"01", "02", "03", "04"}
    assert all(len(subjects) == 4 for subjects in tested.values())
    assert len(set.union(*tested.values())) == 24
    for fold, subjects in tested.items():
        assert not people(clips, folds, fold, "train") & subjects


def test_ravdess_options() -> None:
    ravdess()
    songs = read("ravdess", "R", classes=EIGHT, channel="song")[0]
    assert {clip.split("-")[1] for clip in songs} == {"02"}
    assert len(read("ravdess", "R", classes=EIGHT, channel="both")[0]) == 24 * 16
    assert set(read("ravdess", "R", classes=EIGHT, modality="video")[0]) != set(read("ravdess", "R", classes=EIGHT)[0])
    assert Counter(row["label"] for row in read("ravdess", "R", calm="neutral")[0].values())["neutral"] == 48
    assert len(read("ravdess", "R", calm="drop")[0]) == 24 * 7
    with pytest.raises(UserError, match=r"is calm, which is not a class; .*options\.calm"):
        read("ravdess", "R")


@pytest.mark.parametrize("folder", ["VideoFlash", "."])
@pytest.mark.parametrize("suffix", ["flv", "mp4"])
def test_crema_d(folder: str, suffix: str) -> None:
    codes = {"ANG": "angry", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
    touch(*(f"C/{folder}/{1001 + actor}_DFA_{code}_XX.{suffix}" for actor in range(91) for code in codes))
    touch(f"C/{folder}/notes.txt")
    clips, folds = read("crema_d", "C")
    assert len(clips) == 91 * 6
    assert {row["label"] for row in clips.values()} == set(codes.values())
    for clip, row in clips.items():
        assert (row["subject"], row["label"]) == (clip[:4], codes[clip.split("_")[2]])
    tested = Counter(fold for (clip, fold), split in folds.items() if split == "test" and "_ANG_" in clip)
    assert sorted(tested.values()) == [18, 18, 18, 18, 19]
    assert len(folds) == 5 * len(clips)
    for fold in range(1, 6):
        assert not people(clips, folds, fold, "train") & people(clips, folds, fold, "test")


@pytest.mark.parametrize(
    ("layout", "name", "said"),
    [
        ("ravdess", "01-01-09-01-02-01-12.mp4", "emotion 09, expected 01 to 08"),
        ("ravdess", "01-01-08-01-02-01-12.mp4", "label 'surprise' is not a class"),
        ("crema_d", "1001_DFA_BOR_XX.flv", "emotion BOR, expected ANG, DIS"),
        ("crema_d", "1001_DFA_FEA_XX.flv", "label 'fear' is not a class"),
    ],
)
def test_a_file_name_of_no_class_is_named_and_the_others_are_read(layout: str, name: str, said: str) -> None:
    good = [
        f"01-01-01-01-01-01-{n:02d}.mp4" if layout == "ravdess" else f"{1000 + n}_DFA_NEU_XX.flv" for n in range(1, 7)
    ]
    touch(f"N/{name}", *(f"N/{one}" for one in good))
    section = {"layout": layout, "root": "N", "annotations": "N", "classes": ["neutral", "happy"]}
    params = parameters(Path(), {"d": section})
    with pytest.raises(UserError, match=f"N: {name}: {said}"):
        read_listing(params, "d")
    complaints = Complaints(keep=True)
    assert [clip.source for clip in read_listing(params, "d", complaints).clips] == good
    assert len(complaints.found) == 1


@pytest.mark.parametrize("validation", ["validation", "Val"])
def test_afew(validation: str) -> None:
    images(Path("A/AFEW_Face/train/Happy/001"), 1)
    images(Path("A/AFEW_Face/train/Angry/002.5"), 1)
    images(Path(f"A/AFEW_Face/{validation}/Surprise/001"), 1)
    touch(f"A/AFEW_Face/{validation}/Fear/003.avi", "A/AFEW_Face/train/.DS_Store")
    clips, folds = read("afew", "A")
    assert {clip: (row["label"], row["kind"]) for clip, row in clips.items()} == {
        "train/Happy/001": ("happy", "frames"),
        "train/Angry/002.5": ("angry", "frames"),
        "validation/Surprise/001": ("surprise", "frames"),
        "validation/Fear/003": ("fear", "video"),
    }
    split_of = {clip: "train" if clip.startswith("train") else "test" for clip in clips}
    assert {clip: split for (clip, _), split in folds.items()} == split_of


def test_afew_as_the_challenge_released_it() -> None:
    touch("A/Train_AFEW/Happy/001.avi", "A/Train_AFEW/Happy/001.wav", "A/Val_AFEW/Val_AFEW/Angry/002.avi")
    touch("A/Train_AFEW/AlignedFaces_LBPTOP_Points/Faces/001/1.jpg")
    clips, folds = read("afew", "A")
    assert {clip: row["source"] for clip, row in clips.items()} == {
        "train/Happy/001": "Train_AFEW/Happy/001.avi",
        "validation/Angry/002": "Val_AFEW/Val_AFEW/Angry/002.avi",
    }
    assert folds == {("train/Happy/001", 1): "train", ("validation/Angry/002", 1): "test"}


def test_afew_without_a_part_and_with_a_folder_that_is_not_a_class() -> None:
    touch("A/train/Happy/001.avi", "A/train/Bored/002.avi")
    with pytest.raises(UserError, match="A/train/Bored: label 'Bored' is not a class"):
        read("afew", "A")
    touch("A/train/Bored/002.avi", "A/validation/.hidden/1.avi", "A/validation/Happy/.x.avi")
    params = parameters(Path(), {"d": {"layout": "afew", "root": "A", "annotations": "A"}})
    with pytest.raises(UserError, match="A/validation: no clips; expected <Emotion>/<clip>"):
        read_listing(params, "d", Complaints(keep=True))
    touch("A/validation/Happy/003.avi")
    found = read_listing(params, "d", complaints := Complaints(keep=True))
    assert [clip.clip_id for clip in found.clips] == ["train/Happy/001", "validation/Happy/003"]
    assert len(complaints.found) == 1


@pytest.mark.parametrize(
    ("layout", "named"),
    [
        ("ferv39k", "no train_All.csv"),
        ("mafw", "none of the folders data/faces"),
        ("ravdess", "no RAVDESS videos"),
        ("crema_d", "no CREMA-D videos"),
        ("afew", "no folder train"),
        ("dfew", "no folder Clip/clip_224x224"),
    ],
)
def test_an_empty_root_is_named(layout: str, named: str) -> None:
    Path("empty").mkdir()
    with pytest.raises(UserError, match=named):
        read(layout, "empty")


def test_links_capitals_and_system_files_of_ravdess_and_afew() -> None:
    for actor in range(1, 7):
        touch(f"elsewhere/Actor_{actor:02d}/01-01-03-01-01-01-{actor:02d}.MP4")
    touch("R/.Trash/01-01-03-01-01-01-01.mp4", "R/__MACOSX/01-01-03-01-01-02-01.mp4")
    for actor in range(1, 7):
        Path(f"R/Actor_{actor:02d}").symlink_to(Path(f"elsewhere/Actor_{actor:02d}").resolve())
    clips, _ = read("ravdess", "R", classes=("neutral", "happy"))
    expected = [f"Actor_{actor:02d}/01-01-03-01-01-01-{actor:02d}.MP4" for actor in range(1, 7)]
    assert sorted(row["source"] for row in clips.values()) == expected
    for part in ("train", "validation"):
        touch(f"A/AFEW_Face/{part}/Happy/{part}1.avi", f"A/AFEW_Face/{part}/Sad/@eaDir/x.avi")
        touch(f"A/AFEW_Face/{part}/__MACOSX/x.avi", f"A/AFEW_Face/{part}/Sad/{part}2.avi")
    clips, _ = read("afew", "A", classes=("happy", "sad"))
    expected = ["train/Happy/train1", "train/Sad/train2", "validation/Happy/validation1", "validation/Sad/validation2"]
    assert sorted(clips) == expected
    passed = check_dataset(load_params(), "d").passed_over
    assert len(passed["hidden, or made by a system or program"]) == 4
