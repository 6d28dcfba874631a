"""Clips that are the same files under several names, found by their bytes."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from itertools import chain
from pathlib import Path

from tgdfer.datasets.listing import Clip, Listing
from tgdfer.media.frame import UnusableError
from tgdfer.media.images import list_images


def same_content(root: Path, clips: Iterable[Clip]) -> list[list[Clip]]:
    """Groups of clips with the same bytes: of the video, or of the images one after another; in the order of ``clips``.

    Only clips of the same size are read. Clips that cannot be read are left out.
    """
    groups = [list(clips)]
    for key in (_size, _digest):
        groups = list(chain.from_iterable(_divided(root, group, key) for group in groups))
    return groups


def on_both_sides(listing: Listing, groups: Iterable[list[Clip]]) -> list[tuple[Clip, Clip, int]]:
    """The first clip of a group, another one that is on the other side of a fold, and the first such fold."""
    sides: dict[str, dict[int, str]] = defaultdict(dict)
    for member in listing.folds:
        sides[member.clip_id][member.fold] = member.split
    pairs = []
    for first, *others in groups:
        for other in others:
            own, its = sides[first.clip_id], sides[other.clip_id]
            apart = [fold for fold in sorted(own) if its.get(fold, own[fold]) != own[fold]]
            if apart:
                pairs.append((first, other, apart[0]))
    return pairs


def _divided(root: Path, clips: list[Clip], key: Callable[[Path, str], Hashable]) -> list[list[Clip]]:
    alike: dict[Hashable, list[Clip]] = defaultdict(list)
    for clip in clips:
        try:
            alike[clip.kind, key(root / clip.source, clip.kind)].append(clip)
        except (OSError, UnusableError, ValueError):
            continue  # the check of the files and the frames stage say what is wrong
    return [group for group in alike.values() if len(group) > 1]


def _files(path: Path, kind: str) -> list[Path]:
    return [path / name for name in list_images(path)] if kind == "frames" else [path]


def _size(path: Path, kind: str) -> tuple[int, ...]:
    """Cheap to find: of a folder only the number of its images and the sizes of the first and the last."""
    files = _files(path, kind)
    sizes = [file.stat().st_size for file in {files[0], files[-1]}]
    if not all(sizes):
        raise UnusableError("empty")
    return len(files), *sorted(sizes)


def _digest(path: Path, kind: str) -> str:
    digest = hashlib.sha256()
    for file in _files(path, kind):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
