"""The shape of the house: imports go one way, heavy libraries stay in their rooms, the command line starts fast."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tgdfer import stages

PACKAGE = Path(__file__).parents[1] / "tgdfer"

# a module may import from rooms before its own, never from later ones
ORDER = [
    ["errors"],
    ["classes", "architectures"],
    ["sections", "params", "paths", "storage", "progress", "provenance", "gpus"],
    ["stages"],
    ["tracking", "media"],
    ["datasets"],
    ["download"],
    ["frames"],
    ["encoders"],
    ["demo"],
    ["features"],
    ["bags"],
    ["model"],
    ["metrics", "statistics"],
    ["training"],
    ["reporting"],
    ["prediction"],
    ["doctor", "status", "explain", "scaffold"],
    ["cli"],
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}


def rooms() -> list[tuple[str, Path]]:
    return [
        (path.relative_to(PACKAGE).parts[0].removesuffix(".py"), path)
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name not in ("__main__.py",) and path != PACKAGE / "__init__.py"
    ]


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize(("room", "path"), rooms(), ids=lambda value: getattr(value, "name", value))
def test_imports_go_one_way(room: str, path: Path) -> None:
    assert room in RANK, f"give {room} a place in the order of rooms"
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "tgdfer" and len(parts) > 1 and parts[1] in RANK:
            assert RANK[parts[1]] <= RANK[room], f"{path.name} imports {name}, a later room"


@pytest.mark.parametrize(("library", "rooms_allowed"), [("open_clip", {"encoders", "demo"}), ("mlflow", {"tracking"})])
def test_one_importer(library: str, rooms_allowed: set[str]) -> None:
    importers = {room for room, path in rooms() if any(name.split(".")[0] == library for name in imports(path))}
    assert importers <= rooms_allowed


@pytest.mark.parametrize("stage", stages.STAGES)
def test_the_code_of_a_stage_exists(stage: str) -> None:
    assert all(path.is_file() for path in stages.code(stage))


def package_imports(path: Path) -> set[Path]:
    """The package files that ``path`` imports, directly."""
    found = set()
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "tgdfer":
            continue
        for length in range(len(parts), 1, -1):
            base = PACKAGE.joinpath(*parts[1:length])
            for candidate in (base.with_suffix(".py"), base / "__init__.py"):
                if candidate.is_file():
                    found.add(candidate)
                    break
            else:
                continue
            break
    return found


# modules that say where, how and by whom, but never decide what an output holds
WITHOUT_INFLUENCE = {
    "errors",
    "params",
    "paths",
    "progress",
    "provenance",
    "sections",
    "stages",
    "tracking",
    "__init__",
}


@pytest.mark.parametrize("stage", stages.STAGES)
def test_a_stage_names_all_the_code_it_is_made_of(stage: str) -> None:
    named = set(stages.code(stage))
    for path in (path for path in named if path.suffix == ".py"):
        for imported in package_imports(path):
            room = imported.relative_to(PACKAGE).parts[0].removesuffix(".py")
            if room not in WITHOUT_INFLUENCE:
                assert imported in named, f"stage {stage}: {path.name} imports {imported.name}; name it in stages.py"


def test_the_command_line_starts_without_heavy_libraries() -> None:
    heavy = "torch", "mlflow", "open_clip", "pandas", "sklearn", "matplotlib", "pyarrow"
    script = f"import sys, tgdfer.cli; print([m for m in {heavy!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
