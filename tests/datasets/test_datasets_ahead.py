"""What is known of a data set before its clips are listed: its folds, and about how many clips it has."""

from pathlib import Path

import pytest
from media import parameters, write_csv

from tgdfer.config.params import Params
from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.datasets import fold_numbers
from tgdfer.datasets.size import clip_count

pytestmark = pytest.mark.usefixtures("new_folder")


def project(layout: str, annotations: str = "list.csv", **section: object) -> Params:
    return parameters(Path(), {"mine": {"layout": layout, "root": ".", "annotations": annotations, **section}})


@pytest.mark.parametrize(("layout", "count"), [("dfew", 5), ("ferv39k", 1), ("ravdess", 6)])
def test_a_published_data_set_has_its_protocol_s_folds(layout: str, count: int) -> None:
    assert fold_numbers(project(layout), "mine") == list(range(1, count + 1))


def test_a_rendered_data_set_has_the_folds_and_clips_that_will_be_rendered() -> None:
    params = project("folder", str(paths.DEMO_CLIPS))
    params = params.model_copy(update={"demo": params.demo.model_copy(update={"folds": 4, "clips": 77})})
    assert fold_numbers(params, "mine") == [1, 2, 3, 4]
    assert clip_count(params, "mine") == 77


@pytest.mark.parametrize(
    ("header", "rows", "folds"),
    [
        ("clip_id,path,label,fold", ["a,a.mp4,sad,1", "b,b.mp4,sad,3.0", "c,c.mp4,sad,2"], [1, 2, 3]),
        ("clip_id,path,label,fold", [], [1]),
        ("clip_id,path,label,split", ["a,a.mp4,sad,test"], [1]),
    ],
)
def test_a_list_has_the_folds_that_it_names(header: str, rows: list[str], folds: list[int]) -> None:
    write_csv(Path("list.csv"), header, rows)
    assert fold_numbers(project("folder"), "mine") == folds


def test_a_list_that_is_not_there_or_names_no_fold() -> None:
    params = project("folder")
    assert fold_numbers(params, "mine") == [1]
    assert clip_count(params, "mine") == 0
    write_csv(Path("list.csv"), "clip_id,path,label,fold", ["a,a.mp4,sad,1", "b,b.mp4,sad,two"])
    with pytest.raises(UserError, match=r"list\.csv, line 3: fold 'two'"):
        fold_numbers(params, "mine")


def test_clips_are_counted_in_their_table_or_else_published_or_else_lines_of_the_list() -> None:
    params = project("folder")
    write_csv(Path("list.csv"), "clip_id,path,label,fold", ["a,a.mp4,sad,1", "b,b.mp4,sad,2"])
    assert clip_count(params, "mine") == 3, "the header among them"
    assert clip_count(project("dfew"), "mine") == 11697
    assert clip_count(project("ravdess", options={"channel": "song"}), "mine") == 1012
    clip = {"clip_id": "a", "source": "a.mp4", "kind": "video", "label": "sad", "n_frames": None, "subject": None}
    storage.write_table(paths.clips("mine"), "clips", {name: [value] for name, value in clip.items()}, {})
    assert clip_count(params, "mine") == 1
    paths.clips("mine").write_bytes(b"damaged")
    assert clip_count(params, "mine") == 3
