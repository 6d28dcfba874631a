"""RAVDESS: 1,440 speech videos (and songs) of 24 actors; what a clip shows stands in its file name.

``Actor_01/02-01-06-01-02-01-12.mp4`` is modality (01 audio and video, 02 video, 03 audio) - channel (01 speech, 02
song) - emotion - intensity - statement - repetition - actor. Folds are ours, actors disjoint: six of four actors.
Options: ``modality`` (audio-video, video: the same clips with and without sound), ``channel`` (speech, song, both),
``calm`` (class: a class of its own, neutral: counted as neutral, drop).
"""

from __future__ import annotations

import re

from tgdfer.config.params import DatasetParams
from tgdfer.core.errors import UserError
from tgdfer.datasets.listing import Clip, Complaints, Listing, class_of, options_of, root_of
from tgdfer.datasets.subjects import subject_folds

EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
}
"""RAVDESS's own numbering of the classes."""
MODALITIES = {"audio-video": "01", "video": "02"}
CHANNELS = {"speech": ("01",), "song": ("02",), "both": ("01", "02")}
FOLDS = 6
_NAME = re.compile(r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)")


def read(dataset: DatasetParams, name: str, complaints: Complaints) -> Listing:
    """List the videos of the chosen modality and channel.

    Raises:
        UserError: there are none, or an emotion is no class of the data set.
    """
    options = options_of(
        dataset,
        name,
        {"modality": tuple(MODALITIES), "channel": tuple(CHANNELS), "calm": ("class", "neutral", "drop")},
    )
    root = root_of(dataset, name)
    clips = []
    for path in sorted(root.rglob("*.mp4")):
        match = _NAME.fullmatch(path.stem)
        if not match or match[1] != MODALITIES[options["modality"]] or match[2] not in CHANNELS[options["channel"]]:
            continue
        source = path.relative_to(root).as_posix()
        if match[3] not in EMOTIONS:
            with complaints.row():
                raise UserError(f"{root}: {source}: emotion {match[3]}, expected 01 to 08")
            continue
        label = EMOTIONS[match[3]]
        if label == "calm" and options["calm"] != "class":
            if options["calm"] == "drop":
                continue
            label = "neutral"
        if label == "calm" and label not in dataset.classes:
            raise UserError(
                f"params.yaml: datasets.{name}: {source} is calm, which is no class; add it to classes, "
                "or set options.calm to neutral or drop"
            )
        label = class_of(label, dataset.classes, source)
        clips.append(Clip(path.stem, source, "video", label, subject=match[7]))
    if not clips:
        wanted = f"{MODALITIES[options['modality']]}-{CHANNELS[options['channel']][0]}"
        raise UserError(f"{root}: no RAVDESS videos (Actor_01/{wanted}-06-01-02-01-12.mp4 and the like)")
    return Listing(clips, subject_folds(clips, FOLDS, str(root)))
