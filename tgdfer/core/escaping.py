"""Names and values that come from users, written so that Markdown and spreadsheets take them as text."""

from typing import Any


def markdown(text: str) -> str:
    """Text that Markdown shows unchanged, in one line."""
    for character in "\\`*_|[]":
        text = text.replace(character, "\\" + character)
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())


def csv_cell(value: Any) -> Any:
    """A value for a CSV: numbers in full precision, and text that no spreadsheet runs as a formula."""
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value
