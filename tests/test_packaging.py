"""The files around the code say the same: pyproject, lock, conda's environment, containers, citation, CI."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from graphs import BIN, ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tgdfer.core.version import __version__

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
LOCK = (ROOT / "requirements.lock").read_text()
LOCKED: dict[str, set[Version]] = {}
for name, found in re.findall(r"^([a-z0-9._-]+)(?:\[[^\]]*\])?==([^ ;\\]+)", LOCK, re.MULTILINE):
    LOCKED.setdefault(canonicalize_name(name), set()).add(Version(found))


def test_condas_environment_asks_for_what_the_project_asks_for() -> None:
    (pip,) = [one["pip"] for one in ENVIRONMENT if isinstance(one, dict)]
    assert pip == PROJECT["dependencies"], "environment.yml: pip: the list of pyproject.toml, in its order"
    (python,) = [one for one in ENVIRONMENT if isinstance(one, str) and one.startswith("python=")]
    assert Version(python.removeprefix("python=")) in Requirement(f"python{PROJECT['requires-python']}").specifier


@pytest.mark.parametrize("line", [*PROJECT["dependencies"], *(one for extra in EXTRAS.values() for one in extra)])
def test_every_requirement_is_locked_to_a_version_that_it_allows(line: str) -> None:
    wanted = Requirement(line)
    versions = LOCKED.get(canonicalize_name(wanted.name))
    assert versions, f"requirements.lock: no {wanted.name}: make lock"
    assert all(version in wanted.specifier for version in versions), f"{line}: locked {versions}: make lock"


def test_the_lock_has_hashes_and_the_extras_are_those_that_are_named() -> None:
    assert LOCK.count("--hash=sha256:") > len(LOCKED) > 100
    assert set(EXTRAS) == {"dev", "docs", "onnx"}


@pytest.mark.skipif(not (ROOT / ".venv").is_dir(), reason="installed in another way than by make venv")
def test_python_starts_in_a_folder_of_any_name_under_any_locale() -> None:
    """Python 3.11 decodes .pth files by the locale: an absolute path with an umlaut would stop it under LC_ALL=C."""
    (installed,) = (ROOT / ".venv" / "lib").glob("python3*/site-packages/_editable_impl_tgdfer.pth")
    assert installed.read_text() == "../../../..\n"


def steps(recipe: str) -> list[str]:
    """The shell commands of a container's recipe that build it, in order, line continuations resolved."""
    text = (ROOT / "containers" / recipe).read_text().replace("\\\n", " ")
    if recipe == "Dockerfile":
        lines = [line.removeprefix("RUN ") for line in text.splitlines() if line.startswith("RUN ")]
    else:
        post = re.search(r"%post\n(.*?)\n%", text, re.DOTALL)
        assert post
        lines = post[1].splitlines()
    parts = [" ".join(part.split()) for line in lines for part in line.split("&&")]
    return [part for part in parts if part and not part.startswith(("set ", "cd ", "tgdfer "))]


def test_both_containers_are_built_by_the_same_steps() -> None:
    assert steps("Dockerfile") == steps("tgdfer.def")
    assert steps("Dockerfile")[-1] == "make venv", "the environment is that of the lock, as everywhere"
    bases = {
        re.search(r"python:(\d+\.\d+)\S*", (ROOT / "containers" / name).read_text())[0]  # type: ignore[index]
        for name in ("Dockerfile", "tgdfer.def")
    }
    assert len(bases) == 1
    version = Version(bases.pop().removeprefix("python:").split("-")[0])
    assert version in Requirement(f"python{PROJECT['requires-python']}").specifier
    packages = next(step for step in steps("Dockerfile") if "install" in step)
    assert {"git", "make"} <= set(shlex.split(packages))


def test_a_container_gets_what_it_needs_and_nothing_produced(tmp_path: Path) -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line]
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )

    def ignored(path: str) -> bool:
        """Docker's rule: the last line that fits the path or a folder above it decides."""
        verdict = False
        parts = path.split("/")
        above = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        for line in lines:
            pattern = line.removeprefix("!").removeprefix("**/")
            fits = any(
                fnmatch(one, pattern) or ("**/" in line and fnmatch(one.split("/")[-1], pattern)) for one in above
            )
            verdict = (not line.startswith("!")) if fits else verdict
        return verdict

    left_out = [path for path in listed if path and ignored(path)]
    assert left_out == [], "everything that git has belongs into the container"
    for produced in (
        "data/demo/clips.parquet",
        "runs/a",
        "models/demo-clip/encoder.json",
        ".venv/bin/python",
        "mlflow/x",
    ):
        assert ignored(produced), produced
    # the steps after the installation, on the files that the container gets
    for path in ("pyproject.toml", "requirements.lock", "README.md", "params.yaml", "Makefile"):
        shutil.copy2(ROOT / path, tmp_path)
    text = (ROOT / "containers" / "Dockerfile").read_text()
    checks = [line.removeprefix("RUN ") for line in text.splitlines() if line.startswith("RUN tgdfer")]
    assert checks
    for check in checks:
        ran = subprocess.run(
            check, shell=True, cwd=tmp_path, capture_output=True, text=True, env={"PATH": f"{BIN}:/bin"}
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
    dry = subprocess.run(
        ["make", "-n", "venv", f"PYTHON={sys.executable}"], cwd=tmp_path, capture_output=True, text=True
    )
    assert dry.returncode == 0, dry.stderr
    assert "--require-hashes requirements.lock" in dry.stdout


def test_make_clean_keeps_what_cannot_be_made_again(tmp_path: Path) -> None:
    root = tmp_path / "a project"
    made = (
        "data/raw/demo/clips.csv",
        "data/demo/clips.parquet",
        "runs/demo/a",
        "reports/index.html",
        "mlflow/mlflow.db",
    )
    kept = ("data/README.md", "data/raw/ravdess/Actor_01/a.mp4", ".venv/bin/python", "params.yaml")
    for name in (*made, *kept):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    shutil.copy2(ROOT / "Makefile", root)
    subprocess.run(["make", "clean"], cwd=root, capture_output=True, check=True)
    assert {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} == {*kept, "Makefile"}


def test_citation_changelog_and_package_are_of_one_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    assert citation["license"] == PROJECT["license"] == "MIT"
    assert {"cff-version", "message", "title", "authors", "references"} <= set(citation)
    assert re.search(rf"^## {re.escape(__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_ci_and_the_hooks_run_what_is_there() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    ran = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    assert any(command.endswith(".ci/run") for command in ran)
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    lint = (ROOT / "Makefile").read_text()
    for hook in repo["hooks"]:
        program, *arguments = shlex.split(hook["entry"])
        assert (BIN / Path(program).name).exists()
        assert program.startswith(".venv/bin/")
        assert re.search(rf"^\t{Path(program).name}\b", lint, re.MULTILINE), f"{hook['id']}: make lint runs it too"
        assert subprocess.run([BIN / Path(program).name, *arguments[:1], "--help"], capture_output=True).returncode == 0
