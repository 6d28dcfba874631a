"""Folds that no one published: disjoint in their subjects, the same for everyone."""

from __future__ import annotations

from tgdfer.datasets.listing import Clip, Member
from tgdfer.errors import UserError


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
