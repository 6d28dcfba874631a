"""How much tracking costs and whether anything is lost when many processes log at once: SQLite, and an MLflow server.

    python benchmarks/tracking.py [writers] [epochs]

Every writer is a process with a run of its own: 20 parameters, 10 metrics per epoch, one artifact. The seconds count
from the moment that all have imported MLflow. Lost is what is not there afterwards, of runs, parameters, points and
artifacts.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
METRICS = 10


def write(fold: int, epochs: int, barrier, seconds) -> None:
    import mlflow  # noqa: F401

    from tgdfer import tracking
    from tgdfer.params import load_params

    params = load_params()
    barrier.wait()
    started = time.perf_counter()
    with tracking.run(
        params,
        dataset="demo",
        variant="tgdfer",
        fold=fold,
        seed=0,
        parameters={f"p{index}": index for index in range(20)},
        tags={"fingerprint": f"f{fold}"},
    ) as tracker:
        for epoch in range(epochs):
            tracker.metrics({f"m{index}": epoch + index for index in range(METRICS)}, epoch)
        artifact = Path(f"artifact-{fold}.json")
        artifact.write_text("{}")
        tracker.artifact(artifact)
    seconds.put(time.perf_counter() - started)


def lost(writers: int, epochs: int) -> int:
    from tgdfer.params import load_params
    from tgdfer.tracking.store import Store

    store = Store(load_params())
    experiment = store.experiment("tgdfer/demo")
    runs = store.client.search_runs([experiment], "tags.\"tgdfer.kind\" = 'run'", max_results=1000)
    missing = abs(writers - len(runs))
    for run in runs:
        missing += abs(22 - len(run.data.params))
        missing += sum(
            abs(epochs - len(store.client.get_metric_history(run.info.run_id, f"m{index}"))) for index in range(METRICS)
        )
        missing += abs(1 - len(store.client.list_artifacts(run.info.run_id)))
    return missing


def measure(writers: int, epochs: int) -> tuple[float, float, int]:
    context = multiprocessing.get_context("spawn")
    barrier, seconds = context.Barrier(writers), context.Queue()
    jobs = [context.Process(target=write, args=(fold, epochs, barrier, seconds)) for fold in range(1, writers + 1)]
    for job in jobs:
        job.start()
    spent = [seconds.get(timeout=600) for _ in jobs]
    for job in jobs:
        job.join()
    return sum(spent) / writers, max(spent), lost(writers, epochs)


def main() -> None:
    writers = int(sys.argv[1]) if len(sys.argv) > 1 else 16
    epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 30
    from tgdfer import tracking
    from tgdfer.params import load_params

    rows = []
    for where in ("sqlite", "server"):
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            os.environ.pop("MLFLOW_TRACKING_URI", None)
            params = yaml.safe_load((ROOT / "params.yaml").read_text())
            Path("params.yaml").write_text(yaml.safe_dump(params))
            server = None
            if where == "server":
                port = 5123
                command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
                command += ["--backend-store-uri", "sqlite:///server.db", "--artifacts-destination", "artifacts"]
                server = subprocess.Popen(
                    [*command, "--workers", "2"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
                os.environ["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{port}"
                wait(port)
            tracking.create_store(load_params())
            mean, most, missing = measure(writers, epochs)
            rows.append({"store": where, "writers": writers, "epochs": epochs, "mean_s": round(mean, 2)})
            rows[-1] |= {"slowest_s": round(most, 2), "lost": missing}
            print(json.dumps(rows[-1]), flush=True)
            if server is not None:
                server.terminate()
                server.wait()
            os.chdir(ROOT)


def wait(port: int) -> None:
    import urllib.request

    for _ in range(240):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError("the server did not come up")


if __name__ == "__main__":
    main()
