"""A table as CSV (every selection, full precision), Markdown and LaTeX (booktabs), and its cells as text."""

import pandas as pd

from tgdfer.core.escaping import csv_cell, markdown
from tgdfer.reporting.layout import Cell, Column, Row, Table

DASH = "–"
STACKED = 20
"""Up to this many rows, LaTeX prints intervals below their values, not next to them."""
DEEP = 6
"""From more columns of percentages on, LaTeX prints deviations below their values too."""
LATEX_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "Δ": r"$\Delta$", "✓": r"\checkmark{}",
    "–": "--", "λ": r"$\lambda$", "τ": r"$\tau$", "×": r"$\times$", "−": "$-$", "<": "$<$", ">": "$>$", "’": "'",
}  # fmt: skip


def text_of(cell: Cell, kind: str) -> str:
    """A cell in print: rounded, with its sign where the sign matters, a dash where nothing is known."""
    if isinstance(cell, str):
        return DASH if kind.startswith("interval") else cell
    if kind.startswith("interval"):
        sign = "+" if kind == "interval-points" else ""
        known = cell.low == cell.low  # false for NaN
        return f"[{_percent(cell.low, 1, sign)}, {_percent(cell.high, 1, sign)}]" if known else DASH
    if not cell.known:
        return DASH
    if kind == "points":
        return _percent(cell.mean, 2, "+")
    if kind == "p":
        return "<0.001" if cell.mean < 0.001 else f"{cell.mean:.3f}"
    if kind == "share":
        return f"{100 * cell.mean:.0f} %"
    if kind == "count":
        return f"{cell.mean:,.0f}".replace(",", " ")
    return f"{cell.mean:.1f}" if kind == "number" else _percent(cell.mean, 2, "")


def _percent(value: float, digits: int, sign: str) -> str:
    text = f"{100 * value:{sign}.{digits}f}"
    # a difference that rounds to zero has no direction
    return text[1:] if text[0] in "+-" and float(text) == 0 else text.replace("-", "−")


def deviation(cell: Cell, column: Column) -> str:
    """The deviation of a cell, if it has one to print."""
    if isinstance(cell, str) or column.is_interval or cell.sd != cell.sd:
        return ""
    return f"{100 * cell.sd:.2f}"


def to_csv(table: Table) -> str:
    """The records behind a table: all selections, fractions in full precision."""
    return (
        pd.DataFrame(table.records, dtype=object)
        .map(csv_cell, na_action="ignore")
        .to_csv(index=False, lineterminator="\n")
    )


def to_markdown(table: Table, caption: str | None = None) -> str:
    """A table for GitHub: best in bold, second underlined, notes below. ``caption`` replaces the table's own."""
    notes, per_row = table.footnotes()
    lines = [f"**{markdown(table.title)}.** {markdown(caption or table.caption)}", ""]
    lines.append("| " + " | ".join(markdown(column.head) for column in table.columns) + " |")
    lines.append("|" + "|".join(":---" if column.kind == "text" else "---:" for column in table.columns) + "|")
    for row, numbers in zip(table.rows, per_row, strict=True):
        lines.append("| " + " | ".join(_markdown_cell(table, row, column, numbers) for column in table.columns) + " |")
    lines.append("")
    lines += [f"{n}. {markdown(note)}" for n, note in enumerate(notes, 1)]
    lines += ["", *(markdown(remark) + "\n" for remark in table.remarks)]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_cell(table: Table, row: Row, column: Column, notes: list[int]) -> str:
    cell = row.cell(column)
    text = markdown(text_of(cell, column.kind))
    if sd := deviation(cell, column):
        text += f" ± {sd}"
    if column.key == "label":
        text += " (measured here)" if row.origin == "measured" and table.mixed else ""
        text += f"<sup>{', '.join(map(str, notes))}</sup>" if notes else ""
    return {"best": f"**{text}**", "second": f"<ins>{text}</ins>"}.get(row.mark(column), text)


def to_latex(table: Table) -> str:
    r"""A ``table`` environment for booktabs: ``\input`` it.

    Every value is wrapped in ``\tgval``; ``\renewcommand{\tgval}[1]{\num{#1}}`` hands the values to siunitx.
    """
    notes, per_row = table.footnotes()
    # a long table with two lines in a row would not fit the page
    columns = table.stacked() if len(table.rows) <= STACKED else [(column, None) for column in table.columns]
    # the deviations of many columns, too, are printed below their values
    deep = not any(below for _, below in columns) and sum(column.kind == "percent" for column, _ in columns) > DEEP
    align = "".join("l" if column.kind == "text" else "r" for column, _ in columns)
    lines = [
        "% made by `tgdfer report`; needs booktabs and amssymb, and graphicx for wide tables",
        r"\providecommand{\tgval}[1]{#1}",
        r"\providecommand{\tgbest}[1]{\textbf{#1}}",
        r"\providecommand{\tgsecond}[1]{\underline{#1}}",
        r"\providecommand{\tgsd}[1]{\,{\scriptsize$\pm$#1}}",
        r"\providecommand{\tgci}[1]{{\scriptsize #1}}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(table.caption)}}}",
        rf"\label{{tab:{table.file}}}",
        r"\par\smallskip",
        r"\small",
        r"\setlength{\tabcolsep}{4pt}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        " & ".join(_latex_head(column) for column, _ in columns) + r" \\",
        r"\midrule",
    ]
    origin = table.rows[0].origin
    for row, numbers in zip(table.rows, per_row, strict=True):
        if row.origin != origin:
            lines.append(r"\midrule")
            origin = row.origin
            if table.mixed and origin == "measured":
                lines.append(rf"\multicolumn{{{len(columns)}}}{{l}}{{\emph{{measured here}}}} \\")
        cells, under = [], []
        for column, below in columns:
            cell = row.cell(column)
            value, sd = _latex_cell(row, column), deviation(cell, column)
            if column.key == "label" and numbers:
                value += rf"\textsuperscript{{{','.join(map(str, numbers))}}}"
            spread = rf"\tgsd{{{sd}}}" if sd else ""
            interval = text_of(cell, below.kind) if below and not isinstance(cell, str) else DASH
            cells.append(value if deep else value + spread)
            under.append(spread if deep else "" if interval == DASH else rf"\tgci{{{_latex(interval)}}}")
        lines.append(" & ".join(cells) + r" \\")
        if any(under):
            lines.append(" & ".join(under) + r" \\[2pt]")
    lines += [r"\bottomrule", r"\end{tabular}}"]
    below_table = [rf"\textsuperscript{{{n}}}\,{_latex(note)}." for n, note in enumerate(notes, 1)]
    below_table += [_latex(remark) for remark in table.remarks]
    if below_table:
        lines += [r"\par\smallskip", r"{\footnotesize\raggedright " + " ".join(below_table) + r"\par}"]
    return "\n".join([*lines, r"\end{table}", ""])


def _latex_head(column: Column) -> str:
    """A long head in two lines of about the same length, because values are narrow."""
    text = column.head
    breaks = [n for n, character in enumerate(text) if character == " "]
    if column.key == "label" or len(text) <= 10 or not breaks:
        return _latex(text)
    at = min(breaks, key=lambda n: abs(2 * n + 1 - len(text)))
    side = "l" if column.kind == "text" else "r"
    return rf"\shortstack[{side}]{{{_latex(text[:at])}\\{_latex(text[at:])}}}"


def _latex_cell(row: Row, column: Column) -> str:
    cell = row.cell(column)
    text = text_of(cell, column.kind)
    plain = not isinstance(cell, str) and cell.known and column.kind in ("percent", "number")
    text = rf"\tgval{{{text}}}" if plain else _latex(text)
    return {"best": rf"\tgbest{{{text}}}", "second": rf"\tgsecond{{{text}}}"}.get(row.mark(column), text)


def _latex(text: str) -> str:
    return "".join(LATEX_SPECIAL.get(character, character) for character in " ".join(text.split()))
