"""How the C library allocates memory, so that a long-running process does not hold more than it uses."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's ``mallopt``."""
MAPPED_FROM = 4 << 20
"""Bytes from which a block is mapped separately: the buffers of an evaluation, not those of a training step."""
KEPT_FREE = 32 << 20
"""Bytes at the end of the heap that are kept when they are free."""


def map_large_blocks() -> None:
    """On Linux, have every large block mapped separately and given back when it is freed.

    By default glibc raises that size to 32 MB as blocks are freed. The buffers of an evaluation then come from the
    heap, where small results between them leave holes: memory would grow with the number of batches.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, MAPPED_FROM)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_FREE)
