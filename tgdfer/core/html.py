"""The look of every HTML page: one file that loads nothing, to be mailed, archived and printed."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

CSS = Path(__file__).with_name("page.css")


def render(folder: Path, page: str, /, **values: Any) -> str:
    """The template ``<page>.html`` of ``folder`` with ``values``, which are escaped.

    In it, ``css`` is the common style sheet with the page's own ``<page>.css``, and ``js`` is ``<page>.js``.
    """
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def text(path: Path) -> Markup:
        return Markup(path.read_text(encoding="utf-8") if path.exists() else "")

    css = text(CSS) + text(folder / f"{page}.css")
    return environment.get_template(f"{page}.html").render(css=css, js=text(folder / f"{page}.js"), **values)
