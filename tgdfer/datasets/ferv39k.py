"""FERV39k in its official layout: 38,935 clips of 22 scenes, one split into train and test.

Annotations: ``4_setups/All_scenes/{train,test}_All.csv`` without a header, a clip's path and the name of its class:
``Crime/Angry/0063 Angry``. Clips: ``2_ClipsforFaceCrop/<Scene>/<Emotion>/<4 digits>/*.jpg``. Public code numbers the
classes in two different orders, so only names are accepted as labels.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from tgdfer.core.errors import UserError
from tgdfer.datasets.listing import Clip, Complaints, DatasetOnDisk, Listing, below_root, class_of, first_folder
from tgdfer.datasets.lists import read_folds, text_of

LISTS = ("", "All_scenes", "4_setups/All_scenes")
FOLDERS = ("2_ClipsforFaceCrop",)
FOLDS = 1


def read(dataset: DatasetOnDisk) -> Listing:
    """Read both lists; the scene becomes the subject of a clip.

    Raises:
        UserError: a list is missing or broken, or its labels are numbers.
    """
    folder = first_folder(dataset.root, FOLDERS) or dataset.root
    labels, folds, lists = read_folds(
        dataset,
        FOLDS,
        lambda split, _: _list_of(dataset.annotations, split),
        _rows,
        lambda spelling, where: class_of(spelling, dataset.classes, where),
    )
    clips = []
    for clip_id, label in labels.items():
        source = (folder / clip_id).relative_to(dataset.root).as_posix()
        clips.append(Clip(clip_id, source, "frames", label, subject=clip_id.split("/")[0]))
    return Listing(clips, folds, lists)


def _list_of(annotations: Path, split: str) -> Path:
    for place in LISTS:
        path = annotations / place / f"{split}_All.csv"
        if path.is_file():
            return path
    raise UserError(f"{annotations}: no {split}_All.csv; expected FERV39k's folder 4_setups/All_scenes")


def _rows(path: Path, complaints: Complaints) -> Iterator[tuple[int, str, str]]:
    """(line, clip_id, label) of every row; blanks, tabs, commas and semicolons separate the fields."""
    for line, text in enumerate(text_of(path).splitlines(), start=1):
        fields = re.sub("[,;]", " ", text).split()
        if not fields:
            continue
        where = f"{path}, line {line}"
        with complaints.row():
            if len(fields) != 2 or fields[0].count("/") != 2:
                raise UserError(f"{where}: '{text}', expected 'Scene/Emotion/0000 Emotion'")
            if fields[1].isdigit():
                raise UserError(
                    f"{where}: label {fields[1]} is a number, whose meaning differs between lists in circulation; use "
                    "the official lists, which name the class"
                )
            yield line, below_root(fields[0], where), fields[1]
