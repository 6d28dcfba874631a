"""What both graphs do with a change, on the stub of the stages; and the real stages on a tiny configuration in both."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from graphs import ROOT, Project, tiny

pytestmark = [pytest.mark.graph, pytest.mark.xdist_group("graph")]

STUB = (Path(__file__).parent / "stub_cli.py").read_text()
LOCAL = ("--profile", "local", "all")
NOTHING = "Nothing to be done"
MORE = "{layout: folder, root: data/raw/demo, annotations: data/raw/demo/clips.csv, encoder: demo-clip}"


def stubbed(root: Path) -> Project:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["grid"] = ["tgdfer", "no-text"]
    return Project.make(root, yaml.safe_dump(params, sort_keys=False), STUB)


def skipped(said: str) -> set[str]:
    return set(re.findall(r"Stage '([^']+)' didn't change, skipping", said))


def outputs(project: Project) -> dict[str, bytes]:
    """The files that hold results, by path."""
    found = [*project.root.glob("runs/**/*.json"), *project.root.glob("runs/**/*.parquet")]
    return {
        path.relative_to(project.root).as_posix(): path.read_bytes()
        for path in found
        if path.name not in ("run.json", "history.json")
    }


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


def test_snakemake_finds_nothing_to_do_after_dvc(made: Project, tmp_path: Path) -> None:
    second = made.clone(tmp_path / "second")
    second.dvc("repro")
    assert outputs(second) == outputs(made)
    assert NOTHING in second.snakemake("-n", *LOCAL).stdout


@pytest.mark.parametrize(
    ("edit", "remade"),
    [
        pytest.param(
            ("params.yaml", lambda text: text.replace("text: none", "text: template")),
            {"train demo no-text", "report"},
            id="a variant's parameter",
        ),
        pytest.param(
            ("tgdfer/model/losses.py", lambda text: text + "\n# changed\n"),
            {"train demo tgdfer", "train demo no-text", "report"},
            id="the model's code",
        ),
        pytest.param(
            ("tgdfer/frames.py", lambda text: text + "\n# changed\n"),
            {"frames demo", "features demo demo-clip", "train demo tgdfer", "train demo no-text", "report"},
            id="the frames' code",
        ),
        pytest.param(
            ("params.yaml", lambda text: text.replace("datasets:\n", f"datasets:\n  more: {MORE}\n", 1)),
            {"clips more", "frames more", "features more", "train more tgdfer", "train more no-text", "report"},
            id="one more data set",
        ),
    ],
)
def test_a_change_remakes_what_depends_on_it_in_both(made: Project, edit: tuple, remade: set[str]) -> None:
    name, change = edit
    file = made.root / name
    before = file.read_text()
    after = change(before)
    assert after != before
    try:
        file.write_text(after)
        planned = made.snakemake("-n", "--quiet", "host", "--printshellcmds", *LOCAL).stdout
        commands = re.findall(r"python -m tgdfer ([^>]+) >", planned)
        found = {re.sub(r" --\w+ ", " ", command).strip() for command in commands}
        assert found == {call.removesuffix(" demo-clip") for call in remade}
        stages = re.findall(r"^(\S+):$", made.dvc("status").stdout, re.MULTILINE)
        by_stage = {stage["name"]: stage["command"] for stage in made.dvc_stages()}
        # DVC's status names what changed itself and what lies behind it only through outputs that are there
        changed = {re.sub(r" --\w+ ", " ", by_stage[stage]).removeprefix("python -m tgdfer ") for stage in stages}
        assert changed <= found
        assert changed
    finally:
        file.write_text(before)


def test_the_real_stages_in_both_graphs(tmp_path: Path) -> None:
    first = Project.make(tmp_path / "first", tiny())
    first.snakemake(*LOCAL, timeout=900)
    results = outputs(first)
    assert any(path.endswith("metrics.json") for path in results)
    assert (first.root / "reports" / "index.html").exists()
    assert list((first.root / "reports" / "tables").glob("*.csv"))
    made = {path.name for path in (first.root / "reports").iterdir()}
    versioned = {Path(out).name for stage in first.dvc_stages() for out in stage["outs"] if out.startswith("reports/")}
    assert made == versioned, "dvc.yaml: report: outs"
    assert NOTHING in first.snakemake(*LOCAL).stdout

    first.dvc("commit", "-f", "--no-relink")
    assert skipped(first.dvc("repro").stdout) == {stage["name"] for stage in first.dvc_stages()}

    second = first.clone(tmp_path / "second")
    second.dvc("repro", timeout=900)
    assert outputs(second) == results
    assert NOTHING in second.snakemake("-n", *LOCAL).stdout
