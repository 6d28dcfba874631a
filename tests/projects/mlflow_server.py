"""An MLflow server on this machine, to be started, killed and started again; benchmarks use it as well."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

GUARD = '("$@"; kill -9 0) & read -r _; kill -9 0'


def guarded(command: list[str], **options: Any) -> subprocess.Popen:
    """Start a command that does not outlive this process, however that ends.

    A shell kills its whole group when the command ends, or when its own input does, a pipe that only we hold open.
    """
    return subprocess.Popen(
        ["sh", "-c", GUARD, "sh", *command], stdin=subprocess.PIPE, start_new_session=True, **options
    )


class Server:
    """`mlflow server` on 127.0.0.1 and a free port, with its own database and artifacts in ``folder``."""

    def __init__(self, folder: Path, workers: int = 1) -> None:
        self.folder, self.workers = folder.resolve(), workers
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen | None = None

    def start(self) -> Server:
        """Start it, on the port that it had before, and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/server.db", "--workers", str(self.workers)]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "log").open("a") as log:
            # without its eight processes for jobs of language models it is up in half the time
            environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
            self.process = guarded(command, stdout=log, stderr=log, env=environment)
        for _ in range(1800):
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return self
            except OSError:
                assert self.process.poll() is None, (self.folder / "log").read_text()[-3000:]
                time.sleep(0.1)
        raise AssertionError("the server did not come up")

    def kill(self) -> None:
        """SIGKILL for it and its workers."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process = None
