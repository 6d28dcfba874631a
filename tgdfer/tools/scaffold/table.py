"""Understand a CSV that lists clips, with columns of any usual name."""

from pathlib import Path

from tgdfer.core.errors import UserError
from tgdfer.datasets.listing import Clip, clip_ids, on_disk, tidy
from tgdfer.datasets.lists import check_column, rows_of
from tgdfer.tools.scaffold.source import MEANINGS, PARTS, ClipList, label_of, plain, understood


def from_csv(table: Path, root: Path | None = None) -> ClipList:
    """Understand ``table``, whose paths are relative to ``root``, or to its own folder.

    Raises:
        UserError: there is no column for path or label, a row is bad, or no clip is listed.
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
    for column in columns.values():
        check_column(table, numbered, column)
    columns = {meaning: name for meaning, name in columns.items() if tidy(numbered[0][1][name])}
    for meaning in ("path", "label"):
        if meaning not in columns:
            raise UserError(f"{table}: the column of the {meaning} is empty in every row")
    lines: dict[str, int] = {}
    kinds: dict[str, str] = {}
    labels, subjects, places = {}, {}, {}
    rows: dict[str, dict[str, str]] = {}
    for line, row in numbered:
        where = f"{table}, line {line}"
        path, kind = _path(root, row[columns["path"]], where)
        if path in lines:
            part = any(PARTS.fullmatch(plain(name)) for name in header)
            todo = "cut the video into a file for each row" if part else "remove one of the rows"
            raise UserError(f"{where}: {path} is on line {lines[path]} already; {todo}")
        lines[path], kinds[path], rows[path] = line, kind, row
        labels[path] = label_of(row[columns["label"]], where)
        subjects[path] = tidy(row[columns["subject"]]) if "subject" in columns else None
        if "fold" in columns or "split" in columns:
            places[path] = tidy(row[columns.get("fold", columns.get("split", ""))]).removesuffix(".0")
    given = columns.get("clip_id")
    ids = [tidy(row[given]) for row in rows.values()] if given else clip_ids(kinds)
    clips = [
        Clip(clip_id, path, kinds[path], labels[path], subject=subjects[path])
        for clip_id, path in zip(ids, kinds, strict=True)
    ]
    named = {path: f"line {line}: {path}" for path, line in lines.items()}
    return understood(root, table, columns, header, rows, clips, places, {}, named)


def _path(root: Path, cell: str, where: str) -> tuple[str, str]:
    try:
        return on_disk(root, cell, where)
    except UserError as error:
        if "no such file" in str(error) and "did you mean" not in str(error):
            raise UserError(f"{error}; give --root if the paths are relative to another folder") from None
        raise


def _columns(header: list[str], table: Path) -> dict[str, str]:
    lowered: dict[str, str] = {}
    for name in header:
        if (other := lowered.setdefault(plain(name), name)) != name:
            raise UserError(f"{table}: columns '{other}' and '{name}' differ only in capitals and blanks; rename one")
    columns = {}
    for meaning, names in MEANINGS.items():
        found = next((lowered[name] for name in names if name in lowered), None)
        if found is not None:
            columns[meaning] = found
        elif meaning in ("path", "label"):
            raise UserError(
                f"{table}: no column for the {meaning}: expected one of {', '.join(names)}; its first line has "
                f"{', '.join(header)}"
            )
    if "fold" in columns:
        columns.pop("split", None)
    return columns
