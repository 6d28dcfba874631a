"""The command line: help for every stage, and one clear line with exit code 2 for bad input."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tgdfer.cli import app, main
from tgdfer.config.dependencies import STAGES

ROOT = Path(__file__).parents[1]


def tgdfer(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "tgdfer", *arguments], cwd=cwd, capture_output=True, text=True)


def commands() -> set[str]:
    return {command.name for command in app.registered_commands}


def test_every_stage_is_a_command() -> None:
    assert set(STAGES) <= commands()
    assert "validate" in commands()


@pytest.mark.parametrize("command", sorted(commands()))
def test_help_explains(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "--params" in result.output or command == "download"
    assert f"tgdfer {command}" in result.output, "an example"


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (("max_frames: 32", "max_frame: 32"), "frames.max_frame: unknown key"),
        (("max_frames: 32", "max_frames: many"), "frames.max_frames"),
    ],
)
def test_bad_parameters_are_one_line_and_exit_code_2(tmp_path: Path, edit: tuple[str, str], said: str) -> None:
    text = (ROOT / "params.yaml").read_text()
    assert edit[0] in text
    (tmp_path / "params.yaml").write_text(text.replace(*edit))
    result = tgdfer("frames", "--dataset", "demo", cwd=tmp_path)
    assert result.returncode == 2
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]


@pytest.mark.parametrize(("options", "updates"), [([], 1), (["--no-tracking"], 0)])
def test_a_report_updates_mlflow_unless_snakemake_does(
    options: list[str], updates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("tgdfer.stages.report.run", lambda params: None)
    monkeypatch.setattr("tgdfer.tracking.update_after", called.append)
    assert CliRunner().invoke(app, ["report", *options]).exit_code == 0
    assert len(called) == updates


def test_an_unknown_data_set_and_a_root_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    for arguments, said in ((["--dataset", "dfew"], "no data set 'dfew'"), (["--dataset", "demo"], "data/raw/demo")):
        result = tgdfer("clips", *arguments, cwd=tmp_path)
        assert result.returncode == 2
        assert len(result.stderr.strip().splitlines()) == 1
        assert said in result.stderr


def test_a_stage_of_dvc_is_refused_while_snakemake_works_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / ".snakemake" / "locks" / "0.input.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    monkeypatch.setenv("DVC_STAGE", "train-demo-encoder")
    result = tgdfer("train-demo-encoder", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: Snakemake is working in this folder")
    lock.unlink()
    assert "Snakemake" not in tgdfer("train-demo-encoder", cwd=tmp_path).stderr


def test_a_tilde_that_the_shell_left_is_the_home_folder(
    new_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(new_folder))
    (new_folder / "mine.yaml").write_text("seeds: one\n")
    for given in (["--params=~/mine.yaml"], ["--params", "~/mine.yaml"]):
        monkeypatch.setattr("sys.argv", ["tgdfer", "validate", *given])
        with pytest.raises(SystemExit):
            main()
        assert f"{new_folder}/mine.yaml: datasets: Field required" in capsys.readouterr().err
