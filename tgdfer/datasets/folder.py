"""The generic layout: any videos or image folders, and a CSV that lists them.

Columns: ``clip_id``, ``path`` (below the root), ``label`` (a class name), and ``fold`` (1..K: a test clip of that fold
and a training clip of all others) or ``split`` (train or test: one fold). ``subject`` is optional; other columns are
ignored.
"""

from __future__ import annotations

import stat
from pathlib import Path

from tgdfer.config.params import DatasetParams
from tgdfer.core.errors import UserError
from tgdfer.datasets.listing import (
    Clip,
    Complaints,
    Listing,
    Member,
    annotations_of,
    below_root,
    options_of,
    root_of,
    rows_of,
)
from tgdfer.media.images import LEADS_OUT, leads_out

COLUMNS = "clip_id", "path", "label"


def read(dataset: DatasetParams, name: str, complaints: Complaints) -> Listing:
    """Read the CSV.

    Raises:
        UserError: a bad row; the message names the file, the line and the column.
    """
    options_of(dataset, name, {})
    root, table = root_of(dataset, name), annotations_of(dataset, name)
    clips: list[Clip] = []
    places: list[tuple[str, str]] = []
    lines: dict[str, int] = {}
    for line, row in _rows(table, complaints):
        with complaints.row():
            clip, place = _clip(row, f"{table}, line {line}", dataset, root)
            if clip.clip_id in lines:
                raise UserError(
                    f"{table}, line {line}: clip_id '{clip.clip_id}' stands on line {lines[clip.clip_id]} already"
                )
            lines[clip.clip_id] = line
            clips.append(clip)
            places.append((clip.clip_id, place))
    if not clips:
        raise UserError(f"{table}: lists no clips")
    return Listing(clips, _folds(table, places), [table])


def _clip(row: dict[str, str], where: str, dataset: DatasetParams, root: Path) -> tuple[Clip, str]:
    """The clip of a row and its place: a fold's number, or train or test."""
    classes = dataset.classes
    clip_id = row["clip_id"].strip()
    if not clip_id or not clip_id.isprintable():
        raise UserError(f"{where}: clip_id is empty or not printable")
    label = row["label"].strip()
    if label not in classes:
        raise UserError(f"{where}: label '{label}' is no class; the classes are {', '.join(classes)}")
    source = below_root(row["path"].strip(), where)
    kind = _kind(root / source, f"{where}: path '{source[:200]}'", root)
    if dataset.links == "inside" and leads_out(root / source, root):
        raise UserError(
            f"{where}: path '{source}' is {LEADS_OUT} {root}; if you trust where it leads, add `links: anywhere` "
            "to the data set's section"
        )
    subject = (row.get("subject") or "").strip() or None
    return Clip(clip_id, source, kind, label, subject=subject), _place(row, where)


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
    if not stat.S_ISREG(mode):  # a pipe or a device would keep the reader waiting for ever
        raise UserError(f"{where}: is neither a file nor a folder")
    return "video"


def _rows(table: Path, complaints: Complaints) -> list[tuple[int, dict[str, str]]]:
    if table.is_dir():
        raise UserError(f"{table}: is a folder, expected a CSV file")
    header, rows = rows_of(table)
    for column in COLUMNS:
        if column not in header:
            raise UserError(
                f"{table}: no column '{column}' among {', '.join(header)[:200] or 'none'}; "
                f"expected {', '.join(COLUMNS)} and fold or split"
            )
    if ("fold" in header) == ("split" in header):
        raise UserError(f"{table}: expected either a column 'fold' or a column 'split'")
    whole = []
    for line, row in rows:
        with complaints.row():
            if None in row or None in row.values():
                raise UserError(f"{table}, line {line}: expected {len(header)} fields, as in the header")
            whole.append((line, row))
    return whole


def _place(row: dict[str, str], where: str) -> str:
    if "split" in row:
        split = row["split"].strip().lower()
        if split not in ("train", "test"):
            raise UserError(f"{where}: split '{row['split']}' is neither train nor test")
        return split
    fold = row["fold"].strip()
    if not (fold.isascii() and fold.isdigit() and len(fold) < 10 and int(fold) >= 1):
        raise UserError(f"{where}: fold '{row['fold'][:50]}' is no whole number from 1 on")
    return fold


def _folds(table: Path, places: list[tuple[str, str]]) -> list[Member]:
    found = {place for _, place in places}
    if found & {"train", "test"}:
        for split in ("train", "test"):
            if split not in found:
                raise UserError(f"{table}: column 'split' has no {split} clip")
        return [Member(clip_id, 1, split) for clip_id, split in places]
    numbers = sorted(int(place) for place in found)
    if numbers != list(range(1, len(numbers) + 1)) or len(numbers) < 2:
        listed = ", ".join(map(str, numbers[:20])) + (", ..." if len(numbers) > 20 else "")
        raise UserError(f"{table}: column 'fold' has the folds {listed}; expected 1..K without a gap, K at least 2")
    return [
        Member(clip_id, fold, "test" if int(place) == fold else "train")
        for fold in numbers
        for clip_id, place in places
    ]
