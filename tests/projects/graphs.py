"""Projects in a folder of their own, and what the two graphs say about them, in one vocabulary."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PARTS = (
    "Snakefile",
    "workflow",
    "slurm",
    "local",
    "dvc.yaml",
    ".dvc/config",
    ".dvc/.gitignore",
    ".dvcignore",
    ".gitignore",
    "environment.yml",
    "tgdfer",
)


CALLERS = ("MLFLOW_", "SNAKEMAKE_", "PYTEST_", "COV_", "DVC_", "XDG_", "SLURM_", "PYTHONPATH", "PYTHONDONTWRITE")


def environment(home: Path) -> dict[str, str]:
    """An environment with an empty home, one thread, and no tracking server or profile of the caller."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(CALLERS)}
    return {
        **kept,
        "HOME": str(home),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }


@dataclass(frozen=True)
class Project:
    """A working copy: the graphs, the package and a params.yaml, in a git repository."""

    root: Path

    @classmethod
    def make(cls, root: Path, params: str, cli: str | None = None) -> Project:
        """Copy the project to ``root``, with ``params`` as params.yaml and, if given, ``cli`` as the command line."""
        for part in PARTS:
            source, target = ROOT / part, root / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, target)
        (root / "params.yaml").write_text(params, encoding="utf-8")
        if cli is not None:
            (root / "tgdfer" / "cli.py").write_text(cli, encoding="utf-8")
        project = cls(root)
        project.run("git", "init", "-q")
        project.run("git", "add", "-A")
        project.run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "project")
        return project

    def clone(self, root: Path) -> Project:
        """A second clone of the project: what git has of it, and nothing that was produced."""
        self.run("git", "clone", "-q", str(self.root), str(root))
        return Project(root)

    def run(
        self, *command: str, check: bool = True, timeout: float = 600, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the project's folder; its output is shown when it fails."""
        home = self.root.parent / "home"
        home.mkdir(exist_ok=True)
        result = subprocess.run(
            command,
            cwd=self.root,
            env={**environment(home), **variables},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
        )
        if check and result.returncode:
            logs = "\n".join(f"{log}:\n{log.read_text()[-2000:]}" for log in self.root.glob("logs/**/*.log"))
            raise AssertionError(f"{' '.join(command)}: exit {result.returncode}\n{result.stdout[-6000:]}\n{logs}")
        return result

    def snakemake(self, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        """`snakemake` in the project's folder."""
        return self.run("snakemake", *arguments, **options)  # type: ignore[arg-type]

    def dvc(self, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        """`dvc` in the project's folder."""
        return self.run("dvc", *arguments, **options)  # type: ignore[arg-type]

    def calls(self, event: str = "end") -> list[str]:
        """The stub's calls that started or ended, in this order."""
        log = self.root / "calls.log"
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [line[1] for line in lines if line[0] == event]

    def forget_calls(self) -> None:
        """Start a new list of calls."""
        (self.root / "calls.log").unlink(missing_ok=True)

    def snakemake_jobs(self) -> list[dict]:
        """Every job of the whole graph: rule, wildcards, input, ancient, output, command, resources.

        ``made_by`` is the stage by whose parameters and code an output is held to be current, with its wildcards.
        """
        return json.loads(self.run(sys.executable, "-c", SNAKEMAKE_JOBS).stdout.splitlines()[-1])

    def dvc_stages(self) -> list[dict]:
        """Every stage of dvc.yaml: name, deps, outs (path: persist), command, params."""
        return json.loads(self.run(sys.executable, "-c", DVC_STAGES).stdout.splitlines()[-1])


NOTHING = "Nothing to be done"


def skipped(said: str) -> set[str]:
    """The stages that `dvc repro` found unchanged."""
    return set(re.findall(r"Stage '([^']+)' didn't change, skipping", said))


def outputs(project: Project) -> dict[str, bytes]:
    """The files that hold results, by path."""
    found = [*project.root.glob("runs/**/*.json"), *project.root.glob("runs/**/*.parquet")]
    return {
        path.relative_to(project.root).as_posix(): path.read_bytes()
        for path in found
        if path.name not in ("run.json", "attempt.json")
    }


def hold_dvc_against(first: Project, root: Path) -> None:
    """Assert that DVC finds nothing to do where Snakemake ran, and makes the same to the last byte in a clone."""
    results = outputs(first)
    assert any(path.endswith("metrics.json") for path in results)
    assert any(path.endswith("predictions.parquet") for path in results)
    assert list((first.root / "reports" / "tables").glob("*.csv"))
    made = {path.name for path in (first.root / "reports").iterdir()}
    versioned = {Path(out).name for stage in first.dvc_stages() for out in stage["outs"] if out.startswith("reports/")}
    assert made == versioned, "dvc.yaml: report: outs"
    assert NOTHING in first.snakemake("--profile", "local", "all").stdout

    first.dvc("commit", "-f", "--no-relink")
    assert skipped(first.dvc("repro").stdout) == {stage["name"] for stage in first.dvc_stages()}

    second = first.clone(root)
    second.dvc("repro", timeout=900)
    assert outputs(second) == results
    assert NOTHING in second.snakemake("-n", "--profile", "local", "all").stdout


def hold_repair(project: Project) -> None:
    """Assert that runs trained by hand with other words are named, and repaired by the command that status prints."""
    words, before = project.root / "tgdfer" / "config" / "descriptions.yaml", outputs(project)
    text = words.read_text(encoding="utf-8")
    words.write_text(text.replace("- cheeks raised", "- cheeks lifted"), encoding="utf-8")
    project.run(sys.executable, "-m", "tgdfer", "train", "--dataset", "demo", "--variant", "tgdfer")
    words.write_text(text, encoding="utf-8")
    assert outputs(project) != before

    status = project.run(sys.executable, "-m", "tgdfer", "status").stdout
    assert re.search(r"tgdfer +2 outdated", status), status
    project.run(sys.executable, "-m", "tgdfer", "report")
    tables = list((project.root / "reports" / "tables").glob("*.md"))
    assert tables and all(
        "the words changed" in table.read_text() for table in tables if "TG-DFER" in table.read_text()
    )
    command = re.search(r"next: (snakemake --profile local all)", status)
    assert command, status
    project.run(*command[1].split())
    assert outputs(project) == before
    assert "are done" in project.run(sys.executable, "-m", "tgdfer", "status").stdout.splitlines()[-1]
    assert "the words changed" not in "".join(table.read_text() for table in tables)
    assert NOTHING in project.snakemake("-n", "--profile", "local", "all").stdout


SNAKEMAKE_JOBS = """
import json, pathlib
from snakemake.api import SnakemakeApi
from snakemake.settings.types import DAGSettings, OutputSettings, ResourceSettings, Quietness
from tgdfer.runs import outputs
made_by = {}
outputs.is_outdated = lambda made, params, stage, **wildcards: made_by.update({str(made): [stage, wildcards]})
with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
    workflow = api.workflow(ResourceSettings(cores=2), snakefile=pathlib.Path("Snakefile"))
    workflow.dag(DAGSettings(forceall=True)).execute_workflow(executor="dryrun")
    jobs = [
        {
            "rule": job.rule.name,
            "wildcards": dict(job.wildcards),
            "input": [str(file) for file in job.input if not file.is_ancient],
            "ancient": [str(file) for file in job.input if file.is_ancient],
            "output": [str(file) for file in job.output],
            "log": [str(file) for file in job.log],
            "command": job.shellcmd,
            "made_by": [made_by.get(str(file)) for file in job.output],
            "resources": {key: value for key, value in job.resources.items() if isinstance(value, int)},
        }
        for job in workflow._workflow.dag.jobs
    ]
print()
print(json.dumps(jobs))
"""

DVC_STAGES = """
import json
from dvc.repo import Repo
stages = [
    {
        "name": stage.addressing,
        "stage": stage.addressing.split("@")[0],
        "command": stage.cmd,
        "deps": [dep.def_path for dep in stage.deps if not hasattr(dep, "params")],
        "params": [key for dep in stage.deps if hasattr(dep, "params") for key in dep.params],
        "outs": {out.def_path: out.persist for out in stage.outs},
    }
    for stage in Repo(".").index.stages
]
print()
print(json.dumps(stages))
"""


def tiny(variants: Iterable[str] = ("tgdfer", "linear-probe"), **training: object) -> str:
    """The project's parameters, as small as they go: tests/tiny.yaml over params.yaml."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for section, values in yaml.safe_load((ROOT / "tests" / "tiny.yaml").read_text(encoding="utf-8")).items():
        params[section].update(values)
    params["training"].update(training)
    params["grid"] = list(variants)
    return yaml.safe_dump(params, sort_keys=False)


def covered(path: str, by: Iterable[str]) -> bool:
    """Whether ``path`` is one of ``by`` or in one of them."""
    return any(path == one or path.startswith(one.rstrip("/") + "/") for one in by)
