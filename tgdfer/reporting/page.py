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
        selections=SELECTIONS,
        report=params.report,
        seeds=params.seeds,
        datasets=list(zip(parts, cards, strict=True)),
        provenance=sources.provenance(parts, cards),
        findings=findings,
        render=render,
        revision_of=sources.revision,
        image_of=_image,
        power=POWER,
        runs_limit=RUNS_LIMIT,
    )
    write_text(path, page)


def _image(name: str) -> dict[str, Any]:
    """A figure to embed, with its size in CSS pixels: the page does not jump while it loads."""
    path = paths.REPORTS / "figures" / f"{name}.png"
    with Image.open(path) as image:
        width, height = (round(pixels * 96 / 132) for pixels in image.size)
    data = Markup("data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii"))
    return {"width": width, "height": height, "data": data}
