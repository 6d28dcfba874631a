"""A CSV with columns of any usual name, or a folder of class folders, as clips and folds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tgdfer.core.classes import SEVEN
from tgdfer.core.errors import UserError
from tgdfer.datasets.listing import VIDEO_SUFFIXES, Clip, Listing, Member, below_root, class_of, rows_of
from tgdfer.datasets.subjects import dealt_folds, subject_folds

COLUMNS = ("clip_id", "path", "label")
MEANS = {
    "path": ("path", "video_path", "video", "file", "filename", "file_name", "video_name"),
    "label": ("label", "emotion", "expression", "class"),
    "clip_id": ("clip_id", "clip", "id"),
    "fold": ("fold",),
    "split": ("split", "set", "subset", "partition"),
    "subject": ("subject", "actor", "person", "speaker", "participant", "identity"),
}
"""What a column is for, by the names it usually has, in lower case; the first that is there is taken."""
FOLDS = 5
IMAGES = (".jpg", ".jpeg", ".png")
SPLITS = {"train": "train", "training": "train", "test": "test", "val": "test", "validation": "test"}


@dataclass(frozen=True)
class Source:
    """A list of clips as it was understood."""

    root: Path
    table: Path | None
    columns: dict[str, str]
    """What each column of the CSV is for: its name by its meaning."""
    classes: list[str]
    listing: Listing
    made_folds: bool
    """Whether the folds are ours: the list has none."""

    @property
    def folds(self) -> int:
        """How many folds there are."""
        return max(member.fold for member in self.listing.folds)

    @property
    def has_subjects(self) -> bool:
        """Whether every clip says who is in it."""
        return all(clip.subject for clip in self.listing.clips)

    @property
    def is_plain(self) -> bool:
        """Whether layout ``folder`` reads the CSV as it is."""
        renamed = any(self.columns.get(name, name) != name for name in MEANS)
        spelled = set(self.spellings) <= set(self.classes)
        return not renamed and not self.made_folds and spelled and all(name in self.columns for name in COLUMNS)

    @property
    def spellings(self) -> list[str]:
        """The labels as they stand in the CSV."""
        if self.table is None:
            return []
        return sorted({row[self.columns["label"]].strip() for _, row in _rows(self.table)[1]})

    def sample(self) -> list[list[str]]:
        """A few rows of the CSV, the understood columns alone, of which folds can still be made."""
        assert self.table is not None
        rows = [[row[column] for column in self.columns.values()] for _, row in _rows(self.table)[1]]
        clips = self.listing.clips
        if self.made_folds and self.has_subjects:
            marks: list[object] = [clip.subject for clip in clips]
        elif self.made_folds:
            largest = Counter(clip.label for clip in clips).most_common(1)[0][0]
            return [row for row, clip in zip(rows, clips, strict=True) if clip.label == largest][: self.folds]
        else:
            tested = {member.clip_id: member.fold for member in self.listing.folds if member.split == "test"}
            marks = [tested.get(clip.clip_id) for clip in clips]
        return [row for number, row in enumerate(rows) if marks[number] not in marks[:number]]

    @property
    def own_classes(self) -> bool:
        """Whether the classes are others than the seven."""
        return self.classes != list(SEVEN)


def from_csv(table: Path, root: Path | None = None) -> Source:
    """Understand ``table``; its paths begin at ``root``, or at its own folder.

    Raises:
        UserError: no column for the path or the label, a path that is not there or leaves the root, no clip at all.
    """
    header, rows = _rows(table)
    root = root or table.parent
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give --root, the folder where the paths of {table} begin")
    lowered = {name.strip().lower(): name for name in header}
    columns: dict[str, str] = {}
    for meaning, names in MEANS.items():
        found = next(
            (lowered[name] for name in names if name in lowered and lowered[name] not in columns.values()), None
        )
        if found is not None:
            columns[meaning] = found
    for meaning in ("path", "label"):
        if meaning not in columns:
            raise UserError(
                f"{table}: no column for the {meaning}: expected one of {', '.join(MEANS[meaning])}; "
                f"it has {', '.join(header)}"
            )
    spellings = sorted({row[columns["label"]].strip() for _, row in rows})
    classes = _classes(spellings, str(table))
    clips: list[Clip] = []
    places: dict[str, str] = {}
    for line, row in rows:
        where = f"{table}, line {line}"
        path = below_root(row[columns["path"]].strip(), where)
        if not (root / path).exists():
            raise UserError(f"{where}: {path}: no such file below {root}; give --root if the paths begin elsewhere")
        clip_id = row[columns["clip_id"]].strip() if "clip_id" in columns else _id(path)
        label = class_of(row[columns["label"]], classes, where)
        subject = row[columns["subject"]].strip() or None if "subject" in columns else None
        clips.append(Clip(clip_id, path, "frames" if (root / path).is_dir() else "video", label, subject=subject))
        for column in ("fold", "split"):
            if column in columns:
                places.setdefault(clip_id, row[columns[column]].strip())
    return _source(root, table, columns, classes, clips, places, str(table))


def from_folder(folder: Path) -> Source:
    """Understand ``folder``: videos, or folders of images, in a folder named by their class, itself in train or test.

    Raises:
        UserError: the folder is not there, or holds no video in a class folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.suffix.lower() in VIDEO_SUFFIXES and len(relative.parts) > 1:
            found[relative.as_posix()] = "video"
        elif path.suffix.lower() in IMAGES and len(relative.parts) > 2:
            found[relative.parent.as_posix()] = "frames"
    if not found:
        raise UserError(f"{folder}: no videos or folders of images below class folders, such as {folder}/happy/a.mp4")
    labels, places = {}, {}
    for source in found:
        parts = PurePosixPath(source).parts
        split = SPLITS.get(parts[0].lower())
        if split:
            places[_id(source)] = parts[0]
        labels[source] = parts[1 if split and len(parts) > 2 else 0]
    classes = _classes(sorted(set(labels.values())), str(folder))
    clips = [
        Clip(_id(source), source, kind, class_of(labels[source], classes, f"{folder}/{source}"))
        for source, kind in found.items()
    ]
    if places and len(places) < len(clips):
        raise UserError(f"{folder}: some clips lie in train or test folders and some do not; expected all or none")
    return _source(folder, None, {}, classes, clips, places, str(folder))


def _rows(table: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The header, and the rows with their lines."""
    if not table.is_file():
        raise UserError(f"{table}: no such CSV file")
    header, found = rows_of(table)
    rows = list(found)
    for line, row in rows:
        if None in row or None in row.values():
            raise UserError(f"{table}, line {line}: expected {len(header)} fields, as in the header")
    if not rows:
        raise UserError(f"{table}: lists no clips")
    return header, rows


def _classes(spellings: list[str], where: str) -> list[str]:
    """The seven if all labels mean one of them, else the seven that occur and then the others by name."""
    names = set()
    for spelling in spellings:
        if not spelling or not spelling.isprintable():
            raise UserError(f"{where}: a label is empty or not printable")
        try:
            names.add(class_of(spelling, list(SEVEN), where))
        except UserError:
            names.add(spelling.lower())
    if names <= set(SEVEN):
        return list(SEVEN)
    return [name for name in SEVEN if name in names] + sorted(names - set(SEVEN))


def _id(path: str) -> str:
    return str(PurePosixPath(path).with_suffix("")).replace("/", "-")


def _source(
    root: Path,
    table: Path | None,
    columns: dict[str, str],
    classes: list[str],
    clips: list[Clip],
    places: dict[str, str],
    where: str,
) -> Source:
    seen: set[str] = set()
    for clip in clips:
        if clip.clip_id in seen:
            raise UserError(f"{where}: clip '{clip.clip_id}' is listed twice")
        seen.add(clip.clip_id)
    folds = _folds(clips, places, where)
    return Source(root, table, columns, classes, Listing(clips, folds, [table] if table else []), not places)


def _folds(clips: list[Clip], places: dict[str, str], where: str) -> list[Member]:
    if not places:
        return _own_folds(clips, where)
    plain = {clip: SPLITS.get(place.lower(), place) for clip, place in places.items()}
    tested = {place for place in places.values() if SPLITS.get(place.lower()) == "test"}
    if len({place.lower() for place in tested}) > 1:
        name = min(place for place in tested if place.lower() != "test")
        raise UserError(
            f"{where}: {' and '.join(sorted(tested))}: a part of train is held back for validation by itself; "
            f"make {name} a part of train, or leave it out"
        )
    if set(plain.values()) <= {"train", "test"}:
        if len(set(plain.values())) < 2:
            raise UserError(
                f"{where}: all clips are {next(iter(plain.values()))}; expected train and test, or no split"
            )
        return [Member(clip.clip_id, 1, plain[clip.clip_id]) for clip in clips]
    if not all(place.isascii() and place.isdigit() for place in plain.values()):
        odd = next(place for place in plain.values() if not place.isdigit())
        raise UserError(f"{where}: fold or split '{odd}'; expected train and test, or whole numbers from 1 on")
    numbers = sorted({int(place) for place in plain.values()})
    if numbers != list(range(1, len(numbers) + 1)) or len(numbers) < 2:
        raise UserError(f"{where}: folds {', '.join(map(str, numbers))}; expected 1..K without a gap, K at least 2")
    return [
        Member(clip.clip_id, fold, "test" if int(plain[clip.clip_id]) == fold else "train")
        for fold in numbers
        for clip in clips
    ]


def _own_folds(clips: list[Clip], where: str) -> list[Member]:
    """Subjects apart where they are known, else the classes dealt out."""
    subjects = {clip.subject for clip in clips}
    if None not in subjects and len(subjects) >= 2:
        return subject_folds(clips, min(FOLDS, len(subjects)), where)
    largest = max(Counter(clip.label for clip in clips).values())
    return dealt_folds(clips, max(2, min(FOLDS, largest)), where)
