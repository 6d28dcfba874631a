"""The shape of the house: imports go one way, heavy libraries stay in their rooms, the command line starts fast."""

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tgdfer.config import code, dependencies

PACKAGE = Path(__file__).parents[1] / "tgdfer"

# the way of the data, last room first: a room imports only rooms below it
ORDER = [
    "cli",
    "tools",
    "stages",
    "prediction",
    "reporting",
    "training",
    "datasets",
    "tracking",
    "runs",
    "model",
    "features",
    "media",
    "encoders",
    "demo",
    "config",
    "core",
    "evaluation",
]
RANK = {name: -rank for rank, name in enumerate(ORDER)}


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


@pytest.mark.parametrize(("library", "rooms_allowed"), [("open_clip", {"encoders"}), ("mlflow", {"tracking"})])
def test_one_importer(library: str, rooms_allowed: set[str]) -> None:
    importers = {room for room, path in rooms() if any(name.split(".")[0] == library for name in imports(path))}
    assert importers <= rooms_allowed


@pytest.mark.parametrize("stage", dependencies.STAGES)
def test_every_stage_is_one_file(stage: str) -> None:
    assert dependencies.code_files(stage), stage


def test_neutral_code_exists() -> None:
    assert all((PACKAGE / name).exists() for name in code.NEUTRAL)


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("tgdfer.cli", ("torch", "mlflow", "open_clip", "pandas", "sklearn", "matplotlib", "pyarrow")),
        ("tgdfer.stages.features", ("torch", "open_clip")),  # the job that only joins parts
    ],
)
def test_it_starts_without_heavy_libraries(module: str, heavy: tuple[str, ...]) -> None:
    script = f"import sys, {module}; print([m for m in {heavy!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("path", sorted((PACKAGE.parent / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_what_a_benchmark_imports_exists(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tgdfer"):
            module = importlib.import_module(node.module)
            for alias in node.names:
                found = hasattr(module, alias.name) or importlib.util.find_spec(f"{node.module}.{alias.name}")
                assert found, f"{path.name}: {node.module} has no {alias.name}"


NOTE = """
import os, pytest
pytestmark = pytest.mark.{mark}

@pytest.mark.parametrize("number", range(4))
def test_note(number):
    with open("notes", "a") as notes:
        print(os.environ["PYTEST_XDIST_WORKER"], {mark!r}, file=notes)
"""


def test_make_test_starts_the_slow_files_first_and_runs_a_file_in_one_process(tmp_path: Path) -> None:
    """Else each process makes again what the tests of a file share, and a slow test at the end leaves a core idle."""
    for name, mark in {"a": "quick", "b": "quick", "c": "graph", "d": "slurm"}.items():
        (tmp_path / f"test_{name}.py").write_text(NOTE.format(mark=mark))
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (options,) = re.findall(r"PYTEST := python (.*)", (PACKAGE.parent / "Makefile").read_text())
    subprocess.run(
        [sys.executable, *options.replace("$(TEST_WORKERS)", "2").split(), "-p", "xdist", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        check=True,
    )
    notes = [line.split() for line in (tmp_path / "notes").read_text().splitlines()]
    workers = {mark: {worker for worker, noted in notes if noted == mark} for mark in ("slurm", "graph")}
    assert {mark: len(workers[mark]) for mark in workers} == {"slurm": 1, "graph": 1}
    assert workers["slurm"] != workers["graph"]
    assert "quick" not in {noted for _, noted in notes[:4]}
