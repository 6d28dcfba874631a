"""The law of your own data: every file is a clip, a reject with a reason, or counted as passed over.

Random folders and lists go through new-dataset, validate and clips; no content is on both sides of a fold.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from graphs import ROOT
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from tgdfer.config.params import Params, load_params
from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.datasets import read_listing
from tgdfer.datasets.validate import check_dataset
from tgdfer.stages import clips
from tgdfer.tools.scaffold import new_dataset
from tgdfer.tools.scaffold.folder import from_folder
from tgdfer.tools.scaffold.table import from_csv

JUNK = (
    *(".DS_Store", "._a.mp4", "Thumbs.db", "desktop.ini", "~$a.mp4", "a.mp4.part", "b.crdownload", "c.tmp", "a.mp4~"),
    *("notes.txt", "README", "song.wav", "poster.pdf"),
)
VIDEOS = (
    *("a.mp4", "A.mp4", "a.MOV", "b.v1.mp4", " lead.avi", "trail .mkv", "x,y.mp4", 'q"uote.mp4', "semi;colon.webm"),
    *("caf\u00e9.mp4", "cafe\u0301.mp4", "\u7b11.MTS", "c.3gp", "d.ogv", "e.gif", "-rf.ts", "1e3.mp4", "nan.m2ts"),
    *("bad\u202ename.mp4", "back\\slash.mp4", "#1.mp4", "{x}.mp4", "a b.mp4", "a\u00a0b.mp4"),
)
FOLDERS = (
    *("happy", "Sadness", "sad", "anger", "1e3", "nan", "no", "b\u00f6se", "true", "so,so", "x.y", "happy "),
    *("happy/S01.take1", "happy/S01.take2", "sad/.ipynb_checkpoints", "sad/__MACOSX", "anger/@eaDir", "", "happy/more"),
    *(".git", "lost+found", "sad/.Trash-1000/files"),
)
LABELS = (
    *("happy", "Sadness", " anger", "\u00a0fear\u00a0", "surprise", "1e3", "01", "nan", "NA", "None", "true", "0,5"),
    *("so;so", 'sa"d', "b\u00f6se", "x|y", "no", "null", "~", "a: b", "# c", "[d]"),
)
TREES = st.lists(
    st.tuples(st.sampled_from(FOLDERS), st.sampled_from((*VIDEOS, *JUNK, "1.jpg", "2.JPG")), st.integers(0, 6)),
    min_size=4,
    max_size=24,
)
OFTEN = settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # each example is a project on disk: shrinking takes minutes
    suppress_health_check=[HealthCheck.too_slow],
)


@contextmanager
def project() -> Iterator[Path]:
    """An empty project in the working directory, with the parameters that are shipped."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            Path("params.yaml").write_text((ROOT / "params.yaml").read_text())
            yield Path(folder)
        finally:
            os.chdir(before)


def content(name: str, number: int) -> bytes:
    """What passes for a video or is an image; number 0 is an empty video."""
    if name.lower().endswith(".jpg"):
        stream = io.BytesIO()
        Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(stream, "JPEG")
        return stream.getvalue()
    return b"GIF89a" + bytes([number]) * 20 if number else b""


def write(tree: list[tuple[str, str, int]]) -> dict[str, bytes]:
    """Write the files of a tree; returns their contents by path below ``raw``."""
    Path("raw").mkdir()
    for folder, name, number in tree:
        path = Path("raw") / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(name, number))
    return {path.relative_to("raw").as_posix(): path.read_bytes() for path in Path("raw").rglob("*") if path.is_file()}


def digest(source: str, files: dict[str, bytes]) -> str:
    """Of a video or of all images of a folder."""
    if source in files:
        return hashlib.sha256(files[source]).hexdigest()
    inside = [name for name in sorted(files) if name.rpartition("/")[0] == source and name.lower().endswith(".jpg")]
    return hashlib.sha256(b"".join(hashlib.sha256(files[name]).digest() for name in inside)).hexdigest()


def assert_lawful(params: Params, files: dict[str, bytes], passed: dict[str, list[str]]) -> None:
    """Every file is a clip's or passed over; ids are unique; no content is on both sides of a fold; stages agree."""
    listing = read_listing(params, "mine")
    sources = {clip.source for clip in listing.clips}
    known = {file.partition(" = ")[0] for names in passed.values() for file in names}
    for file in files:
        image_of_a_clip = file.rpartition("/")[0] in sources and file.lower().endswith(".jpg")
        assert (file in sources or image_of_a_clip) != bool(known & {file, file.rpartition("/")[0]}), file
    assert len({clip.clip_id for clip in listing.clips}) == len(listing.clips)
    verdict = check_dataset(params, "mine")
    assert not verdict.annotation_faults
    clips.run(params, "mine")
    table = storage.read_table(paths.clips("mine"), "clips").to_pydict()
    assert dict(zip(table["clip_id"], table["source"], strict=True)) == {c.clip_id: c.source for c in listing.clips}
    bytes_of = {clip.clip_id: digest(clip.source, files) for clip in listing.clips}
    for fold in {member.fold for member in listing.folds}:
        sides = {
            split: {bytes_of[m.clip_id] for m in listing.folds if (m.fold, m.split) == (fold, split)}
            for split in ("train", "test")
        }
        assert all(sides.values()), "something to train on and something to test"
        assert not sides["train"] & sides["test"]


@OFTEN
@given(TREES)
def test_a_folder(tree: list[tuple[str, str, int]]) -> None:
    with project():
        files = write(tree)
        try:
            passed = from_folder(Path("raw")).passed
            made = new_dataset(Path("params.yaml"), "mine", folder=Path("raw"), encoder="demo-clip")
        except UserError as error:
            assert "raw" in str(error), "a refusal says where"
            assert not Path("raw/clips.csv").exists()
            return
        assert f"passed over: {sum(map(len, passed.values()))}" in made.summary or not passed
        assert_lawful(load_params().only(["linear-probe"]), files, passed)


@OFTEN
@given(
    st.lists(
        st.tuples(st.sampled_from(VIDEOS[:18]), st.sampled_from(LABELS), st.integers(1, 6)), min_size=4, max_size=12
    ),
    st.sampled_from(",;\t|"),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le"]),
    st.sampled_from(["", "sep", "blanks", "quotes"]),
    st.sampled_from([("path", "label"), ("Video ", "Emotion (0, 1; 2)"), ("file", "expression")]),
    st.booleans(),
)
def test_a_list(rows, mark: str, encoding: str, form: str, names: tuple[str, str], with_subject: bool) -> None:
    unique = {name: (label, number) for name, label, number in rows}
    with project():
        files = write([("clips", name, number) for name, (_, number) in unique.items()])
        out = io.StringIO()
        writer = csv.writer(out, delimiter=mark, quoting=csv.QUOTE_ALL if form == "quotes" else csv.QUOTE_MINIMAL)
        label_column = "label" if names[1].startswith("Emotion") else names[1]
        writer.writerow([names[0], label_column, "note (a, b; c)", *(["person"] if with_subject else [])])
        for number, (name, (label, _)) in enumerate(unique.items()):
            writer.writerow([f"clips/{name}", label, "0,5", *([f"0{number % 3}"] if with_subject else [])])
        text = out.getvalue()
        if form == "sep":
            text = f"sep={mark}\r\n{text}"
        if form == "blanks":
            text = text.replace(f"{mark}0,5", f"{mark} 0,5") + f"{mark * 2}\r\n"
        Path("raw/list.csv").write_bytes(text.encode(encoding))
        try:
            understood = from_csv(Path("raw/list.csv"))
            new_dataset(Path("params.yaml"), "mine", Path("raw/list.csv"), encoder="demo-clip")
        except UserError as error:
            assert "list.csv" in str(error)
            return
        params = load_params().only(["linear-probe"])
        found = {clip.source.partition("/")[2]: clip for clip in read_listing(params, "mine").clips}
        spellings = {"Sadness": "sad", " anger": "angry", "\u00a0fear\u00a0": "fear"}
        for name, clip in found.items():
            label = unique[name][0]
            assert clip.label == spellings.get(label, label).lower(), "a label is the text that was written"
            assert (clip.subject is not None) == with_subject
        dropped = [line.split(": ", 1)[1] for lines in understood.passed.values() for line in lines]
        assert len(found) + len(dropped) == len(unique)
        assert_lawful(params, files, {"the same content": dropped})
