"""The page of a video in a real browser: it follows the video, and the video follows it; names stay text."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import chromium
from media import convert
from PIL import Image
from prediction_project import film

from tgdfer.core.storage import write_json
from tgdfer.prediction.index import write_index
from tgdfer.prediction.page import write_page
from tgdfer.prediction.result import NOTICE, FaceBox, FrameScore, Person, Prediction, Thumbnail, Window

SECONDS, FPS = 6, 10
EVIL = "<script>document.title='broken'</script>\"'&"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


def made(source: Path, start: float = 0.0, names: tuple[str, str] = ("happy", "sad")) -> Prediction:
    """A prediction for two persons: one in the first four seconds, whose first class goes from 0 to 1, one later."""
    jpeg = io.BytesIO()
    Image.new("RGB", (40, 40), "teal").save(jpeg, "JPEG")

    def person(number: int, first: float, last: float, left: float) -> Person:
        windows = []
        for begin in np.arange(first, last - 1, 0.5):
            share = (begin - first) / (last - 1.5 - first)
            frames = [FrameScore(k, start + begin + k / 4, 0.25, {}) for k in range(4)]
            probabilities = dict(zip(names, (share, 1 - share), strict=True))
            windows.append(Window(start + begin, start + begin + 1, probabilities, frames))
        boxes = [FaceBox(start + t, left, 0.25, 0.2, 0.3, 0.9) for t in np.arange(first, last, 0.5)]
        thumbnails = [Thumbnail(start + first + k, jpeg.getvalue(), decisive=k == 1) for k in range(2)]
        return Person(number, windows, boxes, thumbnails)

    model = {
        "name": "demo/tgdfer fold 1 seed 0",
        "fingerprint": "f" * 64,
        "encoder": "demo-clip",
        "classes": list(names),
    }
    persons = [person(1, 0.0, 4.0, 0.1), person(2, 4.0, 6.0, 0.6)]
    return Prediction(str(source), start, SECONDS, (320, 240), persons, [], "face", model, 1.0, ["two persons"])


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video whose file name is hostile."""
    pictures = [np.full((240, 320, 3), 40 + 3 * step, np.uint8) for step in range(SECONDS * FPS)]
    return film(tmp_path_factory.mktemp("clip") / "a #1?%41 <b>'&\".mp4", pictures, FPS)


def opened(browser: Any, path: Path, **options: Any) -> Any:
    """The page, with its video ready; everything that it asks for is on its own machine."""
    page = browser.new_page(**options)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: asked.append(f"error: {error}"))
    page.goto(path.as_uri())
    until(page, "document.querySelector('video').readyState >= 2")
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked), asked
    return page


def until(page: Any, condition: str) -> None:
    """Wait for a condition; the page's own policy forbids Playwright's way of waiting for one."""
    end = time.monotonic() + 30
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(50)


def state(page: Any) -> dict[str, Any]:
    """The time of the video, the place of the cursor in seconds, and the number that is shown for the first class."""
    return page.evaluate("""() => {
        const section = document.querySelector(".person:not([hidden])");
        return {
            time: document.querySelector("video").currentTime,
            cursor: parseFloat(section.querySelector(".cursor").style.left) / 100 * (data.end - data.start),
            now: section.querySelector(".values span:nth-child(2)").textContent,
            box: document.querySelector(".box").hidden ? null : document.querySelector(".box").style.left,
        };
    }""")


@pytest.mark.parametrize("embed", [False, True])
def test_the_cursor_follows_the_video_and_a_click_jumps(browser: Any, clip: Path, tmp_path: Path, embed: bool) -> None:
    path = tmp_path / "folder" / "page.html"
    path.parent.mkdir()
    write_page(made(clip), path, embed)
    page = opened(browser, path)
    # the video moves the page
    page.evaluate("document.querySelector('video').play()")
    until(page, "document.querySelector('video').currentTime > 1")
    page.evaluate("document.querySelector('video').pause()")
    page.wait_for_timeout(200)
    first = state(page)
    assert first["time"] > 1
    assert first["cursor"] == pytest.approx(first["time"], abs=0.15)
    assert first["box"] == "10%"
    # a click in the curves moves the video
    plot = page.locator(".person:not([hidden]) .plot input").bounding_box()
    page.mouse.click(plot["x"] + 0.25 * plot["width"], plot["y"] + 60)
    until(page, "!document.querySelector('video').seeking")
    second = state(page)
    assert second["time"] == pytest.approx(0.25 * SECONDS, abs=0.05)
    assert second["cursor"] == pytest.approx(0.25 * SECONDS, abs=0.05)
    assert second["now"] == "45 %", "between the middles of the windows that begin at 1 s and at 1.5 s"
    # so do a frame and a key
    page.locator(".person:not([hidden]) .frames .decisive button").click()
    until(page, "!document.querySelector('video').seeking")
    assert state(page)["time"] == pytest.approx(1, abs=0.05)
    page.locator(".person:not([hidden]) .plot input").focus()
    page.keyboard.press("ArrowRight")
    until(page, "!document.querySelector('video').seeking")
    assert 1 < state(page)["time"] < 2
    # the other person is not there yet
    page.locator("input[name=person]").nth(0).focus()
    page.keyboard.press("ArrowRight")
    assert state(page)["now"] == "–"
    assert state(page)["box"] is None
    page.evaluate("go(5)")
    assert state(page)["box"] == "60%"
    assert page.title() == f"{clip.name}: expressions"
    page.close()


def test_the_page_says_while_another_face_is_on_screen(browser: Any, clip: Path, tmp_path: Path) -> None:
    both = made(clip)
    largest = replace(both, persons=both.persons[:1], others_s=[(2.0, 3.0), (5.0, 6.0)])
    for name, prediction, shown in (("one", largest, [2.5, 3.0, 5.5]), ("all", both, [])):
        write_page(prediction, tmp_path / f"{name}.html", embed=False)
        page = opened(browser, tmp_path / f"{name}.html")
        said = []
        for moment in (0.5, 1.9, 2.5, 3.0, 3.1, 5.5):
            page.evaluate(f"show({moment})")
            if page.get_by_text("Another face is on screen here; this page has no answer for it.").count():
                said.append(moment)
        assert said == shown
        page.close()


def test_a_page_fits_a_phone_and_paper(browser: Any, clip: Path, tmp_path: Path) -> None:
    write_page(made(clip), tmp_path / "page.html", embed=False)
    page = opened(browser, tmp_path / "page.html", viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.emulate_media(media="print")
    assert page.locator(".person:visible").count() == 2, "paper has no buttons to choose with"
    assert not page.locator("video").is_visible()
    page.close()


def test_what_a_browser_cannot_play_is_said(browser: Any, clip: Path, tmp_path: Path) -> None:
    for target, options in (("a.avi", ("-c:v", "mjpeg")), ("gone.mp4", ())):
        other = convert(clip, tmp_path / target, *options)
        write_page(made(other), tmp_path / "page.html", embed=False)
        if target == "gone.mp4":
            other.unlink()
        page = browser.new_page()
        page.goto((tmp_path / "page.html").as_uri())
        page.locator(".unplayable").wait_for(timeout=20_000)
        page.evaluate("go(1.5)")
        assert page.locator(".values span:nth-child(2)").first.text_content() == "45 %"
        page.close()


def test_an_embedded_broadcast_is_in_step_with_its_numbers(browser: Any, clip: Path, tmp_path: Path) -> None:
    sound = ("-f", "lavfi", "-i", "sine=d=6", "-map", "0:v", "-map", "1:a")
    late = convert(clip, tmp_path / "late.ts", *sound, before=("-itsoffset", "1.2"))
    write_page(made(late), tmp_path / "page.html", embed=True)
    page = opened(browser, tmp_path / "page.html")
    page.evaluate("go(1)")
    until(page, "!document.querySelector('video').seeking")
    assert state(page)["time"] == pytest.approx(2.2, abs=0.05)
    assert state(page)["cursor"] == pytest.approx(1, abs=0.05)
    page.close()


def test_names_stay_text(tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    folder.mkdir()
    evil = made(folder, names=(EVIL, "</script><b>"))
    write_page(evil, tmp_path / "page.html", embed=False)
    row = {"source": EVIL, "file": EVIL, "person": "1", "start_s": "0", "end_s": "1", "prediction": EVIL, "reason": ""}
    write_index(
        [{**row, f"p_{EVIL}": "0.75", "p_sad": "0.25"}, {**row, "person": "", "reason": EVIL}], tmp_path / "i.html"
    )
    for name, scripts in (("page.html", 2), ("i.html", 0)):
        text = (tmp_path / name).read_text()
        assert text.count("<script") == scripts
        assert "<b>" not in re.sub(r"<b>\d", "", text), "only numbers are bold"
        assert NOTICE.split("'")[1] in text


def test_the_index_shows_a_person_only_while_the_face_is_seen(tmp_path: Path) -> None:
    """A window may begin before a cut; the whole strip is 1000 wide."""
    row = {"source": "a.mp4", "file": "a", "prediction": "happy", "reason": "", "p_happy": "0.75", "p_sad": "0.25"}
    places = {1: (0, 4, [[0.0, 2.7]]), 2: (2, 10, [[3.0, 10.0]])}
    rows = [{**row, "person": str(n), "start_s": str(a), "end_s": str(b)} for n, (a, b, _) in places.items()]
    persons = [{"person": number, "seen_s": seen} for number, (_, _, seen) in places.items()]
    write_json(tmp_path / "a.json", {"persons": persons})
    write_index(rows, tmp_path / "i.html")
    assert re.findall(r'<rect x="([\d.]+)" width="([\d.]+)"', (tmp_path / "i.html").read_text()) == [
        ("0.0", "270.0"),
        ("300.0", "700.0"),
    ]


def test_a_page_without_a_face_has_no_number(tmp_path: Path, clip: Path) -> None:
    nobody = made(clip)
    nobody.persons.clear()
    nobody.without_face.append(Window(0, 6, {}, [], None, "no face found"))
    write_page(nobody, tmp_path / "page.html", embed=False)
    text = (tmp_path / "page.html").read_text().partition("<body>")[2].partition("<script")[0]
    assert "No face found" in text
    assert " %<" not in text
