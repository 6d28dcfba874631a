"""README and docs as tests read them: their fenced blocks, and a repository in which to follow them."""

import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from graphs import BIN, ROOT, Project

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "data/README.md", *ROOT.glob("docs/**/*.md")])
NEEDS = {
    "data": "a data set that needs a licence or is large, or pretrained weights",
    "slurm": "a cluster; tests/test_slurm.py runs it on the one that it starts",
}
KINDS = ("sh", "python", "yaml")

INSTEAD = {
    # without a network, and with the environment of the tests
    "git clone <repository> tgdfer": 'git clone -q "$PROJECT" tgdfer && cp -r "$PROJECT/.venv" tgdfer/',
    # CI runs these two
    "make test": "make -n test",
    "make lint": "make -n lint",
    # of the tests that CI runs, those of the new architecture
    "pytest -n0 tests/model tests/": "pytest -n0 tests/model -k max-pool && python -m pytest -n0 tests/",
    # a video of half an hour
    "--minutes 30": "--minutes 0.1",
    # a shared folder, a server's name, and ports that may be in use
    "/mnt/lab/": "$PROJECT/../lab/",
    "make ui": "make ui UI_PORT=$UI_PORT",
    "--host 0.0.0.0": "--host 127.0.0.1 --port $PORT",
    "host:5000": "127.0.0.1:$PORT",
}
"""What a test replaces in the blocks."""

FENCE = re.compile(r"(?P<indent> *)(?P<fence>```+|~~~+) *(?P<kind>[^`]*)")
MARK = re.compile(r" *<!-- (?P<what>needs|file): (?P<value>.+) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block: its page and line, its language, what it needs, the file that it is added to, its text."""

    page: Path
    line: int
    kind: str
    needs: str
    file: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def here(self) -> str:
        """The commands as a test runs them."""
        text = self.text
        for written, replacement in INSTEAD.items():
            text = text.replace(written, replacement)
        return text


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page in order, those in lists too; a mark is directly above its block."""
    found: list[Block] = []
    mark: dict[str, str] = {}
    opened: re.Match[str] | None = None
    start, lines = 0, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if opened:
            if line.strip() == opened["fence"]:
                text = "".join(f"{one.removeprefix(opened['indent'])}\n" for one in lines)
                kind = opened["kind"].strip()
                found.append(Block(page, start, kind, mark.get("needs", ""), mark.get("file", ""), text))
                opened, mark = None, {}
            else:
                lines.append(line)
        elif fence := FENCE.fullmatch(line):
            opened, start, lines = fence, number, []
        elif line.strip():
            found_mark = MARK.fullmatch(line)
            mark = {found_mark["what"]: found_mark["value"]} if found_mark else {}
    assert opened is None, f"{page.name}:{start}: a block without an end"
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def merged(base: dict, more: dict) -> dict:
    """``base`` with the values of ``more``, section by section."""
    both = dict(base)
    for key, value in more.items():
        old = both.get(key)
        both[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return both


def repository(root: Path, params: str) -> Project:
    """A copy of the project with other parameters, and an environment in .venv like that of `make venv`."""
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for folder in ("tests", "docs", "benchmarks", "containers", "studies"):
        shutil.copytree(ROOT / folder, root / folder, ignore=ignored)
    (root / "data").mkdir()
    for name in ("Makefile", "README.md", "CONTRIBUTING.md", "data/README.md", "mkdocs.yml", "pyproject.toml"):
        shutil.copy2(ROOT / name, root / name)
    shutil.copy2(ROOT / "requirements.lock", root)
    project = Project.make(root, params)
    # links to single tools protect the environment of the tests; a linked interpreter would not find its libraries
    tools = root / ".venv" / "bin"
    tools.mkdir(parents=True)
    for tool in BIN.iterdir():
        if not tool.name.startswith("python"):
            (tools / tool.name).symlink_to(tool)
    for name in ("python", "python3"):
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        (tools / name).chmod(0o755)
    (root / ".venv" / ".installed").touch()
    return project
