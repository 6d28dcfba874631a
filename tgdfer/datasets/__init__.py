"""Data sets on disk -> the clips and folds tables. A new data set is one module with ``read`` and one line here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tgdfer.config.params import DatasetParams, Params
from tgdfer.core.errors import UserError
from tgdfer.datasets import afew, crema_d, dfew, ferv39k, folder, mafw, ravdess
from tgdfer.datasets.listing import Clip, Complaints, Listing, Member

LAYOUTS: dict[str, Callable[[DatasetParams, str, Complaints], Listing]] = {
    "dfew": dfew.read,
    "ferv39k": ferv39k.read,
    "mafw": mafw.read,
    "ravdess": ravdess.read,
    "crema_d": crema_d.read,
    "afew": afew.read,
    "folder": folder.read,
}


def read_listing(params: Params, dataset: str, complaints: Complaints | None = None) -> Listing:
    """What stands on disk for ``dataset``, checked; ``complaints`` may collect bad rows instead of stopping at one.

    Raises:
        UserError: unknown data set or layout, or bad annotations.
    """
    section = params.dataset(dataset)
    if section.layout not in LAYOUTS:
        known = ", ".join(sorted(LAYOUTS))
        raise UserError(f"params.yaml: datasets.{dataset}.layout: no layout '{section.layout}'; known: {known}")
    complaints = complaints or Complaints()
    try:
        listing = LAYOUTS[section.layout](section, dataset, complaints)
    except OSError as error:
        raise UserError(f"{error.filename or section.root}: {error.strerror}") from None
    _check(listing, section, dataset, complaints)
    return listing


def _check(listing: Listing, section: DatasetParams, dataset: str, complaints: Complaints) -> None:
    """What no layout may get wrong: classes of the data set, one row a clip, no clip twice in a fold."""
    clips: dict[str, Clip] = {}
    for clip in listing.clips:
        with complaints.row():
            if clip.clip_id in clips:
                raise UserError(f"{dataset}: clip '{clip.clip_id}' is listed twice")
            clips[clip.clip_id] = clip
            if clip.label not in section.classes:
                raise UserError(
                    f"params.yaml: datasets.{dataset}.classes: clip '{clip.clip_id}' is '{clip.label}', "
                    f"which is none of {', '.join(section.classes)}"
                )
    members: dict[tuple[str, int], Member] = {}
    for member in listing.folds:
        key = member.clip_id, member.fold
        with complaints.row():
            if key in members:
                where = f"listed twice in {member.split}"
                if members[key].split != member.split:
                    where = "both train and test"
                raise UserError(f"{dataset}: clip '{member.clip_id}' is {where} of fold {member.fold}")
            members[key] = member
    listing.clips, listing.folds = list(clips.values()), list(members.values())
    with complaints.row():
        if not any((Path(section.root) / source).exists() for source in (clip.source for clip in listing.clips)):
            first = listing.clips[0].source if listing.clips else "none"
            raise UserError(
                f"params.yaml: datasets.{dataset}.root: {section.root}: not one of the {len(listing.clips)} clips of "
                f"the lists is there, the first is {first}"
            )
