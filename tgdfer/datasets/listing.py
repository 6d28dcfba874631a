"""What a layout is given and returns: a data set on disk, and its clips and folds; and helpers that layouts share."""

import os
import re
import stat
import unicodedata
from collections import Counter
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
_BLANKS = re.compile("[ \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+")
_MARKS = " \t\r\n\ufeff\u200b\u200e\u200f"
_NAME_OF = {spelling: name for name, spellings in SYNONYMS.items() for spelling in spellings}
VIDEO_SUFFIXES = frozenset(
    (
        *(".mp4", ".m4v", ".mov", ".qt", ".avi", ".divx", ".mkv", ".webm", ".ogv", ".flv", ".f4v", ".wmv", ".asf"),
        *(".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".vob", ".ts", ".mts", ".m2ts", ".m2t", ".3gp", ".3g2", ".gif"),
        *(".ogm", ".mod", ".tod", ".m2p", ".mpv", ".trp", ".insv", ".amv", ".ivf", ".nut"),
        *(".mxf", ".dv", ".y4m", ".h264", ".264", ".h265", ".265", ".hevc", ".mjpg", ".mjpeg", ".rm", ".rmvb"),
    )
)
"""What ffmpeg reads as a video, in lower case."""


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
    where: dict[str, str] = field(default_factory=dict)
    """The file and line of each clip, by clip id, as far as they are known."""

    def place(self, clip: Clip) -> str:
        """How ``clip`` is named in messages."""
        where = self.where.get(clip.clip_id)
        return f"'{clip.clip_id}' ({clip.source}{f', {where}' if where else ''})"


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


def tidy(text: str) -> str:
    """``text`` in Unicode's composed form, without blanks and invisible marks at its ends, and with single blanks."""
    return _BLANKS.sub(" ", unicodedata.normalize("NFC", text)).strip(_MARKS)


def known_spellings(classes: Iterable[str]) -> dict[str, str]:
    """The class of every spelling, in lower case, that is known for one of ``classes``."""
    kept = set(classes)
    return {s: name for s, name in _NAME_OF.items() if name in kept} | {name: name for name in kept}


def class_of(spelling: str, classes: Sequence[str], where: str) -> str:
    """The class that ``spelling`` means.

    Raises:
        UserError: it means none of ``classes``; ``where`` names the file and row.
    """
    plain = tidy(spelling).lower()
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


def on_disk(root: Path, cell: str, where: str) -> tuple[str, str]:
    """The path below ``root`` that ``cell`` of a list means, spelled as on disk, and ``video`` or ``frames``.

    Blanks around it and the Unicode form of its letters may differ from the disk's.

    Raises:
        UserError: it is not a path below the root, or what is there is neither a file nor a folder.
    """
    path = below_root(cell.strip(), where)
    spellings = (below_root(cell, where), path, *(unicodedata.normalize(form, path) for form in ("NFC", "NFD")))
    path = next((one for one in spellings if os.path.lexists(root / one)), path)
    try:
        mode = (root / path).stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise UserError(f"{where}: path '{path[:200]}': no such file below {root}{_hint(root, path)}") from None
    except OSError as error:
        raise UserError(f"{where}: path '{path[:200]}': cannot be read: {error.strerror}") from None
    if stat.S_ISDIR(mode):
        return path, "frames"
    if not stat.S_ISREG(mode):  # reading a pipe or a device might never end
        raise UserError(f"{where}: path '{path[:200]}': is neither a file nor a folder")
    return path, "video"


def _hint(root: Path, path: str) -> str:
    """What might have been meant by a path that does not exist."""
    if "\\" in path:
        return f"; here folders are separated by /: write '{path.replace(chr(92), '/')}'"
    place = root
    for part in PurePosixPath(path).parts:
        try:
            names = sorted(os.listdir(place))  # noqa: PTH208 (only names are needed)
        except (OSError, ValueError):
            return ""
        wanted = tidy(part).lower()
        alike = [name for name in names if wanted in (tidy(name).lower(), tidy(PurePosixPath(name).stem).lower())]
        found = next((name for name in (part, *alike) if name in names), None)
        if found is None:
            return ""
        place /= found
    return f"; did you mean '{place.relative_to(root).as_posix()}'?"


def clip_ids(kinds: dict[str, str]) -> list[str]:
    """An id for each path in ``kinds``, which says ``video`` or ``frames``: the path without a video's suffix.

    Paths that would have one id, such as ``a.mp4`` and ``a.mov``, are their own ids.
    """
    short = {
        path: tidy((path.rpartition(".")[0] or path if kind == "video" else path).replace("/", "-"))
        for path, kind in kinds.items()
    }
    while twice := {one for one, count in Counter(short.values()).items() if count > 1}:
        longer = {path: tidy(path) if one in twice else one for path, one in short.items()}
        if longer == short:  # Unicode forms or blanks of one name: they would look the same to a person
            break
        short = longer
    return list(short.values())


def first_folder(root: Path, candidates: Iterable[str]) -> Path | None:
    """The first of ``candidates`` that is a folder below ``root``, upper and lower case aside.

    If it contains a folder with the same name, as some archives do, that inner folder is returned.
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
