"""The processes of one run under torchrun: who takes which clips of a batch, and the sum of their gradients."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed, nn


class Group:
    """The processes that train together; with one process every method does next to nothing."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        """``rank`` (from 0) of ``size`` processes, whose process group is up if there is more than one."""
        self.rank, self.size = rank, size

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def share(self, size: int) -> slice:
        """This process' part of a batch of ``size`` clips: the parts are contiguous and differ by one at most."""
        return slice(size * self.rank // self.size, size * (self.rank + 1) // self.size)

    def sum(self, parameters: Sequence[nn.Parameter], numbers: torch.Tensor) -> torch.Tensor:
        """Sum the gradients of ``parameters`` in place, and ``numbers`` [n], which is returned; one message."""
        if self.size == 1:
            return numbers
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = torch.cat([g.reshape(-1) for g in gradients] + [numbers.to(gradients[0].dtype)])
        distributed.all_reduce(flat)
        start = 0
        for parameter in parameters:
            parameter.grad = flat[start : start + parameter.numel()].view_as(parameter)
            start += parameter.numel()
        return flat[start:]

    def gather(self, value: Any) -> list[Any]:
        """``value`` of every process, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values


@contextmanager
def joined(device: torch.device) -> Iterator[Group]:
    """The group that torchrun started (its environment variables say so), or a group of this process only."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Group()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)  # NCCL uses it for objects other than tensors; otherwise all would use GPU 0
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Group(distributed.get_rank(), size)
    finally:
        distributed.destroy_process_group()
