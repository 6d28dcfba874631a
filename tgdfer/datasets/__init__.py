"""Data sets on disk as clips and folds. A new layout is one module here and its line in ``LAYOUTS``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from tgdfer.config.params import DatasetParams, Params
from tgdfer.core.errors import UserError
from tgdfer.datasets import afew, crema_d, dfew, ferv39k, folder, mafw, ravdess
from tgdfer.datasets.listing import Clip, Complaints, DatasetOnDisk, Listing, Member

LAYOUTS: dict[str, ModuleType] = {
    "dfew": dfew,
    "ferv39k": ferv39k,
    "mafw": mafw,
    "ravdess": ravdess,
    "crema_d": crema_d,
    "afew": afew,
    "folder": folder,
}
"""A layout is a module with ``read(dataset)`` and, if it has options, ``OPTIONS``: their values, the default first."""


def read_listing(params: Params, name: str, complaints: Complaints | None = None) -> Listing:
    """The checked clips and folds of data set ``name``; ``complaints`` may collect bad rows.

    Raises:
        UserError: the data set or its layout is unknown, a path does not exist, or the annotations are bad.
    """
    dataset = _on_disk(params.dataset(name), name, complaints or Complaints())
    read: Callable[[DatasetOnDisk], Listing] = LAYOUTS[params.dataset(name).layout].read
    try:
        listing = read(dataset)
    except OSError as error:
        raise UserError(f"{error.filename or dataset.root}: {error.strerror}") from None
    return _checked(listing, dataset)


def _on_disk(section: DatasetParams, name: str, complaints: Complaints) -> DatasetOnDisk:
    key = f"params.yaml: datasets.{name}"
    if section.layout not in LAYOUTS:
        raise UserError(f"{key}.layout: no layout '{section.layout}'; known: {', '.join(sorted(LAYOUTS))}")
    known: dict[str, tuple[str, ...]] = getattr(LAYOUTS[section.layout], "OPTIONS", {})
    for option, value in section.options.items():
        if option not in known:
            raise UserError(
                f"{key}.options.{option}: unknown option; layout {section.layout} has {', '.join(known) or 'none'}"
            )
        if value not in known[option]:
            raise UserError(f"{key}.options.{option}: '{value}' is not one of {', '.join(known[option])}")
    root, annotations = Path(section.root), Path(section.annotations)
    if not root.is_dir():
        raise UserError(f"{key}.root: {root}: no such folder")
    if not annotations.exists():
        raise UserError(f"{key}.annotations: {annotations}: no such file or folder")
    options = {option: values[0] for option, values in known.items()} | section.options
    return DatasetOnDisk(name, root, annotations, section.classes, options, section.links == "inside", complaints)


def _checked(listing: Listing, dataset: DatasetOnDisk) -> Listing:
    """``listing`` without bad entries: every clip once, of a known class, and once in a fold."""
    clips: dict[str, Clip] = {}
    for clip in listing.clips:
        with dataset.complaints.row():
            if clip.clip_id in clips:
                raise UserError(f"{dataset.name}: clip '{clip.clip_id}' is listed twice")
            clips[clip.clip_id] = clip
            if clip.label not in dataset.classes:
                raise UserError(
                    f"params.yaml: datasets.{dataset.name}.classes: clip '{clip.clip_id}' is '{clip.label}', "
                    f"which is not one of {', '.join(dataset.classes)}"
                )
    members: dict[tuple[str, int], Member] = {}
    for member in listing.folds:
        with dataset.complaints.row():
            known = members.setdefault((member.clip_id, member.fold), member)
            if known is not member:
                where = f"listed twice in {member.split}" if known.split == member.split else "both train and test"
                raise UserError(f"{dataset.name}: clip '{member.clip_id}' is {where} of fold {member.fold}")
    with dataset.complaints.row():
        if not any((dataset.root / clip.source).exists() for clip in clips.values()):
            first = next(iter(clips.values())).source if clips else "none"
            raise UserError(
                f"params.yaml: datasets.{dataset.name}.root: {dataset.root}: none of the {len(clips)} listed clips "
                f"is there; the first is {first}"
            )
    return Listing(list(clips.values()), list(members.values()), listing.files)
