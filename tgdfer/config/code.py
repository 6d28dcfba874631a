"""Fingerprints of code by what it does.

A fingerprint covers the files that an entry module's imports reach, each as its syntax tree without comments,
docstrings and layout. So a comment changes nothing, and a file that a stage does not import cannot remake its outputs.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
NEUTRAL = (
    "__init__.py",
    "config",  # parameters are compared by value
    "core/devices.py",
    "core/errors.py",
    "core/monitor.py",
    "core/paths.py",
    "core/progress.py",
    "core/provenance.py",
    "core/record.py",
    "core/version.py",
    "runs/state.py",
)
"""Files and folders that decide where, by whom and with which messages, but never what an output holds."""


def reached(*entries: str) -> list[Path]:
    """The package files that ``entries`` (paths below ``tgdfer/``) import, directly or not, themselves included."""
    found: set[Path] = set()
    waiting = [PACKAGE / entry for entry in entries]
    while waiting:
        path = waiting.pop()
        if path not in found and not _is_neutral(path):
            found.add(path)
            waiting += _imported(path)
    return sorted(found)


@cache
def fingerprint(*entries: str) -> str:
    """SHA-256 over what the files that ``entries`` reach do; entries that are not Python count with their bytes."""
    digest = hashlib.sha256()
    for path in reached(*entries):
        name = path.relative_to(PACKAGE).as_posix()
        digest.update(name.encode() + b"\0" + _meaning(path) + b"\0")
    return digest.hexdigest()


def _is_neutral(path: Path) -> bool:
    name = path.relative_to(PACKAGE).as_posix()
    return any(name == neutral or name.startswith(f"{neutral}/") for neutral in NEUTRAL)


@cache
def _meaning(path: Path) -> bytes:
    """A Python file without comments, docstrings and layout; any other file unchanged."""
    if path.suffix != ".py":
        return path.read_bytes()
    return ast.unparse(_tree(path)).encode()


@cache
def _tree(path: Path) -> ast.Module:
    """The syntax tree of a file without what documents it."""
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            # a string that is a whole statement documents a module, class, function or attribute
            node.body = [line for line in body if not _is_text(line)] or [ast.Pass()]  # type: ignore[attr-defined]
    return tree


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@cache
def _imported(path: Path) -> list[Path]:
    """The package files that a Python file imports, in functions too; imports for type checkers do not count."""
    return [file for name in imports(path) for file in _files_of(name)] if path.suffix == ".py" else []


def imports(path: Path) -> Iterator[str]:
    """The dotted names below ``tgdfer`` that ``path`` imports when it runs."""
    waiting: list[ast.AST] = [_tree(path)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("tgdfer."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "tgdfer":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            waiting += ast.iter_child_nodes(node)


def _files_of(name: str) -> Iterator[Path]:
    """The files that importing a dotted name runs: of the packages on the way to it, and of its module."""
    place = PACKAGE
    for step in name.split(".")[1:]:
        place /= step
        yield from (file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file())
