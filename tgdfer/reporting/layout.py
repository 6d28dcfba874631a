"""The shape of a table: columns, rows of cells with values and notes, and which cell is best."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tgdfer.reporting.analysis import Comparison, Estimate, Result

DIGITS = {"count": 0, "number": 1, "percent": 2, "points": 2}
"""Decimals in print, by kind of column."""


@dataclass(frozen=True)
class Column:
    """A column. ``kind`` says how a cell is printed; ``rank`` is 1 if larger is better, -1 if smaller is, else 0."""

    key: str
    head: str
    kind: str = "text"
    rank: int = 0


@dataclass
class Cell:
    """A value as it is printed (percent, points, ...), with what belongs to it. ``mark`` is best, second or empty."""

    value: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    text: str | None = None
    mark: str = ""


@dataclass
class Row:
    """A row. ``origin``: measured, published or ranking; ``notes`` become footnotes; only ``ranked`` rows get marks."""

    label: str
    origin: str
    cells: dict[str, Cell]
    notes: list[str] = field(default_factory=list)
    ranked: bool = True
    reference: bool = False


@dataclass
class Table:
    """A table of one data set, and the full-precision records of all selections behind it.

    ``caption`` stands alone, in a paper; ``brief`` is for the page, where the rest is said once.
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

    def stacked(self) -> list[tuple[Column, Column | None]]:
        """The columns, each with that of its interval, which stands below it: the table stays narrow."""
        pairs = pairwise([*self.columns, Column("", "")])
        return [
            (column, after if after.kind.startswith("interval") else None)
            for column, after in pairs
            if not column.kind.startswith("interval")
        ]


Results = dict[str, dict[str, Result]]
"""By selection, then by variant."""


def percent(estimate: Estimate) -> Cell:
    """An estimate as a cell in percent."""
    values = (estimate.mean, estimate.sd, estimate.low, estimate.high)
    mean, sd, low, high = (None if value is None else 100 * value for value in values)
    return Cell(mean, sd, low, high)


def spread(name: str, estimate: Estimate) -> dict[str, Any]:
    """An estimate in full precision, as columns of a CSV."""
    return {
        name: estimate.mean,
        f"{name}_sd": estimate.sd,
        f"{name}_low": estimate.low,
        f"{name}_high": estimate.high,
    }


def compared_cells(found: Comparison | None, reference: bool) -> dict[str, Cell]:
    """Difference to the reference, its interval, p and the share won."""
    if found is None:
        return {"delta": Cell(text="reference")} if reference else {}
    low, high = (None if value is None else 100 * value for value in (found.low, found.high))
    return {
        "delta": Cell(100 * found.difference),
        "delta_ci": Cell(None, None, low, high),
        "p": Cell(found.p_holm),
        "wins": Cell(None if found.win_share is None else 100 * found.win_share),
    }


def compared_record(name: str, found: Comparison | None) -> dict[str, Any]:
    """A comparison in full precision, as columns of a CSV."""
    keys = ("difference", "low", "high", "p", "p_holm", "win_share", "detectable")
    return {f"{name}_vs_reference_{key}": getattr(found, key) if found else None for key in keys}


def mark(table: Table) -> None:
    """Best and second of every ranked column, at the precision of print; equals share a mark."""
    for column in table.columns:
        if not column.rank:
            continue
        cells = [row.cells[column.key] for row in table.rows if row.ranked and column.key in row.cells]
        cells = [cell for cell in cells if cell.value is not None]
        digits = DIGITS.get(column.kind, 2)
        levels = sorted({round(cell.value or 0.0, digits) for cell in cells}, reverse=column.rank > 0)
        if len(levels) < 2:
            continue
        for cell in cells:
            place = levels.index(round(cell.value or 0.0, digits))
            cell.mark = ("best", "second")[place] if place < 2 else ""
