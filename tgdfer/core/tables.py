"""Tables for people: coloured and fitted to the width on a terminal, plain aligned text in a pipe or file."""

import sys
from collections.abc import Iterable, Mapping, Sequence


def as_table(headings: Sequence[str], rows: Iterable[Sequence[object]], styles: Mapping[str, str] | None = None) -> str:
    """``rows`` below ``headings``, with numbers to the right; ``styles`` colours cells by their text."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    filled = [list(row) for row in rows]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, heading in enumerate(headings):
        are_numbers = any(isinstance(row[number], int | float) for row in filled)
        table.add_column(heading, justify="right" if are_numbers else "left", overflow="fold")
    for row in filled:
        table.add_row(*(Text(str(cell), style=(styles or {}).get(str(cell), "")) for cell in row))
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 10_000)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
