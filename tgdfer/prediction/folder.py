"""The folder of results: a few files for each video, and lists of all; what an earlier call wrote there is kept."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

from filelock import FileLock

from tgdfer.core import storage
from tgdfer.core.errors import UserError
from tgdfer.core.escaping import csv_cell
from tgdfer.core.progress import log
from tgdfer.prediction.result import NOTICE, Prediction, printable

LONGEST = 200
"""How many bytes of a video's name are used for the names of its files; file systems allow a few more."""
SUFFIXES = (".json", ".png", ".html")
"""The files of a video."""
LISTS = ("predictions.csv", "index.html", "NOTICE.txt")
"""The files of all videos."""


class ResultFolder:
    """The folder of ``--output``.

    A video's files have its name. A number is added where that name belongs to the files of another video or to files
    that are not results. A video that is predicted again replaces its own files and its own rows, which is logged.

    Raises:
        UserError: a file with the name of a list is not such a list, or is one for other classes.
    """

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        self.path, self._columns = path, columns(classes)
        self.files: dict[str, str] = {}
        """The name of the files of each source that was written."""
        self._earlier()  # before the work begins
        for name, mark in ((LISTS[1], 'name="generator" content="tgdfer'), (LISTS[2], NOTICE)):
            if (path / name).exists() and mark not in (path / name).read_text(encoding="utf-8", errors="replace"):
                raise UserError(f"{path / name}: not written by tgdfer predict; choose another folder for --output")

    def write(self, prediction: Prediction, picture: bool, page: str) -> None:
        """Write the files of a video."""
        name = self._name(prediction)
        result, timeline, html = _files(self.path / name)
        old = [file for file in (result, timeline, html) if file.exists()]
        storage.write_json(result, prediction.to_dict())
        timeline.unlink(missing_ok=True)  # it would show the earlier result
        html.unlink(missing_ok=True)
        if picture:
            from tgdfer.prediction.timeline import write_timeline

            write_timeline(prediction, timeline)
        if page != "none":
            from tgdfer.prediction.page import write_page

            write_page(prediction, html, embed=page == "embed")
        self.files[printable(prediction.source)] = name
        if old:
            log.info("%s: replaces the earlier result in %s", printable(prediction.source), ", ".join(map(str, old)))

    def write_lists(self, done: Sequence[Prediction], failed: Mapping[str, str], index: bool) -> None:
        """Add the rows of ``done`` and ``failed`` to the lists, in place of earlier rows of the same videos.

        Of a video that failed now, an earlier result is kept.
        """
        with FileLock(self.path / ".predictions.lock"):
            earlier = self._earlier()
            known = {row["source"] for row in earlier if row["file"]}
            new = [row for row in rows(done, failed, self.files) if row.get("file") or row["source"] not in known]
            again = {row["source"] for row in new}
            kept = [row for row in earlier if row["source"] not in again]
            storage.write_text(self.path / LISTS[0], csv_text(self._columns, [*kept, *new]))
            storage.write_text(self.path / LISTS[2], f"{NOTICE}\n")  # a CSV has no place for it
            if index:
                from tgdfer.prediction.index import write_index

                write_index([*kept, *new], self.path / LISTS[1])
        if earlier:
            others = len({row["source"] for row in kept})
            log.info("%s: %d rows of %d other videos kept", self.path / LISTS[0], len(kept), others)
            for source in sorted(known & failed.keys()):
                log.warning("%s: its earlier result is kept in %s", source, self.path)
            if replaced := len(earlier) - len(kept):
                log.info("%s: %d earlier rows of the same videos replaced", self.path / LISTS[0], replaced)

    def _earlier(self) -> list[dict[str, str]]:
        """The rows that are in the table."""
        table = self.path / LISTS[0]
        if not table.exists():
            return []
        try:
            with table.open(encoding="utf-8", newline="") as stream:
                reader = csv.DictReader(stream, strict=True)
                found = list(reader)
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{table}: cannot be read ({error}); choose another folder for --output") from None
        if reader.fieldnames != self._columns or any(None in row or None in row.values() for row in found):
            raise UserError(
                f"{table}: not a table with the columns {', '.join(self._columns)}, so it was made with other classes "
                "or by another program; choose another folder for --output"
            )
        return found

    def _name(self, prediction: Prediction) -> str:
        """The name of a video's files: upper and lower case are equal, as on some file systems."""
        stem = os.fsencode(Path(prediction.source).resolve().stem)[:LONGEST].decode("utf-8", "ignore") or "video"
        taken = {"index", *(path.stem.casefold() for path in self.path.iterdir() if path.suffix in SUFFIXES)}
        for name in chain([stem], (f"{stem}-{number}" for number in count(2))):
            found = storage.read_object(_files(self.path / name)[0]) if name.casefold() in taken else None
            if found is None or (found.get("notice"), found.get("source")) == (NOTICE, printable(prediction.source)):
                return name
        raise AssertionError


def _files(base: Path) -> list[Path]:
    return [base.with_name(base.name + suffix) for suffix in SUFFIXES]


def columns(classes: Sequence[str]) -> list[str]:
    """The columns of predictions.csv."""
    known = ["source", "file", "person", "start_s", "end_s", "prediction", "entropy", "reason"]
    return [*known, *(f"p_{name}" for name in classes)]


def rows(done: Iterable[Prediction], failed: Mapping[str, str], files: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """A row for each window of every video, and one for each unusable video, as predictions.csv has them."""
    seen = ({"file": files.get(printable(one.source)), **row} for one in done for row in one.rows())
    for row in chain(seen, ({"source": source, "reason": reason} for source, reason in failed.items())):
        yield {key: csv_cell(value) for key, value in row.items()}


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """The table as CSV."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
