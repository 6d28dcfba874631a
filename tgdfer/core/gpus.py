"""A GPU for each process, where Snakemake counts the GPUs of one machine but does not hand them out.

The `local` profile lists what its jobs share in TGDFER_GPUS; a GPU that several jobs may share is listed as often. A
process takes the first entry that nobody holds, by a lock file that the system releases when the process ends, in
whatever way. Without the variable (SLURM hands out GPUs itself) nothing happens.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

VARIABLE = "TGDFER_GPUS"
_held: list[object] = []


def take_one(poll_seconds: float = 1.0) -> str | None:
    """Take a GPU for the rest of this process and make it the only one that is seen; waits until one is free.

    Call it before torch is imported. Returns the GPU's name, or None where none are shared.
    """
    shared = [name for name in os.environ.get(VARIABLE, "").split(",") if name]
    if not shared:
        return None
    from filelock import FileLock, Timeout

    # all runs of a user on this machine, of whatever project, share a folder; GPU 0 of a SLURM allocation is its own
    allocation = os.environ.get("SLURM_JOB_ID", "")
    folder = Path(tempfile.gettempdir()) / f"tgdfer-gpus-{os.getuid()}-{allocation}".rstrip("-")
    folder.mkdir(exist_ok=True)
    while True:
        for index, name in enumerate(shared):
            lock = FileLock(folder / f"{name}.{shared[:index].count(name)}.lock")
            try:
                lock.acquire(blocking=False)
            except Timeout:
                continue
            _held.append(lock)
            os.environ["CUDA_VISIBLE_DEVICES"] = name
            return name
        time.sleep(poll_seconds)
