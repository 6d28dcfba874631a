"""Data sets on disk -> the clips and folds tables. A new data set is one module with ``read`` and one line here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tgdfer import paths, stages, storage
from tgdfer.datasets import afew, crema_d, dfew, ferv39k, folder, mafw, ravdess
from tgdfer.datasets.listing import Clip, Complaints, Listing, Member
from tgdfer.errors import UserError
from tgdfer.params import DatasetParams, Params
from tgdfer.progress import log

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


def make_tables(params: Params, dataset: str) -> None:
    """The clips stage: write the clips and folds tables of ``dataset``."""
    listing = read_listing(params, dataset)
    chosen = stages.settings(params, "clips", dataset=dataset)
    inputs = {str(path): storage.file_fingerprint(path) for path in listing.read}
    made_by = stages.made_by("clips", chosen, {"annotations": storage.fingerprint(inputs)})
    clips = sorted(listing.clips, key=lambda clip: clip.clip_id)
    folds = sorted(listing.folds, key=lambda member: (member.fold, member.clip_id))
    fields = storage.SCHEMAS["clips"].names
    storage.write_table(
        paths.clips(dataset), "clips", {name: [getattr(clip, name) for clip in clips] for name in fields}, made_by
    )
    fields = storage.SCHEMAS["folds"].names
    storage.write_table(
        paths.folds(dataset), "folds", {name: [getattr(member, name) for member in folds] for name in fields}, made_by
    )
    counts = Counter(clip.label for clip in clips)
    shown = ", ".join(f"{name} {counts[name]}" for name in params.dataset(dataset).classes)
    log.info("%s: %d clips (%s), %d folds", dataset, len(clips), shown, max(member.fold for member in folds))


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
