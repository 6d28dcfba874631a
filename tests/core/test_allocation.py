"""Large blocks of memory are mapped separately in a training, however many were freed before."""

import subprocess
import sys
from pathlib import Path

import pytest
import training_project as project

SCRIPT = """
from pathlib import Path

import torch
import training_project as project

from tgdfer.stages import train

train.run(project.params(), "tiny", "probe")


def address():
    return torch.empty(8 << 20, dtype=torch.uint8).data_ptr()


address()  # freed at once, after which glibc by default takes blocks of this size from the heap
heap = next(line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith("[heap]"))
start, found = int(heap.split("-")[0], 16), address()
end = next(line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith("[heap]"))
print(start <= found < int(end.split("-")[1].split()[0], 16) + (8 << 20))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the heap is that of glibc")
def test_a_training_does_not_take_large_blocks_from_the_heap(new_folder, monkeypatch):
    project.make_project()
    monkeypatch.setenv("PYTHONPATH", f"{Path(project.__file__).parent}:{Path(__file__).parents[2]}")
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
