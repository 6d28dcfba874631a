"""What the documentation needs beyond Markdown: a navigation of what is there, and equations without a web service.

An equation becomes inline SVG of its outlines, in the colour of the text, with its TeX as the description. So a page
needs no script and no other server, and an equation that cannot be set is an error of the build.
"""

from __future__ import annotations

import hashlib
import html
import re
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import math_to_image

SECTIONS: dict[str, list[str]] = {
    "": ["index.md"],
    "Use": ["quickstart.md", "concepts.md", "predict.md", "faq.md"],
    "Extend": ["howto-dataset.md", "howto-ablation.md", "howto-baseline.md"],
    "Run": ["experiments.md", "cluster.md", "scaling.md", "tracking.md", "report.md", "paper-tables.md"],
    "Data sets": ["datasets/*.md"],
    "Model": ["model.md", "demo-study.md", "model-card.md", "limits.md"],
    "Reference": ["commands.md", "api.md", "**/*.md"],
}
"""The pages in their order; a pattern stands for the pages that no earlier entry names."""
FENCE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
EQUATION = re.compile(r"\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$\n]+)\$", re.DOTALL)
# TeX that mathtext does not know, said in words that it does
PLAIN = (
    (r"\operatorname*", r"\operatorname"),
    (r"\tfrac", r"\frac"),
    (r"\lVert", r"\Vert"),
    (r"\rVert", r"\Vert"),
    (r"\le ", r"\leq "),
    (r"\arg\max", r"\operatorname{arg\,max}"),
    (r"\top", r"T"),
)
EX = 4.3
"""Points of an ex at the size in which equations are set."""


def on_config(config: Any) -> Any:
    """Make the navigation from the pages that are there."""
    root = Path(config["docs_dir"])
    taken: set[str] = set()
    nav: list[Any] = []
    for section, patterns in SECTIONS.items():
        pages = []
        for pattern in patterns:
            found = sorted(path.relative_to(root).as_posix() for path in root.glob(pattern))
            pages += [page for page in found if page not in taken and (page in patterns or not _is_named(page))]
            taken.update(pages)
        nav += pages if not section else [{section: pages}]
    config["nav"] = nav
    return config


def _is_named(page: str) -> bool:
    return any(page in patterns for patterns in SECTIONS.values())


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put each equation's picture in its place, code left alone."""
    parts = FENCE.split(markdown)
    where = page.file.src_path
    page.equations = []

    def keep(match: re.Match[str]) -> str:
        page.equations.append(_block(match["block"], where) if match["block"] else picture(match["inline"], where))
        return f"equation{len(page.equations) - 1}noitauqe"

    return "".join(part if part.startswith("`") else EQUATION.sub(keep, part) for part in parts)


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Markdown has been read: the pictures take the place of their marks; Sphinx's roles in docstrings become code."""
    content = re.sub(r":\w+:<code>~?(?:[\w.]+\.)?(\w+)</code>", r"<code>\1</code>", content)
    return re.sub(r"equation(\d+)noitauqe", lambda match: page.equations[int(match[1])], content)


def _block(tex: str, where: str) -> str:
    number = re.search(r"\\tag\{(.+?)\}", tex)
    tex = re.sub(r"\\tag\{.+?\}", "", tex).strip()
    cases = re.fullmatch(r"(.*?)\\begin\{cases\}(.*?)\\end\{cases\}", tex, re.DOTALL)
    if cases:
        rows = [[cell.strip() for cell in row.split("&")] for row in cases[2].split(r"\\")]
        cells = "".join(f"<span>{picture(cell, where)}</span>" for row in rows for cell in row if any(row))
        shown = f"{picture(cases[1], where)}<span class='cases'>{cells}</span>"
    else:
        shown = " ".join(picture(part, where) for part in re.split(r"\\qquad(?: |$)", tex) if part.strip())
    tag = f"<span class='tag'>({html.escape(number[1])})</span>" if number else ""
    return f"<span class='equation'><span>{shown}</span>{tag}</span>"


@cache
def picture(tex: str, where: str) -> str:
    """Inline SVG of one formula; a ValueError names the page and the formula when it cannot be set."""
    plain = re.sub(r"\\[bB]igg?[lr]?(?=[^A-Za-z])", "", " ".join(tex.split()))
    plain = re.sub(r"\\sqrt +(\w)", r"\\sqrt{\1}", plain)
    # a hyphen in typewriter type would be set as a minus
    plain = re.sub(
        r"\\texttt\{([^}]*)\}", lambda m: r"\text{-}".join(rf"\mathtt{{{w}}}" for w in m[1].split("-")), plain
    )
    for old, new in PLAIN:
        plain = plain.replace(old, new)
    out = StringIO()
    try:
        with rc_context({"svg.fonttype": "path", "svg.hashsalt": "tgdfer", "mathtext.fontset": "cm"}):
            depth = math_to_image(f"${plain}$", out, prop=FontProperties(size=10), format="svg")
    except ValueError as error:
        raise ValueError(f"{where}: cannot set {tex!r}: {' '.join(str(error).split())[:300]}") from None
    return _tidy(out.getvalue(), tex, depth)


def _tidy(svg: str, tex: str, depth: float) -> str:
    """The drawing alone: no prolog, no background, ids of its own, sizes in ex, the colour of the text."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="patch_1">.*?</g>', "", body, flags=re.DOTALL)
    mark = f"e{hashlib.sha256(tex.encode()).hexdigest()[:10]}"
    body = re.sub(r'(id="|xlink:href="#|url\(#)', rf"\g<1>{mark}-", body)
    width, height = (float(re.search(rf'{side}="([\d.]+)pt"', body)[1]) for side in ("width", "height"))  # type: ignore[index]
    box = re.search(r'viewBox="[^"]+"', body)
    head = (
        f'<svg class="formula" role="img" aria-label="{html.escape(tex, quote=True)}" {box[0] if box else ""} '
        f'style="width:{width / EX:.2f}ex;height:{height / EX:.2f}ex;vertical-align:{-depth / EX:.2f}ex" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    body = re.sub(r"<svg[^>]*>", lambda _: head, body, count=1)
    return re.sub(r"\s*\n\s*", " ", body)
