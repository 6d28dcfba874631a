"""reports/index.html: one static page that holds all it shows, so that it can be mailed, archived and printed."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tgdfer.config.params import Params
from tgdfer.core import paths
from tgdfer.core.storage import write_text
from tgdfer.core.version import __version__
from tgdfer.evaluation.protocol import SELECTIONS
from tgdfer.reporting import findings, render
from tgdfer.reporting.layout import Cell, Column, Row, Table
from tgdfer.reporting.report import Part
from tgdfer.reporting.wording import POWER

FOLDER = Path(__file__).parent / "template"
RUNS_LIMIT = 2000
"""Above this many runs the page does not list them one by one."""


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
        selection=SELECTIONS[params.report.selection],
        selections=SELECTIONS,
        report=params.report,
        reference=params.variants[params.report.reference].label,
        seeds=params.seeds,
        datasets=[_dataset(params, part) for part in parts],
        provenance=findings.provenance(parts),
    )
    write_text(path, page)


def _dataset(params: Params, part: Part) -> dict[str, Any]:
    experiment = part.experiment
    runs = experiment.runs
    done = [run for run in runs if run.problem is None]
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
                **_size(paths.REPORTS / "figures" / f"{picture.file}.png"),
                "data": _embed(paths.REPORTS / "figures" / f"{picture.file}.png"),
            }
            for picture in part.pictures
        ],
        "folds": experiment.folds,
        "done": len(done),
        "expected": len(runs),
        "runs": [] if len(runs) > RUNS_LIMIT else [findings.run_line(run, params) for run in runs],
    }


def _embed(path: Path) -> Markup:
    return Markup("data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii"))


def _size(path: Path) -> dict[str, int]:
    """The size in CSS pixels: the page does not jump while it loads, and small figures stay small."""
    from PIL import Image

    with Image.open(path) as image:
        return {"width": round(image.width * 96 / 132), "height": round(image.height * 96 / 132)}


def _table(table: Table) -> dict[str, Any]:
    notes, numbers = render.footnotes(table)
    rows: list[dict[str, Any]] = []
    for row, own in zip(table.rows, numbers, strict=True):
        cells = [_cell(row, column, below) for column, below in table.stacked()]
        rows.append({"cells": cells, "notes": own, "origin": row.origin, "reference": row.reference})
    origins = {row.origin for row in table.rows}
    return {
        "id": table.file,
        "title": table.title,
        "caption": table.brief,
        "columns": [{"head": column.head, "numeric": column.kind != "text"} for column, _ in table.stacked()],
        "rows": rows,
        "notes": notes,
        "remarks": [remark for remark in table.remarks if not remark.startswith(POWER)],
        "ranked": any(cell["mark"] for row in rows for cell in row["cells"]),
        "mixed": {"measured", "published"} <= origins,
    }


def _cell(row: Row, column: Column, below: Column | None) -> dict[str, Any]:
    cell = Cell(text=row.label) if column.key == "label" else row.cells.get(column.key, Cell())
    known = cell.value is not None
    under = [f"± {cell.sd:.2f}"] if known and cell.sd is not None else []
    if below is not None and known:
        under.append(render.number(row.cells.get(below.key, Cell()), below))
    interval = known and cell.low is not None and cell.high is not None
    return {
        "text": render.number(cell, column),
        "under": under,
        "value": repr(float(cell.value)) if cell.value is not None else "",
        "mark": cell.mark,
        "label": column.key == "label",
        "numeric": column.kind != "text",
        "range": f"{cell.low:.1f} to {cell.high:.1f}" if interval else None,
    }
