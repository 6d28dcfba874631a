"""reports/index.html: one static page that holds everything it shows, so that it can be mailed, archived and printed."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tgdfer import __version__, paths
from tgdfer.params import Params
from tgdfer.reporting import findings, render
from tgdfer.reporting.report import Part
from tgdfer.reporting.tables import SELECTION_NAMES, Cell, Column, Row, Table
from tgdfer.storage import write_text

FOLDER = Path(__file__).parent / "template"
RUNS_LIMIT = 2000
"""Above this many runs the page lists only those without results: a list that long helps nobody."""


def write_page(params: Params, parts: list[Part], path: Path) -> None:
    """Write the page for all data sets; the figures are read from beside it and embedded."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html").render(
        css=Markup((FOLDER / "page.css").read_text(encoding="utf-8")),
        js=Markup((FOLDER / "page.js").read_text(encoding="utf-8")),
        version=__version__,
        selection=SELECTION_NAMES[params.report.selection],
        selections=SELECTION_NAMES,
        report=params.report,
        reference=params.variants[params.report.reference].label,
        seeds=params.seeds,
        datasets=[_dataset(params, part) for part in parts],
        provenance=findings.provenance(parts),
        tracking=params.tracking.uri,
    )
    write_text(path, page)


def _dataset(params: Params, part: Part) -> dict[str, Any]:
    experiment = part.experiment
    runs = experiment.runs
    done = [run for run in runs if run.problem is None]
    total = sum(len(other) for other in [runs])
    return {
        "name": experiment.dataset,
        "classes": experiment.classes,
        "facts": experiment.facts,
        "problems": experiment.problems,
        "missing": findings.missing(params, part),
        "tiles": findings.tiles(params, part),
        "findings": findings.findings(params, part),
        "tables": [_table(table) for table in part.tables],
        "pictures": [
            {
                "title": picture.title,
                "caption": picture.caption,
                "photographs": picture.photographs,
                "file": picture.file,
                "data": _embed(paths.REPORTS / "figures" / f"{picture.file}.png"),
            }
            for picture in part.pictures
        ],
        "folds": experiment.folds,
        "done": len(done),
        "expected": len(runs),
        "runs": [] if total > RUNS_LIMIT else [findings.run_line(run, params) for run in runs],
    }


def _embed(path: Path) -> Markup:
    return Markup("data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii"))


def _table(table: Table) -> dict[str, Any]:
    notes, numbers = render.footnotes(table)
    columns = [
        {"head": column.head, "numeric": column.kind != "text", "wide": column.key == "label"}
        for column in table.columns
    ]
    rows = []
    for row, own in zip(table.rows, numbers, strict=True):
        cells = [_cell(row, column) for column in table.columns]
        rows.append({"cells": cells, "notes": own, "origin": row.origin, "reference": row.reference})
    origins = {row.origin for row in table.rows}
    return {
        "id": table.file,
        "title": table.title,
        "caption": table.caption,
        "columns": columns,
        "rows": rows,
        "notes": notes,
        "remarks": table.remarks,
        "mixed": {"measured", "published"} <= origins,
    }


def _cell(row: Row, column: Column) -> dict[str, Any]:
    cell = Cell(text=row.label) if column.key == "label" else row.cells.get(column.key, Cell())
    value = cell.low if column.kind.startswith("interval") else cell.value
    shown = cell.sd is not None and cell.value is not None
    return {
        "text": render.number(cell, column),
        "sd": f"{cell.sd:.2f}" if shown else None,
        "value": "" if value is None else repr(float(value)),
        "mark": cell.mark,
        "label": column.key == "label",
        "numeric": column.kind != "text",
        "range": f"{cell.low:.1f} to {cell.high:.1f}"
        if cell.low is not None and cell.high is not None and cell.value is not None
        else None,
    }
