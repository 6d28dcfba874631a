"""Which device a stage computes on, and a GPU for each job where several jobs share a machine."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tgdfer.core.errors import UserError

if TYPE_CHECKING:
    import torch

SHARED_GPUS = "TGDFER_GPUS"
"""The variable in which the `local` profile lists the GPUs that its jobs share; one for two jobs is listed twice."""


@contextmanager
def own_gpu(poll_seconds: float = 1.0) -> Iterator[str | None]:
    """Wait for a GPU of ``SHARED_GPUS`` that no other job holds, hold it, and make it the only visible one.

    Snakemake counts the GPUs of a machine but does not assign them. Without the variable nothing happens (SLURM
    assigns GPUs itself). Enter this before CUDA is used. The system releases the lock of a process that is killed.

    Yields:
        The GPU's name, or None where none are shared.
    """
    names = [name for name in os.environ.get(SHARED_GPUS, "").split(",") if name]
    if not names:
        yield None
        return
    from filelock import FileLock, Timeout

    # all projects of a user on this machine share a folder; GPU 0 of a SLURM allocation is another GPU 0
    allocation = os.environ.get("SLURM_JOB_ID", "")
    folder = Path(tempfile.gettempdir()) / f"tgdfer-gpus-{os.getuid()}-{allocation}".rstrip("-")
    folder.mkdir(exist_ok=True)
    locks = [FileLock(folder / f"{name}.{names[:place].count(name)}.lock") for place, name in enumerate(names)]

    def free() -> tuple[str, FileLock] | None:
        for name, lock in zip(names, locks, strict=True):
            with suppress(Timeout):
                lock.acquire(blocking=False)
                return name, lock
        return None

    while (found := free()) is None:
        time.sleep(poll_seconds)
    name, lock = found
    os.environ["CUDA_VISIBLE_DEVICES"] = name
    try:
        yield name
    finally:
        lock.release()


def choose_device(name: str, key: str = "--device") -> "torch.device":
    """The device called ``name``; ``auto`` is a CUDA GPU, else MPS, else the CPU.

    ``key`` is where the user wrote it, for the message.

    Raises:
        UserError: this machine has no such device.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device("cuda:0" if name == "cuda" else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{key}: '{name}' cannot be used here ({reason}); write auto, cpu, mps, cuda or cuda:<number>"
        ) from None
    return device
