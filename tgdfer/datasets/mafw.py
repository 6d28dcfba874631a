"""MAFW in its official layout: 10,045 clips, 9,172 of them with a single label, eleven classes, five folds.

Annotations: ``Train & Test Set/{single,compound}/{no_caption,with_caption}/set_{1..5}/{train,test}.txt`` (the folder is
also seen as ``split`` and ``Train_Test_Set``), lines ``00025.mp4 anger``; with captions: name, label, Chinese and
English text, tabs between, not always clean UTF-8. Clips: ``data/faces/<5 digits>/``, or
``data/frames/<5 digits>/*.png``, or videos ``data/clips/<5 digits>.mp4``. The option ``labels`` chooses between single
and compound labels, ``source`` between the clips; ``auto`` takes faces, else frames, else videos.
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tgdfer.core.classes import ELEVEN
from tgdfer.core.errors import UserError
from tgdfer.datasets.listing import Clip, Complaints, DatasetOnDisk, Listing, class_of, first_folder
from tgdfer.datasets.lists import read_folds

LISTS = ("", "Train & Test Set", "Train_Test_Set", "split")
FOLDERS = {
    "faces": ("data/faces", "faces"),
    "frames": ("data/frames", "frames"),
    "videos": ("data/clips/unzip", "data/clips", "clips", "data/videos", "videos", "data"),
}
OPTIONS = {"labels": ("single", "compound"), "source": ("auto", *FOLDERS)}
FOLDS = 5


def read(dataset: DatasetOnDisk) -> Listing:
    """Read the five folds.

    Raises:
        UserError: a list is missing or broken, a label is not a class, or two lists contradict each other.
    """
    labels_option, source = dataset.options["labels"], dataset.options["source"]
    folders = {kind: first_folder(dataset.root, FOLDERS[kind]) for kind in FOLDERS if source in ("auto", kind)}
    kind, folder = next(((kind, found) for kind, found in folders.items() if found), ("", None))
    if folder is None:
        raise UserError(f"{dataset.root}: none of the folders {', '.join(FOLDERS[kind][0] for kind in folders)}")
    bases = [dataset.annotations / place / labels_option for place in LISTS]
    base = next((base for base in bases if base.is_dir()), None)
    if base is None:
        raise UserError(
            f"{dataset.annotations}: no folder '{labels_option}'; expected MAFW's folder 'Train & Test Set'"
        )
    labels, folds, lists = read_folds(dataset, FOLDS, partial(_list_of, base), _rows, partial(_label, dataset.classes))
    suffix, form = (".mp4", "video") if kind == "videos" else ("", "frames")
    clips = [
        Clip(clip_id, (folder / f"{clip_id}{suffix}").relative_to(dataset.root).as_posix(), form, label)
        for clip_id, label in sorted(labels.items())
    ]
    return Listing(clips, folds, lists)


def _list_of(base: Path, split: str, fold: int) -> Path:
    for captions in ("no_caption", "with_caption"):
        path = base / captions / f"set_{fold}" / f"{split}.txt"
        if path.is_file():
            return path
    raise UserError(f"{base}: no no_caption/set_{fold}/{split}.txt and no with_caption/set_{fold}/{split}.txt")


def _label(classes: list[str], spelling: str, where: str) -> str:
    """The class; the parts of a compound label are joined by ``_`` in the order of the eleven classes."""
    parts = [class_of(part, ELEVEN, where) for part in spelling.split("_")]
    label = "_".join(sorted(parts, key=ELEVEN.index))
    if label not in classes:
        raise UserError(
            f"{where}: label '{spelling}' is not a class of this data set; add '{label}' to datasets.<name>.classes, "
            "see docs/datasets/mafw.md"
        )
    return label


def _rows(path: Path, complaints: Complaints) -> Iterator[tuple[int, str, str]]:
    """(line, clip_id, label) of every row."""
    # some Chinese captions end in the middle of a character
    for line, text in enumerate(path.read_bytes().decode("utf-8-sig", "replace").split("\n"), start=1):
        if text.strip():
            with complaints.row():
                match = re.match(r"\s*(\d+)\.mp4\s+([A-Za-z_]+)(\s|$)", text)
                if not match:
                    raise UserError(f"{path}, line {line}: '{text.strip()[:60]}', expected '00025.mp4 anger'")
                yield line, match[1].zfill(5), match[2]
