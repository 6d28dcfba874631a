"""Understand a folder of clips: a folder for each class, perhaps in train and test folders."""

import re
from pathlib import Path, PurePosixPath

from tgdfer.core.classes import ELEVEN
from tgdfer.core.errors import UserError
from tgdfer.datasets.folds import SPLITS
from tgdfer.datasets.listing import Clip, clip_ids, known_spellings, tidy
from tgdfer.datasets.walk import walk
from tgdfer.tools.scaffold.source import ClipList, label_of, understood


def from_folder(folder: Path) -> ClipList:
    """Understand ``folder``: videos or folders of images in class folders, which may be in train and test folders.

    Raises:
        UserError: the folder does not exist, or has no video in a class folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    found = walk(folder)
    for source, kind in list(found.clips.items()):
        if len(PurePosixPath(source).parts) < 2:
            found.drop(
                source, "not in a class folder" if kind == "video" else "an image that is in no folder of a clip"
            )
    if not found.clips:
        passed = {reason: len(files) for reason, files in found.passed.items()}
        listed = "; ".join(f"{count} {reason}" for reason, count in passed.items()) or "it is empty"
        raise UserError(
            f"{folder}: no videos or folders of images in class folders, such as {folder}/happy/a.mp4 (found: {listed})"
        )
    labels, places = {}, {}
    for source in found.clips:
        parts = PurePosixPath(source).parts
        in_split = parts[0].lower() in SPLITS
        if in_split and len(parts) < 3:
            raise UserError(f"{folder}/{source}: is in no class folder; expected {folder}/{parts[0]}/CLASS/{parts[1]}")
        if in_split:
            places[source] = parts[0]
        elif len(parts) > 2 and parts[1].lower() in SPLITS:  # class folders with train and test in each
            places[source] = parts[1]
        labels[source] = label_of(parts[1 if in_split else 0], f"{folder}/{source}")
    if places and len(places) < len(found.clips):
        outside = next(source for source in found.clips if source not in places)
        raise UserError(
            f"{folder}: {next(iter(places))} is in a train or test folder and {outside} is not; expected all or none"
        )
    _check_levels(folder, labels)
    clips = [
        Clip(clip_id, source, kind, labels[source])
        for clip_id, (source, kind) in zip(clip_ids(found.clips), found.clips.items(), strict=True)
    ]
    named = {source: source for source in found.clips}
    return understood(folder, None, {}, [], {}, clips, places, dict(found.passed), named)


def _check_levels(folder: Path, labels: dict[str, str]) -> None:
    """Refuse folders of people, whose classes are the folders in them or in the names of their files."""
    known, classes = known_spellings(ELEVEN), set(labels.values())
    if classes & set(known.values()):
        return
    deep = [parts for source in labels if len(parts := PurePosixPath(source).parts) > 2]
    below = {tidy(parts[1]).lower() for parts in deep}
    if len(deep) == len(labels) and below <= set(known):
        raise UserError(
            f"{folder}: the first folders ({', '.join(sorted(classes)[:3])}) are not classes, those below them are "
            f"({', '.join(sorted(below)[:3])}); move the class folders up, or give a CSV with the columns path, label "
            "and subject"
        )
    named: dict[str, set[str]] = {}
    for source, label in labels.items():
        words = re.split(r"[^a-z]+", PurePosixPath(source).stem.lower())
        found = {known[word] for word in words if word in known}
        if len(found) != 1:
            return
        named.setdefault(label, set()).update(found)
    if max(map(len, named.values())) > 1:
        said = sorted(set.union(*named.values()))
        raise UserError(
            f"{folder}: the folders ({', '.join(sorted(classes)[:3])}) are not classes, the file names say them "
            f"({', '.join(said[:3])}); give a CSV with the columns path, label and subject"
        )
