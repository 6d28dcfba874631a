"""Check data sets on disk without running anything."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from tgdfer.config.params import Params
from tgdfer.core.errors import UserError
from tgdfer.core.tables import as_table
from tgdfer.datasets import read_listing
from tgdfer.datasets.integrity import inspect, outliers
from tgdfer.datasets.listing import Complaints, Listing
from tgdfer.datasets.published import Count, compare, published

SHOWN = 50
"""Faults that are printed; ``--json`` has all."""
STYLES = {"ok": "green", "differs": "red"}


@dataclass(frozen=True)
class Verdict:
    """What the check of one data set found."""

    dataset: str
    root: str
    checks: list[Count]
    annotation_faults: list[str]
    file_faults: list[str]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong and all counts are as published."""
        differs = any(check.verdict == "differs" for check in self.checks)
        return not (differs or self.annotation_faults or self.file_faults)


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
    inspected = inspect(Path(section.root), listing.clips, deep, section.links == "inside")
    files = [f"{one.clip.source}: {one.fault}" for one in inspected if one.fault] + outliers(inspected)
    checks = compare(listing, section.classes, published(section.layout, section.options))
    annotations = complaints.found + _fold_faults(listing) + _same_sources(listing)
    return Verdict(name, section.root, checks, annotations, files)


def _fold_faults(listing: Listing) -> list[str]:
    """Clips that are tested in several folds, or missing in a fold."""
    tested: dict[str, list[int]] = defaultdict(list)
    listed: dict[str, set[int]] = defaultdict(set)
    for member in listing.folds:
        listed[member.clip_id].add(member.fold)
        if member.split == "test":
            tested[member.clip_id].append(member.fold)
    folds = {member.fold for member in listing.folds}
    faults = []
    for clip_id, where in sorted(listed.items()):
        if len(tested[clip_id]) > 1:
            faults.append(f"clip '{clip_id}' is tested in folds {' and '.join(map(str, sorted(tested[clip_id])))}")
        faults += [f"clip '{clip_id}' is in no list of fold {fold}" for fold in sorted(folds - where)]
    return faults


def _same_sources(listing: Listing) -> list[str]:
    """Clips that are listed under two names, so perhaps in training and test."""
    first: dict[str, str] = {}
    return [
        f"clip '{clip.clip_id}' is {clip.source}, as is clip '{known}'"
        for clip in listing.clips
        if (known := first.setdefault(clip.source, clip.clip_id)) != clip.clip_id
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
    for title, faults in (("annotations", verdict.annotation_faults), ("files", verdict.file_faults)):
        lines.append(f"faults in {title}: {len(faults) or 'none'}")
        lines += [f"  {fault}" for fault in faults[:SHOWN]]
        if len(faults) > SHOWN:
            lines.append(f"  and {len(faults) - SHOWN} more; --json lists all")
    return "\n".join(lines)
