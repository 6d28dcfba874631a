"""What a run costs the machine: processor, memory and GPUs, under the names that MLflow's own monitor gives them."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable

EVERY_S = 10.0
QUERY = "index,utilization.gpu,memory.used,memory.total"


class Monitor:
    """Calls ``tell`` with the load every :data:`EVERY_S` seconds, in a thread of its own, and once more at the end.

    MLflow's own monitor needs a server to talk to; this one's numbers go where the run's other numbers go.
    """

    def __init__(self, tell: Callable[[dict[str, float]], None]) -> None:
        self._tell = tell
        self._stop = threading.Event()
        self._load = Load()
        self._thread = threading.Thread(target=self._watch, name="tracking-load", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(EVERY_S):
            self._tell(self._load.now())

    def stop(self) -> None:
        """End the thread; what the run's last seconds, or a short run's all, have cost is told."""
        self._stop.set()
        self._thread.join()
        self._tell(self._load.now())


class Load:
    """The load of the machine and of this process since the last look."""

    def __init__(self) -> None:
        import psutil

        self._machine, self._process = psutil, psutil.Process()
        self._tool = shutil.which("nvidia-smi")
        self._machine.cpu_percent()
        self._process.cpu_percent()

    def now(self) -> dict[str, float]:
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
        if self._tool is None:
            return {}
        mine = os.environ.get("CUDA_VISIBLE_DEVICES")
        if mine == "":
            return {}
        command = [self._tool, f"--query-gpu={QUERY}", "--format=csv,noheader,nounits", *(["-i", mine] if mine else [])]
        found: dict[str, float] = {}
        try:
            said = subprocess.run(command, capture_output=True, text=True, timeout=EVERY_S, check=True).stdout
            for line in said.splitlines():
                index, busy, used, total = (cell.strip() for cell in line.split(","))
                found[f"system/gpu_{index}_utilization_percentage"] = float(busy)
                found[f"system/gpu_{index}_memory_usage_megabytes"] = float(used) * 2**20 / 1e6
                found[f"system/gpu_{index}_memory_usage_percentage"] = 100 * float(used) / float(total)
        except (OSError, ValueError, subprocess.SubprocessError):
            self._tool = None  # no driver, or a device that does not tell: not asked again
        return found
