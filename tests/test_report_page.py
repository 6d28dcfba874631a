"""The whole report: the page, its figures, the same bytes twice, and what a browser says."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from report_project import VARIANTS, Project

from tgdfer import paths
from tgdfer.errors import UserError
from tgdfer.reporting import make_report

EVIL = "<script>document.title='broken'</script>\"'&"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A report on two data sets: one whole with frames, one with a failed variant and an evil label."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        variants = {name: dict(VARIANTS[name]) for name in ("tgdfer", "no-text", "linear-probe")}
        variants["no-text"]["label"] = f"without {EVIL}"
        made = Project(
            datasets={"demo": "folder", "dfew": "dfew"}, variants=variants, folds=2, clips=60, bootstrap=50, frames=True
        )
        params = made.write()
        made.fail("dfew", "no-text", 1, 0, EVIL)
        shutil.rmtree(paths.run("dfew", "linear-probe", 2, 0))
        make_report(params)
        yield folder


class Page(HTMLParser):
    """Checks nesting, and keeps ids, links and what is loaded."""

    VOID = ("meta", "link", "img", "br", "hr", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.scripts = 0
        self.tables: list[list[list[str]]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given["href"] or ""] if tag == "a" else []
        self.loaded += [given[key] or "" for key in ("src", "srcset", "data", "poster") if key in given]
        self.loaded += [given["href"] or ""] if tag == "link" else []
        self.scripts += tag == "script"
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("th", "td"):
            self.tables[-1][-1].append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.tables and self.tables[-1] and self.tables[-1][-1]:
            self.tables[-1][-1][-1] += data


@pytest.fixture(scope="module")
def page(report: Path) -> Page:
    return Page((report / "reports/index.html").read_text(encoding="utf-8"))


def test_the_page_is_whole_and_holds_all_it_loads(page: Page) -> None:
    assert page.loaded
    assert all(source.startswith("data:") for source in page.loaded)
    assert len(page.ids) == len(set(page.ids))
    inside = [link[1:] for link in page.links if link.startswith("#")]
    assert set(inside) <= set(page.ids)
    outside = [link for link in page.links if "://" in link]
    assert outside
    assert all(link.startswith("http://127.0.0.1:5000/#/") for link in outside)


def test_files_that_the_page_links_to_exist(page: Page, report: Path) -> None:
    local = [link for link in page.links if not link.startswith("#") and "://" not in link]
    assert len(local) > 20
    assert all((report / "reports" / link).is_file() for link in local)


def test_every_row_of_a_table_has_all_columns(page: Page) -> None:
    for table in page.tables:
        assert len({len(row) for row in table}) == 1


def test_what_comes_from_data_is_text_and_not_markup(page: Page, report: Path) -> None:
    text = (report / "reports/index.html").read_text(encoding="utf-8")
    assert page.scripts == 1
    assert EVIL not in text
    assert "&lt;script&gt;document.title" in text
    assert "bad&lt;1&gt;" in text  # a rejected clip


def test_gaps_are_said_in_the_summary(report: Path) -> None:
    text = (report / "reports/index.html").read_text(encoding="utf-8")
    assert "What is missing" in text
    assert "fold 2, seed 0: not run" in text
    assert "4 of 6" in text
    assert "6 of 6" in text


def test_the_same_runs_make_the_same_bytes(report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tgdfer.params import load_params

    monkeypatch.chdir(report)
    before = {path: path.read_bytes() for path in Path("reports").rglob("*") if path.is_file()}
    assert {path.suffix for path in before} == {".html", ".csv", ".md", ".tex", ".png", ".pdf", ".json"}
    stale = Path("reports/tables/main-gone.csv")
    stale.write_text("old")
    make_report(load_params())
    after = {path: path.read_bytes() for path in Path("reports").rglob("*") if path.is_file()}
    assert [str(path) for path in before if before[path] != after.get(path)] == []
    assert set(before) == set(after)


def test_before_any_run_there_is_a_page_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    params = Project(truth=False).params
    make_report(params)
    text = Path("reports/index.html").read_text(encoding="utf-8")
    assert "no results yet" in text
    assert Path("reports/tables").is_dir()
    assert Path("reports/figures").is_dir()


def test_a_broken_summary_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = Project(truth=False, clips=60, folds=2)
    made._data("demo", np.random.default_rng(0))
    paths.variant("demo", "tgdfer").parent.mkdir(parents=True)
    paths.variant("demo", "tgdfer").write_text("{")
    with pytest.raises(UserError, match=r"runs/demo/tgdfer/summary\.json: not valid JSON"):
        make_report(made.params)


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_contrast_of_text_is_enough_in_light_and_dark() -> None:
    """WCAG 2.2 asks for 4.5 to 1."""
    css = (Path(paths.__file__).parent / "reporting/template/page.css").read_text(encoding="utf-8")
    for block in re.findall(r":root \{(.*?)\}", css, flags=re.DOTALL)[:2]:
        colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block))
        assert len(colours) >= 11
        pairs = [(ink, ground) for ink in ("ink", "soft", "accent") for ground in ("ground", "paper", "tint")]
        for ink, ground in [*pairs, ("warn-ink", "warn")]:
            light, dark = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_in_a_browser_sorting_works_and_nothing_is_reported(report: Path, tmp_path: Path) -> None:
    """The page's own script in Chromium, driven by one that is added to a copy of the page."""
    drive = """<script>
    const table = document.querySelector("#main-dfew table");
    const read = (c) => [...table.tBodies[0].rows].map((row) => row.cells[c].dataset.value);
    const heads = [...table.tHead.rows[0].cells];
    const war = heads.length - 1;
    const found = {};
    heads[war].firstChild.click(); found.down = read(war);
    heads[war].firstChild.click(); found.up = read(war);
    heads[0].firstChild.click(); found.names = read(0);
    found.sorted = heads[0].getAttribute("aria-sort"); found.title = document.title;
    found.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
    found.requests = performance.getEntriesByType("resource").filter((e) => !e.name.startsWith("data:")).length;
    const out = document.createElement("pre"); out.id = "found"; out.textContent = JSON.stringify(found);
    document.body.append(out);
    </script></body>"""
    text = (report / "reports/index.html").read_text(encoding="utf-8")
    copy = tmp_path / "page.html"
    copy.write_text(text.replace("</body>", drive), encoding="utf-8")
    assert CHROMIUM is not None
    browser = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=500,900",
            "--dump-dom", copy.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in browser.stderr, browser.stderr
    import html
    import json

    found = json.loads(html.unescape(re.findall(r'<pre id="found">(.*?)</pre>', browser.stdout, re.DOTALL)[0]))
    down, up = [[float(v) for v in found[key] if v] for key in ("down", "up")]
    assert down == sorted(down, reverse=True)
    assert up == sorted(up)
    assert len(down) == len(found["names"]) == 35
    assert found["names"] == sorted(found["names"], key=str.casefold) or found["names"][0].startswith("3D")
    assert found["sorted"] == "ascending"
    assert found["title"] == "TG-DFER: results"
    assert found["wide"] <= 0, "the page is wider than a phone"
    assert found["requests"] == 0
