"""CREMA-D: 7,442 clips of 91 actors, labelled by their file names.

``VideoFlash/1019_DFA_ANG_XX.flv`` is actor, sentence, emotion, level. There is no surprise. The folds were
made for this project: five with disjoint actors, 18 or 19 each.
"""

import re

from tgdfer.core.errors import UserError
from tgdfer.datasets.folds import subject_folds
from tgdfer.datasets.listing import VIDEO_SUFFIXES, Clip, DatasetOnDisk, Listing, class_of, first_folder

EMOTIONS = {"ANG": "angry", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
"""CREMA-D's codes of the classes."""
FOLDERS = ("VideoFlash", "VideoMP4", "Video")
FOLDS = 5
_NAME = re.compile(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_([A-Z]{1,2})")


def read(dataset: DatasetOnDisk) -> Listing:
    """List the videos.

    Raises:
        UserError: there are none, or an emotion is not a class of the data set.
    """
    folder = first_folder(dataset.root, FOLDERS) or dataset.root
    clips = []
    for path in sorted(folder.iterdir()):
        match = _NAME.fullmatch(path.stem)
        if match and path.suffix.lower() in VIDEO_SUFFIXES:
            source = path.relative_to(dataset.root).as_posix()
            with dataset.complaints.row():
                if match[3] not in EMOTIONS:
                    raise UserError(f"{dataset.root}: {source}: emotion {match[3]}, expected {', '.join(EMOTIONS)}")
                label = class_of(EMOTIONS[match[3]], dataset.classes, f"{dataset.root}: {source}")
                clips.append(Clip(path.stem, source, "video", label, subject=match[1]))
    if not clips:
        raise UserError(f"{dataset.root}: no CREMA-D videos, such as VideoFlash/1019_DFA_ANG_XX.flv")
    return Listing(clips, subject_folds(clips, FOLDS, str(dataset.root)))
