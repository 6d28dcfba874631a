"""Studies: a small file laid over params.yaml, and single keys of the command line."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tgdfer.config.params import SET_VARIABLE, laid_over, load_params
from tgdfer.core import paths
from tgdfer.core.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def study(new_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of the chosen study."""
    Path("params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    Path("studies").mkdir()
    monkeypatch.setenv(SET_VARIABLE, "")
    paths.choose_study("small")
    yield Path("studies/small.yaml")
    paths.choose_study("")


def test_a_study_says_only_what_differs(study: Path) -> None:
    paths.choose_study("")
    base = load_params()
    paths.choose_study("small")
    study.write_text(
        "model: {top_k: 2}\ngrid: [tgdfer]\nvariants: {no-text: null, new: {label: New, tables: [], set: {}}}\n"
    )
    params = load_params()
    assert params.model == base.model.model_copy(update={"top_k": 2})
    assert params.grid == ["tgdfer"]
    assert base.variants.keys() ^ params.variants.keys() == {"no-text", "new"}
    assert params.datasets == base.datasets
    assert params.tracking.project == "tgdfer-small"


def test_a_study_may_train_longer_on_one_data_set(study: Path) -> None:
    study.write_text("datasets: {demo: {training: {epochs: 3}}}")
    assert load_params().run("tgdfer", "demo").training.epochs == 3


def test_a_study_has_its_own_runs_and_reports_and_shares_the_data(study: Path) -> None:
    own = [paths.run("demo", "tgdfer", 1, 0), paths.checkpoint("demo", "tgdfer", 1, 0), paths.REPORT_PAGE]
    assert {path.parts[:2] for path in [*own, paths.STAGE_RECORDS]} == {("studies", "small")}
    assert paths.features("demo", "demo-clip") == Path("data/demo/features/demo-clip/manifest.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("modle: {top_k: 1}", "studies/small.yaml: modle: unknown key"),
        ("model: {top_k: many}", "studies/small.yaml: model.top_k: Input should be a valid integer, got 'many'"),
        ("grid: [tgdfr]", "studies/small.yaml: grid: no variant 'tgdfr'; known: tgdfer, mil-only"),
        ("- a", "studies/small.yaml: expected a mapping of sections, got list"),
        ("frames: {max_frames: 4}", "studies/small.yaml: frames.max_frames: studies share clips, frames and features"),
        ("datasets: {demo: {root: elsewhere}}", "studies/small.yaml: datasets.demo.root: studies share clips"),
    ],
)
def test_a_mistake_is_one_line_with_file_and_key(study: Path, text: str, said: str) -> None:
    study.write_text(text)
    with pytest.raises(UserError) as error:
        load_params()
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


def test_a_study_that_is_not_there_is_named(study: Path) -> None:
    Path("studies/other.yaml").touch()
    with pytest.raises(UserError, match=r"studies/small.yaml: no such file; the studies here are: other$"):
        load_params()
    with pytest.raises(UserError, match=r"study '../x': expected letters"):
        paths.choose_study("../x")


def test_single_keys_are_changed_on_the_command_line(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study.write_text("model: {top_k: 2}")
    monkeypatch.setenv(SET_VARIABLE, "model.top_k=3 grid=[tgdfer,no-text] training.learning_rate=1e-4")
    params = load_params()
    assert (params.model.top_k, params.grid, params.training.learning_rate) == (3, ["tgdfer", "no-text"], 1e-4)
    for change, said in (
        ("model.topk=3", "--set model.topk=3: model.topk: unknown key"),
        ("model.top_k", "--set model.top_k: expected KEY=VALUE"),
        ("frames.max_frames=3", "--set frames.max_frames=3: frames.max_frames: studies share"),
    ):
        monkeypatch.setenv(SET_VARIABLE, change)
        with pytest.raises(UserError) as error:
            load_params()
        assert str(error.value).startswith(said)


def test_mappings_are_merged_and_all_else_replaced() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 3}
    assert laid_over(base, {"a": {"c": [4]}, "d": None}) == {"a": {"b": 1, "c": [4]}, "d": None}
    assert laid_over(base, {"a": None}) == {"d": 3}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--study", "small", "status"], "error: studies/small.yaml: modle: unknown key"),
        (["--set", "model.topk=1", "status"], "error: --set model.topk=1: model.topk: unknown key"),
    ],
)
def test_every_command_takes_a_study_and_changes(study: Path, words: list[str], said: str) -> None:
    study.write_text("modle: {}")
    paths.choose_study("")
    command = [sys.executable, "-m", "tgdfer", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (2, said)
