"""Folds that no one published: disjoint in their subjects, the same for everyone."""

from __future__ import annotations

from tgdfer.core.errors import UserError
from tgdfer.datasets.listing import Clip, Member


def subject_folds(clips: list[Clip], folds: int, where: str) -> list[Member]:
    """Every subject is tested in one fold: the sorted subjects are cut into ``folds`` blocks of nearly equal size.

    Raises:
        UserError: there are fewer subjects than folds.
    """
    subjects = sorted({clip.subject for clip in clips if clip.subject is not None})
    if len(subjects) < folds:
        raise UserError(f"{where}: {len(subjects)} subjects cannot be cut into {folds} folds with other subjects each")
    fold_of = {subject: rank * folds // len(subjects) + 1 for rank, subject in enumerate(subjects)}
    return [
        Member(clip.clip_id, fold, "test" if fold_of[str(clip.subject)] == fold else "train")
        for fold in range(1, folds + 1)
        for clip in clips
    ]


def dealt_folds(clips: list[Clip], folds: int, where: str) -> list[Member]:
    """For clips whose subjects are not known: each class dealt out over the folds, in the order of the clips' ids.

    Raises:
        UserError: no class has as many clips as there are folds.
    """
    by_class: dict[str, list[str]] = {}
    for clip in sorted(clips, key=lambda clip: clip.clip_id):
        by_class.setdefault(clip.label, []).append(clip.clip_id)
    if max(map(len, by_class.values())) < folds:
        raise UserError(f"{where}: no class has {folds} clips, which {folds} folds need")
    dealt = [clip_id for label in sorted(by_class) for clip_id in by_class[label]]
    fold_of = {clip_id: number % folds + 1 for number, clip_id in enumerate(dealt)}
    return [
        Member(clip.clip_id, fold, "test" if fold_of[clip.clip_id] == fold else "train")
        for fold in range(1, folds + 1)
        for clip in clips
    ]
