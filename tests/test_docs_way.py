"""A reader's way through README and docs: every block of every page is done, in its order, in a clone of one's own.

The first block of the quickstart makes the clone and runs `make demo` in it, with parameters as small as they go; each
page begins in a copy of that. Commands run, Python runs or goes into the file that the page names, settings go into
params.yaml. What is left out says why (``<!-- needs: data -->``); what is done in another way stands in ``INSTEAD``.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from graphs import ROOT, environment, tiny
from media import write_csv
from pages import BLOCKS, PAGES, Block, merged, repository
from prediction_project import face, film, picture
from slurm.cluster import free_ports

from tgdfer.config.params import Params

pytestmark = [pytest.mark.graph, pytest.mark.xdist_group("docs-way")]

SERVES = re.compile(r"(make ui|mlflow server)\b")
QUICKSTART = ROOT / "docs" / "quickstart.md"

MADE = {
    "README.md": ["predictions/holiday.json", "docs/datasets/mine.md", "reports/index.html"],
    "docs/predict.md": [
        *(f"predictions/{name}" for name in ("holiday.json", "holiday.png", "predictions.csv", "NOTICE.txt")),
        *(
            "out/predictions.csv",
            "out/**/happy.png",
            "talk-annotated.mp4",
            "given-away/*.safetensors",
            "given-away/*.md",
        ),
    ],
    "docs/howto-dataset.md": [
        "videos/clips.csv",
        "docs/datasets/mine.md",
        "tests/test_dataset_mine.py",
        "data/mine/frames",
    ],
    "docs/howto-ablation.md": ["runs/demo/window-6/summary.json"],
    "docs/howto-baseline.md": ["runs/demo/max-pool/summary.json"],
    "docs/experiments.md": ["dvc_plots/index.html", "../lab/tgdfer-dvc/files/md5", "../tgdfer/reports/index.html"],
    "docs/commands.md": ["../home/.bash_completions/tgdfer.sh"],
}
"""What must lie there at the end of a page, from the clone on."""

SAID = {
    "docs/quickstart.md": ["The report: .*/tgdfer/reports/index.html", "tgdfer +2 done"],
    "docs/howto-ablation.md": [r"\ntrain +1\n"],
    "docs/experiments.md": ["Ran experiment", r"\[longer\]", "files pushed", "files fetched", "'report' didn't change"],
    "docs/predict.md": ['"prediction": "', "s of video in a second"],
}
"""What the commands of a page must have printed."""


class Reader:
    """Somebody with a clone, who does what a page says."""

    def __init__(self, clone: Path, home: Path) -> None:
        self.clone, self.home = clone, home
        self.said = ""
        self.servers: list[subprocess.Popen[bytes]] = []
        self.ports = dict(zip(("PORT", "UI_PORT"), free_ports(2), strict=True))

    def does(self, block: Block) -> None:
        """One block; what it prints is kept."""
        if block.kind == "yaml":
            self.sets(yaml.safe_load(block.text))
        elif block.file:
            with (self.clone / block.file).open("a", encoding="utf-8") as stream:
                stream.write(f"\n\n{block.text}")
        elif block.kind == "python":
            self.runs(block, ["python", "-c", block.text])
        elif SERVES.match(block.text):
            self.serves(block)
        else:
            self.runs(block, ["bash", "-euo", "pipefail", "-c", block.here])

    def runs(self, block: Block, command: list[str]) -> None:
        self.home.mkdir(exist_ok=True)
        cloning = block.text.startswith("git clone")
        ran = subprocess.run(
            command,
            cwd=self.clone.parent if cloning else self.clone,
            env=self.variables(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        assert ran.returncode == 0, f"{block}:\n{block.text}\nexit {ran.returncode}\n{ran.stdout[-6000:]}"
        self.said += ran.stdout

    def variables(self) -> dict[str, str]:
        who = {f"GIT_{role}_{what}": "t@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        around = environment(self.home)
        # as people have it: stages start quicker
        del around["PYTHONDONTWRITEBYTECODE"]
        return {
            **around,
            **who,
            **{name: str(port) for name, port in self.ports.items()},
            "PROJECT": str(self.clone),
            # the package of the clone one is in, whatever is installed
            "PYTHONPATH": ".",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }

    def serves(self, block: Block) -> None:
        """Start a server that stays until the reader leaves, and look at its first page."""
        log = self.clone.parent / "server.log"
        with log.open("ab") as stream:
            server = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", block.here],
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

    def sets(self, settings: dict) -> None:
        """Settings into params.yaml; variants into ``grid`` as well, as the pages say."""
        if not set(settings) <= set(Params.model_fields):
            return
        path = self.clone / "params.yaml"
        params = merged(yaml.safe_load(path.read_text(encoding="utf-8")), settings)
        params["grid"] += settings.get("variants", {})
        path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")

    def leaves(self) -> None:
        for server in self.servers:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


def to_do(page: Path) -> list[Block]:
    return [block for block in BLOCKS if block.page == page and block.kind and not block.needs]


def different() -> list[Path]:
    """The pages with something to do that no page before them has."""
    seen: set[str] = set()
    pages = []
    for page in [QUICKSTART, *(page for page in PAGES if page != QUICKSTART)]:
        texts = {block.text for block in to_do(page) if block.kind != "yaml"}
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
            (root / "videos" / person).mkdir(parents=True, exist_ok=True)
            shutil.copy(one, root / "videos" / person / f"{name}.mp4")
            rows.append(f"{person}/{name}.mp4,{label},{person}")
            (root / "more" / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(one, root / "more" / name / f"{number}.mp4")
    write_csv(root / "videos" / "list.csv", "video,emotion,actor", rows)


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Who has done the first block of the quickstart, and has a few videos."""
    folder = tmp_path_factory.mktemp("docs")
    reader = Reader(repository(folder / "project", tiny()).root, folder / "home")
    first, *_ = to_do(QUICKSTART)
    reader.does(first)
    reader.clone = folder / "tgdfer"
    put_videos(reader.clone)
    return reader


@pytest.fixture
def reader(quickstart: Reader, tmp_path: Path) -> Iterator[Reader]:
    """Somebody else with a copy of that clone, but for what lies at home."""
    shutil.copytree(quickstart.clone, tmp_path / "project", symlinks=True)
    shutil.copytree(quickstart.home, tmp_path / "home")
    reader = Reader(tmp_path / "project", tmp_path / "home")
    yield reader
    reader.leaves()


@pytest.mark.parametrize("page", different(), ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_says_is_done(page: Path, quickstart: Reader, reader: Reader) -> None:
    blocks = to_do(page)
    if page == QUICKSTART:
        reader.said, blocks = quickstart.said, blocks[1:]
    for block in blocks:
        reader.does(block)
    for path in MADE.get(str(page.relative_to(ROOT)), []):
        assert list(reader.clone.glob(path)) or (reader.clone / path).exists(), f"{page.name}: {path}"
    for words in SAID.get(str(page.relative_to(ROOT)), []):
        assert re.search(words, reader.said), f"{page.name}: {words}\n{reader.said}"


def test_what_comes_out_is_what_the_readme_lists(quickstart: Reader) -> None:
    (listed,) = [block.text for block in BLOCKS if block.text.startswith("reports/index.html")]
    for line in listed.splitlines():
        where, about = re.split(" {2,}", line, maxsplit=1)
        names = [f"{where}{name}" for name in re.split(r",(?![^{]*\}) *", about)] if where.endswith("/") else [where]
        for name in names:
            ways = [
                name.replace(group, one) for group in re.findall(r"\{.*?\}", name) for one in group[1:-1].split(",")
            ]
            for way in ways or [name]:
                assert list(quickstart.clone.glob(re.sub("<.*?>", "*", way))), way
