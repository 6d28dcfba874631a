"""The load of the machine while something computes: processor, memory and GPUs, under the names that MLflow uses."""

import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

from tgdfer.core.provenance import now

EVERY_S = 10.0
QUERY = "index,utilization.gpu,memory.used,memory.total"


class Monitor:
    """A context that calls ``record`` with the time and the load every ``EVERY_S`` seconds, and once at its end.

    ``record`` runs in another thread. An OSError that it raises, such as a full disk, is ignored.
    """

    def __init__(self, record: Callable[[dict[str, Any]], None]) -> None:
        import psutil

        self._record = record
        self._stop = threading.Event()
        self._machine, self._process = psutil, psutil.Process()
        self._nvidia_smi = shutil.which("nvidia-smi")
        self._thread = threading.Thread(target=self._watch, name="monitor", daemon=True)

    def __enter__(self) -> Self:
        # psutil measures processor load since the previous call
        self._machine.cpu_percent()
        self._process.cpu_percent()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the thread; the load since the last call is reported."""
        self._stop.set()
        self._thread.join()
        self._report()

    def _watch(self) -> None:
        while not self._stop.wait(EVERY_S):
            self._report()

    def _report(self) -> None:
        with suppress(OSError):
            self._record({"time": now(), **self.load()})

    def load(self) -> dict[str, float]:
        """Percentages and megabytes; 100 % of ``process_cpu`` is one core."""
        memory = self._machine.virtual_memory()
        return {
            "system/cpu_utilization_percentage": self._machine.cpu_percent(),
            "system/process_cpu_percentage": self._process.cpu_percent(),
            "system/system_memory_usage_percentage": memory.percent,
            "system/system_memory_usage_megabytes": memory.used / 1e6,
            "system/process_memory_megabytes": self._process.memory_info().rss / 1e6,
            **self._gpus(),
        }

    def _gpus(self) -> dict[str, float]:
        mine = os.environ.get("CUDA_VISIBLE_DEVICES")
        if self._nvidia_smi is None or mine == "":
            return {}
        only = ["-i", mine] if mine else []
        command = [self._nvidia_smi, f"--query-gpu={QUERY}", "--format=csv,noheader,nounits", *only]
        found: dict[str, float] = {}
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=EVERY_S, check=True).stdout
            for line in answer.splitlines():
                index, busy, used, total = (cell.strip() for cell in line.split(","))
                found[f"system/gpu_{index}_utilization_percentage"] = float(busy)
                found[f"system/gpu_{index}_memory_usage_megabytes"] = float(used) * 2**20 / 1e6
                found[f"system/gpu_{index}_memory_usage_percentage"] = 100 * float(used) / float(total)
        except (OSError, ValueError, subprocess.SubprocessError):
            self._nvidia_smi = None  # no driver, or a device that reports nothing: do not ask again
        return found
