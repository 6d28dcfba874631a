"""What a layout makes of a data set on disk: its clips and folds; and the checks that every layout shares."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

from tgdfer.config.params import DatasetParams
from tgdfer.core.errors import UserError

SYNONYMS = {
    "happy": ("happiness", "happy", "hap", "ha"),
    "sad": ("sadness", "sad", "sa"),
    "neutral": ("neutral", "neu", "ne", "neutrality"),
    "angry": ("anger", "angry", "ang", "an"),
    "surprise": ("surprise", "surprised", "sur", "su"),
    "disgust": ("disgust", "disgusted", "dis", "di"),
    "fear": ("fear", "fearful", "fea", "fe", "afraid"),
    "contempt": ("contempt",),
    "anxiety": ("anxiety", "anxious"),
    "helplessness": ("helplessness", "helpless"),
    "disappointment": ("disappointment", "disappointed"),
    "calm": ("calm",),
}
"""The class names of this project and how the official layouts spell them, in lower case."""
_NAME_OF = {spelling: name for name, spellings in SYNONYMS.items() for spelling in spellings}
VIDEO_SUFFIXES = frozenset((".mp4", ".mov", ".avi", ".mkv", ".webm", ".flv", ".m4v", ".mpg", ".mpeg", ".wmv"))


@dataclass(frozen=True)
class Clip:
    """A clip: its id, its place below the root, ``video`` or ``frames``, its class, and what else is known."""

    clip_id: str
    source: str
    kind: str
    label: str
    n_frames: int | None = None
    subject: str | None = None


@dataclass(frozen=True)
class Member:
    """A clip's place in a fold: ``train`` or ``test``."""

    clip_id: str
    fold: int
    split: str


@dataclass
class Listing:
    """A data set as a layout reads it; ``read`` are the annotation files that it comes from."""

    clips: list[Clip]
    folds: list[Member]
    read: list[Path] = field(default_factory=list)


class Complaints:
    """What happens to a bad row: the stage stops at the first, a check of the data notes all of them and goes on."""

    def __init__(self, keep: bool = False) -> None:
        self.keep = keep
        self.found: list[str] = []

    @contextmanager
    def row(self) -> Iterator[None]:
        """Work on a row; where it raises a UserError, raise that or note it and leave out the rest of the block."""
        try:
            yield
        except UserError as error:
            if not self.keep:
                raise
            self.found.append(" ".join(str(error).split()))


def class_of(spelling: str, classes: Sequence[str], where: str) -> str:
    """The class that an official ``spelling`` means.

    Raises:
        UserError: it means no class of this data set; ``where`` names the file and row.
    """
    plain = spelling.strip().lower()
    name = plain if plain in classes else _NAME_OF.get(plain, plain)
    if name not in classes:
        raise UserError(f"{where}: label '{spelling}' is no class; the classes are {', '.join(classes)}")
    return name


def below_root(path: str, where: str) -> str:
    """``path`` as it stands in the clips table: relative, with forward slashes.

    Raises:
        UserError: it is empty, absolute, or leaves the root through ``..``.
    """
    pure, windows = PurePosixPath(path), PureWindowsPath(path)
    if not path.strip() or pure == PurePosixPath("."):
        raise UserError(f"{where}: path is empty; expected a path below the root")
    if pure.is_absolute() or windows.is_absolute() or windows.drive:
        raise UserError(f"{where}: path '{path}' is absolute; expected a path below the root")
    if ".." in pure.parts or ".." in windows.parts:
        raise UserError(f"{where}: path '{path}' holds '..'; expected a path below the root")
    return pure.as_posix()


def root_of(dataset: DatasetParams, name: str) -> Path:
    """The root folder of a data set; a UserError when it is not there."""
    root = Path(dataset.root)
    if not root.is_dir():
        raise UserError(f"params.yaml: datasets.{name}.root: {root}: no such folder")
    return root


def annotations_of(dataset: DatasetParams, name: str) -> Path:
    """The annotation file or folder of a data set; a UserError when it is not there."""
    path = Path(dataset.annotations)
    if not path.exists():
        raise UserError(f"params.yaml: datasets.{name}.annotations: {path}: no such file or folder")
    return path


def text_of(path: Path) -> str:
    """The text of a list, whatever saved it: with a byte order mark or without, UTF-8 or Excel's UTF-16.

    Raises:
        UserError: it is neither.
    """
    data = path.read_bytes()
    try:
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}, line {line}: not a text in UTF-8 ({error.reason} at byte {error.start}); save it as that"
        ) from None


def rows_of(table: Path) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    """The header of a CSV, and its rows, each with its line.

    Spreadsheets of many countries save with semicolons, some with tabs, and leave lines of separators alone at the end.

    Raises:
        UserError: it is no text, a column stands twice, or, by the line that it begins with, a row is none of a CSV.
    """
    text = text_of(table)
    first = text.partition("\n")[0]
    delimiter = next((mark for mark in ",;\t" if mark in first), ",")
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)

    def rows() -> Iterator[tuple[int, dict[str, str]]]:
        while True:
            line = reader.line_num + 1
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise UserError(f"{table}, line {line}: not a row of a CSV ({error}); is a quote left open?") from None
            if any(row.values()):
                yield reader.line_num, row

    try:
        header = list(reader.fieldnames or [])
    except csv.Error as error:
        raise UserError(f"{table}, line 1: not the header of a CSV ({error})") from None
    for name in header:
        if name and header.count(name) > 1:
            raise UserError(f"{table}: column '{name}' stands twice in the header")
    return header, rows()


def options_of(dataset: DatasetParams, name: str, known: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """The options of a layout with defaults filled in; the first of the ``known`` values is the default."""
    for key, value in dataset.options.items():
        if key not in known:
            raise UserError(
                f"params.yaml: datasets.{name}.options.{key}: unknown option; "
                + (f"layout {dataset.layout} has {', '.join(known)}" if known else f"layout {dataset.layout} has none")
            )
        if known[key] and value not in known[key]:
            raise UserError(
                f"params.yaml: datasets.{name}.options.{key}: '{value}' is not one of {', '.join(known[key])}"
            )
    return {**{key: values[0] for key, values in known.items() if values}, **dataset.options}


def first_folder(root: Path, candidates: Iterable[str]) -> Path | None:
    """The first of ``candidates`` that is a folder below ``root``, in whatever case it is written there.

    Where it holds a folder of its own name, as some archives are unpacked, that one is meant.
    """
    for name in candidates:
        found = root if root.is_dir() else None
        for part in (*PurePosixPath(name).parts, ""):
            if found:
                found = _child(found, part) if part else _child(found, found.name) or found
        if found and found != root:
            return found
    return None


def _child(folder: Path, name: str) -> Path | None:
    if (folder / name).is_dir():
        return folder / name
    alike = (path for path in folder.iterdir() if path.name.lower() == name.lower() and path.is_dir())
    return min(alike, default=None)
