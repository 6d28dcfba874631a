"""What README and docs say is so: commands exist, settings are valid, links lead somewhere, the site builds strictly.

tests/test_docs_way.py does what the pages say. Here nothing is run, so what is marked as left out there is held as
well: its subcommands, options, make targets and scripts must exist.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import typer.main
import yaml
from graphs import BIN, ROOT
from pages import BLOCKS, INSTEAD, KINDS, MARK, NEEDS, PAGES, Block, merged

from tgdfer.cli import app
from tgdfer.config.params import ModelParams, Params, load_params

COMMANDS = [block for block in BLOCKS if block.kind == "sh"]
PROGRAMS = {"tgdfer", "make", "snakemake", "dvc", "mlflow", "python", "git", "pip", "conda", "cd", "source", "."}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))


def lines(text: str) -> list[list[str]]:
    """The commands of a block as words, comments and continuations resolved, the variables before them left out."""
    words = [shlex.split(line, comments=True) for line in text.replace("\\\n", " ").splitlines()]
    parts = []
    for one in words:
        while "&&" in one:
            at = one.index("&&")
            parts.append(one[:at])
            one = one[at + 1 :]
        parts.append(one)
    named = [[word for word in part if not re.fullmatch(r"[A-Z_]+=.*", word)] for part in parts]
    return [part for part in named if part]


def test_every_block_and_mark_is_seen() -> None:
    assert len(COMMANDS) > 40
    marks = 0
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        marks += sum(MARK.fullmatch(line) is not None for line in text.splitlines())
        assert len(re.findall(r"^\s*(?:```|~~~)", text, re.M)) == 2 * sum(block.page == page for block in BLOCKS), page
    assert marks == sum(bool(block.needs or block.file) for block in BLOCKS), "a mark stands directly above its block"
    for block in BLOCKS:
        assert block.kind in ("", *KINDS), f"{block}: {block.kind}: expected one of {', '.join(KINDS)}, or nothing"
        assert block.needs in ("", *NEEDS), f"{block}: needs: expected one of {', '.join(NEEDS)}"
        assert not block.file or (block.kind == "python" and (ROOT / block.file).is_file()), f"{block}: {block.file}"
        if not block.kind:
            first = {line.split()[0] for line in block.text.splitlines() if line.split()}
            assert not first & {*PROGRAMS, "$"}, f"{block}: commands belong into a block of `sh`"


def test_what_takes_the_place_of_something_has_a_place() -> None:
    for said in INSTEAD:
        assert any(said in block.text for block in COMMANDS), said


def test_what_ci_runs_is_only_shown_elsewhere() -> None:
    shown = {word for said, done in INSTEAD.items() if "make -n" in done for word in said.split()[1:]}
    run = set(re.findall(r"^make ([a-z-]+)$", (ROOT / ".ci" / "run").read_text(), re.M))
    assert shown <= run
    recipes = dict(re.findall(r"^([a-z-]+):.*\n\t(.*)", (ROOT / "Makefile").read_text(), re.M))
    assert recipes["test-quick"].split(' -m "')[0] == recipes["test"].split(" --dist")[0], (
        "the same, but for some tests"
    )


@pytest.mark.parametrize("block", COMMANDS, ids=str)
def test_commands_targets_and_options_exist(block: Block) -> None:
    for words in lines(block.text):
        check(words, str(block))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_in_the_text_exist(page: Path) -> None:
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    for said in re.findall(r"`((?:tgdfer|make|python) [^`]+)`", text):
        for words in lines(said.replace("…", "")):
            check(words, f"{page.name}: `{said}`")


def check(words: list[str], where: str) -> None:
    """That a command's target, subcommand, options and scripts exist."""
    name = Path(words[0]).name
    if name == "make":
        unknown = [word for word in words[1:] if "=" not in word and not word.startswith("-") and word not in TARGETS]
        assert not unknown, f"{where}: make {unknown[0]}: no such target"
    if words[:3] == ["python", "-m", "tgdfer"]:
        name, words = "tgdfer", words[2:]
    if name == "tgdfer":
        check_options(where, typer.main.get_command(app), words[1:])
    for script in (word for word in words if re.fullmatch(r"(benchmarks|tests|workflow|slurm)/\S+\w", word)):
        assert (ROOT / script).exists(), f"{where}: {script}: no such file"


def check_options(where: str, command: object, words: list[str]) -> None:
    """Follow the words of a call through the command line's own description of itself."""
    known = options(command)
    for number, word in enumerate(words):
        if word.startswith("--"):
            assert word.split("=")[0] in known | {"--help"}, f"{where}: tgdfer: no option {word}"
        elif not word.startswith("-") and word in getattr(command, "commands", {}):
            check_options(where, command.commands[word], words[number + 1 :])  # type: ignore[attr-defined]
            return
        elif hasattr(command, "commands") and words[number - 1 : number] != ["--log"] and not word.isupper():
            raise AssertionError(f"{where}: tgdfer: no command {word}")


def options(command: object) -> set[str]:
    return {name for option in command.params for name in (*option.opts, *option.secondary_opts)}  # type: ignore[attr-defined]


# settings that go with code are tried with that code
CODE = {block.page for block in BLOCKS if block.file}
YAML = [block for block in BLOCKS if block.kind == "yaml" and block.page not in CODE]
CARDS = [
    block for block in YAML if block.page.parent.name == "datasets" and "datasets" not in yaml.safe_load(block.text)
]
SETTINGS = [block for block in YAML if block not in CARDS]


@pytest.mark.parametrize("block", [*SETTINGS, *CARDS], ids=str)
def test_settings_are_valid(block: Block, tmp_path: Path) -> None:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["encoders"] = {f"vit-b-{n}": {"model": f"ViT-B-{n}-quickgelu", "pretrained": "openai"} for n in (16, 32)}
    said = yaml.safe_load(block.text)
    settings = said if block in SETTINGS else {"datasets": said}
    assert set(settings) <= set(Params.model_fields)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(merged(raw, settings)))
    load_params(tmp_path / "params.yaml")


def test_there_are_settings() -> None:
    assert len(SETTINGS) >= 4
    assert len(CARDS) >= 3


def test_the_example_of_a_baseline_does_what_it_says() -> None:
    from tgdfer.model import baselines

    text = next(block.text for block in BLOCKS if block.file == "tgdfer/model/baselines.py")
    # without postponed annotations, so that their names must be there as well
    names = {**vars(baselines), "ModelParams": ModelParams}
    exec(compile(text, "howto-baseline.md", "exec", dont_inherit=True), names)
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


def test_what_the_readme_says_of_the_demo_is_in_the_study() -> None:
    said = (ROOT / "README.md").read_text(encoding="utf-8").split("What it says so far")[1].split("\n\n")[0]
    study = (ROOT / "docs" / "demo-study.md").read_text(encoding="utf-8")
    measured = re.findall(r"\d+\.\d+", said)
    assert len(measured) >= 5
    assert [number for number in measured if number not in study] == []
