"""index.html: one page that lists all videos of a folder of results, with links to their own pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tgdfer.core.html import render
from tgdfer.core.plots import COLOURS
from tgdfer.core.storage import read_object, write_text
from tgdfer.core.version import __version__
from tgdfer.prediction.page import TEMPLATES, Axis, clock
from tgdfer.prediction.result import NOTICE, entropy, most_likely


def write_index(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write the page for the rows of predictions.csv, in the order of the videos' names."""
    ordered = sorted(rows, key=lambda row: row["source"])
    videos = [_video(source, list(group), path.parent) for source, group in groupby(ordered, lambda row: row["source"])]
    classes = [key.removeprefix("p_") for key in ordered[0] if key.startswith("p_")] if ordered else []
    text = render(
        TEMPLATES,
        "index",
        videos=videos,
        classes=[(name, COLOURS[number % len(COLOURS)]) for number, name in enumerate(classes)],
        notice=NOTICE,
        version=__version__,
    )
    write_text(path, text)


def _video(source: str, rows: list[Mapping[str, Any]], folder: Path) -> dict[str, Any]:
    page = f"{rows[0].get('file')}.html"
    described = read_object(folder / f"{rows[0].get('file')}.json")
    seen = {one["person"]: one["seen_s"] for one in described.get("persons", [])}
    times = [float(row[key]) for row in rows for key in ("start_s", "end_s") if row.get(key)]
    axis = Axis(min(times), max(times)) if times and max(times) > min(times) else Axis(0.0, 1.0)
    numbered = sorted((row for row in rows if row.get("person")), key=lambda row: int(row["person"]))
    persons = groupby(numbered, lambda row: int(row["person"]))
    return {
        "name": Path(source).name,
        "source": source,
        "page": quote(page) if rows[0].get("file") and (folder / page).exists() else None,
        "length": clock(axis.end - axis.start) if times else "",
        "persons": [_person(number, list(windows), axis, seen.get(number)) for number, windows in persons],
        "reason": next((row["reason"] for row in rows if row.get("reason")), ""),
    }


def _person(
    number: int, windows: list[Mapping[str, Any]], axis: Axis, seen: list[list[float]] | None
) -> dict[str, Any]:
    names = [key for key in windows[0] if key.startswith("p_")]
    means = {name.removeprefix("p_"): sum(float(row[name]) for row in windows) / len(windows) for name in names}
    answer = most_likely(means) or ""
    colours = {name.removeprefix("p_"): COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}
    # the face may be visible for only a part of a window
    first, last = (seen[0][0], seen[-1][1]) if seen else (axis.start, axis.end)
    starts = [axis.x(min(max(float(row["start_s"]), first), last)) for row in windows]
    ends = [axis.x(min(max(float(row["end_s"]), first), last)) for row in windows]
    # windows overlap: each is drawn up to the begin of the next
    shown = [min(end, later) for end, later in zip(ends, [*starts[1:], ends[-1]], strict=True)]
    return {
        "number": number,
        "answer": answer,
        "colour": colours[answer],
        "share": means[answer],
        "entropy": entropy(means),
        "strip": [
            (start, end - start, colours.get(row["prediction"], COLOURS[-1]))
            for start, end, row in zip(starts, shown, windows, strict=True)
        ],
    }
