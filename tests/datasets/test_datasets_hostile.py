"""A `folder` data set from a stranger: everything in its table and tree is refused by row, or does no harm."""

import os
from pathlib import Path

import pytest
from media import images, parameters, video, write_csv

from tgdfer.config.params import Params
from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.stages import frames
from tgdfer.stages.clips import run

HEADER = "clip_id,path,label,fold"
SECRET = "root:x:0:0:do not tell\n"


@pytest.fixture(autouse=True)
def _with_two_videos(new_folder: Path) -> None:
    Path("raw").mkdir()
    for name in ("a", "b"):
        video(Path("raw") / f"{name}.mp4", 2)


def project(rows: list[str], **keys: str) -> Params:
    table = write_csv(Path("clips.csv"), HEADER, ["a,a.mp4,happy,1", "b,b.mp4,sad,2", *rows])
    section = {"layout": "folder", "root": "raw", "annotations": str(table), **keys}
    return parameters(Path(), {"mine": section}, frames={"shards": 2, "max_reject_fraction": 0.9})


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/etc/passwd", "is absolute"),
        ("../secret.txt", "contains '..'"),
        ("a/../../secret.txt", "contains '..'"),
        ("..\\secret.txt", "contains '..'"),
        ("\\\\server\\share\\a.mp4", "is absolute"),
        ("C:/secret.mp4", "is absolute"),
        ("a.mp4/b.mp4", "no such file"),
        ("x" * 5000, "File name too long"),
        ("a\0.mp4", "no such file"),
        ("loop.mp4", "symbolic links"),
        ("pipe.mp4", "is neither a file nor a folder"),
        ("device.mp4", "is neither a file nor a folder"),
    ],
)
def test_a_path_that_is_not_a_clip_below_the_root_is_refused_by_row(path: str, named: str) -> None:
    Path("secret.txt").write_text(SECRET)
    Path("raw/loop.mp4").symlink_to("loop.mp4")
    Path("raw/device.mp4").symlink_to("/dev/zero")
    os.mkfifo("raw/pipe.mp4")
    with pytest.raises(UserError, match=r"clips\.csv, line 4: path") as caught:
        run(project([f"x,{path},happy,1"]), "mine")
    assert named in str(caught.value)
    assert len(str(caught.value)) < 400 or path.startswith("x")


def test_links_that_may_lead_anywhere_disclose_nothing_of_files_that_are_not_clips() -> None:
    elsewhere = images(Path("elsewhere/clip"), 3)
    Path("secret.txt").write_text(SECRET)
    Path("raw/linked").symlink_to(elsewhere.resolve())
    Path("raw/secret.mp4").symlink_to(Path("secret.txt").resolve())
    (images(Path("raw/mixed"), 1) / "00002.jpg").symlink_to(Path("secret.txt").resolve())
    rows = ["linked,linked,happy,1", "secret,secret.mp4,happy,1", "mixed,mixed,happy,1"]
    params = project(rows, links="anywhere")
    run(params, "mine")
    frames.run(params, "mine")
    rejects = storage.read_table(paths.frames("mine").with_name("rejects.parquet"), "rejects").to_pylist()
    assert sorted(row["clip_id"] for row in rejects) == ["mixed", "secret"]
    assert not any("tell" in row["reason"] or "/" in row["reason"] for row in rejects)
    assert storage.read_json(paths.frames("mine"))["frames"] == 2 + 2 + 3


def test_a_clip_id_is_a_name_and_nothing_else() -> None:
    names = ["<script>alert(1)</script>", "../../out", "$(touch out)", "a;b|c&d", "%s{0}", "笑", "x" * 3000, "-rf"]
    params = project([f'"{name}",a.mp4,happy,1' for name in names])
    run(params, "mine")
    frames.run(params, "mine")
    clips = storage.read_table(paths.clips("mine"), "clips")["clip_id"].to_pylist()
    assert set(clips) == {"a", "b", *names}
    assert storage.read_json(paths.frames("mine"))["clips"] == len(clips)
    written = {path.relative_to(".").parts[0] for path in Path().rglob("*")}
    assert written - {"logs"} == {"raw", "clips.csv", "params.yaml", "data"}
    assert not list(Path("..").glob("out*"))
    for name in ("a\nb", "a\tb", "a\u202eb", "\x1b[2J"):
        with pytest.raises(UserError, match=r"clip_id is empty or not printable"):
            run(project([f'"{name}",a.mp4,happy,1']), "mine")


@pytest.mark.parametrize("fold", ["9" * 5000, "-1", "1e3", "٣", "1.5", ""])
def test_a_fold_that_is_not_a_number_is_refused_by_row(fold: str) -> None:
    with pytest.raises(UserError, match=r"clips\.csv, line 4: fold") as caught:
        run(project([f"x,a.mp4,happy,{fold}"]), "mine")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("row", "named"),
    [
        (b"c,a.mp4,hapy,1", r"clips\.csv, line 5004: label 'hapy' is not a class; the classes are happy"),
        (b'"c,a.mp4,happy,1', r"line 5004: not a row of a CSV \(.*\); is a quote left open"),
        (b'c,a.mp4,"hap"py,1', "line 5004: not a row of a CSV"),
        (b"c,a.mp4,fr\xf6hlich,1", "line 5004: not text in UTF-8"),
        (b"c\0,a.mp4,happy,1", "line 5004: clip_id is empty or not printable"),
        (b"c,a\0.mp4,happy,1", "line 5004: path .* no such file"),
        (b"c,a.mp4,happy", "line 5004: expected 4 fields"),
        (b"c,a.mp4,happy,1,1", "line 5004: expected 4 fields"),
        (b"c," + b"x" * 200_000 + b",happy,1", "line 5004: not a row of a CSV"),
    ],
    ids=["label", "quote", "quote inside", "latin-1", "nul", "nul in path", "short", "long", "huge"],
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_bad_row_is_named_by_its_line_whatever_is_wrong_with_it(row: bytes, named: str, end: bytes) -> None:
    params = project([])
    rows = [b"a,a.mp4,happy,1", b"b,b.mp4,sad,2", *(b"c%d,a.mp4,happy,1" % n for n in range(5000))]
    rows[5002:] = [row, b"z,a.mp4,happy,1"]
    Path("clips.csv").write_bytes(b"\xef\xbb\xbf" + end.join([HEADER.encode(), *rows, b""]))
    with pytest.raises(UserError, match=named) as caught:
        run(params, "mine")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"clip_id,path,label,label,fold\na,a.mp4,happy,sad,1\n", ": column 'label' occurs twice"),
        (b"\xff\xfe\x00", ""),
        (b'clip_id,path,label,fold\n"a,a.mp4', ""),
        (b"", ""),
        (b"\x00" * 1000, ""),
    ],
)
def test_a_file_that_is_not_a_table_is_refused(content: bytes, said: str) -> None:
    params = project([])
    Path("clips.csv").write_bytes(content)
    with pytest.raises(UserError, match=rf"^clips\.csv{said}"):
        run(params, "mine")
