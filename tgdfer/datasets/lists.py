"""Annotation files as rows with line numbers, however they were saved.

This is Python's csv module and not pandas.read_csv, which fills up short rows, takes the first fields of long ones as
an index, renames a column that occurs twice, and does not know the line of a row.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tgdfer.core.errors import UserError
from tgdfer.datasets.listing import Complaints, Member


def text_of(path: Path) -> str:
    """The text of a list in UTF-8, with or without a byte order mark, or in the UTF-16 of spreadsheets.

    Raises:
        UserError: it is in another encoding.
    """
    data = path.read_bytes()
    try:
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}, line {line}: not text in UTF-8 ({error.reason} at byte {error.start}); save it in that encoding"
        ) from None


def rows_of(table: Path, complaints: Complaints | None = None) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The header of a CSV and its rows, each with the number of its last line.

    Commas, semicolons or tabs separate the fields. Rows of empty fields, which spreadsheets add, are skipped.

    Raises:
        UserError: it is not text, a column occurs twice, or a row is not valid CSV or has too few or too many fields.
    """
    complaints = complaints or Complaints()
    text = text_of(table)
    first = text.partition("\n")[0]
    delimiter = next((mark for mark in ",;\t" if mark in first), ",")
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    line, rows = 1, []
    try:
        header = list(reader.fieldnames or [])
        line = reader.line_num + 1
        for row in reader:
            if any(row.values()):
                with complaints.row():
                    if None in row or None in row.values():
                        raise UserError(
                            f"{table}, line {reader.line_num}: expected {len(header)} fields, as in the header"
                        )
                    rows.append((reader.line_num, row))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{table}, line {line}: not a row of a CSV ({error}); is a quote left open?") from None
    for name in header:
        if name and header.count(name) > 1:
            raise UserError(f"{table}: column '{name}' occurs twice in the header")
    return header, rows


def read_folds(
    lists: Iterable[tuple[int, str, Path]],
    rows: Callable[[Path], Iterator[tuple[int, str, str]]],
    label_of: Callable[[str, str], str],
    complaints: Complaints,
) -> tuple[dict[str, str], list[Member]]:
    """The label of every clip and its folds, from one list for each fold and split.

    Args:
        lists: fold, split and file of each list.
        rows: reads a list as (line, clip_id, spelling of the label).
        label_of: the class of a spelling; its second argument names file and line.
        complaints: what to do with bad rows.

    Raises:
        UserError: a label is bad, or two lists contradict each other.
    """
    labels: dict[str, str] = {}
    folds = []
    for fold, split, path in lists:
        listed = list(rows(path))
        if not listed:
            raise UserError(f"{path}: lists no clips")
        for line, clip_id, spelling in listed:
            folds.append(Member(clip_id, fold, split))
            where = f"{path}, line {line}"
            with complaints.row():
                label = label_of(spelling, where)
                if labels.setdefault(clip_id, label) != label:
                    raise UserError(f"{where}: clip {clip_id} is {label} here, {labels[clip_id]} elsewhere")
    return labels, folds
