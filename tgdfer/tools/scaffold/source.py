"""Understand a list of clips: a CSV with columns of any usual name, or a folder with a folder for each class."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tgdfer.core.classes import SEVEN
from tgdfer.core.errors import UserError
from tgdfer.datasets.folds import dealt_folds, listed_folds, subject_folds
from tgdfer.datasets.listing import VIDEO_SUFFIXES, Clip, Listing, Member, below_root, class_of
from tgdfer.datasets.lists import rows_of

COLUMNS = ("clip_id", "path", "label")
MEANINGS = {
    "path": ("path", "video_path", "video", "file", "filename", "file_name", "video_name"),
    "label": ("label", "emotion", "expression", "class"),
    "clip_id": ("clip_id", "clip", "id"),
    "fold": ("fold",),
    "split": ("split", "set", "subset", "partition"),
    "subject": ("subject", "actor", "person", "speaker", "participant", "identity"),
}
"""The usual names of the column for each meaning, in lower case; the first that the CSV has is taken."""
FOLDS = 5
IMAGES = (".jpg", ".jpeg", ".png")
SPLITS = {"train": "train", "training": "train", "test": "test", "val": "test", "validation": "test"}


@dataclass(frozen=True)
class ClipList:
    """A list of clips as it was understood."""

    root: Path
    table: Path | None
    columns: dict[str, str]
    """The column of the CSV for each meaning."""
    rows: list[dict[str, str]]
    """The rows of the CSV, in the order of the clips."""
    classes: list[str]
    listing: Listing
    made_folds: bool
    """Whether this project made the folds, because the list has none."""

    @property
    def folds(self) -> int:
        """The number of folds."""
        return max(member.fold for member in self.listing.folds)

    @property
    def has_subjects(self) -> bool:
        """Whether the subject of every clip is known."""
        return all(clip.subject for clip in self.listing.clips)

    @property
    def is_plain(self) -> bool:
        """Whether layout ``folder`` can read the CSV unchanged."""
        renamed = any(self.columns.get(name, name) != name for name in MEANINGS)
        return not renamed and not self.made_folds and set(COLUMNS) <= set(self.columns) and self._spelled_as_classes()

    def _spelled_as_classes(self) -> bool:
        return {row[self.columns["label"]].strip() for row in self.rows} <= set(self.classes)

    def sample(self) -> list[list[str]]:
        """A few rows of the CSV, only the understood columns, from which folds can be made."""
        rows = [[row[column] for column in self.columns.values()] for row in self.rows]
        clips = self.listing.clips
        if self.made_folds and not self.has_subjects:
            largest = Counter(clip.label for clip in clips).most_common(1)[0][0]
            return [row for row, clip in zip(rows, clips, strict=True) if clip.label == largest][: self.folds]
        tested = {member.clip_id: member.fold for member in self.listing.folds if member.split == "test"}
        groups = [clip.subject if self.made_folds else tested.get(clip.clip_id) for clip in clips]
        return [row for number, row in enumerate(rows) if groups[number] not in groups[:number]]

    @property
    def own_classes(self) -> bool:
        """Whether the classes differ from the seven."""
        return self.classes != list(SEVEN)


def from_csv(table: Path, root: Path | None = None) -> ClipList:
    """Understand ``table``, whose paths are relative to ``root``, or to its own folder.

    Raises:
        UserError: there is no column for path or label, a path does not exist or leaves the root, or no clip is listed.
    """
    if not table.is_file():
        raise UserError(f"{table}: no such CSV file")
    header, numbered = rows_of(table)
    if not numbered:
        raise UserError(f"{table}: lists no clips")
    root = root or table.parent
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give --root, the folder that the paths in {table} are relative to")
    columns = _columns(header, table)
    classes = _classes({row[columns["label"]].strip() for _, row in numbered}, str(table))
    clips = []
    places = {}
    for line, row in numbered:
        where = f"{table}, line {line}"
        cells = {meaning: row[column].strip() for meaning, column in columns.items()}
        path = below_root(cells["path"], where)
        if not (root / path).exists():
            raise UserError(
                f"{where}: {path}: no such file below {root}; give --root if the paths are relative to another"
            )
        clip_id = cells.get("clip_id", _clip_id(path))
        kind = "frames" if (root / path).is_dir() else "video"
        label = class_of(cells["label"], classes, where)
        clips.append(Clip(clip_id, path, kind, label, subject=cells.get("subject") or None))
        if "fold" in cells or "split" in cells:
            places[clip_id] = cells.get("fold", cells.get("split", ""))
    rows = [row for _, row in numbered]
    listing = Listing(clips, _folds(clips, places, str(table)), [table])
    return ClipList(root, table, columns, rows, classes, listing, made_folds=not places)


def from_folder(folder: Path) -> ClipList:
    """Understand ``folder``: videos or folders of images in class folders, which may be in train and test folders.

    Raises:
        UserError: the folder does not exist, or has no video in a class folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    kinds: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.suffix.lower() in VIDEO_SUFFIXES and len(relative.parts) > 1:
            kinds[relative.as_posix()] = "video"
        elif path.suffix.lower() in IMAGES and len(relative.parts) > 2:
            kinds[relative.parent.as_posix()] = "frames"
    if not kinds:
        raise UserError(f"{folder}: no videos or folders of images in class folders, such as {folder}/happy/a.mp4")
    labels, places = {}, {}
    for source in kinds:
        parts = PurePosixPath(source).parts
        in_split = parts[0].lower() in SPLITS
        if in_split:
            places[_clip_id(source)] = parts[0]
        labels[source] = parts[1 if in_split and len(parts) > 2 else 0]
    classes = _classes(set(labels.values()), str(folder))
    clips = [
        Clip(_clip_id(source), source, kind, class_of(labels[source], classes, f"{folder}/{source}"))
        for source, kind in kinds.items()
    ]
    if places and len(places) < len(clips):
        raise UserError(f"{folder}: some clips are in train or test folders and some are not; expected all or none")
    listing = Listing(clips, _folds(clips, places, str(folder)))
    return ClipList(folder, None, {}, [], classes, listing, made_folds=not places)


def _columns(header: list[str], table: Path) -> dict[str, str]:
    lowered = {name.strip().lower(): name for name in header}
    columns = {}
    for meaning, names in MEANINGS.items():
        found = next((lowered[name] for name in names if name in lowered), None)
        if found is not None:
            columns[meaning] = found
        elif meaning in ("path", "label"):
            raise UserError(
                f"{table}: no column for the {meaning}: expected one of {', '.join(names)}; it has {', '.join(header)}"
            )
    return columns


def _classes(spellings: set[str], where: str) -> list[str]:
    """The seven if they suffice; otherwise those of the seven that occur, and then the other labels by name."""
    names = set()
    for spelling in spellings:
        if not spelling or not spelling.isprintable():
            raise UserError(f"{where}: a label is empty or not printable")
        try:
            names.add(class_of(spelling, SEVEN, where))
        except UserError:
            names.add(spelling.lower())
    if names <= set(SEVEN):
        return list(SEVEN)
    return [name for name in SEVEN if name in names] + sorted(names - set(SEVEN))


def _clip_id(path: str) -> str:
    return str(PurePosixPath(path).with_suffix("")).replace("/", "-")


def _folds(clips: list[Clip], places: dict[str, str], where: str) -> list[Member]:
    twice = [clip_id for clip_id, count in Counter(clip.clip_id for clip in clips).items() if count > 1]
    if twice:
        raise UserError(f"{where}: clip '{twice[0]}' is listed twice")
    if not places:
        return _made_folds(clips, where)
    tested = {place.lower(): place for place in places.values() if SPLITS.get(place.lower()) == "test"}
    if len(tested) > 1:
        other = next(tested[name] for name in sorted(tested) if name != "test")
        raise UserError(
            f"{where}: {' and '.join(sorted(tested.values()))}: training holds back a part of train for validation "
            f"itself; make {other} a part of train, or leave it out"
        )
    plain = {clip_id: SPLITS.get(place.lower(), place) for clip_id, place in places.items()}
    numbers = {place for place in plain.values() if place.isascii() and place.isdigit()}
    odd = set(plain.values()) - numbers - ({"train", "test"} if not numbers else set())
    if odd:
        raise UserError(f"{where}: fold or split '{min(odd)}'; expected train and test, or whole numbers from 1 on")
    return listed_folds(plain, where)


def _made_folds(clips: list[Clip], where: str) -> list[Member]:
    """Folds with disjoint subjects if they are known; otherwise the classes are dealt out."""
    subjects = {clip.subject for clip in clips}
    if None not in subjects and len(subjects) >= 2:
        return subject_folds(clips, min(FOLDS, len(subjects)), where)
    largest = max(Counter(clip.label for clip in clips).values())
    return dealt_folds(clips, max(2, min(FOLDS, largest)), where)
