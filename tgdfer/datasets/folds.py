"""Folds of data sets: as a list gives them, or made by this project, the same for everyone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from tgdfer.core.errors import UserError
from tgdfer.datasets.listing import Clip, Member


def cross_validation(fold_of: Mapping[str, int]) -> list[Member]:
    """Folds in which every clip is tested once, in the fold that ``fold_of`` says, and trained on in all others."""
    return [
        Member(clip_id, fold, "test" if tested == fold else "train")
        for fold in range(1, max(fold_of.values()) + 1)
        for clip_id, tested in fold_of.items()
    ]


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
        UserError: there are fewer subjects than folds.
    """
    subjects = sorted({clip.subject for clip in clips if clip.subject is not None})
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
