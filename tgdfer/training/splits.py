"""Parts of a training fold: the inner validation split, and a fraction of the clips of each class."""

import hashlib
from collections.abc import Sequence

import numpy as np


def inner_split(
    clip_ids: Sequence[str],
    labels: np.ndarray,
    subjects: Sequence[str | None],
    fraction: float,
    key: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Divide the clips of a training fold into training and validation clips.

    Groups (all clips of a subject; a clip without a subject is its own group) come in an order that hashing gives, and
    each goes to validation if that brings the class counts there closer to ``fraction`` of the whole, measured by
    the chi-square distance, and leaves every class a training clip. So the split depends only on the names and
    labels of the clips and on ``key``: not on their order, not on the seed of a run, not on other folds.

    Args:
        clip_ids: N names.
        labels: int [N] class indices.
        subjects: N names or None.
        fraction: the aimed share of validation clips, 0 to 0.5.
        key: other keys give other splits; variants with one key can be compared in pairs.

    Returns:
        Indices of the training and of the validation clips, both ascending. Validation is empty if ``fraction`` is
        0 or no group is small enough.
    """
    labels = np.asarray(labels)
    groups: dict[str, list[int]] = {}
    for index, (clip, subject) in enumerate(zip(clip_ids, subjects, strict=True)):
        groups.setdefault(f"subject\0{subject}" if subject is not None else f"clip\0{clip}", []).append(index)
    total = np.bincount(labels, minlength=1) if len(labels) else np.zeros(1, dtype=np.int64)
    target = fraction * total
    weight = np.divide(1.0, target, out=np.zeros(len(total)), where=target > 0)
    count = np.zeros(len(total), dtype=np.int64)
    chosen: list[int] = []
    if fraction > 0:
        for group in sorted(groups, key=lambda name: hashlib.sha256(f"{key}\0{name}".encode()).digest()):
            more = np.bincount(labels[groups[group]], minlength=len(total))
            # sum of weight * ((count + more - target)^2 - (count - target)^2), without the cancellation
            change = float((weight * more * (2 * (count - target) + more)).sum())
            if change < 0 and bool((total - count - more)[more > 0].all()):
                count += more
                chosen += groups[group]
    inside = np.zeros(len(labels), dtype=bool)
    inside[chosen] = True
    return np.flatnonzero(~inside), np.flatnonzero(inside)


def part_of_each_class(clip_ids: Sequence[str], labels: np.ndarray, fraction: float, key: str) -> np.ndarray:
    """Choose ``fraction`` of the clips of each class, rounded, but at least one.

    The clips of a class are ranked by hashes of their names and ``key``, so a smaller fraction is a subset of a larger.

    Args:
        clip_ids: N names.
        labels: int [N] class indices.
        fraction: above 0, at most 1.
        key: other keys give other choices.

    Returns:
        Indices of the chosen clips, ascending.
    """
    ranked = sorted(range(len(labels)), key=lambda i: hashlib.sha256(f"{key}\0{clip_ids[i]}".encode()).digest())
    left = np.maximum(1, np.round(fraction * np.bincount(labels, minlength=1)))
    chosen = []
    for index in ranked:
        if left[labels[index]] > 0:
            left[labels[index]] -= 1
            chosen.append(index)
    return np.sort(chosen).astype(np.int64)
