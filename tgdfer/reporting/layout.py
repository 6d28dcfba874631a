"""The shape of a table: columns, rows of cells with notes, and which cell is best."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tgdfer.reporting.analysis import Estimate

DIGITS = {"count": 0, "number": 1, "percent": 4}
"""Decimals of a value that are printed, by kind of column; rates are fractions, printed in percent with two."""

Cell = Estimate | str
"""A number with its spread (rates are fractions), or a text."""
UNKNOWN = Estimate()


@dataclass(frozen=True)
class Column:
    """A column. ``kind`` says how a cell is printed; ``rank`` is 1 if larger is better, -1 if smaller is, else 0.

    An interval column has the key of the column before it and prints the interval of the same cell.
    """

    key: str
    head: str
    kind: str = "text"
    rank: int = 0

    @property
    def is_interval(self) -> bool:
        """Whether it prints intervals."""
        return self.kind.startswith("interval")


@dataclass
class Row:
    """A row. ``origin``: measured, published or ranking; ``notes`` become footnotes; only ``ranked`` rows get marks."""

    label: str
    origin: str
    cells: dict[str, Cell]
    notes: list[str] = field(default_factory=list)
    ranked: bool = True
    variant: str | None = None
    reference: bool = False
    marks: dict[str, str] = field(default_factory=dict)
    """By the key of a column: best or second."""

    def cell(self, column: Column) -> Cell:
        """The cell of ``column``, empty if the row has none."""
        return self.label if column.key == "label" else self.cells.get(column.key, UNKNOWN)

    def mark(self, column: Column) -> str:
        """best, second or nothing."""
        return "" if column.is_interval else self.marks.get(column.key, "")


@dataclass
class Table:
    """A table of one data set, and the full-precision records of all selections behind it.

    ``caption`` explains everything, as a paper needs it; ``brief`` is for pages that explain the protocol once.
    """

    name: str
    dataset: str
    title: str
    caption: str
    brief: str
    columns: list[Column]
    rows: list[Row]
    records: list[dict[str, Any]]
    remarks: list[str] = field(default_factory=list)

    @property
    def file(self) -> str:
        """The name of its files, without the suffix."""
        return f"{self.name}-{self.dataset}"

    @property
    def mixed(self) -> bool:
        """Whether it has both published rows and rows measured here."""
        return {"measured", "published"} <= {row.origin for row in self.rows}

    def stacked(self) -> list[tuple[Column, Column | None]]:
        """The columns, each with its interval column, which is printed below it: the table stays narrow."""
        pairs = pairwise([*self.columns, Column("", "")])
        return [(one, after if after.is_interval else None) for one, after in pairs if not one.is_interval]

    def footnotes(self) -> tuple[list[str], list[list[int]]]:
        """The distinct notes, and for each row the 1-based numbers of its notes."""
        notes: dict[str, int] = {}
        per_row = [[notes.setdefault(note, len(notes) + 1) for note in row.notes] for row in self.rows]
        return list(notes), per_row


def mark_best(table: Table) -> None:
    """Mark best and second of every ranked column, at the precision of print; equals share a mark."""
    for column in table.columns:
        if not column.rank:
            continue
        values = [
            (row, round(cell.mean, DIGITS[column.kind]))
            for row in table.rows
            if row.ranked and isinstance(cell := row.cell(column), Estimate) and cell.known
        ]
        levels = sorted({value for _, value in values}, reverse=column.rank > 0)
        if len(levels) > 1:
            marks = dict(zip(levels, ("best", "second"), strict=False))
            for row, value in values:
                if value in marks:
                    row.marks[column.key] = marks[value]
