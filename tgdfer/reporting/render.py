"""A table as CSV (every selection, full precision), Markdown and LaTeX (booktabs), and its cells as text."""

from __future__ import annotations

import csv
import io

from tgdfer.core.escaping import csv_cell, markdown
from tgdfer.reporting.layout import Cell, Column, Row, Table

DASH = "–"
STACKED = 20
"""Up to so many rows, intervals stand below their values in LaTeX, not beside them."""
DEEP = 6
"""From more columns of percentages on, so do deviations."""
LATEX_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "Δ": r"$\Delta$", "✓": r"\checkmark{}",
    "–": "--", "λ": r"$\lambda$", "τ": r"$\tau$", "×": r"$\times$", "−": "$-$", "<": "$<$", ">": "$>$", "’": "'",
}  # fmt: skip


def number(cell: Cell, column: Column) -> str:
    """A cell in words: rounded, with its sign where the sign matters, a dash where nothing is known."""
    if cell.text is not None:
        return cell.text
    if column.kind.startswith("interval"):
        if cell.low is None or cell.high is None:
            return DASH
        sign = "+" if column.kind == "interval-points" else ""
        return f"[{_signed(cell.low, 1, sign)}, {_signed(cell.high, 1, sign)}]"
    if cell.value is None:
        return DASH
    if column.kind == "points":
        return _signed(cell.value, 2, "+")
    if column.kind == "p":
        return "<0.001" if cell.value < 0.001 else f"{cell.value:.3f}"
    if column.kind == "share":
        return f"{cell.value:.0f} %"
    if column.kind == "count":
        return f"{int(cell.value):,}".replace(",", " ")
    if column.kind == "number":
        return f"{cell.value:.1f}"
    return f"{cell.value:.2f}"


def _signed(value: float, digits: int, sign: str) -> str:
    text = f"{value:{sign}.{digits}f}"
    # a difference that rounds to nothing has no direction
    return text[1:] if text[0] in "+-" and float(text) == 0 else text.replace("-", "−")


def cell_text(row: Row, column: Column) -> str:
    """A cell with its deviation, as plain text."""
    if column.key == "label":
        return row.label
    cell = row.cells.get(column.key, Cell())
    text = number(cell, column)
    return f"{text} ± {cell.sd:.2f}" if cell.sd is not None and cell.value is not None else text


def footnotes(table: Table) -> tuple[list[str], list[list[int]]]:
    """The distinct notes of a table, and for each row the 1-based numbers of its own."""
    notes: dict[str, int] = {}
    per_row = [[notes.setdefault(note, len(notes) + 1) for note in row.notes] for row in table.rows]
    return list(notes), per_row


def to_csv(table: Table) -> str:
    """The records behind a table: all selections, fractions in full precision."""
    fields: dict[str, None] = {}
    for record in table.records:
        fields.update(dict.fromkeys(record))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(fields), lineterminator="\n")
    writer.writeheader()
    for record in table.records:
        writer.writerow({key: csv_cell(value) for key, value in record.items()})
    return stream.getvalue()


def to_markdown(table: Table) -> str:
    """A table for GitHub: best in bold, second underlined, notes below."""
    notes, per_row = footnotes(table)
    lines = [f"**{markdown(table.title)}.** {markdown(table.caption)}", ""]
    lines.append("| " + " | ".join(markdown(column.head) for column in table.columns) + " |")
    lines.append("|" + "|".join(":---" if column.kind == "text" else "---:" for column in table.columns) + "|")
    for row, numbers in zip(table.rows, per_row, strict=True):
        cells = []
        for column in table.columns:
            text = markdown(cell_text(row, column))
            mark = row.cells[column.key].mark if column.key in row.cells else ""
            text = {"best": f"**{text}**", "second": f"<ins>{text}</ins>"}.get(mark, text)
            if column.key == "label":
                text += " (measured here)" if row.origin == "measured" and _mixed(table) else ""
                text += f"<sup>{', '.join(map(str, numbers))}</sup>" if numbers else ""
            cells.append(text)
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    lines += [f"{n}. {markdown(note)}" for n, note in enumerate(notes, 1)]
    lines += ["", *(markdown(remark) + "\n" for remark in table.remarks)]
    return "\n".join(lines).rstrip() + "\n"


def _mixed(table: Table) -> bool:
    return len({row.origin for row in table.rows} & {"measured", "published"}) == 2


def to_latex(table: Table) -> str:
    r"""A ``table`` environment for booktabs: ``\input`` it.

    Every value is wrapped in ``\tgval``; ``\renewcommand{\tgval}[1]{\num{#1}}`` hands the values to siunitx.
    """
    notes, per_row = footnotes(table)
    # a long table with two lines in a row would not fit the page
    columns = table.stacked() if len(table.rows) <= STACKED else [(column, None) for column in table.columns]
    # the deviations of many columns, too, stand below their values
    deep = not any(bracket for _, bracket in columns) and sum(column.kind == "percent" for column, _ in columns) > DEEP
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
            if _mixed(table) and origin == "measured":
                lines.append(rf"\multicolumn{{{len(columns)}}}{{l}}{{\emph{{measured here}}}} \\")
        cells, under = [], []
        for column, bracket in columns:
            if column.key == "label":
                marks = rf"\textsuperscript{{{','.join(map(str, numbers))}}}" if numbers else ""
                cells.append(_latex(row.label) + marks)
                under.append("")
                continue
            cell = row.cells.get(column.key, Cell())
            value, deviation = _latex_cell(cell, column), _latex_deviation(cell)
            text = number(row.cells.get(bracket.key, Cell()), bracket) if bracket else DASH
            interval = "" if text == DASH else rf"\tgci{{{_latex(text)}}}"
            cells.append(value if deep else value + deviation)
            under.append(deviation if deep else interval)
        lines.append(" & ".join(cells) + r" \\")
        if any(under):
            lines.append(" & ".join(under) + r" \\[2pt]")
    lines += [r"\bottomrule", r"\end{tabular}}"]
    below = [rf"\textsuperscript{{{n}}}\,{_latex(note)}." for n, note in enumerate(notes, 1)]
    below += [_latex(remark) for remark in table.remarks]
    if below:
        lines += [r"\par\smallskip", r"{\footnotesize\raggedright " + " ".join(below) + r"\par}"]
    return "\n".join([*lines, r"\end{table}", ""])


def _latex_head(column: Column) -> str:
    """A long head in two lines, broken where they are most alike: values are narrow."""
    text = column.head
    breaks = [n for n, character in enumerate(text) if character == " "]
    if column.key == "label" or len(text) <= 10 or not breaks:
        return _latex(text)
    at = min(breaks, key=lambda n: abs(2 * n + 1 - len(text)))
    side = "l" if column.kind == "text" else "r"
    return rf"\shortstack[{side}]{{{_latex(text[:at])}\\{_latex(text[at:])}}}"


def _latex_cell(cell: Cell, column: Column) -> str:
    text = number(cell, column)
    if cell.text is not None or cell.value is None or column.kind in ("p", "share", "count", "points"):
        text = _latex(text)
    else:
        text = rf"\tgval{{{text}}}"
    return {"best": rf"\tgbest{{{text}}}", "second": rf"\tgsecond{{{text}}}"}.get(cell.mark, text)


def _latex_deviation(cell: Cell) -> str:
    return rf"\tgsd{{{cell.sd:.2f}}}" if cell.sd is not None and cell.value is not None else ""


def _latex(text: str) -> str:
    return "".join(LATEX_SPECIAL.get(character, character) for character in " ".join(text.split()))
