"""Counts that the authors of data sets publish, and how a listing compares with them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from tgdfer.datasets.listing import Listing


@dataclass(frozen=True)
class Published:
    """Numbers of clips, subjects, (train, test) clips per fold, clips per class, and test clips of fold 1 per class."""

    clips: int | None = None
    subjects: int | None = None
    folds: Sequence[tuple[int, int]] = ()
    classes: dict[str, int] = field(default_factory=dict)
    first_test: dict[str, int] = field(default_factory=dict)


PUBLISHED: dict[tuple[str, str], Published] = {
    (layout, option): Published(**counts)
    for layout, options in yaml.safe_load(
        Path(__file__).with_name("published.yaml").read_text(encoding="utf-8")
    ).items()
    for option, counts in options.items()
}
"""By layout and the value of its deciding option."""
PUBLISHED_LAYOUTS = frozenset(layout for layout, _ in PUBLISHED)
"""The layouts of data sets that are as their authors publish them; all others are data of the user."""
DECIDING_OPTION = {"mafw": ("labels", "single"), "ravdess": ("channel", "speech")}
"""The option that says which part of a data set is read, and its default."""


def published(layout: str, options: dict[str, str]) -> Published | None:
    """The published counts of a layout that is read with ``options``; None if nothing is published."""
    key, default = DECIDING_OPTION.get(layout, ("", ""))
    known = PUBLISHED.get((layout, options.get(key, default)))
    treatment = options.get("calm", "class")
    if known is None or known.clips is None or treatment == "class":
        return known
    classes = dict(known.classes)
    calm = classes.pop("calm")
    if treatment == "drop":
        return replace(known, clips=known.clips - calm, classes=classes)
    return replace(known, classes={**classes, "neutral": classes["neutral"] + calm})


@dataclass(frozen=True)
class Count:
    """What is counted, the published number (None if nothing is published), and the number that was found."""

    what: str
    expected: int | None
    found: int

    @property
    def verdict(self) -> str:
        """``ok``, ``differs``, or ``-`` if there is nothing to compare with."""
        return "-" if self.expected is None else "ok" if self.expected == self.found else "differs"


def compare(listing: Listing, classes: list[str], known: Published | None) -> list[Count]:
    """The counts of a listing next to the published ones."""
    known = known or Published()
    labels = {clip.clip_id: clip.label for clip in listing.clips}
    per_class = Counter(labels.values())
    sizes = Counter((member.fold, member.split) for member in listing.folds)
    first = Counter(labels.get(m.clip_id, "") for m in listing.folds if m.fold == 1 and m.split == "test")
    subjects = {clip.subject for clip in listing.clips if clip.subject is not None}
    counts = [Count("clips", known.clips, len(listing.clips))]
    if subjects:
        counts.append(Count("subjects or scenes", known.subjects, len(subjects)))
    counts += [Count(f"class {name}", known.classes.get(name), per_class[name]) for name in classes]
    for fold in range(1, max(len(known.folds), *(number for number, _ in sizes), 0) + 1):
        published_sizes = known.folds[fold - 1] if fold <= len(known.folds) else (None, None)
        for split, size in zip(("train", "test"), published_sizes, strict=True):
            counts.append(Count(f"fold {fold} {split}", size, sizes[fold, split]))
    return counts + [Count(f"fold 1 test {name}", count, first[name]) for name, count in known.first_test.items()]
