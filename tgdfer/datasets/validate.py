"""Check parameters and data sets on disk without running anything."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import typer

from tgdfer.datasets import read_listing
from tgdfer.errors import UserError
from tgdfer.params import Params


def validate(params: Params, dataset: str | None = None) -> None:
    """Print what every data set (or ``dataset`` alone) holds.

    Raises:
        UserError: bad annotations, or a clip whose file or folder is missing or empty.
    """
    for name in [dataset] if dataset else list(params.datasets):
        section = params.dataset(name)
        listing = read_listing(params, name)
        counts = Counter(clip.label for clip in listing.clips)
        typer.echo(f"{name}: {len(listing.clips)} clips below {section.root}")
        typer.echo("  classes: " + ", ".join(f"{label} {counts[label]}" for label in section.classes))
        sizes = Counter((member.fold, member.split) for member in listing.folds)
        for fold in sorted({member.fold for member in listing.folds}):
            typer.echo(f"  fold {fold}: train {sizes[fold, 'train']}, test {sizes[fold, 'test']}")
        bad = [clip for clip in listing.clips if not _usable(Path(section.root) / clip.source)]
        if bad:
            raise UserError(f"{name}: {len(bad)} clips are missing or empty, the first is {bad[0].source}")


def _usable(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.is_file() and path.stat().st_size > 0
