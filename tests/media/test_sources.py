"""A source that is replaced under its name is noticed, also by Snakemake; one of the same content is not."""

import os
from pathlib import Path

import pytest
from media import clip_project, images, video

from tgdfer.config.params import Params
from tgdfer.core import paths
from tgdfer.core.parts import Part
from tgdfer.datasets.validate import check_dataset
from tgdfer.media import sources
from tgdfer.stages import frames
from tgdfer.tools import status

NAMES = ["a.mp4", "b.mp4", "c", "d.mp4"]


@pytest.fixture
def params(new_folder: Path) -> Params:
    """A project with the frames of three videos and an image folder, each in its own shard."""
    for name in NAMES:
        (video if "." in name else images)(Path("raw") / name, 4)
    params = clip_project(Path("raw"), NAMES, shards=5)
    frames.run(params, "mine")
    return params


def changed(params: Params) -> list[str]:
    return [path.name for path in sources.changed(params, "mine")]


def replace(path: Path) -> None:
    """Write another video of the same size with the same name."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.with_name("other").write_bytes(content)
    os.utime(path.with_name("other"), (1e9, 1e9))
    path.with_name("other").rename(path)


def test_a_changed_content_is_noticed_and_a_changed_time_is_not(params: Params) -> None:
    assert changed(params) == []
    for name in NAMES:
        os.utime(Path("raw") / name, (2e9, 2e9))
    assert changed(params) == [], "as after cp -r"
    replace(Path("raw/b.mp4"))
    (Path("raw/c") / "00001.jpg").unlink()
    Path("raw/d.mp4").unlink()
    assert changed(params) == ["b.mp4", "c", "d.mp4"]


def test_the_stage_records_what_it_read_again(params: Params) -> None:
    replace(Path("raw/b.mp4"))
    frames.run(params, "mine")
    assert changed(params) == []


def test_parts_of_the_stage_record_the_same(params: Params) -> None:
    whole = paths.sources("mine").read_bytes()
    parts = [Part(number, 2) for number in (1, 2)]
    for part in parts:
        frames.run(params, "mine", part)
    replace(Path("raw/b.mp4"))
    frames.run(params, "mine", lists=[part.list_of(paths.frames("mine")) for part in parts])
    assert paths.sources("mine").read_bytes() == whole
    assert changed(params) == ["b.mp4"], "it was replaced after it had been read"


def test_nothing_is_reported_where_sources_cannot_be_compared(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    replace(Path("raw/b.mp4"))
    monkeypatch.setattr(sources, "LIMIT", 3)
    assert changed(params) == [], "too many, unless they are asked for"
    assert sources.changed(params, "mine", every=True) == [Path("raw/b.mp4")]
    monkeypatch.setattr(sources, "LIMIT", 4)
    for path, content in ((paths.sources("mine"), b"PAR1"), (paths.clips("mine"), b""), (paths.sources("mine"), None)):
        path.unlink() if content is None else path.write_bytes(content)
        assert sources.changed(params, "mine") == []


def test_a_replaced_source_is_named_with_the_command_that_repairs_it(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace(Path("raw/b.mp4"))
    text = status.as_text(status.look(params))
    assert "frames    outdated" in text
    assert "changed since its frames were made: raw/b.mp4" in text
    assert "next: snakemake --profile local all" in text
    monkeypatch.setattr(sources, "LIMIT", 3)
    assert "outdated" not in status.as_text(status.look(params))
    text = status.as_text(status.look(params, verify=True))
    assert "--forcerun data/mine/frames/manifest.json -- all" in text, "Snakemake does not see it"
    (note,) = [note for note in check_dataset(params, "mine").notes if "changed" in note]
    assert note.endswith("1, the first raw/b.mp4; run: tgdfer frames --dataset mine")
