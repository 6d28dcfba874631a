"""What both graphs do with a change, on the stub of the stages; and the real stages on a tiny configuration in both."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from graphs import BIN, NOTHING, ROOT, Project, hold_dvc_against, hold_repair, skipped, tiny
from slurm_cluster import why_not

pytestmark = pytest.mark.graph

STUB = (Path(__file__).parents[1] / "projects" / "stub_cli.py").read_text()
LOCAL = ("--profile", "local", "all")
MORE = "{layout: folder, root: data/raw/demo, annotations: data/raw/demo/clips.csv, encoder: demo-clip}"


def stubbed(root: Path) -> Project:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["grid"] = ["tgdfer", "no-text"]
    return Project.make(root, yaml.safe_dump(params, sort_keys=False), STUB)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A stubbed project that Snakemake has made and DVC has taken note of."""
    project = stubbed(tmp_path_factory.mktemp("made") / "project")
    project.snakemake(*LOCAL)
    project.dvc("commit", "-f", "--no-relink")
    project.forget_calls()
    return project


def test_both_graphs_find_nothing_to_do_after_snakemake(made: Project) -> None:
    assert NOTHING in made.snakemake("-n", *LOCAL).stdout
    said = made.dvc("repro").stdout
    assert skipped(said) == {stage["name"] for stage in made.dvc_stages()}
    assert made.calls() == []
    assert made.run("git", "status", "--porcelain").stdout.split() == ["??", "dvc.lock"]


@pytest.mark.parametrize(
    ("edit", "remade"),
    [
        pytest.param(
            ("params.yaml", lambda text: text.replace("text: none", "text: template")),
            {"train demo no-text", "report"},
            id="a variant's parameter",
        ),
        pytest.param(
            ("params.yaml", lambda text: text.replace("bootstrap: 2000", "bootstrap: 1999")),
            {"report"},
            id="the report's parameter",
        ),
        pytest.param(
            ("params.yaml", lambda text: text.replace("max_frames: 32", "max_frames: 31")),
            {"frames demo", "features demo demo-clip", "train demo tgdfer", "train demo no-text", "report"},
            id="the frames' parameter",
        ),
        pytest.param(
            ("tgdfer/model/losses.py", lambda text: text + "\nCHANGED = True\n"),
            {"train demo tgdfer", "train demo no-text", "report"},
            id="the model's code",
        ),
        pytest.param(
            ("params.yaml", lambda text: text.replace("datasets:\n", f"datasets:\n  more: {MORE}\n", 1)),
            {"clips more", "frames more", "features more", "train more tgdfer", "train more no-text", "report"},
            id="one more data set",
        ),
    ],
)
def test_a_change_remakes_what_depends_on_it_in_both(
    made: Project, tmp_path: Path, edit: tuple, remade: set[str]
) -> None:
    project = copy_of(made, tmp_path / "project")
    name, change = edit
    before = (project.root / name).read_text()
    (project.root / name).write_text(change(before))
    assert change(before) != before

    planned = project.snakemake("-n", "--quiet", "host", "--printshellcmds", *LOCAL).stdout
    commands = re.findall(r"python -m tgdfer ([^>]+) >", planned)
    assert {re.sub(r" --(no-tracking|\w+ )", " ", command).strip() for command in commands} == {
        call.removesuffix(" demo-clip") for call in remade
    }
    project.dvc("repro")
    assert {call.removesuffix(" demo-clip") for call in project.calls()} == {
        call.removesuffix(" demo-clip") for call in remade
    }
    assert NOTHING in project.snakemake("-n", *LOCAL).stdout, "what DVC made is current"


SMALL_EDITS = {
    "a comment": ("tgdfer/core/storage.py", lambda text: text + "\n# changed\n", set()),
    "another architecture": ("tgdfer/model/linear_probe.py", lambda text: text + "\nCHANGED = True\n", set()),
    "the architecture": (
        "tgdfer/model/tgdfer.py",
        lambda text: text + "\nCHANGED = True\n",
        {"tgdfer", "no-text"},
    ),
    "a word": (
        "tgdfer/config/descriptions.yaml",
        lambda text: text.replace("- cheeks raised", "- cheeks lifted"),
        {"tgdfer"},
    ),
    "the engine": ("tgdfer/training/engine.py", lambda text: text + "\nCHANGED = True\n", {"tgdfer", "no-text"}),
}


@pytest.mark.parametrize("what", SMALL_EDITS)
def test_snakemake_trains_only_the_variants_that_an_edit_changes(made: Project, tmp_path: Path, what: str) -> None:
    project = copy_of(made, tmp_path / "project")
    name, change, variants = SMALL_EDITS[what]
    before = (project.root / name).read_text()
    assert change(before) != before
    (project.root / name).write_text(change(before))
    planned = project.snakemake("-n", "--printshellcmds", *LOCAL).stdout
    assert set(re.findall(r"tgdfer train --dataset demo --variant (\S+) +>", planned)) == variants
    assert (NOTHING in planned) == (not variants)


def copy_of(made: Project, root: Path) -> Project:
    shutil.copytree(made.root, root, symlinks=True)
    return Project(root)


@pytest.mark.parametrize("stage", ["render-demo", "frames demo", "train demo"])
def test_what_a_failed_job_took_away_is_made_by_the_next_call(made: Project, tmp_path: Path, stage: str) -> None:
    project = copy_of(made, tmp_path / "project")
    changes = {"render-demo": "clips: 1400", "frames demo": "max_frames: 32", "train demo": "dropout: 0.1"}
    params = project.root / "params.yaml"
    assert changes[stage] in params.read_text()
    params.write_text(params.read_text().replace(changes[stage], changes[stage] + "2"))
    calls = [stage, f"{stage} tgdfer", f"{stage} no-text"]
    (project.root / "behaviour.json").write_text(json.dumps({call: {"fail": 1} for call in calls}))
    project.forget_calls()
    assert project.snakemake(*LOCAL, check=False).returncode
    assert project.calls() == []
    planned = project.snakemake("-n", *LOCAL).stdout
    assert re.search(r"^train +2$", planned, re.MULTILINE) and re.search(r"^report +1$", planned, re.MULTILINE)


def test_a_data_set_whose_list_is_missing_is_an_error_though_there_is_a_report(made: Project, tmp_path: Path) -> None:
    project = copy_of(made, tmp_path / "project")
    params = project.root / "params.yaml"
    more = MORE.replace("data/raw/demo/clips.csv", "elsewhere/clips.csv")
    params.write_text(params.read_text().replace("datasets:\n", f"datasets:\n  more: {more}\n", 1))
    refused = project.snakemake("-n", *LOCAL, check=False)
    assert refused.returncode and "elsewhere/clips.csv" in refused.stdout


def test_a_project_and_its_environment_may_lie_anywhere(made: Project, tmp_path: Path) -> None:
    project = copy_of(made, tmp_path / "für alle & 'uns'")
    venv = project.root / ".venv"
    venv.mkdir()
    shutil.copy(BIN.parent / "pyvenv.cfg", venv)
    for part in ("bin", "lib"):
        (venv / part).symlink_to(BIN.parent / part)
    project.forget_calls()
    project.run(str(venv / "bin" / "python"), "-m", "snakemake", *LOCAL, "--forcerun", "report")
    assert project.calls() == ["report"]


def test_an_mlflow_that_fails_is_a_warning(made: Project, tmp_path: Path) -> None:
    project = copy_of(made, tmp_path / "project")
    (project.root / "behaviour.json").write_text('{"tracking": {"fail": 9}}')
    said = project.snakemake(*LOCAL, "--forcerun", "report").stdout
    assert "MLflow is not up to date: see logs/tracking.log" in said
    assert "made to fail" in (project.root / "logs" / "tracking.log").read_text()


@pytest.mark.skipif(why_not() is None, reason="tests/workflow/test_slurm.py does the same on SLURM")
def test_the_real_stages_in_both_graphs(tmp_path: Path) -> None:
    first = Project.make(tmp_path / "first", tiny())
    first.snakemake(*LOCAL, timeout=900)
    hold_repair(first)
    hold_dvc_against(first, tmp_path / "second")
