"""Annotation files as rows with line numbers, however they were saved.

This is Python's csv module and not pandas.read_csv, which fills up short rows, takes the first fields of long ones as
an index, renames a column that occurs twice, and does not know the line of a row.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from tgdfer.core.errors import UserError
from tgdfer.datasets.listing import Complaints, DatasetOnDisk, Member, tidy

SAMPLE = 200
"""Rows by which the mark between fields is found."""


def text_of(path: Path) -> str:
    """The text of a list in UTF-8, with or without a byte order mark, or in the UTF-16 of spreadsheets.

    Raises:
        UserError: it is in another encoding, or a workbook.
    """
    data = path.read_bytes()
    for start, what in (
        (b"PK\x03\x04", "an Excel or OpenDocument workbook"),
        (b"\xd0\xcf\x11\xe0", "a workbook of an old Excel"),
        (b"PAR1", "a Parquet file"),
    ):
        if data.startswith(start):
            raise UserError(f"{path}: is {what}, expected a CSV; save the table as 'CSV UTF-8' and give that file")
    encoding = "utf-8-sig"
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    elif b"\0" in data[:2]:
        encoding = "utf-16-be" if data[:1] == b"\0" else "utf-16-le"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}, line {line}: not text in UTF-8 ({error.reason} at byte {error.start}); save the file as UTF-8 "
            "(in Excel: 'CSV UTF-8')"
        ) from None


def rows_of(table: Path, complaints: Complaints | None = None) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The header of a CSV and its rows, each with the number of its last line.

    Commas, semicolons, tabs or bars separate the fields; a first line ``sep=;`` of Excel names the mark. Rows of empty
    fields, which spreadsheets add, are skipped. Blanks around the names of columns are removed.

    Raises:
        UserError: it is not text, a column occurs twice, or a row is not valid CSV or has too few or too many fields.
    """
    complaints = complaints or Complaints()
    text = text_of(table)
    named = re.match(r'\s*"?sep=(.)"?[ ,;|]*\r?\n', text, re.IGNORECASE)
    start = named.end() if named else len(text) - len(text.lstrip("\r\n"))
    skipped = text[:start].count("\n")
    text = text[start:]
    reader = csv.reader(
        io.StringIO(text, newline=""),
        strict=True,
        delimiter=named[1] if named else _delimiter(text),
        skipinitialspace=True,
    )
    line, rows = 1 + skipped, []
    try:
        header = [tidy(name) for name in next(reader, [])]
        line = reader.line_num + skipped + 1
        for row in reader:
            line = reader.line_num + skipped
            if any(cell.strip() for cell in row):
                with complaints.row():
                    if len(row) != len(header):
                        raise UserError(
                            f"{table}, line {line}: expected {len(header)} fields, as in the header; got {len(row)}"
                        )
                    rows.append((line, dict(zip(header, row, strict=True))))
            line += 1
    except csv.Error as error:
        raise UserError(f"{table}, line {line}: not a row of a CSV ({error}); is a quote left open?") from None
    for name in header:
        if name and header.count(name) > 1:
            raise UserError(f"{table}: column '{name}' occurs twice in the header")
    return header, rows


def check_column(table: Path, rows: Sequence[tuple[int, Mapping[str, str]]], column: str) -> None:
    """Raise a UserError if some rows have a value in ``column`` and others have not."""
    empty = [line for line, row in rows if column in row and not tidy(row[column])]
    if empty and len(empty) < len(rows):
        raise UserError(
            f"{table}, line {empty[0]}: '{column}' is empty here and in {len(empty)} of {len(rows)} rows in all; fill "
            "it in for every row, or remove the column"
        )


def _delimiter(text: str) -> str:
    """The mark that divides most rows into as many fields as the header; of several such marks, into most fields."""
    best = (0.0, 0, ",")
    for mark in ",;\t|":
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, skipinitialspace=True)
        try:
            sizes = [len(row) for row in islice(reader, SAMPLE) if any(row)]
        except csv.Error:
            continue
        if sizes and sizes[0] > 1:
            best = max(best, (sum(size == sizes[0] for size in sizes) / len(sizes), sizes[0], mark))
    return best[2]


def read_folds(
    dataset: DatasetOnDisk,
    count: int,
    list_of: Callable[[str, int], Path],
    rows: Callable[[Path, Complaints], Iterator[tuple[int, str, str]]],
    label_of: Callable[[str, str], str],
) -> tuple[dict[str, str], list[Member], list[Path]]:
    """The label of every clip, its ``count`` folds, and the lists of both, of which each fold and split has one.

    Args:
        dataset: the data set.
        count: how many folds it has.
        list_of: the list of a split (``train`` or ``test``) and fold.
        rows: reads a list as (line, clip_id, spelling of the label).
        label_of: the class of a spelling; its second argument names file and line.

    Raises:
        UserError: a label is bad, or two lists contradict each other.
    """
    lists = [(fold, split, list_of(split, fold)) for fold in range(1, count + 1) for split in ("train", "test")]
    labels: dict[str, str] = {}
    folds = []
    for fold, split, path in lists:
        listed = list(rows(path, dataset.complaints))
        if not listed:
            raise UserError(f"{path}: lists no clips")
        for line, clip_id, spelling in listed:
            folds.append(Member(clip_id, fold, split))
            where = f"{path}, line {line}"
            with dataset.complaints.row():
                label = label_of(spelling, where)
                if labels.setdefault(clip_id, label) != label:
                    raise UserError(f"{where}: clip {clip_id} is {label} here, {labels[clip_id]} elsewhere")
    return labels, folds, [path for _, _, path in lists]
