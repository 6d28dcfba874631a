"""Everything in README and docs works: a reader runs every block of every page, in order, in a clone.

The first block of the quickstart makes the clone and runs `make demo` in it, with small parameters; each page
starts from a copy of that. Commands and Python run, code is added to the file that the page names, settings go into
params.yaml. `<!-- needs: ... -->` skips a block; ``INSTEAD`` lists what is replaced.
"""

import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from graphs import ROOT, environment, tiny
from media import write_csv
from pages import BLOCKS, PAGES, Block, merged, repository
from prediction_project import face, film, picture
from slurm_cluster import free_ports

from tgdfer.config.params import Params

pytestmark = pytest.mark.graph

SERVES = re.compile(r"(make ui|mlflow server)\b")
QUICKSTART = ROOT / "docs" / "quickstart.md"

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


class Reader:
    """Somebody with a clone, who follows a page."""

    def __init__(self, clone: Path, home: Path) -> None:
        self.clone, self.home = clone, home
        self.printed = ""
        self.servers: list[subprocess.Popen[bytes]] = []
        self.ports = {name: str(port) for name, port in zip(("PORT", "UI_PORT"), free_ports(2), strict=True)}
        home.mkdir(exist_ok=True)

    def follow(self, block: Block) -> None:
        """Do what a block says, and keep what it prints."""
        shell = ["bash", "-euo", "pipefail", "-c", block.here]
        if block.kind == "yaml" and not block.file:
            self.set(yaml.safe_load(block.text))
        elif block.file:
            with (self.clone / block.file).open("a", encoding="utf-8") as stream:
                stream.write(f"\n\n{block.text}")
        elif SERVES.match(block.text):
            self.serve(block, shell)
        else:
            command = ["python", "-c", block.text] if block.kind == "python" else shell
            where = self.clone.parent if block.text.startswith("git clone") else self.clone
            options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            ran = subprocess.run(
                command, cwd=where, env=self.variables(), stdin=subprocess.DEVNULL, timeout=600, **options
            )
            assert ran.returncode == 0, f"{block}:\n{block.text}\nexit {ran.returncode}\n{ran.stdout[-6000:]}"
            self.printed += ran.stdout

    def variables(self) -> dict[str, str]:
        author = {
            f"GIT_{role}_{what}": "t@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        variables = {**environment(self.home), **author, **self.ports, "PROJECT": str(self.clone)}
        del variables["PYTHONDONTWRITEBYTECODE"]  # stages start faster with bytecode
        # the package of the current clone, whatever is installed
        return {**variables, "PYTHONPATH": ".", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}

    def serve(self, block: Block, shell: list[str]) -> None:
        """Start a server that runs until the reader leaves, and look at its first page."""
        log = self.clone.parent / "server.log"
        with log.open("ab") as stream:
            server = subprocess.Popen(
                shell,
                cwd=self.clone,
                env=self.variables(),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        self.servers.append(server)
        port = self.ports["UI_PORT" if "UI_PORT" in block.here else "PORT"]
        end = time.monotonic() + 240
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                    assert "MLflow" in answer.read().decode()
                    return
            except OSError:
                ended = server.poll() is not None or time.monotonic() > end
                assert not ended, f"{block}: does not answer\n{log.read_text()[-3000:]}"
                time.sleep(0.2)

    def set(self, settings: dict) -> None:
        """Put settings into params.yaml, and the names of variants into its ``grid``."""
        if set(settings) <= set(Params.model_fields):
            path = self.clone / "params.yaml"
            params = merged(yaml.safe_load(path.read_text(encoding="utf-8")), settings)
            params["grid"] += settings.get("variants", {})
            path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")

    def leave(self) -> None:
        for server in self.servers:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


def to_follow(page: Path) -> list[Block]:
    return [block for block in BLOCKS if block.page == page and block.kind and not block.needs]


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
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """A reader who has followed the first block of the quickstart and has a few videos."""
    folder = tmp_path_factory.mktemp("docs")
    reader = Reader(repository(folder / "project", tiny()).root, folder / "home")
    reader.follow(to_follow(QUICKSTART)[0])
    reader.clone = folder / "tgdfer"
    put_videos(reader.clone)
    return reader


@pytest.fixture
def reader(quickstart: Reader, tmp_path: Path) -> Iterator[Reader]:
    """Another reader, with a copy of that clone and of its home folder."""
    shutil.copytree(quickstart.clone, tmp_path / "project", symlinks=True)
    shutil.copytree(quickstart.home, tmp_path / "home")
    reader = Reader(tmp_path / "project", tmp_path / "home")
    yield reader
    reader.leave()


@pytest.mark.parametrize("page", different_pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_can_be_followed(page: Path, quickstart: Reader, reader: Reader) -> None:
    blocks = to_follow(page)
    if page == QUICKSTART:
        reader.printed, blocks = quickstart.printed, blocks[1:]
    for block in blocks:
        reader.follow(block)
    name = str(page.relative_to(ROOT))
    for path in MADE.get(name, "").split():
        assert list(reader.clone.glob(path)) or (reader.clone / path).exists(), f"{name}: {path}"
    for words in PRINTED.get(name, []):
        assert re.search(words, reader.printed), f"{name}: {words}\n{reader.printed}"


def test_the_outputs_are_those_that_the_readme_lists(quickstart: Reader) -> None:
    (listed,) = [block.text for block in BLOCKS if block.text.startswith("reports/index.html")]
    for line in listed.splitlines():
        where, about = re.split(" {2,}", line, maxsplit=1)
        names = [f"{where}{name}" for name in re.split(r",(?![^{]*\}) *", about)] if where.endswith("/") else [where]
        for name in names:
            pattern = re.sub("<.*?>", "*", name)
            group = re.search(r"\{(.*?)\}", pattern)
            for one in group[1].split(",") if group else [""]:
                path = pattern.replace(group[0], one) if group else pattern
                assert list(quickstart.clone.glob(path)), path
