"""README and docs are right: commands exist, settings are valid, links lead somewhere, the site works.

tests/test_docs_way.py runs the blocks of the pages; here those that it skips are checked as well.
"""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer.main
import yaml
from browser import chromium
from graphs import BIN, ROOT
from pages import BLOCKS, INSTEAD, KINDS, MARK, NEEDS, PAGES, Block, merged

from tgdfer.cli import app
from tgdfer.config.params import Params, load_params

COMMANDS = [block for block in BLOCKS if block.kind == "sh"]
PROGRAMS = {"tgdfer", "make", "snakemake", "dvc", "mlflow", "python", "git", "pip", "conda", "cd", "source", "."}
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.M))
name_of_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a block as words, without comments and the variables set before them."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in line.split("&&"):
            words = shlex.split(part, comments=True)
            if named := [word for word in words if not re.fullmatch(r"[A-Z_]+=.*", word)]:
                yield named


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)


def test_every_block_and_mark_is_found() -> None:
    assert len(COMMANDS) > 40
    marks = 0
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        marks += sum(MARK.fullmatch(line) is not None for line in text.splitlines())
        assert len(re.findall(r"^\s*(?:```|~~~)", text, re.M)) == 2 * sum(block.page == page for block in BLOCKS), page
    assert marks == sum(bool(block.needs or block.file) for block in BLOCKS), "a mark belongs directly above its block"
    for block in BLOCKS:
        assert block.kind in ("", *KINDS), f"{block}: {block.kind}: expected one of {', '.join(KINDS)}, or nothing"
        assert block.needs in ("", *NEEDS), f"{block}: needs: expected one of {', '.join(NEEDS)}"
        assert not block.file or (block.kind in ("python", "yaml") and (ROOT / block.file).parent.is_dir()), (
            f"{block}: {block.file}"
        )
        if not block.kind:
            first = {line.split()[0] for line in block.text.splitlines() if line.split()}
            assert not first & {*PROGRAMS, "$"}, f"{block}: commands belong in a block of `sh`"


def test_every_replacement_is_used() -> None:
    for written in INSTEAD:
        assert any(written in block.text for block in COMMANDS), written


def test_ci_runs_what_the_pages_only_show() -> None:
    shown = {word for written, done in INSTEAD.items() if "make -n" in done for word in written.split()[1:]}
    assert shown <= set(re.findall(r"^make ([a-z-]+)$", (ROOT / ".ci" / "run").read_text(), re.M))
    recipes = dict(re.findall(r"^([a-z-]+):.*\n\t(.*)", MAKEFILE, re.M))
    assert recipes["test-quick"].split(' -m "')[0] == recipes["test"].split(" --dist")[0], "test-quick is part of test"


@pytest.mark.parametrize("block", COMMANDS, ids=str)
def test_commands_targets_and_options_exist(block: Block) -> None:
    for words in commands(block.text):
        check(words, str(block))


@name_of_page
def test_commands_in_the_text_exist(page: Path) -> None:
    for written in re.findall(r"`((?:tgdfer|make|python) [^`]+)`", prose(page)):
        for words in commands(written.replace("…", "")):
            check(words, f"{page.name}: `{written}`")


def check(words: list[str], where: str) -> None:
    """A command's target, subcommand, options and scripts exist."""
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
    """Follow the words of a call through the options and subcommands that typer knows."""
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}  # type: ignore[attr-defined]
    for number, word in enumerate(words):
        if word.startswith("--"):
            assert word.split("=")[0] in known | {"--help"}, f"{where}: tgdfer: no option {word}"
        elif not word.startswith("-") and word in getattr(command, "commands", {}):
            check_options(where, command.commands[word], words[number + 1 :])  # type: ignore[attr-defined]
            return
        elif (
            hasattr(command, "commands")
            and words[number - 1] not in ("--log", "--study", "--set")
            and not word.isupper()
        ):
            raise AssertionError(f"{where}: tgdfer: no command {word}")


# settings of a page with code need that code
CODE = {block.page for block in BLOCKS if block.file}
SETTINGS = [block for block in BLOCKS if block.kind == "yaml" and block.page not in CODE]


@pytest.mark.parametrize("block", SETTINGS, ids=str)
def test_settings_are_valid(block: Block, tmp_path: Path) -> None:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["encoders"] = {f"vit-b-{n}": {"model": f"ViT-B-{n}-quickgelu", "pretrained": "openai"} for n in (16, 32)}
    settings = yaml.safe_load(block.text)
    if block.page.parent == ROOT / "docs" / "datasets" and "datasets" not in settings:
        settings = {"datasets": settings}
    assert set(settings) <= set(Params.model_fields)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(merged(raw, settings)))
    load_params(tmp_path / "params.yaml")


def test_there_are_settings() -> None:
    cards = [block for block in SETTINGS if block.page.parent == ROOT / "docs" / "datasets"]
    assert len(cards) >= 3
    assert len(SETTINGS) - len(cards) >= 4


def test_the_example_of_a_baseline_ignores_masked_frames() -> None:
    text = next(block.text for block in BLOCKS if block.file == "tgdfer/model/max_pool.py")
    names: dict[str, Any] = {}
    exec(compile(text, "howto-baseline.md", "exec", dont_inherit=True), names)
    torch.manual_seed(0)
    model = names["MaxPool"](None, ["a", "b"], 8, None)
    x, mask = torch.randn(3, 5, 8), torch.arange(5) < torch.tensor([[5], [3], [1]])
    changed = torch.where(mask[..., None], x, torch.full_like(x, 1e3))
    assert torch.equal(model(x, mask).logits, model(changed, mask).logits)
    assert model(x, mask).logits.shape == (3, 2)


@name_of_page
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = prose(page)
    if page.parent == ROOT:  # mkdocs checks the links of the others
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if not re.match(r"\w+:", target):
                assert (page.parent / target.split("#")[0]).exists(), f"{page.name}: {target}"
    for name in re.findall(r"`((?:docs|tests|tgdfer|workflow|local|slurm|containers)/[\w/.-]+)`", text):
        assert (ROOT / name).exists() or "mine" in name or "lab" in name, f"{page.name}: {name}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (BIN / "mkdocs").exists():
        pytest.skip("mkdocs is not installed")
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [BIN / "mkdocs", "build", "--strict", "--site-dir", folder]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert "WARNING" not in ran.stderr
    return folder


def test_the_site_has_all_pages_and_loads_nothing_from_other_servers(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert {page.relative_to(site).as_posix() for page in pages} >= {
        page.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
        for page in PAGES
        if ROOT / "docs" in page.parents
    }
    loads = re.compile(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"?(?:https?:)?//(?!localhost)[^>]*>")
    for page in pages:
        found = [tag for tag in loads.findall(page.read_text(encoding="utf-8")) if 'rel="canonical"' not in tag]
        assert not found, f"{page.name}: {found[0]}"


def test_equations_and_search_work_in_a_browser_without_a_server(site: Path) -> None:
    requests: list[str] = []
    errors: list[str] = []
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 844})  # a phone
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((site / "model.html").as_uri())
        page.wait_for_selector(".katex")
        assert errors == []  # an equation that KaTeX cannot read raises an error
        assert page.locator(".katex").count() == page.locator(".arithmatex").count() >= 20
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.locator("label[for=__search]").first.click()
        page.locator(".md-search__input").press_sequentially("bootstrap")
        page.wait_for_selector(".md-search-result__item a[href*='report.html']", timeout=20_000)
    assert errors == []
    assert [url for url in requests if url.startswith("http")] == []


# words that are used here in a sense that a reader has to guess
PRIVATE = re.compile(
    r"\b(?:told (?!apart)|mends?\b|mended|anew|bro(?:ke|ken) off|of one's own|alone\b)|\bl(?:ies?|ay) (?:beside|in)\b"
    r"|\bstands? (?:in|for|there|beside|below)\b|\bas (?:it is|they are|it stands)(?=[.,;:)]|$)"
    r"|(?<!there )\bis no (?:clip|video|run|file|row|key|class|face|frame|number|tensor|mapping)\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize("place", ["docs", *sorted(path.name for path in (ROOT / "tgdfer").glob("[a-z]*"))])
def test_the_language_is_plain(place: str) -> None:
    texts = [path for path in (ROOT / "tgdfer").glob(f"{place}/**/*") if path.suffix in (".py", ".md", ".j2", ".html")]
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in (PAGES if place == "docs" else texts or [ROOT / "tgdfer" / place])
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (match := PRIVATE.search(line))
    ]
    assert found == []


def test_the_readme_quotes_the_study() -> None:
    said = (ROOT / "README.md").read_text(encoding="utf-8").split("Results so far")[1].split("\n\n")[0]
    study = "".join((ROOT / "docs" / page).read_text(encoding="utf-8") for page in ("demo-study.md", "model.md"))
    measured = re.findall(r"\d+\.\d+", said)
    assert len(measured) >= 4
    assert [number for number in measured if number not in study] == []
