"""What is not wrong in a list of clips, but a person should look at."""

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from tgdfer.core.classes import ELEVEN
from tgdfer.datasets.folds import MISSING, protection
from tgdfer.datasets.listing import Listing, known_spellings

ALIKE = 0.8
"""How alike (difflib's ratio) a class and a known spelling of another one are, to be pointed out."""
LIKE_LATIN = str.maketrans("\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u03bf\u03b1\u03bd\u0131", "aeopcyxioavi")
"""Cyrillic, Greek and Turkish letters that look like Latin ones."""
SHORTEST = 4
"""Shorter names are alike by chance."""
_COPY = "(copy|kopie|kopia|copie|copia|c\u00f3pia|kopi|\u043a\u043e\u043f\u0438\u044f|\u526f\u672c|\u30b3\u30d4\u30fc)"
COPY = re.compile(
    rf"( - {_COPY}( ?\(\d+\))?|[ _-]{_COPY}( \d+)?| ?\(\d+\)| \([^()]*conflicted copy[^()]*\)|\.sync-conflict-[\w-]+)$"
    r"|(?<![^/])(copy|kopie|copie|copia) (of|von|de|di) ",
    re.IGNORECASE,
)
"""What file managers and synchronisation add to the name of a copy."""


def advice(listing: Listing, classes: Sequence[str]) -> list[str]:
    """What looks like a slip, in sentences: classes, missing values, numbers as classes, and copies of clips."""
    counts = Counter(clip.label for clip in listing.clips)
    return [
        *_alike(counts, classes),
        *_absent(listing, counts, classes),
        *_missing(listing, counts),
        *_numbers(classes),
        *_copies(listing),
    ]


def protection_of(listing: Listing) -> str:
    """Whether people are kept apart in the folds, in words."""
    subjects = {clip.clip_id: clip.subject for clip in listing.clips}
    return protection(subjects, ((one.clip_id, one.fold, one.split) for one in listing.folds))


def _alike(counts: Counter[str], classes: Sequence[str]) -> Iterator[str]:
    for name in classes:
        others = {s: other for s, other in known_spellings({*ELEVEN, *classes}).items() if other != name}
        near = [other for other in others if _plain(other) == _plain(name)]
        if not near and len(name) >= SHORTEST:
            near = difflib.get_close_matches(name.lower(), others, 1, ALIKE)
        if near and name not in ELEVEN:
            yield (
                f"class '{name}' ({clips(counts[name])}) is spelled almost like '{near[0]}', which is the class "
                f"'{others[near[0]]}' ({clips(counts[others[near[0]]])}): correct the labels if that is a slip"
            )


def _plain(name: str) -> str:
    """The letters and digits of a name, those that look like Latin ones as Latin ones."""
    letters = unicodedata.normalize("NFKC", name).casefold().translate(LIKE_LATIN)
    return "".join(one for one in letters if one.isalnum()) or name


def _absent(listing: Listing, counts: Counter[str], classes: Sequence[str]) -> Iterator[str]:
    label = {clip.clip_id: clip.label for clip in listing.clips}
    found = {(one.split, one.fold, label.get(one.clip_id)) for one in listing.folds}
    folds = sorted({one.fold for one in listing.folds})
    for name in classes:
        if not counts[name]:
            yield (
                f"class '{name}' has no clips, but gets an output of the model, which may predict it: "
                "leave it out of `classes` in params.yaml"
            )
            continue
        lacks = []
        for split, is_what in (("test", "tested"), ("train", "trained")):
            without = [str(fold) for fold in folds if (split, fold, name) not in found]
            if without:
                lacks.append(f"not {is_what} in fold{'s' * (len(without) > 1)} {', '.join(without)}")
        if lacks:
            yield f"class '{name}' ({clips(counts[name])}) is {' and '.join(lacks)}"


def _missing(listing: Listing, counts: Counter[str]) -> Iterator[str]:
    subjects = Counter(clip.subject for clip in listing.clips if clip.subject)
    for what, found in (("class", counts), ("subject", subjects)):
        for name in sorted(set(found)):
            if name.lower() in MISSING:
                yield (
                    f"{what} '{name}' ({clips(found[name])}) looks like a missing value: leave these clips out, or "
                    "fill it in"
                )


def _numbers(classes: Sequence[str]) -> Iterator[str]:
    numbers = [name for name in classes if re.fullmatch(r"[+-]?\d+([.,]\d*)?", name)]
    if numbers:
        yield (
            f"the classes {', '.join(numbers)} are numbers, whose meaning differs between lists in circulation: write "
            "the names of the classes"
        )


def _copies(listing: Listing) -> Iterator[str]:
    """Clips that are named like copies of others; those with the same content are found by it."""
    stem = {
        clip.source: clip.source if clip.kind == "frames" else str(PurePosixPath(clip.source).with_suffix(""))
        for clip in listing.clips
    }
    copies = [source for source, name in stem.items() if COPY.search(name) and COPY.sub("", name) in stem.values()]
    if copies:
        yield (
            f"{clips(len(copies))} named like {'a copy' if len(copies) == 1 else 'copies'} of others, such as "
            f"{copies[0]}: keep one of each"
        )
    first: dict[str, str] = {}
    forms = [(first[name], source) for source, name in stem.items() if first.setdefault(name, source) != source]
    if forms:
        yield (
            f"{clips(len(forms))} named like {'another one' if len(forms) == 1 else 'others'} in another form, such as "
            f"{' and '.join(forms[0])}: if they show the same, keep one of each"
        )


def clips(number: int) -> str:
    """A number of clips in words."""
    return f"{number} clip{'s' * (number != 1)}"
