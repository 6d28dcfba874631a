"""``tgdfer new-dataset``: what a data set of one's own needs, from a CSV or a folder: entry, card, test, and a module.

Most sets need no module: the layout ``folder`` reads a CSV with fixed columns, which is written here from whatever
columns there are. A module is for lists that are to be read as they are.
"""

from __future__ import annotations

import csv
import io
import json
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from tgdfer.config.params import DEMO_ENCODER, load_params
from tgdfer.core import storage
from tgdfer.core.errors import UserError
from tgdfer.datasets.listing import Listing
from tgdfer.tools.scaffold.source import COLUMNS, Source, from_csv, from_folder

OPENAI = {"vit-b-32": "ViT-B-32-quickgelu", "vit-b-16": "ViT-B-16-quickgelu"}
"""Encoders that are added to the parameters when they are asked for."""
TEMPLATES = Path(__file__).parent / "templates"


def new_dataset(
    params_file: Path,
    name: str,
    table: Path | None = None,
    folder: Path | None = None,
    root: Path | None = None,
    encoder: str = "vit-b-32",
    module: bool = False,
    out: Path | None = None,
) -> list[Path]:
    """Make the files of data set ``name`` and its entry in ``params_file``; nothing that exists is written over.

    Args:
        params_file: the parameters; their folder is the project.
        name: the data set's name.
        table: a CSV that lists the clips, or None.
        folder: a folder with one folder per class, as the alternative to ``table``.
        root: where the paths of the CSV begin; its own folder if None.
        encoder: a name under ``encoders``, or one of :data:`OPENAI`.
        module: make a module of the package that reads the CSV as it is.
        out: where to write the CSV of layout ``folder``; ``clips.csv`` in the root if None.

    Returns:
        The files that were made or changed.

    Raises:
        UserError: the name is taken or odd, the list cannot be understood, or a file is in the way.
    """
    params = load_params(params_file)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        raise UserError(
            f"'{name}': expected a name of letters, digits, - and _, without dots, that starts with a letter"
        )
    if name in params.datasets:
        raise UserError(f"{params_file}: datasets: '{name}' is there already")
    if encoder != DEMO_ENCODER and encoder not in params.encoders and encoder not in OPENAI:
        known = ", ".join(sorted({*params.encoders, *OPENAI, DEMO_ENCODER}))
        raise UserError(f"--encoder '{encoder}': neither in {params_file} nor known; expected one of {known}")
    if (table is None) == (folder is None):
        raise UserError("give either --csv FILE or --folder DIR")
    if module and table is None:
        raise UserError("--module reads a CSV; a folder of classes needs none: leave --module out")
    source = from_csv(table, root) if table is not None else from_folder(folder or Path())
    project = params_file.parent
    files: dict[Path, str] = {}
    identifier = name.replace("-", "_").lower()
    layout, annotations = "folder", source.table
    if module:
        layout = identifier
        files[project / "tgdfer" / "datasets" / f"{identifier}.py"] = _fill("module.py.j2", source, name=name)
        registry = project / "tgdfer" / "datasets" / "__init__.py"
        if not registry.is_file():
            raise UserError(f"{registry}: no such file; --module works in a clone of the project")
    elif source.table is None or not source.is_plain:
        annotations = out or source.root / "clips.csv"
        files[annotations] = _plain_csv(source)
    assert annotations is not None
    entry: dict[str, Any] = {
        "layout": layout,
        "root": str(source.root),
        "annotations": str(annotations),
        "encoder": encoder,
        **({"classes": source.classes} if source.own_classes else {}),
    }
    about: dict[str, Any] = {"name": name, "identifier": identifier, "entry": entry, "counts": _counts(source.listing)}
    files[project / "docs" / "datasets" / f"{identifier}.md"] = _fill("card.md.j2", source, **about, yaml=_flow(entry))
    if module:
        about.update(
            rows=source.sample(), **{f"{one}_column": list(source.columns).index(one) for one in ("path", "label")}
        )
    which = "test_module.py.j2" if module else "test_folder.py.j2"
    files[project / "tests" / f"test_dataset_{identifier}.py"] = _fill(which, source, **about)
    for path, text in files.items():
        if path.exists() and path.read_text(encoding="utf-8", errors="replace") != text:
            raise UserError(
                f"{path}: exists, and is not written over; move it away" + (" or give --out" if out is None else "")
            )
    # checked before anything is written
    changed = _with_entry(params_file, name, entry, encoder, encoder in params.encoders)
    for path, text in files.items():
        storage.write_text(path, text)
    if module:
        _register(registry, identifier)
        files[registry] = ""
    storage.write_text(params_file, changed)
    return [*files, params_file]


def _fill(template: str, source: Source, **values: Any) -> str:
    import jinja2

    from tgdfer.core.escaping import markdown

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["repr"] = _python
    environment.filters["markdown"] = markdown
    return environment.get_template(template).render(source=source, **values)


def _python(value: Any) -> str:
    """Strings, numbers, lists and mappings as Python source with double quotes, as the project's format has it."""
    return json.dumps(value, ensure_ascii=False)


def _counts(listing: Listing) -> dict[str, Any]:
    folds = sorted({member.fold for member in listing.folds})
    return {
        "clips": len(listing.clips),
        "subjects": len({clip.subject for clip in listing.clips if clip.subject}),
        "classes": dict(sorted(Counter(clip.label for clip in listing.clips).items())),
        "folds": [
            [sum(m.fold == fold and m.split == split for m in listing.folds) for split in ("train", "test")]
            for fold in folds
        ],
    }


def _plain_csv(source: Source) -> str:
    out = io.StringIO()
    places = {member.clip_id: member for member in source.listing.folds if member.split == "test"}
    several = source.folds > 1
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*COLUMNS, "fold" if several else "split", "subject"])
    for clip in source.listing.clips:
        tested = places.get(clip.clip_id)
        place = str(tested.fold) if several and tested else "test" if tested else "train"
        writer.writerow([clip.clip_id, clip.source, clip.label, place, clip.subject or ""])
    return out.getvalue()


def _flow(entry: dict[str, Any]) -> str:
    return yaml.safe_dump(entry, default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True).strip()


def _with_entry(path: Path, name: str, entry: dict[str, Any], encoder: str, known: bool) -> str:
    """The parameters' text with the entry, comments kept; checked by reading it back."""
    text = path.read_text(encoding="utf-8")
    text = _insert(text, "datasets", f"  {name}: {_flow(entry)}\n")
    if not known and encoder in OPENAI:
        text = _insert(text, "encoders", f"  {encoder}: {{model: {OPENAI[encoder]}, pretrained: openai}}\n")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        copy.write_text(text, encoding="utf-8")
        found = load_params(copy)
    if name not in found.datasets:
        raise UserError(f"{path}: could not add datasets.{name}; add it by hand: {_flow(entry)}")
    return text


def _insert(text: str, section: str, line: str) -> str:
    """``text`` with ``line`` as the last entry of a top-level section of YAML."""
    lines = text.splitlines(keepends=True)
    start = next((number for number, one in enumerate(lines) if re.match(rf"{section}:", one)), None)
    if start is None:
        return text.rstrip("\n") + f"\n\n{section}:\n{line}"
    if re.match(rf"{section}: *\{{ *\}}", lines[start]):
        lines[start] = re.sub(r": *\{ *\}", ":", lines[start])
    end = start + 1
    for number in range(start + 1, len(lines)):
        if re.match(r"[^\s#]", lines[number]):
            break
        if re.match(r"\s+[^\s#]", lines[number]):
            end = number + 1
    lines.insert(end, line)
    return "".join(lines)


def _register(registry: Path, identifier: str) -> None:
    """The module's line in the registry of layouts, and its import."""
    text = registry.read_text(encoding="utf-8")
    found = re.search(r"^from tgdfer\.datasets import (.+)$", text, re.MULTILINE)
    mark = re.search(r'^    "folder": folder\.read,\n', text, re.MULTILINE)
    if not found or not mark:
        raise UserError(
            f"{registry}: add by hand: import {identifier}, and '{identifier}: {identifier}.read' in LAYOUTS"
        )
    names = ", ".join(sorted({*(one.strip() for one in found[1].split(",")), identifier}))
    text = text[: mark.start()] + f'    "{identifier}": {identifier}.read,\n' + text[mark.start() :]
    storage.write_text(registry, text.replace(found[0], f"from tgdfer.datasets import {names}"))
