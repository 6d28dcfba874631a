"""Seeds that depend on what they are for, and settings under which the same parameters give the same bits."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def derive(*parts: object) -> int:
    """A seed of 63 bits that depends on all ``parts``."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:8]) >> 1


@contextmanager
def deterministic(threads: int) -> Iterator[None]:
    """Deterministic algorithms on ``threads`` threads; random state and settings are as before afterwards."""
    fill: Any = torch.utils.deterministic
    before = torch.get_num_threads(), torch.get_deterministic_debug_mode(), fill.fill_uninitialized_memory
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or cuBLAS is not deterministic
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms, without importing torch's compiler
    fill.fill_uninitialized_memory = False  # a help for finding bugs that costs a twentieth of the time
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_deterministic_debug_mode(before[1])
        fill.fill_uninitialized_memory = before[2]
