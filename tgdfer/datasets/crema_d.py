"""CREMA-D: 7,442 clips of 91 actors; what a clip shows stands in its file name.

``VideoFlash/1019_DFA_ANG_XX.flv`` is actor, sentence, emotion, level. There is no surprise. Folds are ours, actors
disjoint: five of 18 or 19 actors.
"""

from __future__ import annotations

import re

from tgdfer.config.params import DatasetParams
from tgdfer.core.errors import UserError
from tgdfer.datasets.listing import (
    VIDEO_SUFFIXES,
    Clip,
    Complaints,
    Listing,
    class_of,
    first_folder,
    options_of,
    root_of,
)
from tgdfer.datasets.subjects import subject_folds

EMOTIONS = {"ANG": "angry", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
"""CREMA-D's own codes of the classes."""
FOLDERS = ("VideoFlash", "VideoMP4", "Video")
FOLDS = 5
_NAME = re.compile(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_([A-Z]{1,2})")


def read(dataset: DatasetParams, name: str, complaints: Complaints) -> Listing:
    """List the videos.

    Raises:
        UserError: there are none, or an emotion is no class of the data set.
    """
    options_of(dataset, name, {})
    root = root_of(dataset, name)
    folder = first_folder(root, FOLDERS) or root
    clips = []
    for path in sorted(folder.iterdir()):
        match = _NAME.fullmatch(path.stem)
        if not match or path.suffix.lower() not in VIDEO_SUFFIXES:
            continue
        source = path.relative_to(root).as_posix()
        if match[3] not in EMOTIONS:
            with complaints.row():
                raise UserError(f"{root}: {source}: emotion {match[3]}, expected {', '.join(EMOTIONS)}")
            continue
        clips.append(
            Clip(path.stem, source, "video", class_of(EMOTIONS[match[3]], dataset.classes, source), subject=match[1])
        )
    if not clips:
        raise UserError(f"{root}: no CREMA-D videos (VideoFlash/1019_DFA_ANG_XX.flv and the like)")
    return Listing(clips, subject_folds(clips, FOLDS, str(root)))
