"""AFEW: 773 clips for training and 381 for validation, which are the test part, for the test labels are not public.

``AFEW_Face/{train,validation}/<Emotion>/<clip>/*`` (aligned faces), or a video in the place of the folder, as in the
challenge's release: ``{Train,Val}_AFEW/<Emotion>/<clip>.avi``.
"""

from __future__ import annotations

from tgdfer.config.params import DatasetParams
from tgdfer.core.errors import UserError
from tgdfer.datasets.listing import (
    VIDEO_SUFFIXES,
    Clip,
    Complaints,
    Listing,
    Member,
    class_of,
    first_folder,
    options_of,
    root_of,
)

PARTS = {"train": ("train", "Train_AFEW"), "test": ("validation", "val", "Val_AFEW")}
BESIDE = "AlignedFaces"
"""How the folders begin that the challenge's own release has beside those of the emotions."""


def read(dataset: DatasetParams, name: str, complaints: Complaints) -> Listing:
    """List the clips of both parts; labels are the names of the folders.

    Raises:
        UserError: a part is missing or empty, or a folder's name is no class.
    """
    options_of(dataset, name, {})
    root = root_of(dataset, name)
    base = first_folder(root, ("AFEW_Face",)) or root
    clips: list[Clip] = []
    folds: list[Member] = []
    for split, names in PARTS.items():
        part = first_folder(base, names)
        if part is None:
            raise UserError(f"{base}: no folder {names[0]}; expected AFEW_Face/{{train,validation}}/<Emotion>/<clip>")
        found = len(clips)
        for emotion in sorted(path for path in part.iterdir() if path.is_dir()):
            if emotion.name.startswith((".", BESIDE)):
                continue
            label = ""
            with complaints.row():
                label = class_of(emotion.name, dataset.classes, str(emotion))
            if not label:
                continue
            for path in sorted(emotion.iterdir()):
                is_video = path.suffix.lower() in VIDEO_SUFFIXES
                if path.name[0] == "." or not (is_video or path.is_dir()):
                    continue
                clip_id = f"{names[0]}/{emotion.name}/{path.stem if is_video else path.name}"
                kind = "video" if is_video else "frames"
                clips.append(Clip(clip_id, path.relative_to(root).as_posix(), kind, label))
                folds.append(Member(clip_id, 1, split))
        if len(clips) == found:
            raise UserError(f"{part}: no clips; expected <Emotion>/<clip>")
    return Listing(clips, folds)
