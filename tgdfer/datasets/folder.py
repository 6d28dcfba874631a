"""The generic layout: any videos or image folders, and a CSV that lists them.

Columns: ``clip_id``, ``path`` (below the root), ``label`` (the name of a class), and ``fold`` (1..K, the fold that
tests the clip; it is trained on in all others) or ``split`` (train or test: one fold). ``subject`` is optional, and
if it is given then for every clip; other columns are ignored.
"""

from pathlib import Path

from tgdfer.core.errors import UserError
from tgdfer.datasets.folds import fold_number, listed_folds
from tgdfer.datasets.listing import Clip, DatasetOnDisk, Listing, on_disk, tidy
from tgdfer.datasets.lists import check_column, rows_of
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
    rows = _rows(dataset)
    with dataset.complaints.row():
        check_column(table, rows, "subject")
    for line, row in rows:
        where = f"{table}, line {line}"
        with dataset.complaints.row():
            clip, place = _clip(row, where, dataset), _place(row, where)
            known = lines.setdefault(clip.clip_id, line)
            if known != line:
                raise UserError(f"{where}: clip_id '{clip.clip_id}' is on line {known} already")
            places[clip.clip_id] = place
            clips.append(clip)
    if not clips:
        raise UserError(f"{table}: lists no clips")
    at = {clip_id: f"line {line}" for clip_id, line in lines.items()}
    return Listing(clips, listed_folds(places, str(table)), [table], at)


def count_folds(table: Path) -> int:
    """The number of folds that the CSV lists."""
    header, rows = rows_of(table)
    if "fold" not in header:
        return 1
    return max((int(_place({"fold": row["fold"]}, f"{table}, line {line}")) for line, row in rows), default=1)


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
    clip_id = tidy(row["clip_id"])
    if not clip_id or not clip_id.isprintable():
        raise UserError(f"{where}: clip_id is empty or not printable")
    label = tidy(row["label"])
    if label not in dataset.classes:
        raise UserError(f"{where}: label '{label}' is not a class; the classes are {', '.join(dataset.classes)}")
    source, kind = on_disk(dataset.root, row["path"], where)
    if dataset.confined and leads_out(dataset.root / source, dataset.root):
        raise UserError(
            f"{where}: path '{source}' is {LEADS_OUT} {dataset.root}; if you trust where it leads, add "
            "`links: anywhere` to the data set's section"
        )
    return Clip(clip_id, source, kind, label, subject=tidy(row.get("subject", "")) or None)


def _place(row: dict[str, str], where: str) -> str:
    """The number of the fold that tests the clip, or train or test."""
    if "split" in row:
        split = row["split"].strip().lower()
        if split not in ("train", "test"):
            raise UserError(f"{where}: split '{row['split']}' is neither train nor test")
        return split
    return fold_number(row["fold"], where)
