"""The generic layout: any videos or image folders, and a CSV that lists them.

Columns: ``clip_id``, ``path`` (below the root), ``label`` (the name of a class), and ``fold`` (1..K, the fold that
tests the clip; it is trained on in all others) or ``split`` (train or test: one fold). ``subject`` is optional; other
columns are ignored.
"""

from __future__ import annotations

import stat
from pathlib import Path

from tgdfer.core.errors import UserError
from tgdfer.datasets.folds import listed_folds
from tgdfer.datasets.listing import Clip, DatasetOnDisk, Listing, below_root
from tgdfer.datasets.lists import rows_of
from tgdfer.media.images import LEADS_OUT, leads_out

COLUMNS = "clip_id", "path", "label"


def read(dataset: DatasetOnDisk) -> Listing:
    """Read the CSV.

    Raises:
        UserError: a bad row; the message names the file, the line and the column.
    """
    table = dataset.annotations
    clips: list[Clip] = []
    places: dict[str, str] = {}
    lines: dict[str, int] = {}
    for line, row in _rows(dataset):
        where = f"{table}, line {line}"
        with dataset.complaints.row():
            clip, place = _clip(row, where, dataset), _place(row, where)
            if clip.clip_id in lines:
                raise UserError(f"{where}: clip_id '{clip.clip_id}' is on line {lines[clip.clip_id]} already")
            lines[clip.clip_id] = line
            places[clip.clip_id] = place
            clips.append(clip)
    if not clips:
        raise UserError(f"{table}: lists no clips")
    return Listing(clips, listed_folds(places, str(table)), [table])


def _rows(dataset: DatasetOnDisk) -> list[tuple[int, dict[str, str]]]:
    table = dataset.annotations
    if table.is_dir():
        raise UserError(f"{table}: is a folder, expected a CSV file")
    header, rows = rows_of(table, dataset.complaints)
    for column in COLUMNS:
        if column not in header:
            raise UserError(
                f"{table}: no column '{column}' among {', '.join(header)[:200] or 'none'}; "
                f"expected {', '.join(COLUMNS)} and fold or split"
            )
    if ("fold" in header) == ("split" in header):
        raise UserError(f"{table}: expected either a column 'fold' or a column 'split'")
    return rows


def _clip(row: dict[str, str], where: str, dataset: DatasetOnDisk) -> Clip:
    clip_id = row["clip_id"].strip()
    if not clip_id or not clip_id.isprintable():
        raise UserError(f"{where}: clip_id is empty or not printable")
    label = row["label"].strip()
    if label not in dataset.classes:
        raise UserError(f"{where}: label '{label}' is not a class; the classes are {', '.join(dataset.classes)}")
    source = below_root(row["path"].strip(), where)
    kind = _kind(dataset.root / source, f"{where}: path '{source[:200]}'", dataset.root)
    if dataset.confined and leads_out(dataset.root / source, dataset.root):
        raise UserError(
            f"{where}: path '{source}' is {LEADS_OUT} {dataset.root}; if you trust where it leads, add "
            "`links: anywhere` to the data set's section"
        )
    return Clip(clip_id, source, kind, label, subject=row.get("subject", "").strip() or None)


def _kind(path: Path, where: str, root: Path) -> str:
    """``frames`` for a folder, ``video`` for a file; links are followed."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise UserError(f"{where}: no such file below {root}") from None
    except OSError as error:
        raise UserError(f"{where}: cannot be read: {error.strerror}") from None
    if stat.S_ISDIR(mode):
        return "frames"
    if not stat.S_ISREG(mode):  # reading a pipe or a device might never end
        raise UserError(f"{where}: is neither a file nor a folder")
    return "video"


def _place(row: dict[str, str], where: str) -> str:
    """The number of the fold that tests the clip, or train or test."""
    if "split" in row:
        split = row["split"].strip().lower()
        if split not in ("train", "test"):
            raise UserError(f"{where}: split '{row['split']}' is neither train nor test")
        return split
    fold = row["fold"].strip()
    if not (fold.isascii() and fold.isdigit() and len(fold) < 10 and int(fold) >= 1):
        raise UserError(f"{where}: fold '{row['fold'][:50]}' is not a whole number from 1 on")
    return fold
