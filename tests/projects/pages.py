"""README and docs as tests read them: their fenced blocks, and a repository for somebody who does what they say."""

from __future__ import annotations

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
    # no network, and the environment of the tests for one that `make venv` would install
    "git clone <repository> tgdfer": 'git clone -q "$PROJECT" tgdfer && cp -r "$PROJECT/.venv" tgdfer/',
    # CI runs these two, the first of which runs this
    "make test": "make -n test",
    "make lint": "make -n lint",
    # half an hour of video
    "--minutes 30": "--minutes 0.1",
    # a folder that all machines see, a machine that they know by name, and ports that may be taken
    "/mnt/lab/": "$PROJECT/../lab/",
    "make ui": "make ui UI_PORT=$UI_PORT",
    "--host 0.0.0.0": "--host 127.0.0.1 --port $PORT",
    "host:5000": "127.0.0.1:$PORT",
}
"""All that is not done word for word as the pages say it."""

FENCE = re.compile(r"(?P<indent> *)(?P<fence>```+|~~~+) *(?P<kind>[^`]*)")
MARK = re.compile(r" *<!-- (?P<what>needs|file): (?P<value>.+) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, its language, what it needs, the file that it is to be added to, its text."""

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
        """The commands with what takes the place of what a test has not."""
        text = self.text
        for said, done in INSTEAD.items():
            text = text.replace(said, done)
        return text


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page in their order, those in lists too; a mark stands directly above its block."""
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
            said = MARK.fullmatch(line)
            mark = {said["what"]: said["value"]} if said else {}
    assert opened is None, f"{page.name}:{start}: a block without an end"
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def merged(base: dict, more: dict) -> dict:
    """``base`` with what ``more`` says, section by section."""
    both = dict(base)
    for key, value in more.items():
        old = both.get(key)
        both[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return both


def repository(root: Path, params: str) -> Project:
    """All that git has of the project, with other parameters, and an environment in .venv as `make venv` leaves it."""
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for folder in ("tests", "docs", "benchmarks", "containers"):
        shutil.copytree(ROOT / folder, root / folder, ignore=ignored)
    (root / "data").mkdir()
    for name in ("Makefile", "README.md", "CONTRIBUTING.md", "data/README.md", "mkdocs.yml", "pyproject.toml"):
        shutil.copy2(ROOT / name, root / name)
    shutil.copy2(ROOT / "requirements.lock", root)
    project = Project.make(root, params)
    # links to single tools, so that nothing that happens to this .venv reaches the environment of the tests; an
    # interpreter that is a link would not find its libraries
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
