"""``tgdfer new-dataset``: make what your own data set needs from a CSV or a folder: entry, card, test, and a module.

Most data sets need no module: the layout ``folder`` reads a CSV with fixed columns, which is written here from the
columns that the user's CSV has. A module reads that CSV unchanged.
"""

import csv
import io
import json
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import ruamel.yaml
import yaml
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from tgdfer.config.ahead import refusals
from tgdfer.config.data import DEMO_ENCODER
from tgdfer.config.params import Params, load_params
from tgdfer.core import storage
from tgdfer.core.classes import SEVEN
from tgdfer.core.errors import UserError
from tgdfer.datasets.advice import protection_of
from tgdfer.datasets.listing import Listing
from tgdfer.datasets.walk import passed_lines
from tgdfer.tools.scaffold.folder import from_folder
from tgdfer.tools.scaffold.source import COLUMNS, ClipList
from tgdfer.tools.scaffold.summary import columns_line, folds_line, summary
from tgdfer.tools.scaffold.table import from_csv

OPENAI = {"vit-b-32": "ViT-B-32-quickgelu", "vit-b-16": "ViT-B-16-quickgelu"}
"""Encoders that are added to the parameters when they are asked for."""
TEMPLATES = Path(__file__).parent / "templates"


class Made(NamedTuple):
    """The files that were made or changed, and a summary for a person to check."""

    files: list[Path]
    summary: str


def new_dataset(
    params_file: Path,
    name: str,
    table: Path | None = None,
    folder: Path | None = None,
    root: Path | None = None,
    encoder: str = "vit-b-32",
    module: bool = False,
    out: Path | None = None,
) -> Made:
    """Make the files of data set ``name`` and its entry in ``params_file``; existing files are not overwritten.

    The arguments are those of the command, ``table`` is its CSV. The folder of ``params_file`` is the project.

    Raises:
        UserError: the name is taken or invalid, the list cannot be understood, or a file is in the way.
    """
    params = load_params(params_file)
    _check_request(params, params_file, name, encoder)
    if (table is None) == (folder is None):
        raise UserError("give either --csv FILE or --folder DIR")
    if module and table is None:
        raise UserError(
            "--module reads a CSV: give --csv with the columns path and label; a folder of classes needs no module"
        )
    table, folder, root, out = (path and path.expanduser() for path in (table, folder, root, out))
    source = from_csv(table, root) if table is not None else from_folder(folder or Path())
    if module and source.passed:
        raise UserError(f"{table}: {'; '.join(passed_lines(source.passed))}; remove these rows, or leave --module out")
    project = params_file.parent
    identifier = name.replace("-", "_").lower()
    files: dict[Path, str] = {}
    annotations = source.table
    if not module and not (annotations and source.is_plain):
        annotations = out or source.root / "clips.csv"
        files[annotations] = _plain_csv(source)
    assert annotations
    entry: dict[str, Any] = {
        "layout": identifier if module else "folder",
        "root": str(_stated(source.root)),
        "annotations": str(_stated(annotations)),
        "encoder": encoder,
        **({"classes": source.classes} if source.classes != list(SEVEN) else {}),
        **({"links": "anywhere"} if source.leads_out else {}),
    }
    registry = project / "tgdfer" / "datasets" / "__init__.py"
    about = {
        "name": name,
        "identifier": identifier,
        "entry": _yaml_line(entry),
        "counts": _counts(source.listing),
        "columns": columns_line(source),
        "folds": folds_line(source),
        "protection": protection_of(source.listing),
        "passed": passed_lines(source.passed),
        "leads_out": len(source.leads_out),
    }
    files[project / "docs" / "datasets" / f"{identifier}.md"] = _fill("card.md.j2", source, about)
    test = project / "tests" / "datasets" / f"test_dataset_{identifier}.py"
    if module:
        files[registry.with_name(f"{identifier}.py")] = _fill("module.py.j2", source, about)
        files[test] = _fill("test_module.py.j2", source, about)
    else:
        files[test] = _fill("test_folder.py.j2", source, about)
    for path, text in files.items():
        if path.exists() and (path.is_dir() or path.read_text(encoding="utf-8", errors="replace") != text):
            other = "give another --out" if path == annotations else "choose another name"
            raise UserError(f"{path}: exists and is not overwritten; move it away, or {other}")
    if module:
        files[registry] = _registered(registry, identifier)
    files[params_file] = _with_entry(params_file, name, entry, encoder if encoder not in params.encoders else None)
    for path, text in files.items():
        storage.write_text(path, text)
    refused = [str(refusal) for refusal in refusals(load_params(params_file), datasets=[name])]
    elsewhere = [entry[key] for key in ("root", "annotations") if Path(entry[key]).is_absolute()]
    return Made(list(files), summary(name, source, elsewhere, refused))


def _stated(path: Path) -> Path:
    """``path`` as params.yaml states it: relative if it is below the working directory, where all commands run."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _check_request(params: Params, params_file: Path, name: str, encoder: str) -> None:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        raise UserError(f"'{name}': expected a name of letters, digits, - and _ that starts with a letter")
    if name in params.datasets:
        raise UserError(f"{params_file}: datasets: '{name}' exists already")
    known = {*params.encoders, *OPENAI, DEMO_ENCODER}
    if encoder not in known:
        raise UserError(f"--encoder '{encoder}': expected one of {', '.join(sorted(known))}")


def _fill(template: str, source: ClipList, values: dict[str, Any]) -> str:
    import jinja2

    from tgdfer.reporting.render import markdown

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    # JSON is Python with double quotes, as the project's format has it
    environment.filters["repr"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.filters["markdown"] = markdown
    return environment.get_template(template).render(source=source, **values)


def _counts(listing: Listing) -> dict[str, Any]:
    sizes = Counter((member.fold, member.split) for member in listing.folds)
    return {
        "clips": len(listing.clips),
        "subjects": len({clip.subject for clip in listing.clips if clip.subject}),
        "classes": dict(sorted(Counter(clip.label for clip in listing.clips).items())),
        "folds": [[sizes[fold, "train"], sizes[fold, "test"]] for fold in sorted({fold for fold, _ in sizes})],
    }


def _plain_csv(source: ClipList) -> str:
    """The list as layout ``folder`` reads it."""
    out = io.StringIO()
    tested = {member.clip_id: member.fold for member in source.listing.folds if member.split == "test"}
    several = source.folds > 1
    # blanks at the ends of a name survive only in quotes
    blank = any(clip.source != clip.source.strip() for clip in source.listing.clips)
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL if blank else csv.QUOTE_MINIMAL)
    writer.writerow([*COLUMNS, "fold" if several else "split", "subject"])
    for clip in source.listing.clips:
        place = tested[clip.clip_id] if several else "test" if clip.clip_id in tested else "train"
        writer.writerow([clip.clip_id, clip.source, clip.label, place, clip.subject or ""])
    return out.getvalue()


def _yaml(mapping_indent: int = 2) -> ruamel.yaml.YAML:
    yaml = ruamel.yaml.YAML()
    yaml.width = 10**6
    yaml.preserve_quotes = True
    yaml.indent(mapping=mapping_indent, sequence=mapping_indent + 2, offset=mapping_indent)
    return yaml


def _in_a_line(value: dict[str, Any]) -> ruamel.yaml.CommentedMap:
    line = ruamel.yaml.CommentedMap({key: _quoted(one) for key, one in value.items()})
    line.fa.set_flow_style()
    return line


def _quoted(value: Any) -> Any:
    """``value`` with quotes around each text that YAML would read as something else, such as 1e3, no or null."""
    if isinstance(value, list):
        return [_quoted(one) for one in value]
    if isinstance(value, str) and (not re.fullmatch(r"[^\W\d][\w./ -]*", value) or yaml.safe_load(value) != value):
        return DoubleQuotedScalarString(value)
    return value


def _yaml_line(entry: dict[str, Any]) -> str:
    out = io.StringIO()
    _yaml().dump(_in_a_line(entry), out)
    return out.getvalue().strip()


def _with_entry(path: Path, name: str, entry: dict[str, Any], encoder: str | None) -> str:
    """The text of the parameters with the entry, and with ``encoder`` if it is one of ``OPENAI``.

    Entries come first in their sections: ruamel.yaml counts a comment at the end of a section to its last entry.
    """
    text = path.read_text(encoding="utf-8")
    raw = _yaml().load(text)
    datasets = raw["datasets"]
    datasets.insert(0, name, _in_a_line(entry))
    if encoder in OPENAI:
        encoders = raw.setdefault("encoders", ruamel.yaml.CommentedMap())
        encoders.fa.set_block_style()
        encoders.insert(0, encoder, _in_a_line({"model": OPENAI[encoder], "pretrained": "openai"}))
    out = io.StringIO()
    _yaml(datasets.lc.col).dump(raw, out)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        copy.write_text(out.getvalue(), encoding="utf-8")
        try:
            load_params(copy)
        except UserError as error:
            raise UserError(f"{path}, with the new entry: {str(error).removeprefix(f'{copy}: ')}") from None
    return out.getvalue()


def _registered(registry: Path, identifier: str) -> str:
    """The text of the registry of layouts with the module's import and line."""
    if not registry.is_file():
        raise UserError(f"{registry}: no such file; --module works in a clone of the project")
    text = registry.read_text(encoding="utf-8")
    found = re.search(r"^from tgdfer\.datasets import (.+)$", text, re.MULTILINE)
    last = re.search(r'^    "folder": folder,\n', text, re.MULTILINE)
    if not found or not last:
        raise UserError(f"{registry}: import {identifier} and add it to LAYOUTS by hand, then run the command again")
    names = ", ".join(sorted({*(one.strip() for one in found[1].split(",")), identifier}))
    text = text[: last.start()] + f'    "{identifier}": {identifier},\n' + text[last.start() :]
    return text.replace(found[0], f"from tgdfer.datasets import {names}")
