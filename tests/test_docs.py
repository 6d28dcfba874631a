"""What README and docs say is so: commands run, settings are valid, links lead somewhere, the site builds strictly.

A block of commands is run here, in a small project, unless the line above it says what it needs that a test has not:
``<!-- needs: data network minutes -->``. Whether run or not, its subcommands, options and make targets must exist.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import typer.main
import yaml
from graphs import BIN, ROOT, Project, environment, tiny
from media import video, write_csv

from tgdfer.classes import SEVEN
from tgdfer.cli import app
from tgdfer.params import Params, load_params

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")])
NEEDS = {
    "data": "a data set that needs a licence",
    "slurm": "a cluster",
    "gpu": "a GPU",
    "minutes": "minutes, mostly of training",
    "network": "downloads",
    "desktop": "somebody who looks at it",
    "edit": "code or settings that the text tells to write",
    "videos": "a trained model and videos of faces",
}
BLOCK = re.compile(
    r"^(?P<mark><!-- needs: (?P<needs>[a-z ]+) -->\n\s*)?```(?P<kind>\w+)\n(?P<text>.*?)^```", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, its language, what it needs, its text."""

    page: Path
    line: int
    kind: str
    needs: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(kind: str) -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            if match["kind"] == kind:
                line = text[: match.start("text")].count("\n")
                found.append(Block(page, line, kind, tuple((match["needs"] or "").split()), match["text"]))
    return found


COMMANDS = blocks("sh")


def lines(block: Block) -> list[list[str]]:
    """The commands of a block as words, comments and continuations resolved, the variables before them left out."""
    text = block.text.replace("\\\n", " ")
    words = [shlex.split(line, comments=True) for line in text.splitlines()]
    parts = []
    for one in words:
        while "&&" in one:
            at = one.index("&&")
            parts.append(one[:at])
            one = one[at + 1 :]
        parts.append(one)
    return [part for part in parts if part]


def test_every_page_and_mark_is_seen() -> None:
    assert len(COMMANDS) > 15
    for block in COMMANDS:
        assert set(block.needs) <= set(NEEDS), f"{block}: needs: expected some of {', '.join(NEEDS)}"
    marks = sum(page.read_text(encoding="utf-8").count("<!-- needs:") for page in PAGES)
    fenced = [block for kind in ("sh", "python", "yaml") for block in blocks(kind) if block.needs]
    assert marks == len(fenced), "a mark stands directly above its block"


@pytest.mark.parametrize("block", COMMANDS, ids=str)
def test_commands_targets_and_options_exist(block: Block) -> None:
    group = typer.main.get_command(app)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for words in lines(block):
        words = [word for word in words if not re.fullmatch(r"[A-Z_]+=.*", word)]
        if not words:
            continue
        name = Path(words[0]).name
        if name == "make":
            unknown = [
                word for word in words[1:] if "=" not in word and not word.startswith("-") and word not in targets
            ]
            assert not unknown, f"{block}: make {unknown[0]}: no such target"
            assert block.needs or words[1:] == ["help"], f"{block}: make {words[1]} installs: say what it needs"
        if words[:3] == ["python", "-m", "tgdfer"]:
            name, words = "tgdfer", words[2:]
        if name == "tgdfer":
            check_options(block, group, words[1:])
        scripts = [word for word in words if re.fullmatch(r"(benchmarks|tests|workflow|slurm)/\S+\w", word)]
        for script in scripts:
            assert (ROOT / script).exists(), f"{block}: {script}: no such file"


def check_options(block: Block, command: object, words: list[str]) -> None:
    """Follow the words of a call through the command line's own description of itself."""
    known = options(command)
    for number, word in enumerate(words):
        if word.startswith("--"):
            assert word.split("=")[0] in known | {"--help"}, f"{block}: tgdfer: no option {word}"
        elif not word.startswith("-") and word in getattr(command, "commands", {}):
            check_options(block, command.commands[word], words[number + 1 :])  # type: ignore[attr-defined]
            return
        elif hasattr(command, "commands") and words[number - 1 : number] != ["--log"]:
            raise AssertionError(f"{block}: tgdfer: no command {word}")


def options(command: object) -> set[str]:
    return {name for option in command.params for name in (*option.opts, *option.secondary_opts)}  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone with tiny parameters, in which somebody has put a few videos, and the demo's clips are rendered."""
    project = Project.make(tmp_path_factory.mktemp("docs") / "project", tiny())
    root = project.root
    for name in ("Makefile", "requirements.lock", "pyproject.toml", "README.md"):
        shutil.copy2(ROOT / name, root)
    shutil.copytree(ROOT / "docs", root / "docs")
    # single tools, so that nothing that happens to .venv here can reach the environment of the tests
    (root / ".venv" / "bin").mkdir(parents=True)
    for tool in ("tgdfer", "snakemake", "dvc", "python"):
        (root / ".venv" / "bin" / tool).symlink_to(BIN / tool)
    one = video(root.parent / "one.mp4")
    rows, demo = [], []
    for number, person in enumerate(("anna", "ben", "carl", "dora")):
        for name, label in (("happy", "Happiness"), ("anger", "Anger")):
            (root / "videos" / person).mkdir(parents=True, exist_ok=True)
            shutil.copy(one, root / "videos" / person / f"{name}.mp4")
            rows.append(f"{person}/{name}.mp4,{label},{person}")
            (root / "more" / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(one, root / "more" / name / f"{number}.mp4")
    write_csv(root / "videos" / "list.csv", "video,emotion,actor", rows)
    for number, label in enumerate((*SEVEN, *SEVEN)):
        (root / "data/raw/demo/videos").mkdir(parents=True, exist_ok=True)
        shutil.copy(one, root / "data/raw/demo/videos" / f"{number}.mp4")
        demo.append(f"{number},videos/{number}.mp4,{label},{number // 7 + 1}")
    write_csv(root / "data/raw/demo/clips.csv", "clip_id,path,label,fold", demo)
    return project


RUN = sorted({block.page for block in COMMANDS if not block.needs})


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_the_commands_of_a_page_run(page: Path, template: Project, tmp_path: Path) -> None:
    root = tmp_path / "project"
    shutil.copytree(template.root, root, symlinks=True)
    variables = {**environment(tmp_path), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(root)}
    for block in COMMANDS:
        if block.page == page and not block.needs:
            command = ["bash", "-euo", "pipefail", "-c", block.text]
            ran = subprocess.run(command, cwd=root, env=variables, capture_output=True, text=True, timeout=120)
            assert ran.returncode == 0, f"{block}:\n{block.text}\n{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"


def merged(base: dict, more: dict) -> dict:
    both = dict(base)
    for key, value in more.items():
        old = both.get(key)
        both[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return both


YAML = [block for block in blocks("yaml") if not block.needs]
CARDS = [
    block for block in YAML if block.page.parent.name == "datasets" and "datasets" not in yaml.safe_load(block.text)
]
SETTINGS = [
    block for block in YAML if block not in CARDS and set(yaml.safe_load(block.text)) <= set(Params.model_fields)
]


@pytest.mark.parametrize("block", [*SETTINGS, *CARDS], ids=str)
def test_settings_are_valid(block: Block, tmp_path: Path) -> None:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["encoders"] = {f"vit-b-{n}": {"model": f"ViT-B-{n}-quickgelu", "pretrained": "openai"} for n in (16, 32)}
    said = yaml.safe_load(block.text)
    (tmp_path / "params.yaml").write_text(
        yaml.safe_dump(merged(raw, said if block in SETTINGS else {"datasets": said}))
    )
    load_params(tmp_path / "params.yaml")


def test_there_are_settings() -> None:
    assert len(SETTINGS) >= 4
    assert len(CARDS) >= 3


@pytest.mark.parametrize("block", [one for one in blocks("python") if not one.needs], ids=str)
def test_python_runs(block: Block, template: Project) -> None:
    ran = subprocess.run([sys.executable, "-c", block.text], cwd=template.root, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_the_example_of_a_baseline_does_what_it_says() -> None:
    from tgdfer.model import baselines

    (text,) = [block.text for block in blocks("python") if block.page.name == "howto-baseline.md"]
    names = dict(vars(baselines))
    exec("from __future__ import annotations\n" + text, names)
    torch.manual_seed(0)
    model = names["MaxPool"](None, ["a", "b"], 8)
    x, mask = torch.randn(3, 5, 8), torch.arange(5) < torch.tensor([[5], [3], [1]])
    changed = torch.where(mask[..., None], x, torch.full_like(x, 1e3))
    assert torch.equal(model(x, mask).logits, model(changed, mask).logits)
    assert model(x, mask).logits.shape == (3, 2)


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent == ROOT], ids=lambda page: page.name)
def test_links_of_pages_outside_the_site_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"\w+:", target):
            assert (page.parent / target.split("#")[0]).exists(), f"{page.name}: {target}"
    for name in re.findall(r"`(docs/[\w/.-]+\.md)`", text):
        assert (ROOT / name).exists(), f"{page.name}: {name}"


@pytest.mark.skipif(shutil.which("mkdocs", path=str(BIN)) is None, reason="mkdocs is not installed")
def test_the_site_builds_strictly_and_asks_nothing_of_other_servers(tmp_path: Path) -> None:
    command = [str(BIN / "mkdocs"), "build", "--strict", "--site-dir", str(tmp_path / "site")]
    ran = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert ran.returncode == 0, ran.stderr
    assert "WARNING" not in ran.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 15
    asks = re.compile(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"?(?:https?:)?//(?!localhost)[^>]*>")
    for page in pages:
        text = page.read_text(encoding="utf-8")
        found = [tag for tag in asks.findall(text) if 'rel="canonical"' not in tag]
        assert not found, f"{page.name}: {found[0]}"
        assert "noitauqe" not in text
    model = (tmp_path / "site" / "model.html").read_text(encoding="utf-8")
    assert model.count('<svg class="formula"') > 40
    assert "$$" not in model
