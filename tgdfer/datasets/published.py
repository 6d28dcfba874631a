"""What the data sets' authors publish of their sizes; ``validate`` holds a root against it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from tgdfer.datasets.listing import Listing


@dataclass(frozen=True)
class Published:
    """Published counts: clips, subjects, clips a class, (train, test) clips a fold, test clips a class of fold 1."""

    clips: int
    subjects: int | None = None
    folds: tuple[tuple[int, int], ...] = ()
    classes: dict[str, int] = field(default_factory=dict)
    first_test: dict[str, int] = field(default_factory=dict)


PUBLISHED: dict[tuple[str, str], Published] = {
    ("dfew", ""): Published(
        11697,
        folds=((9356, 2341), (9356, 2341), (9357, 2340), (9358, 2339), (9361, 2336)),
        first_test={
            "happy": 489,
            "sad": 379,
            "neutral": 534,
            "angry": 435,
            "surprise": 294,
            "disgust": 29,
            "fear": 181,
        },
    ),
    ("ferv39k", ""): Published(38935, subjects=22, folds=((31088, 7847),)),
    ("mafw", "single"): Published(9172, folds=((7333, 1839), (7335, 1837), (7339, 1833), (7340, 1832), (7341, 1831))),
    ("ravdess", "speech"): Published(
        1440,
        subjects=24,
        classes={
            "neutral": 96,
            **dict.fromkeys(("calm", "happy", "sad", "angry", "fear", "disgust", "surprise"), 192),
        },
    ),
    ("ravdess", "song"): Published(
        1012, subjects=23, classes={"neutral": 92, **dict.fromkeys(("calm", "happy", "sad", "angry", "fear"), 184)}
    ),
    ("ravdess", "both"): Published(
        2452,
        subjects=24,
        classes={
            "neutral": 188,
            **dict.fromkeys(("calm", "happy", "sad", "angry", "fear"), 376),
            **dict.fromkeys(("disgust", "surprise"), 192),
        },
    ),
    ("crema_d", ""): Published(
        7442,
        subjects=91,
        classes={"neutral": 1087, **dict.fromkeys(("happy", "sad", "angry", "disgust", "fear"), 1271)},
    ),
    ("afew", ""): Published(1154, folds=((773, 381),)),
}
"""By layout and, where it matters, the option that says which part of the set is meant."""
DECIDING_OPTION = {"mafw": ("labels", "single"), "ravdess": ("channel", "speech")}


def published(layout: str, options: dict[str, str]) -> Published | None:
    """What is published of a layout read with ``options``; None where nothing is known."""
    key, default = DECIDING_OPTION.get(layout, ("", ""))
    known = PUBLISHED.get((layout, options.get(key, default)))
    treated = options.get("calm", "class")
    if known is None or layout != "ravdess" or treated == "class":
        return known
    classes = dict(known.classes)
    calm = classes.pop("calm")
    if treated == "drop":
        return replace(known, clips=known.clips - calm, classes=classes)
    return replace(known, classes={**classes, "neutral": classes["neutral"] + calm})


@dataclass(frozen=True)
class Check:
    """A line of the table: what is counted, what is published (None: nothing), and what was found."""

    what: str
    expected: int | None
    found: int

    @property
    def verdict(self) -> str:
        """``ok``, ``differs``, or ``-`` where there is nothing to compare with."""
        return "-" if self.expected is None else "ok" if self.expected == self.found else "differs"


def compare(listing: Listing, classes: list[str], known: Published | None) -> list[Check]:
    """Count a listing and put what is published beside it."""
    labels = Counter(clip.label for clip in listing.clips)
    label_of = {clip.clip_id: clip.label for clip in listing.clips}
    sizes = Counter((member.fold, member.split) for member in listing.folds)
    first = Counter(label_of.get(m.clip_id, "") for m in listing.folds if m.fold == 1 and m.split == "test")
    known = known or Published(-1)
    checks = [Check("clips", known.clips if known.clips >= 0 else None, len(listing.clips))]
    subjects = {clip.subject for clip in listing.clips if clip.subject is not None}
    if subjects:
        checks.append(Check("subjects or scenes", known.subjects, len(subjects)))
    checks += [Check(f"class {name}", known.classes.get(name), labels[name]) for name in classes]
    for fold in range(1, max(len(known.folds), max((number for number, _ in sizes), default=0)) + 1):
        expected = known.folds[fold - 1] if fold <= len(known.folds) else (None, None)
        for split, count in zip(("train", "test"), expected, strict=True):
            checks.append(Check(f"fold {fold} {split}", count, sizes[fold, split]))
    checks += [Check(f"fold 1 test {name}", count, first[name]) for name, count in known.first_test.items()]
    return checks
