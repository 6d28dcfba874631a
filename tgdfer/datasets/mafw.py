"""MAFW in its official layout: 10,045 clips, 9,172 of them with a single label, eleven classes, five folds.

Annotations: ``Train & Test Set/{single,compound}/{no_caption,with_caption}/set_{1..5}/{train,test}.txt`` (the folder is
also seen as ``split`` and ``Train_Test_Set``), lines ``00025.mp4 anger``; with captions: name, label, Chinese and
English text, tabs between, not always clean UTF-8. Clips: ``data/faces/<5 digits>/``, or
``data/frames/<5 digits>/*.png``, or videos ``data/clips/<5 digits>.mp4``. Options: ``labels`` (single, compound),
``source`` (auto: faces, else frames, else videos).
"""

from __future__ import annotations

import re
from pathlib import Path

from tgdfer.config.params import DatasetParams
from tgdfer.core.classes import ELEVEN
from tgdfer.core.errors import UserError
from tgdfer.datasets.listing import (
    Clip,
    Complaints,
    Listing,
    Member,
    annotations_of,
    class_of,
    first_folder,
    options_of,
    root_of,
)

LISTS = ("", "Train & Test Set", "Train_Test_Set", "split")
FOLDERS = {
    "faces": ("data/faces", "faces"),
    "frames": ("data/frames", "frames"),
    "videos": ("data/clips/unzip", "data/clips", "clips", "data/videos", "videos", "data"),
}
FOLDS = 5


def read(dataset: DatasetParams, name: str, complaints: Complaints) -> Listing:
    """Read the five folds.

    Raises:
        UserError: a list is missing or broken, a label is no class, or two lists contradict each other.
    """
    options = options_of(
        dataset, name, {"labels": ("single", "compound"), "source": ("auto", "faces", "frames", "videos")}
    )
    root, annotations = root_of(dataset, name), annotations_of(dataset, name)
    sources = list(FOLDERS) if options["source"] == "auto" else [options["source"]]
    kind, folder = next(
        ((kind, found) for kind in sources if (found := first_folder(root, FOLDERS[kind]))), (None, None)
    )
    if kind is None or folder is None:
        raise UserError(f"{root}: none of the folders {', '.join(FOLDERS[kind][0] for kind in sources)}")
    base = next((annotations / place for place in LISTS if (annotations / place / options["labels"]).is_dir()), None)
    if base is None:
        raise UserError(f"{annotations}: no folder '{options['labels']}'; expected MAFW's 'Train & Test Set' folder")
    labels: dict[str, str] = {}
    folds: list[Member] = []
    files: list[Path] = []
    for fold in range(1, FOLDS + 1):
        for split in ("train", "test"):
            path = _list_of(base / options["labels"], fold, split)
            files.append(path)
            for line, clip_id, spelling in _rows(path, complaints):
                folds.append(Member(clip_id, fold, split))
                where = f"{path}, line {line}"
                with complaints.row():
                    label = _label(spelling, dataset.classes, where)
                    if labels.setdefault(clip_id, label) != label:
                        raise UserError(f"{where}: clip {clip_id} is {label} here, {labels[clip_id]} elsewhere")
    suffix, form = (".mp4", "video") if kind == "videos" else ("", "frames")
    clips = [
        Clip(clip_id, (folder / (clip_id + suffix)).relative_to(root).as_posix(), form, label)
        for clip_id, label in sorted(labels.items())
    ]
    return Listing(clips, folds, files)


def _list_of(base: Path, fold: int, split: str) -> Path:
    for captions in ("no_caption", "with_caption"):
        path = base / captions / f"set_{fold}" / f"{split}.txt"
        if path.is_file():
            return path
    raise UserError(f"{base}: no no_caption/set_{fold}/{split}.txt and no with_caption/set_{fold}/{split}.txt")


def _label(spelling: str, classes: list[str], where: str) -> str:
    """The class; the parts of a compound one in the order of the eleven, ``_`` between."""
    parts = [class_of(part, ELEVEN, where) for part in spelling.split("_")]
    label = "_".join(sorted(parts, key=ELEVEN.index))
    if label not in classes:
        raise UserError(
            f"{where}: label '{spelling}' is no class of this data set; add '{label}' to datasets.<name>.classes, "
            "see docs/datasets/mafw.md"
        )
    return label


def _rows(path: Path, complaints: Complaints) -> list[tuple[int, str, str]]:
    """(line, clip, label) of every row."""
    rows = []
    # the Chinese captions are cut in the middle of characters here and there
    for line, text in enumerate(path.read_bytes().decode("utf-8-sig", "replace").split("\n"), start=1):
        if not text.strip():
            continue
        with complaints.row():
            match = re.match(r"\s*(\d+)\.mp4\s+([A-Za-z_]+)(\s|$)", text)
            if not match:
                raise UserError(f"{path}, line {line}: '{text.strip()[:60]}', expected '00025.mp4 anger'")
            rows.append((line, match[1].zfill(5), match[2]))
    if not rows:
        raise UserError(f"{path}: lists no clips")
    return rows
