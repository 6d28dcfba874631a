"""FERV39k in its official layout: 38,935 clips of 22 scenes, one split into train and test.

Annotations: ``4_setups/All_scenes/{train,test}_All.csv`` without a header, a clip's path and its class by name:
``Crime/Angry/0063 Angry``. Clips: ``2_ClipsforFaceCrop/<Scene>/<Emotion>/<4 digits>/*.jpg``. Public code numbers the
classes in two different orders, so labels are taken by name alone.
"""

from __future__ import annotations

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
    below_root,
    class_of,
    first_folder,
    options_of,
    root_of,
    text_of,
)

LISTS = ("", "All_scenes", "4_setups/All_scenes")
FOLDERS = ("2_ClipsforFaceCrop",)


def read(dataset: DatasetParams, name: str, complaints: Complaints) -> Listing:
    """Read both lists; the scene stands in the column ``subject``.

    Raises:
        UserError: a list is missing or broken, or its labels are numbers.
    """
    options_of(dataset, name, {})
    root, annotations = root_of(dataset, name), annotations_of(dataset, name)
    folder = first_folder(root, FOLDERS) or root
    clips: list[Clip] = []
    folds: list[Member] = []
    files: list[Path] = []
    for split in ("train", "test"):
        path = next(
            (annotations / place / f"{split}_All.csv" for place in LISTS if _is_list(annotations / place, split)), None
        )
        if path is None:
            raise UserError(f"{annotations}: no {split}_All.csv; expected FERV39k's 4_setups/All_scenes folder")
        files.append(path)
        for line, clip_id, spelling in _rows(path, complaints):
            where = f"{path}, line {line}"
            with complaints.row():
                below_root(clip_id, where)
                folds.append(Member(clip_id, 1, split))
                label = class_of(spelling, dataset.classes, where)
                source = (folder / clip_id).relative_to(root).as_posix()
                clips.append(Clip(clip_id, source, "frames", label, subject=clip_id.split("/")[0]))
    return Listing(clips, folds, files)


def _is_list(folder: Path, split: str) -> bool:
    return (folder / f"{split}_All.csv").is_file()


def _rows(path: Path, complaints: Complaints) -> list[tuple[int, str, str]]:
    """(line, clip, label) of every row; blank, tab, comma and semicolon separate."""
    rows = []
    for line, text in enumerate(text_of(path).splitlines(), start=1):
        fields = re.sub("[,;]", " ", text).split()
        if not fields:
            continue
        with complaints.row():
            if len(fields) != 2 or fields[0].count("/") != 2:
                raise UserError(f"{path}, line {line}: '{text}', expected 'Scene/Emotion/0000 Emotion'")
            if fields[1].isdigit():
                raise UserError(
                    f"{path}, line {line}: label {fields[1]} is a number, whose meaning differs between lists in "
                    "circulation; use the official lists, which name the class"
                )
            rows.append((line, fields[0].strip("/"), fields[1]))
    if not rows:
        raise UserError(f"{path}: lists no clips")
    return rows
