"""Check parameters and data sets on disk without running anything."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import typer

from tgdfer.config.params import Params
from tgdfer.core.errors import UserError
from tgdfer.datasets import read_listing
from tgdfer.datasets.integrity import look, outliers
from tgdfer.datasets.listing import Complaints, Listing
from tgdfer.datasets.published import Check, compare, published

SHOWN = 50
"""Faults that are printed; ``--json`` has all."""


@dataclass(frozen=True)
class Verdict:
    """What the check of one data set found: counts, bad annotations, and clips whose files are unusable or odd."""

    dataset: str
    root: str
    checks: list[Check]
    annotations: list[str]
    files: list[str]

    @property
    def ok(self) -> bool:
        """Nothing differs from what is published and nothing is wrong."""
        return not self.annotations and not self.files and all(check.verdict != "differs" for check in self.checks)


def validate(
    params: Params, dataset: str | None = None, strict: bool = False, as_json: bool = False, deep: bool = False
) -> bool:
    """Check every data set (or ``dataset`` alone) and print what is expected, what was found, and every fault.

    Returns:
        Whether all is as it should be; clips that cannot be used and sizes that differ count against it.

    Raises:
        UserError: a root or an annotation file is missing or, unless ``strict``, annotations hold a bad row, with which
            the clips stage would not run.
    """
    verdicts = [check_dataset(params, name, deep) for name in ([dataset] if dataset else params.datasets)]
    if as_json:
        typer.echo(json.dumps([_plain(verdict) for verdict in verdicts], indent=2, ensure_ascii=False))
    else:
        for verdict in verdicts:
            _print(verdict)
    bad = [(verdict.dataset, line) for verdict in verdicts for line in verdict.annotations]
    if bad and not strict:
        raise UserError(f"{bad[0][0]}: {len(bad)} faults in its annotations, the first: {bad[0][1]}")
    return all(verdict.ok for verdict in verdicts)


def check_dataset(params: Params, name: str, deep: bool = False) -> Verdict:
    """Check one data set."""
    section = params.dataset(name)
    complaints = Complaints(keep=True)
    listing = read_listing(params, name, complaints)
    annotations = complaints.found + _fold_faults(listing) + _same_sources(listing)
    found = look(Path(section.root), listing.clips, deep, section.links == "inside")
    files = [f"{one.clip.source}: {one.fault}" for one in found if one.fault] + outliers(found)
    checks = compare(listing, section.classes, published(section.layout, section.options))
    return Verdict(name, section.root, checks, annotations, files)


def _fold_faults(listing: Listing) -> list[str]:
    """Clips that are tested in two folds, or are in no list of a fold."""
    tested: dict[str, list[int]] = defaultdict(list)
    placed: dict[str, set[int]] = defaultdict(set)
    for member in listing.folds:
        placed[member.clip_id].add(member.fold)
        if member.split == "test":
            tested[member.clip_id].append(member.fold)
    folds = {member.fold for member in listing.folds}
    faults = []
    for clip_id, where in sorted(placed.items()):
        if len(tested[clip_id]) > 1:
            faults.append(f"clip '{clip_id}' is tested in folds {' and '.join(map(str, sorted(tested[clip_id])))}")
        for fold in sorted(folds - where):
            faults.append(f"clip '{clip_id}' is in no list of fold {fold}")
    return faults


def _same_sources(listing: Listing) -> list[str]:
    """Clips that are one and the same under two names, and so perhaps in training and test."""
    first: dict[str, str] = {}
    return [
        f"clip '{clip.clip_id}' is {clip.source}, as is clip '{known}'"
        for clip in listing.clips
        if (known := first.setdefault(clip.source, clip.clip_id)) != clip.clip_id
    ]


def _plain(verdict: Verdict) -> dict[str, object]:
    return {
        "dataset": verdict.dataset,
        "root": verdict.root,
        "ok": verdict.ok,
        "checks": [
            {"what": check.what, "expected": check.expected, "found": check.found, "verdict": check.verdict}
            for check in verdict.checks
        ],
        "annotation_faults": verdict.annotations,
        "file_faults": verdict.files,
    }


def _print(verdict: Verdict) -> None:
    typer.echo(f"{verdict.dataset} ({verdict.root})")
    width = max(len(check.what) for check in verdict.checks)
    typer.echo(f"  {'':{width}}  expected     found  verdict")
    for check in verdict.checks:
        expected = "-" if check.expected is None else str(check.expected)
        typer.echo(f"  {check.what:{width}}  {expected:>8}  {check.found:>8}  {check.verdict}")
    for title, faults in (("annotations", verdict.annotations), ("files", verdict.files)):
        typer.echo(f"  faults in {title}: {len(faults) or 'none'}")
        for fault in faults[:SHOWN]:
            typer.echo(f"    {fault}")
        if len(faults) > SHOWN:
            typer.echo(f"    and {len(faults) - SHOWN} more; --json lists all")
