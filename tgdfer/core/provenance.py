"""What a run was made from: command, code revision, versions, hardware, SLURM job; stored in run.json."""

import getpass
import os
import platform
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

PACKAGES = ("torch", "torchvision", "open_clip_torch", "numpy", "pandas", "pyarrow", "scikit-learn")


def cores() -> int:
    """The cores that this process may use; in a SLURM job, at most those that were granted."""
    # macOS has no affinity
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    granted = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return max(1, min(found, int(granted)) if granted.isdigit() else found)


def git_revision() -> dict[str, Any]:
    """The commit of the working directory and whether tracked files differ from it; nulls outside a repository."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


def now() -> str:
    """The time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def reason(error: BaseException) -> str:
    """Why something ended, in one line, without the user and password that a URI may hold."""
    return f"{type(error).__name__}: {re.sub(r'//[^/@ ]*@', '//', ' '.join(str(error).split()))}"[:500]


def circumstances() -> dict[str, Any]:
    """How this process was started: command, user, code revision, SLURM job, DVC experiment."""
    slurm = {
        key: os.environ[key] for key in ("SLURM_JOB_ID", "SLURM_JOB_NODELIST", "SLURM_JOB_NAME") if key in os.environ
    }
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return {
        "command": shlex.join([sys.executable, *sys.argv]),
        "user": user,
        "git": git_revision(),
        "slurm": slurm or None,
        "dvc_experiment": os.environ.get("DVC_EXP_NAME"),
    }


def describe() -> dict[str, Any]:
    """How this process was started, the versions of its packages and its hardware."""
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        **circumstances(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "hardware": {"machine": platform.machine(), "cpus": os.cpu_count(), "gpus": gpus},
    }
