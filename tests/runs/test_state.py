"""Every cause for which a run is not current: training, status, explain, the report and the graph agree."""

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import training_project as project

from tgdfer.config import dependencies
from tgdfer.config.params import Params
from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.runs import state
from tgdfer.runs.files import ATTEMPT, FILES, SYSTEM, Key, run_fingerprint
from tgdfer.runs.results import READ, collect
from tgdfer.stages import train
from tgdfer.tools import explain, status

KEY = Key("tiny", "probe", 1, 0)


def parameters(**training: object) -> Params:
    return project.params({"probe": project.VARIANTS["probe"]}, epochs=1, **training)


@pytest.fixture
def made(new_folder: Path) -> None:
    """A project with two finished runs."""
    project.make_project()
    assert train.run(parameters(), "tiny", "probe") == 0
    assert train.run(parameters(), "tiny", "probe") == 0


def test_the_runs_on_disk_are_those_of_variants_in_params_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("fold10/seed0", "fold2/seed1", "fold2/seed1.bak", "fold-2/seed1", "../gone/fold1/seed0"):
        (paths.RUNS / "tiny" / "probe" / name).mkdir(parents=True)
    assert state.on_disk(parameters(), "tiny") == [Key("tiny", "probe", 2, 1), Key("tiny", "probe", 10, 0)]


def edit_table(path: Path, kind: str) -> None:
    """Other metadata: the rows, and so what a training makes of them, are the same."""
    storage.write_table(path, kind, storage.read_table(path, kind), {"stage": "edited"})


def edit_manifest(path: Path) -> None:
    storage.write_sealed(path, {**storage.read_sealed(path), "fingerprint": "another"})


def other_words(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dependencies, "words", lambda *_: [["a smile"]])


def other_code(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dependencies, "code_fingerprint", lambda *_: "another")


CAUSES: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "words": (other_words, "the words changed"),
    "code": (other_code, "the code of the training changed"),
    "clips": (lambda _: edit_table(paths.clips("tiny"), "clips"), "the clips changed"),
    "folds": (lambda _: edit_table(paths.folds("tiny"), "folds"), "the folds changed"),
    "encoder": (lambda _: edit_manifest(paths.encoder("demo-clip")), "the encoder changed"),
}


def all_say(params: Params, name: str, reason: str) -> None:
    """Assert that everything that speaks of the run of :data:`KEY` says ``name`` and ``reason``."""
    project = status.look(params)
    (found,) = project.datasets
    shown = next(run for run in found.variants["probe"] if (run.fold, run.seed) == (1, 0))
    assert shown.state == name
    assert reason in shown.about
    assert f"fold 1 seed 0 {name}" in status.as_text(project, folds=True)
    text, fits = explain.explain(params, "tiny/probe")
    assert not fits
    assert f"fold1/seed0: {name}: " in text
    assert reason in text
    result = next(run for run in collect(params, "tiny").of("probe") if run.key == KEY)
    assert reason in " ".join([*result.state.reasons, result.problem or ""])
    assert not state.is_current(params, "tiny", "probe")


@pytest.mark.usefixtures("made")
def test_a_finished_variant_is_current_for_all() -> None:
    params = parameters()
    assert [run.state for run in status.look(params).datasets[0].variants["probe"]] == ["done", "done"]
    assert explain.explain(params, "tiny/probe")[1]
    assert not collect(params, "tiny").stale()
    assert state.is_current(params, "tiny", "probe")


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("cause", CAUSES)
def test_what_changed_is_named_by_all_and_trained_again(cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change, reason = CAUSES[cause]
    params, before = parameters(), (KEY.folder / "run.json").read_bytes()
    change(monkeypatch)
    all_say(params, "outdated", reason)
    assert collect(params, "tiny").stale() == {"probe": [reason]}
    assert train.run(params, "tiny", "probe") == 0
    assert (KEY.folder / "run.json").read_bytes() != before
    assert state.is_current(params, "tiny", "probe")


@pytest.mark.usefixtures("made")
def test_other_features_are_named_by_all() -> None:
    edit_manifest(paths.features("tiny", "demo-clip"))
    all_say(parameters(), "outdated", "the features changed")


@pytest.mark.usefixtures("made")
def test_other_parameters_are_named_with_both_values() -> None:
    params = parameters(batch_size=7)
    all_say(params, "outdated", "parameter training.batch_size was 8, is 7")
    assert train.run(params, "tiny", "probe") == 0
    assert state.is_current(params, "tiny", "probe")


@pytest.mark.usefixtures("made")
def test_a_key_that_is_newer_than_the_run_counts_as_its_default_and_one_that_is_gone_as_a_change() -> None:
    path = KEY.folder / "run.json"
    record = storage.read_sealed(path)
    del record["parameters"]["training"]["fraction"]
    storage.write_sealed(path, record)
    assert state.Expected(parameters(), "tiny").state(KEY).done
    all_say(parameters(fraction=0.5), "outdated", "parameter training.fraction was 1.0, is 0.5")
    record["parameters"]["training"]["gone"] = 3
    storage.write_sealed(path, record)
    all_say(parameters(), "outdated", "parameter training.gone was 3, is None")


def test_another_fold_another_seed_and_other_words_are_other_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for words in ("a smile", "a frown"):
        monkeypatch.setattr(dependencies, "words", lambda *_, words=words: [[words]])
        expected = state.Expected(parameters(), "tiny")
        made += [run_fingerprint(expected.made_by(replace(KEY, **other))) for other in ({}, {"fold": 2}, {"seed": 1})]
    assert len(set(made)) == 6


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("name", [*FILES, "run.json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "a bit"])
def test_a_damaged_or_missing_file_is_named_by_all_and_made_again(name: str, damage: str) -> None:
    params, file = parameters(), KEY.folder / name
    before = {path: (KEY.folder / path).read_bytes() for path in FILES}
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    if name in READ or name == "run.json":
        all_say(params, "damaged", name)
        result = next(run for run in collect(params, "tiny").of("probe") if run.key == KEY)
        assert result.problem
        assert not result.outcomes
    assert not state.is_current(params, "tiny", "probe")
    assert train.run(params, "tiny", "probe") == 0
    assert {path: (KEY.folder / path).read_bytes() for path in FILES} == before
    assert state.is_current(params, "tiny", "probe")


@pytest.mark.usefixtures("made")
def test_a_run_without_its_record_does_not_count_under_other_parameters() -> None:
    (KEY.folder / "run.json").unlink()
    params = parameters(batch_size=7)
    all_say(params, "damaged", "run.json is missing")
    assert not collect(params, "tiny").finished("probe")


@pytest.mark.usefixtures("made")
def test_a_lost_folder_of_a_run_is_named_by_all_and_made_again() -> None:
    params, before = parameters(), project.results()
    shutil.rmtree(KEY.folder)
    assert "fold 1 seed 0 missing" in status.as_text(status.look(params), folds=True)
    text, fits = explain.explain(params, "tiny/probe")
    assert not fits
    assert "fold1/seed0: missing" in text
    assert [run.problem for run in collect(params, "tiny").of("probe")] == ["not run", None]
    assert not state.is_current(params, "tiny", "probe")
    assert train.run(params, "tiny", "probe") == 0
    assert project.results() == before


@pytest.mark.usefixtures("made")
def test_a_run_whose_inputs_are_gone_is_not_called_outdated_but_unchecked() -> None:
    paths.features("tiny", "demo-clip").unlink()
    params = parameters()
    assert state.Expected(params, "tiny").state(KEY).done
    text, fits = explain.explain(params, "tiny/probe")
    assert not fits
    assert "features/demo-clip/manifest.json is missing, so no run was compared with it" in text


@pytest.mark.usefixtures("made")
def test_an_edited_run_json_is_damaged() -> None:
    path = KEY.folder / "run.json"
    record = json.loads(path.read_text())
    storage.write_json(path, {**record, "seconds": 1.0})
    assert state.Expected(parameters(), "tiny").state(KEY).name == "damaged"


@pytest.mark.usefixtures("made")
def test_the_summary_needs_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    params, summary = parameters(), paths.variant("tiny", "probe")
    before = summary.read_bytes()
    assert storage.read_sealed(summary)["runs"][0] == {
        "fold": 1,
        "seed": 0,
        "folder": "fold1/seed0",
        "metrics": storage.file_fingerprint(KEY.folder / "metrics.json"),
        "predictions": storage.file_fingerprint(KEY.folder / "predictions.parquet"),
        "failed": None,
    }
    summary.unlink()
    state.collect(params, "tiny", "probe")
    assert summary.read_bytes() == before
    shutil.rmtree(Key("tiny", "probe", 2, 0).folder)
    with pytest.raises(UserError) as error:
        state.collect(params, "tiny", "probe")
    assert str(error.value) == (
        "runs/tiny/probe/fold2/seed0: missing; train it first: "
        "tgdfer train --dataset tiny --variant probe --fold 2 --seed 0"
    )
    assert not summary.exists()


@pytest.mark.parametrize(
    ("attempt", "ages", "name"),
    [
        ({"failed": "out of memory"}, {ATTEMPT: 0}, "failed"),
        ({}, {ATTEMPT: 0}, "running"),
        ({}, {ATTEMPT: 1000, SYSTEM: 10}, "running"),
        ({}, {ATTEMPT: 1000, "history.jsonl": 10}, "running"),
        ({}, {ATTEMPT: 1000, "history.jsonl": 300, SYSTEM: 240}, "interrupted"),
        ({"ended": "today", "failed": None}, {ATTEMPT: 0}, "interrupted"),
    ],
)
def test_a_run_without_its_record_is_what_its_attempt_says(
    attempt: dict, ages: dict[str, int], name: str, made: None
) -> None:
    (KEY.folder / "run.json").unlink()
    for file in ("history.jsonl", SYSTEM):
        (KEY.folder / file).unlink(missing_ok=True)
    for file, age in ages.items():
        storage.write_json(KEY.folder / file, {"started": "today", **attempt})
        os.utime(KEY.folder / file, (time.time() - age,) * 2)
    found = state.Expected(parameters(), "tiny").state(KEY)
    assert found.name == name
    (reason,) = found.reasons
    if name == "failed":
        assert reason == "out of memory"
    elif name == "interrupted" and SYSTEM in ages:
        assert reason == "last sign of it 4 min ago"
    else:
        assert reason.startswith("last sign of it ")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "2 h"), (129599, "36 h"), (216000, "2 days")],
)
def test_a_length_of_time(seconds: float, text: str) -> None:
    assert state.duration(seconds) == text
