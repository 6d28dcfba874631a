"""The whole report: the page, its figures, the same bytes twice, and what a browser says."""

import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from browser import chromium
from report_project import VARIANTS, Project

from tgdfer.core import paths, storage
from tgdfer.runs.files import Key
from tgdfer.stages import report as stage

EVIL = "<script>document.title='broken'</script>\"'&"


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
        manifest = storage.read_sealed(paths.frames("demo"))
        found = {"searched": 9600, "with_face": 9000, "face_side": 83.5, "doubtful_faces": 4}
        storage.write_sealed(paths.frames("demo"), manifest | found)
        made.fail(Key("dfew", "no-text", 1, 0), reason=EVIL)
        shutil.rmtree(paths.run("dfew", "linear-probe", 2, 0))
        stage.run(params)
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
def text(report: Path) -> str:
    return (report / "reports/index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_the_page_is_whole_and_contains_all_that_it_loads(page: Page) -> None:
    assert page.loaded
    assert all(source.startswith("data:") for source in page.loaded)
    assert len(page.ids) == len(set(page.ids))
    inside = [link[1:] for link in page.links if link.startswith("#")]
    assert set(inside) <= set(page.ids)
    assert not [link for link in page.links if "://" in link]


def test_files_that_the_page_links_to_exist(page: Page, report: Path) -> None:
    local = [link for link in page.links if not link.startswith("#") and "://" not in link]
    assert len(local) > 20
    assert all((report / "reports" / link).is_file() for link in local)


def test_every_row_of_a_table_has_all_columns(page: Page) -> None:
    tables = [table for table in page.tables if len(table[0]) > 1]
    assert len(tables) > 10
    for table in tables:
        assert len(table) > 1
        assert {len(row) for row in table} == {len(table[0])}


def test_what_comes_from_data_is_text_and_not_markup(page: Page, text: str) -> None:
    assert page.scripts == 1
    assert EVIL not in text
    assert "&lt;script&gt;document.title" in text
    assert "bad&lt;1&gt;" in text  # a rejected clip


def test_the_page_says_in_how_many_frames_a_face_was_found(text: str) -> None:
    said = "in 9000 of 9600 frames (93.8 %), side 84 pixels (median of the clips); the detector doubts the face in 4"
    assert text.count(f"{said} clips") == 1, "of one data set of two"


def test_the_summary_names_what_is_missing(text: str) -> None:
    assert "What is missing or not current" in text
    assert "fold 2, seed 0: not run" in text
    assert "4 of 6" in text
    assert "6 of 6" in text


def test_the_same_runs_make_the_same_bytes(report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tgdfer.config.params import load_params

    monkeypatch.chdir(report)
    before = {path: path.read_bytes() for path in Path("reports").rglob("*") if path.is_file()}
    assert {path.suffix for path in before} == {"", ".html", ".csv", ".md", ".tex", ".png", ".pdf", ".json"}
    stale = Path("reports/tables/main-gone.csv")
    stale.write_text("old")
    stage.run(load_params())
    after = {path: path.read_bytes() for path in Path("reports").rglob("*") if path.is_file()}
    assert [str(path) for path in before if before[path] != after.get(path)] == []
    assert set(before) == set(after)


def test_before_any_run_there_is_a_page_that_says_so(new_folder: Path) -> None:
    params = Project(truth=False).params
    stage.run(params)
    text = Path("reports/index.html").read_text(encoding="utf-8")
    assert "no results yet" in text
    assert Path("reports/tables").is_dir()
    assert Path("reports/figures").is_dir()


CONTRAST = """() => {
  const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n[3] ?? 1]; };
  const over = (top, under) => [0, 1, 2].map((i) => top[3] * top[i] + (1 - top[3]) * under[i]).concat(1);
  const linear = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = (c) => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
  const ground = (e) => {
    if (!e) return [255, 255, 255, 1];
    const own = parse(getComputedStyle(e).backgroundColor);
    return own[3] === 1 ? own : over(own, ground(e.parentElement));
  };
  document.querySelectorAll("details").forEach((d) => { d.open = true; });
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const low = []; let seen = 0;
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, style = getComputedStyle(element);
    if (!walker.currentNode.data.trim() || !element.getClientRects().length || style.visibility === "hidden") continue;
    let alpha = 1;
    for (let e = element; e; e = e.parentElement) alpha *= getComputedStyle(e).opacity;
    const under = ground(element), ink = parse(style.color);
    ink[3] *= alpha;
    const [a, b] = [light(over(ink, under)), light(under)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    seen += 1;
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (large ? 3 : 4.5)) low.push([walker.currentNode.data.trim().slice(0, 40), style.color, ratio]);
  }
  return {seen, low};
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, headless."""
    with chromium() as started:
        yield started


class Visit:
    """The page in a browser that reaches nothing; ``said``: console and failures, ``asked``: what wanted to leave."""

    def __init__(self, browser: Any, address: str, **settings: Any) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page = browser.new_context(**settings).new_page()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))

        def route(route: Any) -> None:
            if route.request.url == address or route.request.url.startswith("data:"):
                route.continue_()
            else:
                self.asked.append(route.request.url)
                route.abort()

        self.page.route("**/*", route)
        self.page.goto(address)


@pytest.fixture
def visit(browser: Any, report: Path) -> Iterator[Any]:
    """Opens the page; in the end nothing was reported and nothing asked for, whatever the test did."""
    visits: list[Visit] = []

    def open_(**settings: Any) -> Any:
        visits.append(Visit(browser, (report / "reports/index.html").as_uri(), **settings))
        return visits[-1].page

    yield open_
    for done in visits:
        done.page.context.close()
        assert done.asked == []
        assert done.said == []


def test_the_watch_on_console_and_requests_can_fail(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "bad.html"
    path.write_text("<p>bad</p><img src='http://127.0.0.1:9/x.png'><script>missing()</script>")
    bad = Visit(browser, path.as_uri())
    assert bad.asked == ["http://127.0.0.1:9/x.png"]
    assert any("missing" in said for said in bad.said)


def test_a_click_on_a_head_sorts_and_a_second_click_reverses_the_order(visit: Any) -> None:
    page = visit()
    assert page.title() == "TG-DFER: results"
    table = page.locator("#main-dfew table")
    column = table.locator("thead th").count()

    def read(place: int) -> list[str]:
        cells = table.locator(f"tbody tr > :nth-child({place})")
        return cells.evaluate_all("cells => cells.map((cell) => cell.dataset.value)")

    head = table.locator("thead th").nth(column - 1)
    for order, reverse in (("descending", True), ("ascending", False)):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == order
        values = read(column)
        numbers = [float(value) for value in values if value]
        assert numbers == sorted(numbers, reverse=reverse)
        assert len(numbers) > 10
        assert "" not in values[: len(numbers)]  # what is not known stays last
    head.locator("button").press("Enter")  # without a mouse
    assert head.get_attribute("aria-sort") == "descending"
    table.locator("thead th").first.locator("button").click()
    names = read(1)
    assert names == page.evaluate("names => [...names].sort((a, b) => a.localeCompare(b))", names)
    assert head.get_attribute("aria-sort") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_of_all_text_is_enough(visit: Any, scheme: str) -> None:
    """WCAG 2.2, AA: 4.5 to 1, for large text 3 to 1, computed for every text node as it is drawn."""
    page = visit(color_scheme=scheme)
    found = page.evaluate(CONTRAST)
    assert found["seen"] > 300
    assert found["low"] == []
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 27)"
    assert dark == (scheme == "dark")
    page.evaluate("document.querySelector('.tile .detail').style.color = '#777'")
    assert len(page.evaluate(CONTRAST)["low"]) == 1


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_the_page_is_not_wider_than_the_screen(visit: Any, width: int) -> None:
    page = visit(viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    for block in page.locator(".scroll").all():
        box = block.bounding_box()
        assert box is None or box["x"] + box["width"] <= width
    right = "(e) => Math.round(e.getBoundingClientRect().right)"
    numbers = page.locator("#main-demo th.num button, #main-demo tbody tr:first-child td.num .value")
    ends = numbers.evaluate_all(f"(found) => found.map({right})")
    assert ends[: len(ends) // 2] == ends[len(ends) // 2 :], "a head ends where its numbers end"


def test_it_prints_with_its_notes_and_without_its_controls(visit: Any) -> None:
    page = visit(color_scheme="dark")
    page.emulate_media(media="print", color_scheme="light")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("[...document.querySelectorAll('details.notes:not(.runs)')].every((d) => d.open)")
    assert page.evaluate(CONTRAST)["low"] == []
    heads = printed(page).count("Surprise")
    more = "for (let i = 0; i < 80; i++) document.querySelector('tbody').insertRow().innerHTML = '<td>another</td>'"
    page.evaluate(more)
    assert printed(page).count("Surprise") > heads, "the head of a table is there again on its next page"


def printed(page: Any) -> str:
    """The text of the page on paper."""
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    if not shutil.which("pdftotext"):
        pytest.skip("needs pdftotext: apt-get install poppler-utils")
    return subprocess.run(["pdftotext", "-", "-"], input=pdf, capture_output=True, check=True).stdout.decode()
