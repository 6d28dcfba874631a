"""reports/index.html: one static page that contains everything it shows, to be mailed, archived and printed."""

import base64
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from tgdfer.config.params import Params
from tgdfer.core import paths
from tgdfer.core.html import render as render_page
from tgdfer.core.storage import write_text
from tgdfer.core.version import __version__
from tgdfer.evaluation.protocol import SELECTIONS
from tgdfer.reporting import findings, render, sources
from tgdfer.reporting.layout import Column, Row, Table
from tgdfer.reporting.part import Part
from tgdfer.reporting.wording import POWER

FOLDER = Path(__file__).parent / "template"
RUNS_LIMIT = 2000
"""Above this many runs the page does not list them one by one."""


def write_page(params: Params, parts: list[Part], path: Path, stamp: str = "") -> None:
    """Write the page for all data sets; it embeds the figures that are stored next to it.

    ``stamp``: from ``tgdfer.runs.outputs.stamp``.
    """
    cards = [sources.data_card(part) for part in parts]
    page = render_page(
        FOLDER,
        "page",
        stamp=stamp,
        version=__version__,
        selection=SELECTIONS[params.report.selection],
        selections=SELECTIONS,
        report=params.report,
        reference=params.variants[params.report.reference].label,
        seeds=params.seeds,
        datasets=[_dataset(part, card) for part, card in zip(parts, cards, strict=True)],
        provenance=sources.provenance(parts, cards),
    )
    write_text(path, page)


def _dataset(part: Part, card: dict[str, Any]) -> dict[str, Any]:
    runs = part.experiment.runs
    return {
        "name": part.dataset,
        "card": card,
        "gaps": findings.gaps(part),
        "tiles": findings.tiles(part),
        "findings": findings.findings(part),
        "tables": [_table(table) for table in part.tables],
        "pictures": [
            {**vars(picture), **_image(paths.REPORTS / "figures" / f"{picture.file}.png")} for picture in part.pictures
        ],
        "folds": part.experiment.folds,
        "done": sum(run.problem is None for run in runs),
        "expected": len(runs),
        "runs": [] if len(runs) > RUNS_LIMIT else [sources.run_line(run, part.selection) for run in runs],
    }


def _image(path: Path) -> dict[str, Any]:
    """An image to embed, with its size in CSS pixels: the page does not jump while it loads."""
    with Image.open(path) as image:
        width, height = (round(pixels * 96 / 132) for pixels in image.size)
    data = Markup("data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii"))
    return {"width": width, "height": height, "data": data}


def _table(table: Table) -> dict[str, Any]:
    notes, numbers = table.footnotes()
    rows: list[dict[str, Any]] = []
    for row, own in zip(table.rows, numbers, strict=True):
        cells = [_cell(row, column, below) for column, below in table.stacked()]
        rows.append({"cells": cells, "notes": own, "origin": row.origin, "reference": row.reference})
    return {
        "id": table.file,
        "title": table.title,
        "caption": table.brief,
        "columns": [{"head": column.head, "numeric": column.kind != "text"} for column, _ in table.stacked()],
        "rows": rows,
        "notes": notes,
        "remarks": [remark for remark in table.remarks if not remark.startswith(POWER)],
        "mixed": table.mixed,
    }


def _cell(row: Row, column: Column, below: Column | None) -> dict[str, Any]:
    cell, sd = row.cell(column), render.deviation(row.cell(column), column)
    known = not isinstance(cell, str) and cell.known
    interval = render.text_of(cell, below.kind if below else "interval") if known else render.DASH
    return {
        "text": render.text_of(cell, column.kind),
        "under": [*([f"± {sd}"] if sd else []), *([interval] if known and below else [])],
        "value": repr(cell.mean) if not isinstance(cell, str) and cell.known else "",
        "mark": row.mark(column),
        "label": column.key == "label",
        "numeric": column.kind != "text",
        "range": None if interval == render.DASH else interval.strip("[]").replace(", ", " to "),
    }
