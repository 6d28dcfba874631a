"""The clips stage: a data set on disk becomes the clips and folds tables."""

from __future__ import annotations

from collections import Counter

from tgdfer.config import dependencies
from tgdfer.config.params import Params
from tgdfer.core import paths, storage
from tgdfer.core.progress import log
from tgdfer.datasets import read_listing


def make_tables(params: Params, dataset: str) -> None:
    """The clips stage: write the clips and folds tables of ``dataset``."""
    listing = read_listing(params, dataset)
    chosen = dependencies.settings(params, "clips", dataset=dataset)
    inputs = {str(path): storage.file_fingerprint(path) for path in listing.read}
    made_by = dependencies.made_by("clips", chosen, {"annotations": storage.fingerprint(inputs)})
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
