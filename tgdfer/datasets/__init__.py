"""Data sets on disk as clips and folds. A new layout is one module here and its line in ``LAYOUTS``."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType

from tgdfer.config.data import DatasetParams
from tgdfer.config.params import Params
from tgdfer.core.errors import UserError
from tgdfer.datasets import afew, crema_d, dfew, ferv39k, folder, mafw, ravdess
from tgdfer.datasets.contents import on_both_sides, same_content
from tgdfer.datasets.listing import Clip, Complaints, DatasetOnDisk, Listing, Member
from tgdfer.datasets.published import PUBLISHED_LAYOUTS

LAYOUTS: dict[str, ModuleType] = {
    "dfew": dfew,
    "ferv39k": ferv39k,
    "mafw": mafw,
    "ravdess": ravdess,
    "crema_d": crema_d,
    "afew": afew,
    "folder": folder,
}
"""A layout is a module with ``read(dataset)``, ``FOLDS`` (how many) or ``count_folds(annotations)``, and, if it has
options, ``OPTIONS``: their values, the default first."""


def read_listing(params: Params, name: str, complaints: Complaints | None = None) -> Listing:
    """The checked clips and folds of data set ``name``; ``complaints`` may collect bad rows.

    Raises:
        UserError: the data set or its layout is unknown, a path does not exist, or the annotations are bad.
    """
    section = params.dataset(name)
    dataset = _on_disk(section, name, complaints or Complaints())
    try:
        listing = LAYOUTS[section.layout].read(dataset)
    except OSError as error:
        raise UserError(f"{error.filename or dataset.root}: {error.strerror}") from None
    checked = _checked(listing, dataset)
    if section.layout not in PUBLISHED_LAYOUTS:
        _check_contents(checked, dataset)
    return checked


def fold_numbers(params: Params, name: str) -> list[int]:
    """The folds of data set ``name``, which are known before its clips are listed.

    Raises:
        UserError: the data set or its layout is unknown, or its list names a fold that is not a number.
    """
    section = params.dataset(name)
    layout, annotations = _layout(section, name), Path(section.annotations)
    if annotations in params.rendered:  # a fresh clone has not rendered it yet
        count = params.rendered[annotations].folds
    elif hasattr(layout, "FOLDS"):
        count = layout.FOLDS
    elif hasattr(layout, "count_folds"):
        count = layout.count_folds(annotations) if annotations.is_file() else 1
    else:
        count = max(member.fold for member in read_listing(params, name).folds)
    return list(range(1, count + 1))


def _layout(section: DatasetParams, name: str) -> ModuleType:
    if section.layout not in LAYOUTS:
        known = ", ".join(sorted(LAYOUTS))
        raise UserError(f"params.yaml: datasets.{name}.layout: no layout '{section.layout}'; known: {known}")
    return LAYOUTS[section.layout]


def _on_disk(section: DatasetParams, name: str, complaints: Complaints) -> DatasetOnDisk:
    key = f"params.yaml: datasets.{name}"
    known: dict[str, tuple[str, ...]] = getattr(_layout(section, name), "OPTIONS", {})
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
            first = clips.setdefault(clip.clip_id, clip)
            if first is not clip:
                raise UserError(
                    f"{dataset.name}: two clips have the id '{clip.clip_id}': {first.source} and {clip.source}; rename "
                    "one, or remove it if it is a copy"
                )
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
            example = next(iter(clips.values())).source if clips else "none"
            raise UserError(
                f"params.yaml: datasets.{dataset.name}.root: {dataset.root}: none of the {len(clips)} listed clips "
                f"is there; the first is {example}"
            )
    return replace(listing, clips=list(clips.values()), folds=list(members.values()))


def _check_contents(listing: Listing, dataset: DatasetOnDisk) -> None:
    """Complain of every clip that is in training and test of a fold under two names."""
    for first, other, fold in on_both_sides(listing, same_content(dataset.root, listing.clips)):
        with dataset.complaints.row():
            raise UserError(
                f"{listing.files[0] if listing.files else dataset.root}: clips {listing.place(first)} and "
                f"{listing.place(other)} have the same content, and one is in training while the other is in test of "
                f"fold {fold}; remove one of them, or put both into one fold"
            )
