"""The clips stage: the lists of a data set become the tables of its clips and folds."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tgdfer.config import ahead, dependencies
from tgdfer.config.params import Params
from tgdfer.core import checksums, paths, storage
from tgdfer.core.errors import UserError
from tgdfer.core.locks import writes
from tgdfer.core.progress import log
from tgdfer.datasets import read_listing
from tgdfer.datasets.advice import protection_of
from tgdfer.datasets.folds import PROTECTED


@writes(lambda params, dataset: [paths.clips(dataset), paths.folds(dataset)])
def run(params: Params, dataset: str) -> None:
    """Write the clips and folds tables of ``dataset``, unless a later stage would refuse it."""
    ahead.check(params, dataset)
    listing = read_listing(params, dataset)
    clips = sorted(listing.clips, key=lambda clip: clip.clip_id)
    folds = sorted(listing.folds, key=lambda member: (member.fold, member.clip_id))

    settings = dependencies.settings(params, "clips", dataset=dataset)
    lists = {str(path): storage.file_fingerprint(path) for path in listing.files}
    for path in listing.files:
        if checksums.read_sums(path.parent).get(path.name, lists[str(path)]) != lists[str(path)]:
            raise UserError(f"{path}: differs from {checksums.SUMS} next to it; {storage.remedy(path)}")
    made_by = dependencies.made_by("clips", settings, {"annotations": storage.fingerprint(lists)})
    _write(paths.clips(dataset), "clips", clips, made_by)
    _write(paths.folds(dataset), "folds", folds, made_by)

    counts = Counter(clip.label for clip in clips)
    shown = ", ".join(f"{name} {counts[name]}" for name in params.dataset(dataset).classes)
    if (kept_apart := protection_of(listing)) != PROTECTED:
        log.warning("%s: protection of the folds: %s", dataset, kept_apart)
    log.info("%s: %d clips (%s), %d folds", dataset, len(clips), shown, max(member.fold for member in folds))


def _write(path: Path, kind: str, rows: Sequence[object], made_by: dict[str, Any]) -> None:
    columns = {name: [getattr(row, name) for row in rows] for name in storage.SCHEMAS[kind].names}
    storage.write_table(path, kind, columns, made_by)
