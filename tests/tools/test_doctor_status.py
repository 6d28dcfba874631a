"""What is said of a project: in a fresh clone, in a half-done one, and on a machine without ffmpeg."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from graphs import ROOT
from training_project import make_project, params
from typer.testing import CliRunner

from tgdfer.cli import app
from tgdfer.config import dependencies
from tgdfer.config.params import load_params
from tgdfer.core import paths, storage
from tgdfer.datasets import fold_numbers
from tgdfer.runs import files, state
from tgdfer.tools import doctor, status


def tgdfer(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "TGDFER_"))}
    command = [sys.executable, "-m", "tgdfer", *arguments]
    return subprocess.run(command, cwd=cwd, env={**environment, **variables}, capture_output=True, text=True)


def said(findings: list[doctor.Finding]) -> dict[str, doctor.Finding]:
    return {finding.what: finding for finding in findings}


@pytest.fixture
def fresh(new_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a clone holds before anything was run."""
    for name in ("params.yaml", "requirements.lock"):
        shutil.copy2(ROOT / name, new_folder)
    for name in ("MLFLOW_TRACKING_URI", "TGDFER_FFMPEG"):
        monkeypatch.delenv(name, raising=False)
    return new_folder


def test_a_fresh_clone_is_ready_and_nothing_is_done(fresh: Path) -> None:
    result = tgdfer("doctor", cwd=fresh)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines()[-1] == "ready to run"
    assert "tgdfer render-demo" in result.stdout
    assert sorted(path.name for path in fresh.iterdir()) == ["params.yaml", "requirements.lock"], "it only looks"
    result = tgdfer("status", cwd=fresh)
    params = load_params()
    runs = sum(len(fold_numbers(params, name)) for name in params.datasets) * len(params.grid) * len(params.seeds)
    assert result.stdout.splitlines()[-1].startswith(f"0 of {runs} runs are done; next: snakemake")


def test_a_machine_without_ffmpeg(fresh: Path) -> None:
    (fresh / "hidden").mkdir()
    (fresh / "hidden" / "imageio_ffmpeg.py").write_text("raise ImportError('no imageio_ffmpeg')\n")
    package = os.pathsep.join([str(fresh / "hidden"), str(ROOT)])
    result = tgdfer("doctor", cwd=fresh, PATH="", PYTHONPATH=package)
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("WRONG") and "ffmpeg" in line)
    assert lines[at + 1].strip() == "-> make venv"
    assert lines[-1] == "1 thing to fix"
    script = "from tgdfer.media import ffmpeg; ffmpeg.executable()"
    variables = {"PATH": "", "PYTHONPATH": package}
    failed = subprocess.run([sys.executable, "-c", script], env=variables, capture_output=True, text=True)
    assert "UserError: no ffmpeg" in failed.stderr


def change(old: str, new: str) -> None:
    """Replace the first ``old`` in params.yaml."""
    text = Path("params.yaml").read_text()
    assert old in text
    Path("params.yaml").write_text(text.replace(old, new, 1))


def add_dataset(root: str) -> None:
    entry = f"  x: {{layout: dfew, root: {root}, annotations: {root}, encoder: demo-clip}}\n"
    change("datasets:\n", f"datasets:\n{entry}")


def add_encoder(weights: str) -> None:
    change("encoder: demo-clip", "encoder: e")
    change("encoders: {}", f"encoders: {{e: {{model: RN50, pretrained: {weights}}}}}")


@pytest.mark.parametrize(
    ("break_it", "what", "remedy"),
    [
        (lambda: change("max_frames: 32", "max_frame: 32"), "parameters", "correct params.yaml"),
        (lambda: add_dataset("/no"), "data x", "correct datasets.x.root in params.yaml"),
        (
            lambda: add_encoder("/no/such.pt"),
            "encoder e",
            "write one of openai, yfcc15m, cc12m, or a checkpoint file",
        ),
    ],
    ids=["parameters", "data root", "weights"],
)
def test_what_is_wrong_is_named_with_its_remedy(fresh: Path, break_it, what: str, remedy: str) -> None:
    break_it()
    finding = said(doctor.examine(Path("params.yaml")))[what]
    assert (finding.verdict, finding.remedy) == (doctor.BAD, remedy)


def test_a_broken_database_other_versions_a_server_that_is_away(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths.MLFLOW.mkdir()
    (paths.MLFLOW / "mlflow.db").write_bytes(b"no database" * 100)
    lock = fresh / "requirements.lock"
    lock.write_text(lock.read_text().replace("\nmlflow==", "\nmlflow==0."))
    found = said(doctor.examine(Path("params.yaml")))
    assert found["MLflow"].verdict == found["packages"].verdict == doctor.BAD
    assert "mlflow 3" in found["packages"].found
    assert found["packages"].remedy == "make venv"
    (paths.MLFLOW / "mlflow.db").unlink()
    with sqlite3.connect(paths.MLFLOW / "mlflow.db") as database:
        database.execute("create table runs (run_uuid text)")
    assert said(doctor.examine(Path("params.yaml")))["MLflow"].found.endswith(": 0 runs")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    away = said(doctor.examine(Path("params.yaml")))["MLflow"]
    assert away.verdict == doctor.NOTE
    assert "does not answer" in away.found


@pytest.fixture
def half(new_folder: Path):
    """A project in which one run is done, and one each is outdated, running, interrupted, failed and missing."""
    make_project(folds=6)
    of = params({"probe": {"model": {"architecture": "linear-probe"}}})

    def run(fold: int, **changes: object) -> None:
        key = files.Key("tiny", "probe", fold, 0)
        for name in files.FILES:
            storage.write_text(key.folder / name, name)
        made = state.Expected(of, "tiny").made_by(key)
        made["parameters"].update(changes)
        files.write_record(key.folder, {**made, "seconds": 3.0})

    run(1)
    run(2, classes=["other"])
    for fold, age in ((3, 10), (4, 7200)):
        file = paths.run("tiny", "probe", fold, 0) / files.ATTEMPT
        storage.write_json(file, {"started": "2026-01-01T00:00:00"})
        os.utime(file, (time.time() - age,) * 2)
    storage.write_json(paths.run("tiny", "probe", 5, 0) / files.ATTEMPT, {"failed": "loss is not finite"})
    storage.write_sealed(paths.variant("tiny", "probe"), {"runs": []})
    reasons = ["a.mp4: no face in any frame", "b.mp4: no face in any frame"]
    rejects = {"clip_id": ["a", "b"], "stage": ["frames"] * 2, "reason": reasons}
    storage.write_table(paths.frames("tiny").with_name("rejects.parquet"), "rejects", rejects, {})
    return of


def test_runs_that_are_not_asked_for_are_not_missing(half) -> None:
    asked = params({"other": {"model": {"architecture": "linear-probe"}}, "probe": {}})
    asked = asked.model_copy(update={"grid": ["other"]})
    (found,) = status.look(asked).datasets
    assert {run.state for run in found.variants["other"]} == {"missing"}
    assert len(found.variants["probe"]) == 5, "only those that there are"
    Path("runs/tiny/other").mkdir()
    (found,) = status.look(half).datasets
    assert list(found.variants) == ["probe"]


def test_a_half_done_project(half) -> None:
    project = status.look(half)
    (found,) = project.datasets
    states = " ".join(run.state for run in found.variants["probe"])
    assert states == "done outdated running interrupted failed missing"
    text = status.as_text(project)
    assert "1 done, 1 outdated, 1 running, 1 interrupted, 1 failed, 1 missing" in text
    assert "fold 5 seed 0 failed: loss is not finite" in text
    assert "last sign of it 2 h ago" in text
    assert "2 clips: 2 no face in any frame" in text
    assert "fold 2 seed 0 outdated: parameter classes was ['other'], is [" in status.as_text(project, folds=True)
    assert json.loads(status.as_json(project))["datasets"][0]["variants"]["probe"][0]["state"] == "done"


DAMAGED = {
    "run": lambda: paths.run("tiny", "probe", 1, 0) / "run.json",
    "summary": lambda: paths.variant("tiny", "probe"),
    "clips": lambda: paths.clips("tiny"),
    "folds": lambda: paths.folds("tiny"),
    "rejects": lambda: paths.frames("tiny").with_name("rejects.parquet"),
    "frames": lambda: paths.frames("tiny"),
    "features": lambda: paths.features("tiny", "demo-clip"),
}


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"null", b'{"runs": [{', b"\xff\xfe", b"[" * 100_000, b"PAR1" + bytes(99)]
)
@pytest.mark.parametrize("which", DAMAGED)
def test_a_damaged_file_counts_as_missing_and_gives_no_traceback(half, which: str, content: bytes) -> None:
    DAMAGED[which]().parent.mkdir(parents=True, exist_ok=True)
    DAMAGED[which]().write_bytes(content)
    found = status.look(half)
    text = status.as_text(found, folds=True)
    json.loads(status.as_json(found))
    if which == "run":
        assert "fold 1 seed 0 damaged: run.json is missing or not the file that the run wrote" in text
    stages = {stage.stage: stage.state for stage in found.datasets[0].prepared}
    damaged = {"clips": "clips", "folds": "clips", "frames": "frames", "features": "features"}.get(which)
    assert [stage for stage, state in stages.items() if state == "damaged"] == ([damaged] if damaged else [])
    assert not damaged or f"damaged: {DAMAGED[which]()} is not the file that its stage wrote" in text


@pytest.mark.parametrize("content", [None, b"PAR1" + bytes(99)], ids=["missing", "damaged"])
def test_without_the_folds_table_its_runs_are_what_they_were(half, content: bytes | None) -> None:
    states = ["done", "outdated", "running", "interrupted", "failed"]  # of the sixth fold there is nothing on disk
    paths.folds("tiny").unlink()
    if content:
        paths.folds("tiny").write_bytes(content)
    project = status.look(half)
    assert [(run.fold, run.state) for run in project.datasets[0].variants["probe"]] == list(enumerate(states, start=1))
    said = f"{'damaged':9}{paths.folds('tiny')} is not the file that its stage wrote" if content else "missing"
    assert f"  clips     {said}" in map(str.rstrip, status.as_text(project).splitlines())


def test_a_fresh_clone_knows_the_folds_of_its_data(fresh: Path) -> None:
    params = load_params()
    variants = status.look(params).datasets[0].variants
    folds = fold_numbers(params, next(iter(params.datasets)))
    assert len(folds) > 1
    expected = [fold for fold in folds for _ in params.seeds]
    assert {name: [run.fold for run in runs] for name, runs in variants.items()} == dict.fromkeys(params.grid, expected)


def test_a_check_of_the_doctor_that_fails_is_reported_and_the_others_run(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble() -> None:
        raise RuntimeError("a machine as nobody foresaw it\nat all")

    monkeypatch.setattr(doctor, "_disk", stumble)
    (fresh / "requirements.lock").write_bytes(b"\xff\xfe\x00")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:no/")
    found = doctor.examine(Path("params.yaml"))
    text = doctor.as_text(found)
    assert said(found)["disk"].found == "cannot be checked: RuntimeError: a machine as nobody foresaw it at all"
    assert said(found)["packages"].verdict == doctor.BAD
    assert {"ffmpeg", "parameters", "MLflow"} <= set(said(found))
    assert "secret" not in text
    assert len(text.splitlines()) < 40


def test_a_data_root_that_may_not_be_read(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:  # root may read everything
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "closed")
    (fresh / "closed").mkdir(mode=0o000)
    add_dataset("closed")
    finding = said(doctor.examine(Path("params.yaml")))["data x"]
    assert finding.verdict == doctor.BAD
    assert finding.found == "closed: may not be read"
    assert finding.remedy.startswith("chmod")


def test_an_error_of_the_disk_is_one_line(fresh: Path) -> None:
    script = (
        "import errno, sys; from tgdfer import cli; from tgdfer.tools import status; sys.argv = ['tgdfer', 'status']\n"
        "def full(*_): raise OSError({0}, 'No space left on device', 'runs/x')\n"
        "status.look = full; cli.main()"
    )
    run = [
        subprocess.run([sys.executable, "-c", script.format(code)], capture_output=True, text=True) for code in (28, 5)
    ]
    assert (run[0].returncode, run[0].stderr) == (2, "error: runs/x: No space left on device\n")
    assert "Traceback" in run[1].stderr, "an error of the disk itself"


def test_a_whole_run_is_done_and_changed_code_or_features_make_it_outdated(
    half, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = paths.features("tiny", "demo-clip")
    storage.write_sealed(manifest, {**storage.read_sealed(manifest), "fingerprint": "other"})
    assert status.look(half).datasets[0].variants["probe"][0].about == "the features changed"
    monkeypatch.setattr(dependencies, "code_fingerprint", lambda *_: "other")
    assert status.look(half).datasets[0].variants["probe"][0].about.endswith("the code of the training changed")


def test_a_stage_that_was_made_with_other_parameters_is_outdated(half) -> None:
    manifest = paths.features("tiny", "demo-clip")
    settings = dependencies.settings(half, "features", dataset="tiny", encoder="demo-clip")
    made_by = {"parameters": settings, "code": dependencies.code_fingerprint("features")}
    states = []
    for changes in ({}, {"parameters": {**settings, "features.views": 9}}, {"code": "other"}):
        storage.write_sealed(manifest, {**storage.read_sealed(manifest), "made_by": {**made_by, **changes}})
        project = status.look(half)
        states.append({stage.stage: stage.state for stage in project.datasets[0].prepared}["features"])
    assert states == ["done", "outdated", "outdated"]
    done = status.RunStatus(1, 0, "done")
    finished = replace(project, datasets=[replace(project.datasets[0], variants={"probe": [done]})])
    assert status.as_text(finished).splitlines()[-1].startswith("1 of 1 runs are done; next: snakemake")


def test_a_log_for_programs(fresh: Path) -> None:
    from tgdfer.core.progress import log, setup_logging

    result = tgdfer("--log", "xml", "status", cwd=fresh)
    assert result.returncode == 2
    assert "'xml' is not one of 'text', 'json'" in result.stderr
    script = (
        "from tgdfer.core.progress import log, setup_logging\nsetup_logging(as_json=True)\n"
        "log.warning('%s: \\n2', 'é')\n"
        "try: 1 / 0\nexcept ZeroDivisionError: log.exception('bad')"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stderr
    first, second = map(json.loads, out.splitlines())
    assert (first["level"], first["message"]) == ("WARNING", "é: \n2")
    assert "ZeroDivisionError" in second["traceback"]
    setup_logging()
    assert log.handlers


def test_completion_is_there() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert "--install-completion" in result.output
    assert "--show-completion" in result.output
