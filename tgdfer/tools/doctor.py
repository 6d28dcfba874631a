"""``tgdfer doctor``: what a run needs of this machine and project, what is wrong, and the command that fixes it."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tgdfer.config.ahead import is_file, refusals
from tgdfer.config.data import DEMO_ENCODER
from tgdfer.config.params import Params, load_params
from tgdfer.config.report import SQLITE
from tgdfer.core import paths
from tgdfer.core.errors import UserError

GOOD, NOTE, BAD = "ok", "note", "WRONG"
ENOUGH_GB = 2.0
"""What the embedded data set and its runs take, with room; a real data set takes more: docs/paper-tables.md."""
COMPARED = ("torch", "torchvision", "open-clip-torch", "snakemake", "dvc", "mlflow", "pandas", "pyarrow", "numpy")
"""Packages whose versions are compared with the lock."""


@dataclass(frozen=True)
class Finding:
    """What was checked, the verdict, what was found, and the one command that fixes it."""

    what: str
    verdict: str
    found: str
    remedy: str = ""


def examine(params_file: Path) -> list[Finding]:
    """Look at everything; nothing is written, and only a configured tracking server is asked over the network."""
    names = ("Python", "packages", "torch", "ffmpeg", "SLURM", "disk")
    checks = zip(names, (_python, _packages, _torch, _ffmpeg, _slurm, _disk), strict=True)
    findings = [finding for what, check in checks for finding in _whatever_happens(what, check)]
    try:
        params = load_params(params_file)
    except UserError as error:
        return [*findings, Finding("parameters", BAD, str(error), f"correct {params_file}")]
    data = f"{len(params.datasets)} data set{'s' * (len(params.datasets) > 1)}"
    findings.append(Finding("parameters", GOOD, f"{params_file}: {data}, {len(params.grid)} variants in the grid"))
    for what, look in (("encoders", _encoders), ("data", _data), ("later stages", _later), ("MLflow", _tracking)):
        findings += _whatever_happens(what, partial(look, params))
    return findings


def _whatever_happens(what: str, check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """The findings of a check; if the check itself fails, that is a finding."""
    findings: list[Finding] = []
    try:
        findings.extend(check())
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        findings.append(Finding(what, BAD, f"cannot be checked: {said}"))
    return findings


def as_text(findings: list[Finding]) -> str:
    """A line for each finding, its remedy below it, and a verdict."""
    width = max(len(finding.what) for finding in findings)
    lines = []
    for one in findings:
        lines.append(f"{one.verdict:5}  {one.what:{width}}  {one.found}")
        if one.remedy:
            lines.append(f"{'':5}  {'':{width}}  -> {one.remedy}")
    wrong = sum(one.verdict == BAD for one in findings)
    lines.append(f"{wrong} thing{'s' if wrong > 1 else ''} to fix" if wrong else "ready to run")
    return "\n".join(lines)


def _python() -> Iterator[Finding]:
    found = f"{sys.version.split()[0]} in {sys.prefix}"
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        yield Finding("Python", BAD, f"{found}; expected 3.11 to 3.13", "make venv PYTHON=/path/to/python3.11")
    else:
        yield Finding("Python", GOOD, found)


def _packages() -> Iterator[Finding]:
    """The installed versions against the lock, if this is a clone."""
    lock = Path("requirements.lock")
    if not lock.is_file():
        yield Finding("packages", NOTE, "no requirements.lock here: versions are not compared")
        return
    # a lock for all platforms names a package once for each of its markers
    locked: dict[str, set[str]] = {}
    for line in lock.read_text(encoding="utf-8").splitlines():
        name, _, rest = line.partition("==")
        if name in COMPARED and rest:
            locked.setdefault(name, set()).add(rest.split()[0])
    wrong = []
    for name, versions in locked.items():
        try:
            installed = version(name).split("+")[0]
        except PackageNotFoundError:
            installed = "missing"
        if installed not in versions:
            wrong.append(f"{name} {installed} (locked: {' or '.join(sorted(versions))})")
    if wrong:
        yield Finding("packages", BAD, ", ".join(wrong), "make venv")
    else:
        yield Finding("packages", GOOD, "as in requirements.lock")


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Finding("torch", BAD, f"cannot be loaded: {' '.join(str(error).split())[:150]}", "make venv")
        return
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        names = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}, {memory:.0f} GiB"
        yield Finding("GPU", GOOD, f"{names}, torch {torch.__version__}")
    elif shutil.which("nvidia-smi"):
        yield Finding(
            "GPU", NOTE, f"a driver, but torch {torch.__version__} sees no GPU: the CPU is used", "nvidia-smi"
        )
    else:
        yield Finding("GPU", NOTE, f"none: torch {torch.__version__} computes on {os.cpu_count()} CPU cores")


def _ffmpeg() -> Iterator[Finding]:
    from tgdfer.media import ffmpeg

    try:
        program = ffmpeg.executable()
        yield Finding("ffmpeg", GOOD, f"{ffmpeg.version(program)}, {program}")
    except (UserError, ImportError, OSError, subprocess.SubprocessError) as error:
        remedy = f"unset {ffmpeg.VARIABLE}" if os.environ.get(ffmpeg.VARIABLE) else "make venv"
        yield Finding("ffmpeg", BAD, " ".join(str(error).split()), remedy)


def _slurm() -> Iterator[Finding]:
    missing = [tool for tool in ("sbatch", "squeue", "scancel") if not shutil.which(tool)]
    if len(missing) == 3:
        yield Finding("SLURM", NOTE, "none on this machine: --profile local works, --profile slurm does not")
        return
    if missing:
        yield Finding("SLURM", NOTE, f"no {', '.join(missing)} on PATH", "ask for SLURM's client programs")
        return
    try:
        said = subprocess.run(["squeue", "--noheader"], capture_output=True, text=True, timeout=15, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding("SLURM", NOTE, f"squeue does not answer: {error}", "scontrol ping")
        return
    if said.returncode:
        yield Finding("SLURM", NOTE, f"squeue: {' '.join(said.stderr.split())[:150]}", "scontrol ping")
    else:
        yield Finding("SLURM", GOOD, f"answers, {len(said.stdout.splitlines())} jobs in the queue")


def _disk() -> Iterator[Finding]:
    here = Path.cwd()
    free = shutil.disk_usage(here).free / 1e9
    if not os.access(here, os.W_OK):
        yield Finding("disk", BAD, f"{here} cannot be written to", f"cp -r {here} ~/tgdfer")
    elif free < ENOUGH_GB:
        yield Finding("disk", BAD, f"{free:.1f} GB free in {here}, {ENOUGH_GB:g} needed", f"du -xsh {here}/*")
    else:
        yield Finding("disk", GOOD, f"{free:.0f} GB free in {here}")


def _encoders(params: Params) -> Iterator[Finding]:
    for name in sorted({dataset.encoder for dataset in params.datasets.values()}):
        what = f"encoder {name}"
        if paths.encoder(name).is_file():
            yield Finding(what, GOOD, str(paths.encoder(name).parent))
        elif name == DEMO_ENCODER:
            yield Finding(what, NOTE, "not trained yet: the graph does it", "tgdfer train-demo-encoder")
        else:
            need = (
                ""
                if is_file(params.encoders[name].pretrained) or params.encoders[name].model is None
                else "; its weights are downloaded, which needs a network"
            )
            yield Finding(what, NOTE, f"not imported yet{need}", f"tgdfer import-encoder --name {name}")


def _later(params: Params) -> Iterator[Finding]:
    """What a later stage would refuse."""
    for refusal in refusals(params):
        yield Finding(refusal.about, BAD, refusal.problem, refusal.remedy)


def _data(params: Params) -> Iterator[Finding]:
    for name, dataset in params.datasets.items():
        what = f"data {name}"
        root, annotations = Path(dataset.root), Path(dataset.annotations)
        closed = next((path for path in (root, annotations) if _is_closed(path)), None)
        if closed:
            yield Finding(what, BAD, f"{closed}: may not be read", f"chmod -R u+rX {closed}, or ask its owner")
        elif root.is_dir() and annotations.exists():
            yield Finding(what, GOOD, f"{root} (what is in it: tgdfer validate --dataset {name})")
        elif annotations in params.rendered:
            stage = "render-demo" if root == paths.DEMO_ROOT else f"render --name {root.name}"
            yield Finding(what, NOTE, "not rendered yet: the graph does it", f"tgdfer {stage}")
        else:
            key, path = ("root", root) if not root.is_dir() else ("annotations", annotations)
            yield Finding(what, BAD, f"{path}: not there", f"correct datasets.{name}.{key} in params.yaml")


def _is_closed(path: Path) -> bool:
    """Whether ``path``, or the folder that it is in, is there and may not be read by this user."""
    try:
        there = path.exists()
    except PermissionError:
        return True
    return there and not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0))


def _tracking(params: Params) -> Iterator[Finding]:
    uri = params.tracking.place
    if not uri.startswith(SQLITE):
        yield _server(uri)
        return
    path = Path(uri.removeprefix(SQLITE))
    if not path.is_file():
        yield Finding("MLflow", NOTE, f"{path}: not made yet: the graph does it", "tgdfer tracking")
        return
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
            runs = database.execute("select count(*) from runs").fetchone()[0]
        yield Finding("MLflow", GOOD, f"{path}: {runs} runs")
    except sqlite3.Error as error:
        yield Finding("MLflow", BAD, f"{path}: {error}", f"mv {path} {path}.broken && tgdfer tracking")


def _server(uri: str) -> Finding:
    import http.client
    import urllib.request
    from urllib.parse import urlsplit

    parts = urlsplit(uri)
    if parts.hostname and "@" in parts.netloc:  # a password is shown to nobody
        uri = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    if not uri.startswith(("http://", "https://")):
        return Finding("MLflow", NOTE, f"{uri}: not looked at")
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=5) as answer:
            return Finding("MLflow", GOOD, f"{uri}: answers {answer.status}")
    except (OSError, ValueError, http.client.HTTPException) as error:
        found = f"{uri} does not answer ({error}); no run waits for it"
        return Finding("MLflow", NOTE, found, "tgdfer tracking, once it answers")
