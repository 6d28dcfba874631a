"""Your own data set: understood from a CSV or a folder, read back with the same meaning, or refused with a reason."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from graphs import BIN, ROOT
from media import write_csv
from typer.testing import CliRunner

from tgdfer.cli import app
from tgdfer.config.params import load_params
from tgdfer.core.errors import UserError
from tgdfer.datasets import LAYOUTS, read_listing
from tgdfer.datasets.listing import Listing
from tgdfer.tools.scaffold import new_dataset

LABELS = ("Happiness", "sad", "ANGER")
NAMES = ("anna", "ben", "carl", "dora", "emil", "fay")


@pytest.fixture(autouse=True)
def project(new_folder: Path) -> Path:
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    registry = Path("tgdfer/datasets/__init__.py")
    registry.parent.mkdir(parents=True)
    shutil.copy(ROOT / registry, registry)
    return new_folder


def videos(*names: str) -> None:
    for name in names:
        path = Path("videos") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def rows(*extra: str) -> list[str]:
    made = []
    for number, name in enumerate(NAMES):
        for label in LABELS:
            videos(f"{name}/{label}.mp4")
            cells = {"actor": name, "fold": str(number % 3 + 1), "subset": "Train" if number < 4 else "Val"}
            made.append(",".join([f"{name}/{label}.mp4", label, *(cells[one] for one in extra)]))
    return made


def facts(listing: Listing) -> tuple[list, list]:
    clips = sorted((c.clip_id, c.source, c.kind, c.label, c.subject) for c in listing.clips)
    return clips, sorted((m.clip_id, m.fold, m.split) for m in listing.folds)


def read_by_module(name: str, identifier: str, monkeypatch: pytest.MonkeyPatch) -> Listing:
    spec = importlib.util.spec_from_file_location(identifier, f"tgdfer/datasets/{identifier}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(LAYOUTS, identifier, module)
    return read_listing(load_params(), name)


@pytest.mark.parametrize(
    ("extra", "folds"), [((), 5), (("actor",), 5), (("fold",), 3), (("subset",), 1), (("actor", "fold"), 3)], ids=str
)
def test_a_csv_of_any_columns_by_the_layout_and_by_a_module(
    extra: tuple[str, ...], folds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(Path("videos/list.csv"), ",".join(["video", "emotion", *extra]), rows(*extra))
    new_dataset(Path("params.yaml"), "mine", Path("videos/list.csv"))
    new_dataset(Path("params.yaml"), "by-module", Path("videos/list.csv"), module=True)
    found = read_listing(load_params(), "mine")
    assert facts(found) == facts(read_by_module("by-module", "by_module", monkeypatch))
    assert {clip.label for clip in found.clips} == {"happy", "sad", "angry"}
    assert max(member.fold for member in found.folds) == folds
    if "actor" in extra and "fold" not in extra:
        for fold in range(1, folds + 1):
            sides = {(m.clip_id.split("-")[0], m.split) for m in found.folds if m.fold == fold}
            assert len({name for name, _ in sides}) == len(sides), "nobody is on both sides"
    assert load_params().encoders["vit-b-32"].model == "ViT-B-32-quickgelu"
    assert "# Data sets to run." in Path("params.yaml").read_text(), "comments are kept"


@pytest.mark.parametrize(
    ("extra", "change", "said"),
    [
        ("actor", (",anna\n", ",\n"), "line 2: 'actor' is empty here and in 3 of 18 rows in all"),
        ("fold", (",1\n", ",x\n"), "line 2: fold 'x' is not a whole number"),
        ("fold", (",1\n", ",\n"), "line 2: 'fold' is empty here"),
        ("subset", (",Train\n", ",Trian\n"), "line 2: 'Trian' is not one of train, val"),
    ],
)
def test_a_module_names_the_bad_row_of_a_list_that_was_changed(
    extra: str, change: tuple[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = write_csv(Path("videos/list.csv"), f"video,emotion,{extra}", rows(extra))
    new_dataset(Path("params.yaml"), "mine", table, module=True)
    found = read_by_module("mine", "mine", monkeypatch)
    assert found.place(found.clips[1]) == "'anna-sad' (anna/sad.mp4, line 3)"
    table.write_text(table.read_text().replace(*change))
    with pytest.raises(UserError, match=re.escape(said)):
        read_listing(load_params(), "mine")


@pytest.mark.parametrize("column", ["fold", "split"])
@pytest.mark.parametrize("module", [False, True])
def test_folds_in_words_and_with_a_decimal_point(column: str, module: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, words in enumerate([("Train", "Test"), ("1.0", "2.0"), ("training", "validation")]):
        listed = [f"{place},{row},{words[place % 2]}" for place, row in enumerate(rows())]
        table = write_csv(Path("videos/list.csv"), f"clip_id,path,label,{column}", listed)
        name = f"mine-{number}"
        new_dataset(Path("params.yaml"), name, table, module=module, out=Path(f"{name}.csv"))
        found = read_by_module(name, f"mine_{number}", monkeypatch) if module else read_listing(load_params(), name)
        assert sum(member.split == "test" for member in found.folds) == (18 if words[0] == "1.0" else 9)


def test_an_absolute_path_is_made_relative_or_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(Path("videos/list.csv"), "video,emotion", rows())
    made = new_dataset(Path("params.yaml"), "here", tmp_path / "videos/list.csv")
    assert load_params().dataset("here").root == "videos"
    assert "in full" not in made.summary
    (tmp_path / "project").mkdir()
    shutil.copy(ROOT / "params.yaml", tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    made = new_dataset(Path("params.yaml"), "there", tmp_path / "videos/list.csv", out=Path("clips.csv"))
    assert f"params.yaml has {tmp_path / 'videos'} in full" in made.summary


@pytest.mark.parametrize("indent", [2, 4])
def test_params_yaml_gains_an_entry_and_is_otherwise_unchanged(indent: int) -> None:
    text = Path("params.yaml").read_text().replace("learning_rate: 1.0e-3", "learning_rate: 1e-3 # 'quoted'")
    text = re.sub(r"^ +", lambda match: match[0] * (indent // 2), text, flags=re.MULTILINE)
    Path("params.yaml").write_text(text)
    table = write_csv(Path("videos/list.csv"), "video,emotion", rows())
    new_dataset(Path("params.yaml"), "mine", table, encoder="demo-clip")
    about = (
        "layout: folder, root: videos, annotations: videos/clips.csv, encoder: demo-clip, classes: [happy, sad, angry]"
    )
    entry = f"{' ' * indent}mine: {{{about}}}\n"
    assert Path("params.yaml").read_text() == text.replace("datasets:\n", f"datasets:\n{entry}", 1)


def test_labels_do_nothing_in_the_card() -> None:
    videos("a.mp4", "b.mp4", "c.mp4", "d.mp4")
    label, other = "<img src=x onerror=alert(1)>", "x|y [z](javascript:0)"
    rows = [f"a.mp4,{label}", f"b.mp4,{label}", f"c.mp4,{other}", f"d.mp4,{other}"]
    table = write_csv(Path("videos/list.csv"), "path,label", rows)
    new_dataset(Path("params.yaml"), "mine", table, encoder="demo-clip")
    card = Path("docs/datasets/mine.md").read_text()
    shown = card.partition("| classes |")[2].splitlines()[0]
    assert "&lt;img" in shown
    assert "<img" not in shown
    assert "x\\|y \\[z\\](" in shown
    assert load_params().datasets["mine"].classes == [label, other]


@pytest.mark.parametrize("separator", [",", ";"])
def test_a_csv_of_the_right_form_is_used_unchanged(separator: str) -> None:
    videos("a.mp4", "b.mp4")
    lines = ["clip_id,path,label,fold", "a,a.mp4,happy,1", "b,b.mp4,sad,2", ",,,"]
    header, *lines = [line.replace(",", separator) for line in lines]
    table = write_csv(Path("videos/my.csv"), header, lines)
    made = new_dataset(Path("params.yaml"), "mine", table)
    assert not Path("videos/clips.csv").exists()
    assert load_params().datasets["mine"].annotations == "videos/my.csv"
    assert [path.name for path in made.files] == ["mine.md", "test_dataset_mine.py", "params.yaml"]


@pytest.mark.parametrize("above", ["", "val/"])
def test_a_folder_of_classes(above: str) -> None:
    for place in (above, "train/") if above else ("",):
        for number in range(3):
            videos(f"{place}Happiness/{number}.mp4", f"{place}boredom/{number}.MOV", f"{place}sad/x{number}/1.jpg")
    new_dataset(Path("params.yaml"), "mine", folder=Path("videos"), encoder="demo-clip")
    found = read_listing(load_params(), "mine")
    assert load_params().datasets["mine"].classes == ["happy", "sad", "boredom"]
    assert {clip.kind for clip in found.clips if clip.label == "sad"} == {"frames"}
    assert len(found.clips) == (18 if above == "val/" else 9)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("demo --csv videos/list.csv", "datasets: 'demo' exists already"),
        ("a.b --csv videos/list.csv", "'a.b': expected a name"),
        ("mine", "give either --csv FILE or --folder DIR"),
        ("mine --csv no.csv", "no.csv: no such CSV file"),
        ("mine --folder no", "no: no such folder"),
        ("mine --folder tgdfer", "no videos or folders of images in class folders"),
        ("mine --csv videos/list.csv --encoder clip", "--encoder 'clip'"),
        ("mine --csv videos/columns.csv", "no column for the label: expected one of label, emotion"),
        ("mine --csv videos/outside.csv", "outside.csv, line 2: path '../a.mp4' contains '..'"),
        ("mine --csv videos/gone.csv", "gone.csv, line 3: path 'b.mp4': no such file below videos; give --root"),
        ("mine --csv videos/lines.csv", "lines.csv, line 4: path 'b.mp4': no such file below videos"),
        ("mine --csv videos/broken.csv", "broken.csv, line 3: the label is empty or not printable"),
        ("mine --csv videos/twice.csv", "twice.csv, line 3: a.mp4 is on line 2 already; remove one of the rows"),
        ("mine --csv videos/half.csv", "no clip is test"),
        ("mine --csv videos/three.csv", "make val a part of train, or leave it out"),
        ("mine --folder videos/three", "make Validation a part of train, or leave it out"),
        ("mine --csv videos/list.csv --out params.yaml", "params.yaml: exists and is not overwritten"),
        ("mine --csv videos/list.csv --out videos", "move it away, or give another --out"),
    ],
)
def test_what_cannot_be_understood_changes_nothing(arguments: str, said: str) -> None:
    videos("a.mp4", *(f"three/{part}/happy/a.mp4" for part in ("train", "Validation", "test")))
    if arguments.endswith("three.csv"):
        videos("b.mp4", "c.mp4")
    for name, header, lines in (
        ("list", "video,emotion", rows()),
        ("columns", "video,feeling", ["a.mp4,happy"]),
        ("outside", "path,label", ["../a.mp4,happy"]),
        ("gone", "path,label", ["a.mp4,happy", "b.mp4,happy"]),
        ("lines", "path,label", ["a.mp4,happy", ",", "b.mp4,happy"]),
        ("broken", "path,label", ['a.mp4,"happy\n## a heading"']),
        ("twice", "path,label", ["a.mp4,happy", "a.mp4,happy"]),
        ("half", "path,label,split", ["a.mp4,happy,train"]),
        ("three", "path,label,split", ["a.mp4,happy,train", "b.mp4,happy,val", "c.mp4,happy,test"]),
    ):
        write_csv(Path(f"videos/{name}.csv"), header, lines)
    before = sorted(Path().rglob("*")), Path("params.yaml").read_text()
    result = CliRunner().invoke(app, ["new-dataset", *arguments.split()])
    assert isinstance(result.exception, UserError)
    assert said in str(result.exception)
    assert (sorted(Path().rglob("*")), Path("params.yaml").read_text()) == before


def test_what_is_made_passes_the_projects_own_tests(project: Path) -> None:
    def run(*command: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(list(map(str, command)), cwd=project, capture_output=True, text=True)

    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tgdfer", project / "tgdfer", dirs_exist_ok=True, ignore=without)
    shutil.copy(ROOT / "pyproject.toml", project)
    write_csv(Path("videos/list.csv"), "video,emotion,actor", rows("actor"))
    for arguments in (["plain"], ["by-module", "--module"]):
        run(sys.executable, "-m", "tgdfer", "new-dataset", *arguments, "--csv", "videos/list.csv").check_returncode()
    ran = run(sys.executable, "-m", "pytest", "-n0", "tests")
    assert ran.returncode == 0, ran.stdout
    assert "3 passed" in ran.stdout
    for tool in (["format", "--check"], ["check"]):
        checked = run(BIN / "ruff", *tool, "tgdfer/datasets", "tests")
        assert checked.returncode == 0, checked.stdout
    (project / "videos/anna/sad.mp4").unlink()
    ran = run(sys.executable, "-m", "pytest", "-n0", "tests")
    assert "datasets/test_dataset_plain.py" in ran.stdout, "a clip that is gone is noticed"
    assert ran.returncode == 1
