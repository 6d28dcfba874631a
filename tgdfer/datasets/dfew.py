"""DFEW in its official layout: 11,697 single-label clips, five folds with disjoint test parts.

Annotations: ``EmoLabel_DataSplit/{train,test}(single-labeled)/set_{1..5}.csv`` (the folder is also seen as
``train_single_labeled``), header ``video_name,label``, names without leading zeros, labels from 1. Clips: aligned faces
in ``Clip/clip_224x224/<5 digits>/``, 16 interpolated faces in ``Clip/clip_224x224_16f/``, or videos in
``Clip/original/<5 digits>.mp4``; option ``source`` chooses.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from tgdfer.config.params import DatasetParams
from tgdfer.core.errors import UserError
from tgdfer.datasets.listing import (
    Clip,
    Complaints,
    Listing,
    Member,
    annotations_of,
    first_folder,
    options_of,
    root_of,
    text_of,
)

CLASSES = {1: "happy", 2: "sad", 3: "neutral", 4: "angry", 5: "surprise", 6: "disgust", 7: "fear"}
"""DFEW's own numbering of the classes."""
FOLDERS = {
    "frames": ("Clip/clip_224x224", "clip_224x224"),
    "16f": ("Clip/clip_224x224_16f", "clip_224x224_16f", "Clip/clip_224x16f", "clip_224x16f"),
    "original": ("Clip/original", "original"),
}
FOLDS = 5


def read(dataset: DatasetParams, name: str, complaints: Complaints) -> Listing:
    """Read the five folds.

    Raises:
        UserError: a list is missing or broken, holds 0-based labels, or contradicts another list.
    """
    option = options_of(dataset, name, {"source": tuple(FOLDERS)})["source"]
    root, annotations = root_of(dataset, name), annotations_of(dataset, name)
    annotations = first_folder(annotations, ("EmoLabel_DataSplit",)) or annotations
    folder = first_folder(root, FOLDERS[option])
    if folder is None:
        there = [other for other in FOLDERS if first_folder(root, FOLDERS[other])]
        raise UserError(
            f"{root}: no folder {FOLDERS[option][0]}; "
            + (
                f"set datasets.{name}.options.source to {' or '.join(there)}, which is there"
                if there
                else f"datasets.{name}.root is to be the folder that holds Clip, its archives unpacked"
            )
        )
    on_disk = {entry.name for entry in folder.iterdir()}
    labels: dict[str, int] = {}
    folds: list[Member] = []
    files: list[Path] = []
    for fold in range(1, FOLDS + 1):
        for split in ("train", "test"):
            path = _list_of(annotations, split, fold)
            files.append(path)
            for line, number, label in _rows(path, complaints):
                clip_id = f"{number:05d}"
                folds.append(Member(clip_id, fold, split))
                with complaints.row():
                    _check_label(label, f"{path}, line {line}")
                    if labels.setdefault(clip_id, label) != label:
                        known = CLASSES[labels[clip_id]]
                        raise UserError(
                            f"{path}, line {line}: clip {number} is {CLASSES[label]} here, {known} elsewhere"
                        )
    clips = []
    for clip_id, label in sorted(labels.items()):
        suffix = ".mp4" if option == "original" else ""
        entry = next((form for form in (clip_id, str(int(clip_id))) if form + suffix in on_disk), clip_id) + suffix
        source = (folder / entry).relative_to(root).as_posix()
        kind = "video" if option == "original" else "frames"
        clips.append(Clip(clip_id, source, kind, CLASSES[label]))
    return Listing(clips, folds, files)


def _list_of(annotations: Path, split: str, fold: int) -> Path:
    if annotations.is_dir():
        for folder in sorted(annotations.iterdir()):
            # train(single-labeled), train_single_labeled, train(single_labeled), train (single-labeled), train
            if re.fullmatch(f"{split}(singlelabell?ed)?", re.sub("[^a-z]", "", folder.name.lower())):
                path = folder / f"set_{fold}.csv"
                if path.is_file():
                    return path
    raise UserError(
        f"{annotations}: no {split}(single-labeled)/set_{fold}.csv; expected DFEW's folder EmoLabel_DataSplit"
    )


def _check_label(label: int, where: str) -> None:
    if label == 0:
        raise UserError(
            f"{where}: label 0: this list counts the classes from 0, DFEW's own lists from 1 (1 happy, "
            "2 sad, 3 neutral, 4 angry, 5 surprise, 6 disgust, 7 fear); use the official lists"
        )
    if label not in CLASSES:
        raise UserError(f"{where}: label {label} is no class; DFEW's labels are 1..7")


def _rows(path: Path, complaints: Complaints) -> list[tuple[int, int, int]]:
    """(line, clip number, label) of every row; a list that counts its classes from 0 is refused as a whole."""
    rows: list[tuple[int, int, int]] = []
    # spreadsheets save with semicolons or tabs, and leave lines of separators alone
    for line, row in enumerate(csv.reader(re.sub("[;\t]", ",", text_of(path)).splitlines()), start=1):
        fields = [field.strip().removesuffix(".mp4") for field in row]
        if not any(fields):
            continue
        if line == 1:
            if fields != ["video_name", "label"]:
                raise UserError(f"{path}, line 1: header '{','.join(row)}', expected 'video_name,label'")
            continue
        with complaints.row():
            if len(fields) != 2 or not all(field.isascii() and field.isdigit() for field in fields):
                raise UserError(f"{path}, line {line}: '{','.join(row)}', expected a clip number and a label 1..7")
            rows.append((line, int(fields[0]), int(fields[1])))
    if not rows:
        raise UserError(f"{path}: lists no clips")
    for line, _, label in rows:
        if label == 0:
            _check_label(label, f"{path}, line {line}")
    return rows
