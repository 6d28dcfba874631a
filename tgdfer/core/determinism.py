"""Seeds that depend on their purpose, and settings under which the same parameters give the same bits."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch


def derive(*parts: object) -> int:
    """A seed of 63 bits that depends on all ``parts``."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:8]) >> 1


@contextmanager
def deterministic(threads: int | None = None) -> Iterator[None]:
    """Deterministic algorithms on ``threads`` threads (None: as many as before), and float32 without TensorFloat32.

    Settings, random state and number of threads are restored at the end.
    """
    fill: Any = torch.utils.deterministic
    before = torch.get_num_threads(), torch.get_deterministic_debug_mode(), fill.fill_uninitialized_memory
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
    if threads is not None:
        torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms, without importing torch's compiler
    fill.fill_uninitialized_memory = False  # it helps to find bugs and costs a twentieth of the time
    try:
        with (
            torch.random.fork_rng(devices=range(torch.cuda.device_count())),
            # cuDNN computes LSTMs in TensorFloat32 by default: evaluation on a GPU would differ from the CPU's
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        ):
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_deterministic_debug_mode(before[1])
        fill.fill_uninitialized_memory = before[2]


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The state of torch's global generators that a model on ``device`` draws from, by device type."""
    found = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        found["mps"] = torch.mps.get_rng_state()
    return found


def set_random_state(device: torch.device, state: Mapping[str, torch.Tensor]) -> None:
    """Return to the state of ``random_state``."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(state["mps"])
