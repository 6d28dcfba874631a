"""AFEW: 773 clips for training and 381 for validation, which are the test part because the test labels are not public.

``AFEW_Face/{train,validation}/<Emotion>/<clip>/*`` (aligned faces), or videos as in the challenge's release:
``{Train,Val}_AFEW/<Emotion>/<clip>.avi``.
"""

from collections.abc import Iterator
from pathlib import Path

from tgdfer.core.errors import UserError
from tgdfer.datasets.listing import VIDEO_SUFFIXES, Clip, DatasetOnDisk, Listing, Member, class_of, first_folder
from tgdfer.datasets.walk import SYSTEM

PARTS = {"train": ("train", "Train_AFEW"), "test": ("validation", "val", "Val_AFEW")}
OTHER_FOLDERS = "AlignedFaces"
"""The beginning of the names of folders that are not emotions; the challenge's release has them."""
FOLDS = 1


def read(dataset: DatasetOnDisk) -> Listing:
    """List the clips of both parts; the labels are the names of the folders.

    Raises:
        UserError: a part is missing or empty, or the name of a folder is not a class.
    """
    base = first_folder(dataset.root, ("AFEW_Face",)) or dataset.root
    clips: list[Clip] = []
    folds: list[Member] = []
    for split, names in PARTS.items():
        part = first_folder(base, names)
        if part is None:
            raise UserError(f"{base}: no folder {names[0]}; expected AFEW_Face/{{train,validation}}/<Emotion>/<clip>")
        found = list(_clips(part, names[0], dataset))
        if not found:
            raise UserError(f"{part}: no clips; expected <Emotion>/<clip>")
        clips += found
        folds += [Member(clip.clip_id, 1, split) for clip in found]
    return Listing(clips, folds)


def _clips(part: Path, name: str, dataset: DatasetOnDisk) -> Iterator[Clip]:
    for emotion in sorted(path for path in part.iterdir() if path.is_dir()):
        if emotion.name.startswith(OTHER_FOLDERS) or SYSTEM.fullmatch(emotion.name):
            continue
        with dataset.complaints.row():
            label = class_of(emotion.name, dataset.classes, str(emotion))
            for path in sorted(emotion.iterdir()):
                is_video = path.suffix.lower() in VIDEO_SUFFIXES
                if SYSTEM.fullmatch(path.name) or not (is_video or path.is_dir()):
                    continue
                clip_id = f"{name}/{emotion.name}/{path.stem if is_video else path.name}"
                kind = "video" if is_video else "frames"
                yield Clip(clip_id, path.relative_to(dataset.root).as_posix(), kind, label)
