"""RAVDESS: 1,440 speech videos (and songs) of 24 actors, labelled by their file names.

``Actor_01/02-01-06-01-02-01-12.mp4`` is modality (01 audio and video, 02 video, 03 audio) - channel (01 speech, 02
song) - emotion - intensity - statement - repetition - actor. The folds were made for this project: six with disjoint
actors, four each. Options: ``modality`` (the same clips with and without sound), ``channel``, and ``calm`` (a class,
counted as neutral, or dropped).
"""

import re
from pathlib import PurePosixPath

from tgdfer.core.errors import UserError
from tgdfer.datasets.folds import subject_folds
from tgdfer.datasets.listing import Clip, DatasetOnDisk, Listing, class_of
from tgdfer.datasets.walk import walk

NAMES = ("neutral", "calm", "happy", "sad", "angry", "fear", "disgust", "surprise")
EMOTIONS = {f"{number:02d}": name for number, name in enumerate(NAMES, start=1)}
"""RAVDESS's numbering of the classes."""
MODALITIES = {"audio-video": "01", "video": "02"}
CHANNELS = {"speech": ("01",), "song": ("02",), "both": ("01", "02")}
OPTIONS = {"modality": tuple(MODALITIES), "channel": tuple(CHANNELS), "calm": ("class", "neutral", "drop")}
FOLDS = 6
_NAME = re.compile(r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)")


def read(dataset: DatasetOnDisk) -> Listing:
    """List the videos of the chosen modality and channel.

    Raises:
        UserError: there are none, or an emotion is not a class of the data set.
    """
    modality, channels = MODALITIES[dataset.options["modality"]], CHANNELS[dataset.options["channel"]]
    calm = dataset.options["calm"]
    clips = []
    for source, kind in walk(dataset.root).clips.items():
        path = PurePosixPath(source)
        match = _NAME.fullmatch(path.stem)
        if kind != "video" or not match or match[1] != modality or match[2] not in channels:
            continue
        with dataset.complaints.row():
            if match[3] not in EMOTIONS:
                raise UserError(f"{dataset.root}: {source}: emotion {match[3]}, expected 01 to 08")
            label = EMOTIONS[match[3]]
            if label == "calm" and calm == "drop":
                continue
            if label == "calm" and calm == "neutral":
                label = "neutral"
            if label == "calm" and label not in dataset.classes:
                raise UserError(
                    f"params.yaml: datasets.{dataset.name}: {source} is calm, which is not a class; add it to classes, "
                    "or set options.calm to neutral or drop"
                )
            label = class_of(label, dataset.classes, f"{dataset.root}: {source}")
            clips.append(Clip(path.stem, source, "video", label, subject=match[7]))
    if not clips:
        raise UserError(
            f"{dataset.root}: no RAVDESS videos, such as Actor_01/{modality}-{channels[0]}-06-01-02-01-12.mp4"
        )
    return Listing(clips, subject_folds(clips, FOLDS, str(dataset.root)))
