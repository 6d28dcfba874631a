"""A real SLURM on this machine, for tests: munged, slurmctld and one slurmd per node, no systemd, no cgroups, as root.

Two nodes share the one host, each with GPUs that are counted but not there (device files anyone has), and with more
processors and memory than the hardware: what is tested is the scheduling. Everything is in one folder.

    with Cluster(folder) as cluster:
        subprocess.run(["sbatch", ...], env={**os.environ, **cluster.environment()})
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "sinfo")
DEVICES = ("/dev/null", "/dev/zero")

CONF = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.sock
CredType=cred/munge
StateSaveLocation={folder}/state/slurmctld
SlurmdSpoolDir={folder}/state/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
MailProg=/bin/true
MpiDefault=none
SwitchType=switch/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=5
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=3600
KillWait=10
SlurmdTimeout={slurmd_timeout}
CompleteWait=0
JobRequeue=0
GresTypes=gpu
NodeName=DEFAULT CPUs={cpus} Boards=1 SocketsPerBoard=1 CoresPerSocket={cpus} ThreadsPerCore=1 RealMemory={memory} \
Gres=gpu:{gpus} State=UNKNOWN
{nodes}
PartitionName=main Nodes=ALL Default=YES DefaultTime=60 MaxTime=INFINITE OverTimeLimit=0 State=UP
"""

# Snakemake asks after its jobs 3, 13, 23, ... seconds apart, out of regard for those who share a cluster
SNAKEMAKE = """#!{python}
import asyncio, os, sys

sys.executable = os.environ.get("PYTHON_OF_JOBS", sys.executable)

from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

RemoteExecutor.sleep = lambda self: asyncio.sleep(1)

from snakemake.cli import main

main()
"""


def why_not() -> str | None:
    """Why no SLURM can be started here; None if one can."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    missing = [name for name in NEEDED if shutil.which(name, path=path) is None]
    if missing:
        return f"SLURM is not installed (no {missing[0]}; on Debian: apt-get install slurm-wlm munge)"
    return None if os.geteuid() == 0 else "the daemons of SLURM are started as root, and this is not root"


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def die_with_parent() -> None:
    """Called in a daemon's process: it ends when the tests are killed."""
    ctypes.CDLL("libc.so.6").prctl(1, signal.SIGTERM)


class Cluster:
    """The daemons and their folder."""

    def __init__(self, folder: Path, nodes: int = 2, gpus: int = 1, cpus: int = 8, memory: int = 64000) -> None:
        self.folder = folder
        self.nodes = [f"n{index}" for index in range(1, nodes + 1)]
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("bin", "etc", "log", "run", "munge", "state/slurmctld", *(f"state/{node}" for node in self.nodes)):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for part in (folder, folder / "munge", folder / "run", folder / "etc"):
            part.chmod(0o755)
        key = folder / "munge" / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        port, *ports = free_ports(1 + nodes)
        host = socket.gethostname().split(".")[0]
        lines = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={number}"
            for node, number in zip(self.nodes, ports, strict=True)
        ]
        self.conf = folder / "etc" / "slurm.conf"
        self.conf.write_text(
            CONF.format(
                host=host,
                port=port,
                folder=folder,
                cpus=cpus,
                memory=memory,
                gpus=gpus,
                slurmd_timeout=15,
                nodes="\n".join(lines),
            )
        )
        devices = "".join(f"Name=gpu File={device}\n" for device in DEVICES[:gpus])
        (folder / "etc" / "gres.conf").write_text(f"AutoDetect=off\n{devices}")
        # the executor's job step drops all SLURM_ variables, SLURM_CONF too, before its srun: this hands it back
        srun = folder / "bin" / "srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.conf} exec {shutil.which("srun")} "$@"\n')
        srun.chmod(0o755)
        snakemake = folder / "bin" / "snakemake"
        snakemake.write_text(SNAKEMAKE.format(python=sys.executable))
        snakemake.chmod(0o755)

    def environment(self) -> dict[str, str]:
        """What a process needs to use this cluster."""
        path = [str(self.folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin", "/sbin"]
        return {"SLURM_CONF": str(self.conf), "PATH": os.pathsep.join(path)}

    def tool(self, *command: str, check: bool = True) -> str:
        """The output of a SLURM command."""
        result = subprocess.run(
            command, env={**os.environ, **self.environment()}, text=True, capture_output=True, timeout=60
        )
        if check and result.returncode:
            raise RuntimeError(f"{' '.join(command)}: {result.stderr}")
        return result.stdout

    def daemon(self, name: str, *command: str) -> None:
        """Start a daemon in the foreground; its log is in the cluster's folder."""
        with (self.folder / "log" / f"{name}.log").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                command,
                env={**os.environ, **self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
                start_new_session=True,
            )

    def start_controller(self) -> None:
        """Start slurmctld."""
        self.daemon("slurmctld", "slurmctld", "-D")

    def start_node(self, node: str) -> None:
        """Start a node's slurmd."""
        self.daemon(node, "slurmd", "-D", "-N", node)

    def kill(self, name: str) -> None:
        """SIGKILL a daemon; what it started goes on."""
        daemon = self.daemons.pop(name)
        daemon.kill()
        daemon.wait()

    def wait_ready(self, seconds: float = 60) -> None:
        """Wait until every node can take jobs."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            ready = self.tool("sinfo", "-h", "-N", "-t", "idle,mix,alloc", "-o", "%N", check=False).split()
            if set(ready) == set(self.nodes):
                return
            time.sleep(0.2)
        logs = "\n".join(f"{log.name}:\n{log.read_text()[-2000:]}" for log in (self.folder / "log").glob("*.log"))
        raise RuntimeError(f"the nodes did not come up\n{self.tool('sinfo', '-N', '-l', '-R', check=False)}\n{logs}")

    def wait_saved(self, seconds: float = 30) -> None:
        """Wait until the controller has written down what runs now, which it does some seconds later.

        Killed before that, it takes running jobs for waiting ones, starts them once more and drains their nodes.
        """
        now, saved = time.time(), self.folder / "state" / "slurmctld" / "job_state"
        # a waiting job is something new to write down
        job = self.tool("sbatch", "--parsable", "--hold", "-o", "/dev/null", "--mem=100", "--wrap", "true").strip()
        end = time.monotonic() + seconds
        while not saved.exists() or saved.stat().st_mtime <= now:
            if time.monotonic() > end:
                raise RuntimeError(f"the controller saved nothing to {saved} for {seconds:.0f} s")
            time.sleep(0.2)
        self.tool("scancel", job)

    def jobs(self, state: str | None = None) -> list[dict[str, str]]:
        """The jobs that the controller knows; the name is the ID of Snakemake's run, the comment its rule."""
        keys = {
            "id": "JobId",
            "name": "JobName",
            "state": "JobState",
            "node": "NodeList",
            "comment": "Comment",
            "gpus": "TresPerJob",
            "start": "StartTime",
            "end": "EndTime",
            "limit": "TimeLimit",
        }
        found = []
        for line in self.tool("scontrol", "-o", "show", "jobs").splitlines():
            said = dict(part.split("=", 1) for part in line.split() if "=" in part)
            found.append({key: said.get(name, "") for key, name in keys.items()})
        return [job for job in found if job["id"] and state in (None, job["state"])]

    def __enter__(self) -> Cluster:
        """Start everything and wait for the nodes."""
        munge = self.folder / "munge"
        self.daemon(
            "munged",
            "munged",
            "--foreground",
            "--force",
            f"--key-file={munge / 'munge.key'}",
            f"--socket={munge / 'munge.sock'}",
            f"--pid-file={munge / 'munged.pid'}",
            f"--log-file={munge / 'munged.log'}",
            f"--seed-file={munge / 'munged.seed'}",
        )
        for _ in range(100):
            if (munge / "munge.sock").exists():
                break
            time.sleep(0.05)
        try:
            self.start_controller()
            for node in self.nodes:
                self.start_node(node)
            self.wait_ready()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel the jobs and end the daemons."""
        if "slurmctld" in self.daemons:
            self.tool("scancel", "--user=root", check=False)
            for _ in range(50):
                if not self.tool("squeue", "-h", check=False):
                    break
                time.sleep(0.1)
        for name in reversed(list(self.daemons)):
            daemon = self.daemons.pop(name)
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
