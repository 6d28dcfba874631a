"""Folds of data sets: as a list gives them, or made by this project, the same for everyone."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping

from tgdfer.core.errors import UserError
from tgdfer.datasets.listing import Clip, Member, tidy

SPLITS = {"train": "train", "training": "train", "test": "test", "val": "test", "validation": "test"}
"""What the usual names of parts mean, in lower case."""
MISSING = {"nan", "na", "n/a", "#n/a", "none", "null", "unknown", "missing", "undefined", "tbd", "todo", "?", "-", "--"}
"""What lists have where a value is missing, in lower case."""
PROTECTED = "no subject is in training and test of a fold"
"""What ``protection`` says where people are kept apart."""


def cross_validation(fold_of: Mapping[str, int]) -> list[Member]:
    """Folds in which every clip is tested once, in the fold that ``fold_of`` says, and trained on in all others."""
    return [
        Member(clip_id, fold, "test" if tested == fold else "train")
        for fold in range(1, max(fold_of.values()) + 1)
        for clip_id, tested in fold_of.items()
    ]


def fold_number(cell: str, where: str) -> str:
    """The number of the fold that tests a clip, as a list has it; spreadsheets may write 3 as 3.0.

    Raises:
        UserError: it is not a whole number from 1 on.
    """
    fold = tidy(cell).removesuffix(".0")
    if not (fold.isascii() and fold.isdigit() and len(fold) < 10 and int(fold) >= 1):
        raise UserError(f"{where}: fold '{cell[:50]}' is not a whole number from 1 on")
    return str(int(fold))


def listed_folds(places: Mapping[str, str], where: str) -> list[Member]:
    """Folds as a list gives them: for each clip ``train`` or ``test``, or the number of the fold that tests it.

    Raises:
        UserError: there is nothing to train on or nothing to test, or the numbers have a gap.
    """
    found = set(places.values())
    if found & {"train", "test"}:
        for split in ("train", "test"):
            if split not in found:
                raise UserError(f"{where}: no clip is {split}; expected clips for train and for test")
        return [Member(clip_id, 1, split) for clip_id, split in places.items()]
    numbers = sorted(map(int, found))
    if numbers != list(range(1, len(numbers) + 1)) or len(numbers) < 2:
        listed = ", ".join(map(str, numbers[:20])) + (", ..." if len(numbers) > 20 else "")
        raise UserError(f"{where}: the folds are {listed}; expected 1..K without a gap, K at least 2")
    return cross_validation({clip_id: int(place) for clip_id, place in places.items()})


def subject_folds(clips: list[Clip], folds: int, where: str) -> list[Member]:
    """Folds with disjoint subjects: the sorted subjects are cut into ``folds`` blocks of nearly equal size.

    Raises:
        UserError: the subject of a clip is not known, or there are fewer subjects than folds.
    """
    unknown = next((clip for clip in clips if clip.subject is None), None)
    if unknown:
        raise UserError(f"{where}: the subject of clip '{unknown.clip_id}' is not known; fill it in for every clip")
    subjects = sorted({str(clip.subject) for clip in clips})
    if len(subjects) < folds:
        raise UserError(f"{where}: {len(subjects)} subjects cannot be divided into {folds} folds")
    fold_of = {subject: rank * folds // len(subjects) + 1 for rank, subject in enumerate(subjects)}
    return cross_validation({clip.clip_id: fold_of[str(clip.subject)] for clip in clips})


def dealt_folds(clips: list[Clip], folds: int, where: str) -> list[Member]:
    """Folds for clips of unknown subjects: each class is dealt out over the folds, in the order of the clip ids.

    Raises:
        UserError: no class has as many clips as there are folds.
    """
    by_class: dict[str, list[str]] = defaultdict(list)
    for clip in sorted(clips, key=lambda clip: clip.clip_id):
        by_class[clip.label].append(clip.clip_id)
    if max(map(len, by_class.values())) < folds:
        raise UserError(f"{where}: no class has {folds} clips, which {folds} folds need")
    dealt = [clip_id for label in sorted(by_class) for clip_id in by_class[label]]
    return cross_validation({clip_id: number % folds + 1 for number, clip_id in enumerate(dealt)})


def protection(subject_of: Mapping[str, str | None], folds: Iterable[tuple[str, int, str]]) -> str:
    """Whether people are kept apart in the folds: ``PROTECTED``, or in words why not, or why that is not known.

    ``subject_of`` has the subject of each clip, or None; ``folds`` the clip, fold and split of every member.
    """
    known = [subject for subject in subject_of.values() if subject is not None]
    if not known:
        return "none: the subjects are not known, so a person may be in training and test, which flatters every method"
    if len(known) < len(subject_of):
        return (
            f"partial: the subject is known of {len(known)} of {len(subject_of)} clips; any other person may be in "
            "training and test, which flatters every method"
        )
    sides = {(fold, split, subject_of[clip]) for clip, fold, split in folds if clip in subject_of}
    both = {name for fold, split, name in sides if split == "test" and (fold, "train", name) in sides}
    if both:
        return (
            f"none: {len(both)} of {len(set(known))} subjects are in training and test of a fold, which flatters "
            f"every method ({', '.join(sorted(map(str, both))[:3])}{', ...' if len(both) > 3 else ''})"
        )
    plain = {(fold, split, _plain(name)) for fold, split, name in sides}
    alike = {name for fold, split, name in sides if split == "test" and (fold, "train", _plain(name)) in plain}
    if alike:
        return (
            f"doubtful: subjects whose names differ only in capitals, blanks or zeros (among them "
            f"{', '.join(sorted(map(str, alike))[:4])}) are in training and test of a fold; give each person one name"
        )
    if blank := sorted({name for name in known if name.lower() in MISSING}):
        return (
            f"partial: the subject of {sum(name in blank for name in known)} of {len(known)} clips is '{blank[0]}', "
            "which looks like a missing value; those people may be in training and test"
        )
    return PROTECTED


def _plain(subject: str | None) -> str:
    """A name without what differs between spellings of one person; spreadsheets may write 3 as 3.0."""
    plain = re.sub(r"\s+|(?<!\d)0+(?=\d)", "", unicodedata.normalize("NFKC", str(subject))).casefold()
    return plain.removesuffix(".0")
