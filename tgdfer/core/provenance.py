"""What a run was made from: command, code revision, versions, hardware, SLURM job; it stands in run.json."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import version
from typing import Any

PACKAGES = ("torch", "torchvision", "open_clip_torch", "numpy", "pandas", "pyarrow", "scikit-learn", "mlflow")


def cores() -> int:
    """The cores that this process may use, of a SLURM job's no more than were granted."""
    # macOS has no affinity
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    granted = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return max(1, min(found, int(granted)) if granted.isdigit() else found)


def git_revision() -> dict[str, Any]:
    """The commit of the working directory and whether tracked files differ from it; nulls outside a repository."""
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": bool(changes.strip())}


def describe() -> dict[str, Any]:
    """The circumstances of this process."""
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    slurm = {
        key: os.environ[key] for key in ("SLURM_JOB_ID", "SLURM_JOB_NODELIST", "SLURM_JOB_NAME") if key in os.environ
    }
    return {
        "command": shlex.join([sys.executable, *sys.argv]),
        "git": git_revision(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "hardware": {"machine": platform.machine(), "cpus": os.cpu_count(), "gpus": gpus},
        "slurm": slurm or None,
    }
