"""How a list was understood, for a person to check at a glance."""

from collections import Counter
from collections.abc import Iterator

from tgdfer.core.tables import as_table
from tgdfer.datasets.advice import advice, protection_of
from tgdfer.datasets.advice import clips as count
from tgdfer.datasets.walk import passed_lines
from tgdfer.tools.scaffold.source import PARTS, ClipList, plain


def summary(name: str, source: ClipList, elsewhere: list[str], refused: list[str]) -> str:
    """Clips by class and fold, subjects, protection, what was passed over, and what to do before a run.

    ``elsewhere`` are the absolute paths in the entry, ``refused`` is what later stages would refuse.
    """
    clips = source.listing.clips
    subjects = {clip.subject for clip in clips if clip.subject}
    facts = [("subjects", str(len(subjects)) if subjects else "not known")]
    if source.table:
        facts.append(("columns", columns_line(source)))
    facts.append(("folds", folds_line(source)))
    facts.append(("protection", protection_of(source.listing)))
    if out := source.leads_out:
        behind = f"{count(len(out))} behind links out of {source.root}, such as {out[0]}"
        remedy = "remove it if you do not trust where they lead"
        facts.append(("links", f"{behind}: the entry has `links: anywhere`; {remedy}"))
    if elsewhere:
        facts.append(("paths", f"params.yaml has {elsewhere[0]} in full: another machine needs another path"))
    lines = [f"{name}: {count(len(clips))} from {source.table or source.root}", "", _table(source), ""]
    lines += [f"{what:12}{said}" for what, said in facts]
    for title, found in (
        (f"passed over: {sum(map(len, source.passed.values()))}", passed_lines(source.passed)),
        ("to look at", [*_parts(source), *advice(source.listing, source.classes)]),
        ("before a run", refused),
    ):
        lines += ["", title, *(f"  {line}" for line in found)] if found else []
    return "\n".join(lines)


def columns_line(source: ClipList) -> str:
    """Which column of the CSV was taken for what."""
    taken = ", ".join(f"{meaning} from '{column}'" for meaning, column in source.columns.items())
    unused = f"; not used: {', '.join(source.unused)}" if source.unused else ""
    return taken + unused


def folds_line(source: ClipList) -> str:
    """How many folds there are and where they come from."""
    number = f"{source.folds} folds" if source.folds > 1 else "one split into train and test"
    if not source.made_folds:
        return f"{number}, from the {'list' if source.table else 'folders'}"
    how = "by subject" if source.has_subjects else "each class dealt out"
    return f"{number}, made by this project: {how}"


def _parts(source: ClipList) -> Iterator[str]:
    """The columns that are not read and by which a row may mean a part of its video."""
    if parts := [name for name in source.unused if PARTS.fullmatch(plain(name))]:
        yield (
            f"not used: {', '.join(parts)}: every clip is its whole video; if a row means a part of it, cut that "
            "part out into a file"
        )


def _table(source: ClipList) -> str:
    """The test clips of each class in each fold, or the clips of each class in train and test."""
    label = {clip.clip_id: clip.label for clip in source.listing.clips}
    if source.folds > 1:
        places = [(f"test {fold}", fold, "test") for fold in range(1, source.folds + 1)]
    else:
        places = [(split, 1, split) for split in ("train", "test")]
    counts = Counter((label[one.clip_id], one.fold, one.split) for one in source.listing.folds)
    rows = [(name, [counts[name, fold, split] for _, fold, split in places]) for name in source.classes]
    rows.append(("all", [sum(column) for column in zip(*(found for _, found in rows), strict=True)]))
    headings = ("class", *(head for head, _, _ in places), "clips")
    return as_table(headings, [(name, *found, sum(found)) for name, found in rows])
