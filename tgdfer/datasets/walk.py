"""One walk of a folder: every file belongs to a clip, or is passed over for a reason that is counted and shown."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tgdfer.core.errors import UserError
from tgdfer.datasets.listing import VIDEO_SUFFIXES
from tgdfer.media.images import SUFFIXES as IMAGE_SUFFIXES

SYSTEM = re.compile(
    r"""\..*                                        # hidden: .DS_Store, ._a.mp4, .git, .ipynb_checkpoints, .Trash
    | __macosx | __pycache__ | @eadir | \#recycle | \#snapshot | \$recycle\.bin | recycler | lost\+found
    | system\ volume\ information | found\.\d{3} | _gsdata_ | @recycle | @recently-snapshot | @tmp | @sharebin
    | network\ trash\ folder | temporary\ items | (eh)?thumbs(_vista)?\.db | desktop\.ini | icon\r
    | ~\$.* | .*~                                # locks and copies of editors
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
"""Files and folders that systems and programs make."""
UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".opdownload", ".filepart", ".aria2", ".tmp", ".temp")
SHOWN = 3
"""Files that are named for each reason; the others are counted."""


@dataclass
class Found:
    """What a folder holds; all paths are relative to it, with forward slashes."""

    clips: dict[str, str] = field(default_factory=dict)
    """``video`` or ``frames``, by path."""
    images: dict[str, list[str]] = field(default_factory=dict)
    """The image files of each folder of images."""
    passed: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """The files that are passed over, by reason."""

    def drop(self, source: str, reason: str) -> None:
        """Pass over a clip and all its files."""
        del self.clips[source]
        self.passed[reason] += self.images.pop(source, [source])


def walk(root: Path) -> Found:
    """Look at every file below ``root``; links are followed.

    Raises:
        UserError: a folder cannot be read.
    """
    found = Found()
    _look(root, "", frozenset([os.path.realpath(root)]), found)
    return found


def not_listed(root: Path, listed: Collection[str], lists: Collection[Path]) -> dict[str, list[str]]:
    """The files below ``root`` that no clip of a list uses, by reason, without the ``lists`` themselves."""
    found, known = walk(root), set(listed)
    for source in [source for source in found.clips if source not in known]:
        found.drop(source, "not in the list of clips")
    own = {path.resolve() for path in lists}
    passed = {
        reason: [file for file in files if file not in known and (root / file).resolve() not in own]
        for reason, files in found.passed.items()
    }
    return {reason: files for reason, files in passed.items() if files}


def passed_lines(passed: dict[str, list[str]]) -> list[str]:
    """A line for each reason: how many files, why, and the first of them."""
    lines = []
    for reason, files in sorted(passed.items(), key=lambda entry: -len(entry[1])):
        more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
        shown = ", ".join(ascii(file)[1:-1] if not file.isprintable() else file for file in files[:SHOWN])
        lines.append(f"{len(files)} {reason}: {shown}{more}")
    return lines


def _look(root: Path, folder: str, above: frozenset[str], found: Found) -> None:
    """Sort what is in ``folder``; ``above`` holds the real paths of it and the folders above it."""
    videos, images = [], []
    entries = _entries(root / folder)
    if not entries:
        found.passed["in an empty folder"].append(f"{folder}/")
    for entry in entries:
        path = f"{folder}/{entry.name}" if folder else entry.name
        reason = _reason(entry)
        if reason:
            found.passed[reason] += _below(entry, path)
        elif entry.is_dir():
            real = os.path.realpath(entry.path)
            if real in above:
                found.passed["a link to a folder that it is in"].append(path)
            else:
                _look(root, path, above | {real}, found)
        elif _suffix(path) in VIDEO_SUFFIXES:
            videos.append(path)
        else:
            images.append(path)
    found.clips |= dict.fromkeys(videos, "video")
    if videos and images:
        found.passed["an image next to videos"] += images
    elif images:
        found.clips[folder] = "frames"
        found.images[folder] = images


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error.strerror}; make it readable, or move it away") from None


def _reason(entry: os.DirEntry[str]) -> str | None:
    """Why a file or folder is passed over; None if it is not."""
    if SYSTEM.fullmatch(entry.name):
        return "hidden, or made by a system or program"
    if entry.name.lower().endswith(UNFINISHED):
        return "an unfinished download or temporary file"
    if not all(sign.isprintable() or unicodedata.category(sign) == "Zs" for sign in entry.name):
        return "with a name that cannot be printed (rename it)"
    if "\\" in entry.name:
        return "with a backslash in its name (rename it)"
    if entry.is_dir():
        return None
    if not entry.is_file():
        return "a link that leads nowhere" if entry.is_symlink() else "neither a file nor a folder"
    suffix = _suffix(entry.name)
    if suffix not in VIDEO_SUFFIXES | IMAGE_SUFFIXES:
        return f"not a video or image ({suffix or 'no suffix'})"
    if suffix in VIDEO_SUFFIXES and not entry.stat().st_size:
        return "empty (0 bytes)"
    return None


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def _below(entry: os.DirEntry[str], path: str) -> Iterator[str]:
    """The files of what is passed over: itself, or all files below it; links to folders are not followed."""
    if not entry.is_dir(follow_symlinks=False):
        yield path
        return
    empty = True
    for place, _, names in os.walk(entry.path):
        for name in names:
            empty = False
            yield f"{path}/{os.path.relpath(os.path.join(place, name), entry.path)}"  # noqa: PTH118
    if empty:
        yield f"{path}/"
