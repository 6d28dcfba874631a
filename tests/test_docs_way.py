"""Everything in README and docs works: a reader runs every block of every page, in order, in a clone.

The first block of the quickstart makes the clone and runs `make demo` in it, with small parameters; each page
starts from a copy of that. Commands and Python run, code is added to the file that the page names, settings go into
params.yaml. `<!-- needs: ... -->` skips a block; ``INSTEAD`` lists what is replaced.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from graphs import ROOT
from media import write_csv
from pages import BLOCKS, PAGES
from prediction_project import face, film, picture
from reader import QUICKSTART, Reader, to_follow

pytestmark = pytest.mark.graph

MADE = {
    "README.md": "predictions/holiday.json docs/datasets/mine.md reports/index.html",
    "docs/predict.md": "predictions/holiday.json predictions/holiday.png predictions/predictions.csv "
    "predictions/NOTICE.txt out/predictions.csv out/**/happy.png talk-annotated.mp4 given-away/*.safetensors "
    "given-away/*.md",
    "docs/howto-dataset.md": "videos/clips.csv docs/datasets/mine.md tests/datasets/test_dataset_mine.py "
    "data/mine/frames",
    "docs/howto-ablation.md": "runs/demo/window-7/summary.json",
    "docs/howto-baseline.md": "runs/demo/max-pool/summary.json",
    "docs/experiments.md": "dvc_plots/index.html ../lab/tgdfer-dvc/files/md5 ../tgdfer/reports/index.html",
    "docs/commands.md": "../home/.bash_completions/tgdfer.sh",
}
"""What exists at the end of a page, as patterns below the clone."""

PRINTED = {
    "docs/quickstart.md": ["The report: .*/tgdfer/reports/index.html", "tgdfer +2 done"],
    "docs/howto-ablation.md": [r"\ntrain +1\n"],
    "docs/experiments.md": ["Ran experiment", r"\[longer\]", "files pushed", "files fetched", "'report' didn't change"],
    "docs/predict.md": ['"prediction": "', "s of video per second"],
}
"""What the commands of a page print."""


def different_pages() -> list[Path]:
    """The pages with a block to run that none before them has."""
    seen: set[str] = set()
    pages = []
    for page in [QUICKSTART, *(page for page in PAGES if page != QUICKSTART)]:
        texts = {block.text for block in to_follow(page) if block.kind != "yaml"}
        if texts - seen:
            pages.append(page)
        seen |= texts
    return pages


def put_videos(root: Path) -> None:
    """Videos of a drawn face in a room, and a list of some of them as a lab might have it."""
    frames = [picture((face(0, 120, "happy", step / 60), 40 + step % 5, 50)) for step in range(60)]
    one = film(root / "holiday.mp4", frames[:20])
    shutil.copy(one, root / "clip.mp4")
    film(root / "talk.mp4", frames)
    rows = []
    for number, person in enumerate(("anna", "ben")):
        for name, label in (("happy", "Happiness"), ("anger", "Anger")):
            for copy in (root / "videos" / person / f"{name}.mp4", root / "more" / name / f"{number}.mp4"):
                copy.parent.mkdir(parents=True, exist_ok=True)
                start = 4 * len(rows) + (copy.parent.name == name)  # the same clip twice would be left out
                film(copy, frames[start : start + 20])
            rows.append(f"{person}/{name}.mp4,{label},{person}")
    write_csv(root / "videos" / "list.csv", "video,emotion,actor", rows)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few videos."""
    root = tmp_path_factory.mktemp("videos")
    put_videos(root)
    return root


@pytest.fixture
def reader(finished: Reader, videos: Path, tmp_path: Path) -> Iterator[Reader]:
    """Another reader, with a copy of that clone and of its home folder, and with the videos."""
    shutil.copytree(finished.clone, tmp_path / "project", symlinks=True)
    shutil.copytree(videos, tmp_path / "project", dirs_exist_ok=True)
    shutil.copytree(finished.home, tmp_path / "home")
    reader = Reader(tmp_path / "project", tmp_path / "home")
    yield reader
    reader.leave()


@pytest.mark.parametrize("page", different_pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_can_be_followed(page: Path, finished: Reader, reader: Reader) -> None:
    blocks = to_follow(page)
    if page == QUICKSTART:
        reader.printed, blocks = finished.printed, blocks[1:]
    for block in blocks:
        reader.follow(block)
    name = str(page.relative_to(ROOT))
    for path in MADE.get(name, "").split():
        assert list(reader.clone.glob(path)) or (reader.clone / path).exists(), f"{name}: {path}"
    for words in PRINTED.get(name, []):
        assert re.search(words, reader.printed), f"{name}: {words}\n{reader.printed}"


def test_the_outputs_are_those_that_the_readme_lists(finished: Reader) -> None:
    (listed,) = [block.text for block in BLOCKS if block.text.startswith("reports/index.html")]
    for line in listed.splitlines():
        where, about = re.split(" {2,}", line, maxsplit=1)
        names = [f"{where}{name}" for name in re.split(r",(?![^{]*\}) *", about)] if where.endswith("/") else [where]
        for name in names:
            pattern = re.sub("<.*?>", "*", name)
            group = re.search(r"\{(.*?)\}", pattern)
            for one in group[1].split(",") if group else [""]:
                path = pattern.replace(group[0], one) if group else pattern
                assert list(finished.clone.glob(path)), path
