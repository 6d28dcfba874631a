"""A list of clips as it was understood: without copies, and with folds, which are made where it has none."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tgdfer.core.classes import SEVEN
from tgdfer.core.errors import UserError
from tgdfer.datasets.contents import same_content
from tgdfer.datasets.folds import SPLITS, dealt_folds, listed_folds, subject_folds
from tgdfer.datasets.listing import Clip, Listing, Member, known_spellings, tidy
from tgdfer.media.images import leads_out

COLUMNS = ("clip_id", "path", "label")
MEANINGS = {
    "path": ("path", "video_path", "file_path", "filepath", "video", "file", "filename", "file_name", "video_name"),
    "label": ("label", "emotion", "expression", "class", "class_name", "emotion_label", "labels"),
    "clip_id": ("clip_id", "clip", "id"),
    "fold": ("fold", "fold_id", "cv_fold", "kfold"),
    "split": ("split", "set", "subset", "partition"),
    "subject": tuple(
        f"{name}{ending}"
        for name in ("subject", "actor", "person", "speaker", "participant", "identity")
        for ending in ("", "_id", "id")
    ),
}
"""The usual names of the column for each meaning, in lower case; the first that the CSV has is taken."""
PARTS = re.compile(r"(start|end|begin|onset|offset|duration|segment)(_?(s|sec|seconds|ms|time|frame))?|(start|end)time")
"""Names of columns by which a row may mean a part of a video, in lower case."""
FOLDS = 5
SAME = "with the content of another clip"


@dataclass(frozen=True)
class ClipList:
    """A list of clips as it was understood."""

    root: Path
    table: Path | None
    columns: dict[str, str]
    """The column of the CSV for each meaning."""
    unused: list[str]
    """The columns of the CSV that are not read."""
    rows: list[dict[str, str]]
    """The rows of the CSV, in the order of the clips."""
    classes: list[str]
    listing: Listing
    made_folds: bool
    """Whether this project made the folds, because the list has none."""
    passed: dict[str, list[str]] = field(default_factory=dict)
    """What was passed over, by reason."""

    @property
    def folds(self) -> int:
        """The number of folds."""
        return max(member.fold for member in self.listing.folds)

    @property
    def has_subjects(self) -> bool:
        """Whether the subject of every clip is known, and there are several."""
        subjects = {clip.subject for clip in self.listing.clips}
        return None not in subjects and len(subjects) > 1

    @property
    def leads_out(self) -> list[str]:
        """The clips that are links out of the root."""
        return [clip.source for clip in self.listing.clips if leads_out(self.root / clip.source, self.root)]

    @property
    def is_plain(self) -> bool:
        """Whether layout ``folder`` can read the CSV unchanged, with the same result."""
        if self.made_folds or self.passed or not set(COLUMNS) <= set(self.columns):
            return False
        renamed = any(self.columns.get(name, name) != name for name in MEANINGS)
        both = {"fold", "split"} <= {*self.columns, *self.unused}
        in_words = set(self.splits) <= {"train", "test"} if "split" in self.columns else not self.splits
        return (
            not renamed
            and not both
            and in_words
            and {tidy(row[self.columns["label"]]) for row in self.rows} <= set(self.classes)
        )

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
    def place(self) -> str:
        """The column of the CSV that says the fold or the split of a clip; empty if there is none."""
        return self.columns.get("fold", self.columns.get("split", ""))

    @property
    def splits(self) -> dict[str, str]:
        """Train or test for each spelling in that column, in lower case; empty if it has numbers of folds."""
        spellings = sorted({tidy(row[self.place]).lower() for row in self.rows}) if self.place else []
        return {spelling: SPLITS[spelling] for spelling in spellings if spelling in SPLITS}


def understood(
    root: Path,
    table: Path | None,
    columns: dict[str, str],
    header: list[str],
    rows: dict[str, dict[str, str]],
    clips: list[Clip],
    places: dict[str, str],
    passed: dict[str, list[str]],
    named: dict[str, str],
) -> ClipList:
    """The list without clips that have the content of another one, and with folds; ``named`` names a path's origin."""
    where = str(table or root)
    _check_ids(clips, named, where)
    kept = {clip.source for clip in clips}
    for group in same_content(root, clips):
        if len({clip.label for clip in group}) > 1:
            listed = ", ".join(f"{named[clip.source]} ({clip.label})" for clip in group[:5])
            raise UserError(f"{where}: the same content has different labels: {listed}; keep the right one")
        # a copy in the test part stays: results on it are compared with those of others
        first, *others = sorted(group, key=lambda clip: SPLITS.get(places.get(clip.source, "").lower()) == "train")
        kept -= {clip.source for clip in others}
        passed.setdefault(SAME, []).extend(f"{named[clip.source]} = {named[first.source]}" for clip in others)
    clips = [clip for clip in clips if clip.source in kept]
    labels = {clip.label for clip in clips}
    classes = [name for name in SEVEN if name in labels] + sorted(labels - set(SEVEN))
    listing = Listing(clips, _folds(clips, places, named, where), [table] if table else [])
    if len(classes) < 2:
        raise UserError(
            f"{where}: all {len(clips)} clips are of the class '{classes[0]}'; expected two classes or more"
        )
    unused = [name for name in header if name and name not in columns.values()]
    kept_rows = [rows[clip.source] for clip in clips] if rows else []
    return ClipList(root, table, columns, unused, kept_rows, classes, listing, not places, passed)


def label_of(spelling: str, where: str) -> str:
    """The class that a label means, which may be a new one."""
    label = tidy(spelling)
    if not label or not label.isprintable():
        raise UserError(f"{where}: the label is empty or not printable")
    return known_spellings(SEVEN).get(label.lower(), label.lower())


def _check_ids(clips: list[Clip], named: dict[str, str], where: str) -> None:
    first: dict[str, Clip] = {}
    for clip in clips:
        if not clip.clip_id.isprintable():
            raise UserError(f"{where}, {named[clip.source]}: clip_id {clip.clip_id!r} is not printable")
        other = first.setdefault(clip.clip_id, clip)
        if other is not clip:
            look_alike = tidy(other.source) == tidy(clip.source)
            difference = f" (one is {other.source!a}, the other {clip.source!a})" if look_alike else ""
            raise UserError(
                f"{where}: {named[other.source]} and {named[clip.source]} have one clip_id, '{clip.clip_id}'; "
                f"rename one of them{difference}"
            )


def plain(column: str) -> str:
    """A column's name as ``MEANINGS`` and ``PARTS`` have it."""
    return re.sub(r"[ -]+", "_", column.lower())


def _folds(clips: list[Clip], places: dict[str, str], named: dict[str, str], where: str) -> list[Member]:
    """The folds that ``places`` says for each path, or else made ones."""
    if not places:
        return _made_folds(clips, where)
    plain = {clip.source: SPLITS.get(places[clip.source].lower(), places[clip.source]) for clip in clips}
    tested = {places[source].lower(): places[source] for source, place in plain.items() if place == "test"}
    if len(tested) > 1:
        other = next(tested[name] for name in sorted(tested) if name != "test")
        raise UserError(
            f"{where}: {' and '.join(sorted(tested.values()))}: training holds back a part of train for validation "
            f"itself; make {other} a part of train, or leave it out"
        )
    numbers = {place for place in plain.values() if place.isascii() and place.isdigit()}
    for source, place in plain.items():
        if place not in numbers and (numbers or place not in ("train", "test")):
            raise UserError(
                f"{where}, {named[source]}: fold or split '{places[source]}'; expected train and test, or whole "
                "numbers from 1 on"
            )
    return listed_folds({clip.clip_id: plain[clip.source] for clip in clips}, where)


def _made_folds(clips: list[Clip], where: str) -> list[Member]:
    """Folds with disjoint subjects if they are known; otherwise the classes are dealt out."""
    subjects = {clip.subject for clip in clips}
    if None not in subjects and len(subjects) >= 2:
        return subject_folds(clips, min(FOLDS, len(subjects)), where)
    largest = max(Counter(clip.label for clip in clips).values())
    return dealt_folds(clips, max(2, min(FOLDS, largest)), where)
