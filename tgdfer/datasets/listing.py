"""What a layout is given and returns: a data set on disk, and its clips and folds; and helpers that layouts share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

from tgdfer.core.errors import UserError

SYNONYMS = {
    "happy": ("happiness", "happy", "hap", "ha"),
    "sad": ("sadness", "sad", "sa"),
    "neutral": ("neutral", "neu", "ne", "neutrality"),
    "angry": ("anger", "angry", "ang", "an"),
    "surprise": ("surprise", "surprised", "sur", "su"),
    "disgust": ("disgust", "disgusted", "dis", "di"),
    "fear": ("fear", "fearful", "fea", "fe", "afraid"),
    "anxiety": ("anxiety", "anxious"),
    "helplessness": ("helplessness", "helpless"),
    "disappointment": ("disappointment", "disappointed"),
}
"""Class names of this project and other spellings of them, in lower case."""
_NAME_OF = {spelling: name for name, spellings in SYNONYMS.items() for spelling in spellings}
VIDEO_SUFFIXES = frozenset((".mp4", ".mov", ".avi", ".mkv", ".webm", ".flv", ".m4v", ".mpg", ".mpeg", ".wmv"))


@dataclass(frozen=True)
class Clip:
    """A clip: its id, its path below the root, ``video`` or ``frames``, its class, and what else is known."""

    clip_id: str
    source: str
    kind: str
    label: str
    n_frames: int | None = None
    subject: str | None = None


@dataclass(frozen=True)
class Member:
    """The role of a clip in a fold: ``train`` or ``test``."""

    clip_id: str
    fold: int
    split: str


@dataclass
class Listing:
    """The clips and folds of a data set, and the annotation files that they come from."""

    clips: list[Clip]
    folds: list[Member]
    files: list[Path] = field(default_factory=list)


class Complaints:
    """Handles bad rows: the clips stage stops at the first one, ``tgdfer validate`` collects them all."""

    def __init__(self, keep: bool = False) -> None:
        self.keep = keep
        self.found: list[str] = []

    @contextmanager
    def row(self) -> Iterator[None]:
        """Run the block for a row; a UserError in it is raised, or noted, which skips the rest of the block."""
        try:
            yield
        except UserError as error:
            if not self.keep:
                raise
            self.found.append(" ".join(str(error).split()))


@dataclass(frozen=True)
class DatasetOnDisk:
    """What a layout reads: an entry of params.yaml whose paths exist, and what to do with bad rows."""

    name: str
    root: Path
    annotations: Path
    classes: list[str]
    options: dict[str, str]
    confined: bool
    """Whether links that lead out of the root are refused."""
    complaints: Complaints


def class_of(spelling: str, classes: Sequence[str], where: str) -> str:
    """The class that ``spelling`` means.

    Raises:
        UserError: it means none of ``classes``; ``where`` names the file and row.
    """
    plain = spelling.strip().lower()
    name = plain if plain in classes else _NAME_OF.get(plain, plain)
    if name not in classes:
        raise UserError(f"{where}: label '{spelling}' is not a class; the classes are {', '.join(classes)}")
    return name


def below_root(path: str, where: str) -> str:
    """``path`` as the clips table has it: relative, with forward slashes.

    Raises:
        UserError: it is empty, absolute, or leaves the root through ``..``.
    """
    pure, windows = PurePosixPath(path), PureWindowsPath(path)
    if not path.strip() or pure == PurePosixPath("."):
        raise UserError(f"{where}: path is empty; expected a path below the root")
    if pure.is_absolute() or windows.drive:
        raise UserError(f"{where}: path '{path}' is absolute; expected a path below the root")
    if ".." in pure.parts or ".." in windows.parts:
        raise UserError(f"{where}: path '{path}' contains '..'; expected a path below the root")
    return pure.as_posix()


def first_folder(root: Path, candidates: Iterable[str]) -> Path | None:
    """The first of ``candidates`` that is a folder below ``root``, upper and lower case aside.

    If it contains a folder of its own name, as some archives are unpacked, that inner folder is returned.
    """
    for name in candidates:
        found: Path | None = root
        for part in PurePosixPath(name).parts:
            found = _child(found, part) if found else None
        if found:
            return _child(found, found.name) or found
    return None


def _child(folder: Path, name: str) -> Path | None:
    if (folder / name).is_dir():
        return folder / name
    alike = (path for path in folder.iterdir() if path.name.lower() == name.lower() and path.is_dir())
    return min(alike, default=None)
