"""Somebody who follows the pages of the documentation, and the finished project that the first page leads to."""

import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import yaml
from graphs import ROOT, environment, tiny
from pages import BLOCKS, Block, merged, repository
from slurm_cluster import free_ports

from tgdfer.config.params import Params

SERVES = re.compile(r"(make ui|mlflow server)\b")
QUICKSTART = ROOT / "docs" / "quickstart.md"


class Reader:
    """Somebody with a clone, who follows a page."""

    def __init__(self, clone: Path, home: Path) -> None:
        self.clone, self.home = clone, home
        self.printed = ""
        self.servers: list[subprocess.Popen[bytes]] = []
        self.ports = {name: str(port) for name, port in zip(("PORT", "UI_PORT"), free_ports(2), strict=True)}
        home.mkdir(exist_ok=True)

    def follow(self, block: Block) -> None:
        """Do what a block says, and keep what it prints."""
        # with something after the last command, which bash would else become: --show-completion asks for its shell
        shell = ["bash", "-euo", "pipefail", "-c", f"{block.here}\n:"]
        if block.kind == "yaml" and not block.file:
            self.set(yaml.safe_load(block.text))
        elif block.file:
            with (self.clone / block.file).open("a", encoding="utf-8") as stream:
                stream.write(f"\n\n{block.text}")
        elif SERVES.match(block.text):
            self.serve(block, shell)
        else:
            command = ["python", "-c", block.text] if block.kind == "python" else shell
            where = self.clone.parent if block.text.startswith("git clone") else self.clone
            options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            ran = subprocess.run(
                command, cwd=where, env=self.variables(), stdin=subprocess.DEVNULL, timeout=600, **options
            )
            assert ran.returncode == 0, f"{block}:\n{block.text}\nexit {ran.returncode}\n{ran.stdout[-6000:]}"
            self.printed += ran.stdout

    def variables(self) -> dict[str, str]:
        author = {
            f"GIT_{role}_{what}": "t@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        variables = {**environment(self.home), **author, **self.ports, "PROJECT": str(self.clone)}
        # the package of the current clone, whatever is installed
        return {**variables, "PYTHONPATH": ".", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}

    def serve(self, block: Block, shell: list[str]) -> None:
        """Start a server that runs until the reader leaves, and look at its first page."""
        log = self.clone.parent / "server.log"
        with log.open("ab") as stream:
            server = subprocess.Popen(
                shell,
                cwd=self.clone,
                env=self.variables(),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        self.servers.append(server)
        port = self.ports["UI_PORT" if "UI_PORT" in block.here else "PORT"]
        end = time.monotonic() + 240
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                    assert "MLflow" in answer.read().decode()
                    return
            except OSError:
                ended = server.poll() is not None or time.monotonic() > end
                assert not ended, f"{block}: does not answer\n{log.read_text()[-3000:]}"
                time.sleep(0.2)

    def set(self, settings: dict) -> None:
        """Put settings into params.yaml, and the names of variants into its ``grid``."""
        if set(settings) <= set(Params.model_fields):
            path = self.clone / "params.yaml"
            params = merged(yaml.safe_load(path.read_text(encoding="utf-8")), settings)
            params["grid"] += settings.get("variants", {})
            path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")

    def leave(self) -> None:
        for server in self.servers:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


def to_follow(page: Path) -> list[Block]:
    return [block for block in BLOCKS if block.page == page and block.kind and not block.needs]


def after_quickstart(folder: Path) -> Reader:
    """A reader who has followed the first block of the quickstart in ``folder``, now or in an earlier call."""
    printed = folder / "printed"
    if not printed.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    reader = Reader(folder / "project", folder / "home")
    if not printed.exists():
        repository(reader.clone, tiny())
        reader.follow(to_follow(QUICKSTART)[0])
        printed.write_text(reader.printed)
    reader.clone, reader.printed = folder / "tgdfer", printed.read_text()
    return reader
