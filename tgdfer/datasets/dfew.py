"""DFEW in its official layout: 11,697 single-label clips, five folds with disjoint test parts.

Annotations: ``EmoLabel_DataSplit/{train,test}(single-labeled)/set_{1..5}.csv`` (the folder is also seen as
``train_single_labeled``), header ``video_name,label``, names without leading zeros, labels from 1. Clips: aligned faces
in ``Clip/clip_224x224/<5 digits>/``, 16 interpolated faces in ``Clip/clip_224x224_16f/``, or videos in
``Clip/original/<5 digits>.mp4``; the option ``source`` chooses.
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tgdfer.core.errors import UserError
from tgdfer.datasets.listing import Clip, Complaints, DatasetOnDisk, Listing, first_folder
from tgdfer.datasets.lists import read_folds, rows_of

CLASSES = {1: "happy", 2: "sad", 3: "neutral", 4: "angry", 5: "surprise", 6: "disgust", 7: "fear"}
"""DFEW's numbering of the classes."""
FOLDERS = {
    "frames": ("Clip/clip_224x224", "clip_224x224"),
    "16f": ("Clip/clip_224x224_16f", "clip_224x224_16f", "Clip/clip_224x16f", "clip_224x16f"),
    "original": ("Clip/original", "original"),
}
OPTIONS = {"source": tuple(FOLDERS)}
FOLDS = 5


def read(dataset: DatasetOnDisk) -> Listing:
    """Read the five folds.

    Raises:
        UserError: a list is missing or broken, counts its labels from 0, or contradicts another list.
    """
    source = dataset.options["source"]
    folder = _clips_folder(dataset, source)
    annotations = first_folder(dataset.annotations, ("EmoLabel_DataSplit",)) or dataset.annotations
    labels, folds, lists = read_folds(dataset, FOLDS, partial(_list_of, annotations), _rows, _label)
    kind, suffix = ("video", ".mp4") if source == "original" else ("frames", "")
    there = {entry.name for entry in folder.iterdir()}
    clips = []
    for clip_id, label in sorted(labels.items()):
        unpadded = f"{int(clip_id)}{suffix}"
        entry = unpadded if unpadded in there and f"{clip_id}{suffix}" not in there else f"{clip_id}{suffix}"
        clips.append(Clip(clip_id, (folder / entry).relative_to(dataset.root).as_posix(), kind, label))
    return Listing(clips, folds, lists)


def _clips_folder(dataset: DatasetOnDisk, source: str) -> Path:
    folder = first_folder(dataset.root, FOLDERS[source])
    if folder is None:
        there = [other for other in FOLDERS if first_folder(dataset.root, FOLDERS[other])]
        key = f"datasets.{dataset.name}"
        raise UserError(
            f"{dataset.root}: no folder {FOLDERS[source][0]}; "
            + (
                f"set {key}.options.source to {' or '.join(there)}, which is there"
                if there
                else f"{key}.root must be the folder that contains Clip, its archives unpacked"
            )
        )
    return folder


def _list_of(annotations: Path, split: str, fold: int) -> Path:
    for folder in sorted(annotations.iterdir()) if annotations.is_dir() else ():
        # train(single-labeled), train_single_labeled, train(single_labeled), train (single-labeled), train
        if re.fullmatch(f"{split}(singlelabell?ed)?", re.sub("[^a-z]", "", folder.name.lower())):
            path = folder / f"set_{fold}.csv"
            if path.is_file():
                return path
    raise UserError(
        f"{annotations}: no {split}(single-labeled)/set_{fold}.csv; expected DFEW's folder EmoLabel_DataSplit"
    )


def _rows(path: Path, complaints: Complaints) -> Iterator[tuple[int, str, str]]:
    """(line, clip_id, label) of every row; a list that counts its labels from 0 is refused as a whole."""
    header, rows = rows_of(path, complaints)
    if [name.strip() for name in header] != ["video_name", "label"]:
        raise UserError(f"{path}, line 1: header '{','.join(header)}', expected 'video_name,label'")
    fields = [(line, [field.strip().removesuffix(".mp4") for field in row.values()]) for line, row in rows]
    for line, (_, label) in fields:
        if label == "0":
            raise UserError(
                f"{path}, line {line}: label 0: this list counts the classes from 0, DFEW's official lists from 1 "
                f"({', '.join(f'{number} {name}' for number, name in CLASSES.items())}); use the official lists"
            )
    for line, row in fields:
        with complaints.row():
            if not all(field.isascii() and field.isdigit() for field in row):
                raise UserError(f"{path}, line {line}: '{','.join(row)}', expected a clip number and a label 1..7")
            yield line, f"{int(row[0]):05d}", row[1]


def _label(label: str, where: str) -> str:
    if int(label) not in CLASSES:
        raise UserError(f"{where}: label {label} is not a class; DFEW's labels are 1..7")
    return CLASSES[int(label)]
