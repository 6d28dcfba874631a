"""Check data sets on disk without running anything."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from tgdfer.config.ahead import feature_dim, refusals
from tgdfer.config.params import Params
from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.core.tables import as_table
from tgdfer.datasets import read_listing
from tgdfer.datasets.advice import advice, protection_of
from tgdfer.datasets.contents import on_both_sides, same_content
from tgdfer.datasets.integrity import inspect, outliers
from tgdfer.datasets.listing import Complaints, Listing
from tgdfer.datasets.published import PUBLISHED_LAYOUTS, Count, compare, published
from tgdfer.datasets.truth import read_truth
from tgdfer.datasets.walk import not_listed, passed_lines
from tgdfer.features.elsewhere import check_files
from tgdfer.media import sources

SHOWN = 50
"""Faults that are printed; ``--json`` has all."""
OF_MANY_IMAGES = ("dfew", "ferv39k", "mafw")
"""Layouts with lists of all clips and up to a million images, below whose root nothing else is looked for."""
STYLES = {"ok": "green", "differs": "red"}


@dataclass(frozen=True)
class Verdict:
    """What the check of one data set found."""

    dataset: str
    root: str
    checks: list[Count]
    protection: str
    """Whether people are kept apart in the folds."""
    annotation_faults: list[str]
    file_faults: list[str]
    later_faults: list[str]
    """What a later stage would refuse."""
    notes: list[str]
    """What is not wrong, but should be looked at."""
    passed_over: dict[str, list[str]]
    """The files below the root that belong to no clip, by reason."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong and all counts are as published."""
        differs = any(check.verdict == "differs" for check in self.checks)
        return not (differs or self.annotation_faults or self.file_faults or self.later_faults)


def validate(
    params: Params, dataset: str | None = None, strict: bool = False, as_json: bool = False, deep: bool = False
) -> bool:
    """Check all data sets, or only ``dataset``, and print published and found counts and every fault.

    Returns:
        Whether all is well; clips that cannot be used and counts that differ count against it.

    Raises:
        UserError: a root or an annotation file is missing. Unless ``strict``, also if annotations have a bad row, with
            which the clips stage would not run.
    """
    verdicts = [check_dataset(params, name, deep) for name in ([dataset] if dataset else params.datasets)]
    typer.echo(_as_json(verdicts) if as_json else "\n".join(map(_as_text, verdicts)))
    bad = [(verdict.dataset, fault) for verdict in verdicts for fault in verdict.annotation_faults]
    if bad and not strict:
        raise UserError(f"{bad[0][0]}: {len(bad)} faults in annotations, the first: {bad[0][1]}")
    return all(verdict.ok for verdict in verdicts)


def check_dataset(params: Params, name: str, deep: bool = False) -> Verdict:
    """Check one data set; ``deep`` decodes every file."""
    section = params.dataset(name)
    complaints = Complaints(keep=True)
    listing = read_listing(params, name, complaints)
    root = Path(section.root)
    later = [str(refusal) for refusal in refusals(params, datasets=[name])]
    if section.features == "files":
        faulty = check_files(root, [clip.source for clip in listing.clips], feature_dim(params, name))[1]
    else:
        inspected = inspect(root, listing.clips, deep, section.links == "inside")
        faulty = [f"{one.clip.source}: {one.fault}" for one in inspected if one.fault]
        later += _too_many(params, len(faulty), len(listing.clips))
        faulty += outliers(inspected)
    later += _truth_faults(section.truth, listing)
    annotations = complaints.found + _fold_faults(listing)
    passed: dict[str, list[str]] = {}
    if section.layout not in PUBLISHED_LAYOUTS:
        annotations += _repeated(root, listing)
    if section.layout not in OF_MANY_IMAGES:
        lists = [*listing.files, *([Path(section.truth)] if section.truth else [])]
        passed = not_listed(root, [clip.source for clip in listing.clips], lists)
    return Verdict(
        name,
        section.root,
        compare(listing, section.classes, published(section.layout, section.options)),
        protection_of(listing),
        annotations,
        faulty,
        later,
        [*advice(listing, section.classes), *_replaced(params, name)],
        passed,
    )


def _replaced(params: Params, name: str) -> Iterator[str]:
    if changed := sources.changed(params, name, every=True):
        what = "clips that have changed since their frames were made"
        yield f"{what}: {len(changed)}, the first {changed[0]}; {storage.remedy(paths.frames(name))}"


def _too_many(params: Params, faulty: int, clips: int) -> Iterator[str]:
    allowed = params.frames.max_reject_fraction
    if clips and (faulty > allowed * clips or faulty == clips):
        yield (
            f"the frames stage: {faulty} of {clips} clips have faulty files, frames.max_reject_fraction allows "
            f"{allowed:g}; repair them, or take them out of the list"
        )


def _truth_faults(truth: str | None, listing: Listing) -> list[str]:
    if truth is None:
        return []
    try:
        known = set(read_truth(Path(truth))["clip_id"].to_pylist())
    except UserError as error:
        return [f"the report: {error}"]
    if not known & {clip.clip_id for clip in listing.clips}:
        return [f"the report: {truth}: none of its {len(known)} clips is a clip of the list; use the list's clip_id"]
    return []


def _fold_faults(listing: Listing) -> list[str]:
    """Clips that are tested in several folds, or missing in a fold."""
    split_of: dict[str, dict[int, str]] = defaultdict(dict)
    for member in listing.folds:
        split_of[member.clip_id][member.fold] = member.split
    folds = {member.fold for member in listing.folds}
    faults = []
    for clip_id, splits in sorted(split_of.items()):
        tested = [str(fold) for fold, split in sorted(splits.items()) if split == "test"]
        if len(tested) > 1:
            faults.append(f"clip '{clip_id}' is tested in folds {' and '.join(tested)}")
        faults += [f"clip '{clip_id}' is in no list of fold {fold}" for fold in sorted(folds - splits.keys())]
    return faults


def _repeated(root: Path, listing: Listing) -> list[str]:
    """Clips with the same content on one side of every fold; those on both sides are bad rows."""
    groups = same_content(root, listing.clips)
    apart = {other.clip_id for _, other, _ in on_both_sides(listing, groups)}
    return [
        f"clips {listing.place(first)} and {listing.place(other)} have the same content; remove one of them"
        for first, *others in groups
        for other in others
        if other.clip_id not in apart
    ]


def _as_json(verdicts: list[Verdict]) -> str:
    rows = [
        {
            **asdict(verdict),
            "ok": verdict.ok,
            "checks": [{**asdict(check), "verdict": check.verdict} for check in verdict.checks],
        }
        for verdict in verdicts
    ]
    return json.dumps(rows, indent=2, ensure_ascii=False)


def _as_text(verdict: Verdict) -> str:
    rows = [
        (check.what, "-" if check.expected is None else check.expected, check.found, check.verdict)
        for check in verdict.checks
    ]
    lines = [f"{verdict.dataset} ({verdict.root})", as_table(("", "published", "found", "verdict"), rows, STYLES)]
    lines.append(f"protection of the folds: {verdict.protection}")
    for title, faults in (
        ("faults in annotations", verdict.annotation_faults),
        ("faults in files", verdict.file_faults),
        ("later stages would refuse", verdict.later_faults),
        ("to look at", verdict.notes),
    ):
        lines.append(f"{title}: {len(faults) or 'none'}")
        lines += [f"  {fault}" for fault in faults[:SHOWN]]
        if len(faults) > SHOWN:
            lines.append(f"  and {len(faults) - SHOWN} more; --json lists all")
    if verdict.passed_over:
        lines.append(f"files that belong to no clip: {sum(map(len, verdict.passed_over.values()))}")
        lines += [f"  {line}" for line in passed_lines(verdict.passed_over)]
    return "\n".join(lines)
