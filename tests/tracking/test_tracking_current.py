"""Which of the runs of one name counts: that of the latest attempt, in whatever order their events come."""

from __future__ import annotations

from pathlib import Path

from tracking_project import KILLED, database, parameters, place, runs, train  # noqa: F401 (fixtures)

from tgdfer import tracking
from tgdfer.config.params import Params
from tgdfer.tracking import events
from tgdfer.tracking.sink import Sink
from tgdfer.tracking.store import Store


def current(params: Params) -> dict[str, tuple[str, str]]:
    return {
        run.data.tags["tgdfer.fingerprint"]: (run.data.tags["tgdfer.current"], run.info.status) for run in runs(params)
    }


def test_parameters_that_come_back_make_their_run_the_current_one_again() -> None:
    params = parameters()
    for change in ("first", "second", "first"):
        train(params, fingerprint=change)
    assert current(params) == {"first": ("true", "FINISHED"), "second": ("false", "FINISHED")}


def test_an_old_attempt_that_is_sent_late_does_not_become_current() -> None:
    params = parameters()
    start = events.start("demo/tgdfer/fold1/seed0", "tgdfer/demo", "n", {}, {**KILLED, "fingerprint": "old"})
    journal = events.Journal(events.file_of(start["run"]))
    journal.write(start)
    train(params)  # with other parameters; at its end it sends what the killed attempt left
    assert not events.pending()
    assert current(params) == {"old": ("false", "KILLED"), "f1": ("true", "FINISHED")}


def test_a_killed_run_that_others_follow_is_not_shown_as_running() -> None:
    params = parameters()
    start = events.start("demo/tgdfer/fold1/seed0", "tgdfer/demo", "n", {}, {**KILLED, "fingerprint": "old"})
    Sink(Store(params), start)
    assert current(params) == {"old": ("true", "RUNNING")}
    train(params)
    assert current(params) == {"old": ("false", "KILLED"), "f1": ("true", "FINISHED")}


def test_a_retry_has_the_tags_of_its_own_job() -> None:
    params = parameters()
    for job in ("7", "8"):
        train(params, slurm_job=job)
    assert [run.data.tags["tgdfer.slurm_job"] for run in runs(params)] == ["8"]


def test_projects_that_share_a_store_have_runs_of_their_own() -> None:
    mine, theirs = parameters(), parameters(project="theirs")
    train(mine)
    train(theirs, fingerprint="other")
    names = {experiment.name for experiment in Store(mine).client.search_experiments()}
    assert {"tgdfer/demo", "theirs/demo"} <= names
    assert current(mine) == {"f1": ("true", "FINISHED")}


def test_a_model_whose_files_are_another_run_s_is_not_registered() -> None:
    params = parameters(mode="events")
    for made in ("first", "second"):
        with tracking.run(
            params, dataset="demo", variant="tgdfer", fold=1, seed=0, parameters={}, tags={"fingerprint": made}
        ) as told:
            Path("model.json").write_text(made)
            told.artifact(Path("model.json"), "model")
            told.model("tgdfer-demo", "fold1-seed0", "about")
    first = next((path, path.read_bytes()) for path in events.pending())
    first[0].unlink()
    tracking.create_store(params)
    first[0].write_bytes(first[1])
    tracking.create_store(params)  # of an old run, late
    client = Store(params).client
    (version,) = client.search_model_versions("name = 'tgdfer-demo'")
    assert client.get_model_version_by_alias("tgdfer-demo", "fold1-seed0").run_id == version.run_id
    assert client.get_run(version.run_id).data.tags["tgdfer.fingerprint"] == "second"
