"""How much tracking costs and whether anything is lost when many processes log at once: SQLite, and an MLflow server.

    python benchmarks/tracking.py [writers] [epochs]

Every writer is a process with a run of its own: 20 parameters, 10 metrics per epoch, an artifact; every epoch is sent
at once, which is harder than trainings are, whose epochs take seconds and go in batches. The seconds count from the
moment that all have imported MLflow. Lost is what is not there afterwards, of runs, parameters, points and artifacts.
``events`` is the same without MLflow, and ``import`` what the step that sends those files takes afterwards.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
METRICS = 10
PARAMETERS = 20


def write(fold: int, epochs: int, barrier, seconds, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    os.chdir(environment["PWD"])
    from tgdfer import tracking
    from tgdfer.config.params import load_params
    from tgdfer.tracking import tracker

    tracker.FLUSH_POINTS = 1
    params = load_params()
    barrier.wait()
    started = time.perf_counter()
    with tracking.run(
        params,
        dataset="demo",
        variant="tgdfer",
        fold=fold,
        seed=0,
        parameters={f"p{index}": index for index in range(PARAMETERS)},
        tags={"fingerprint": f"f{fold}"},
    ) as told:
        for epoch in range(epochs):
            told.metrics({f"m{index}": epoch + index for index in range(METRICS)}, epoch)
        artifact = Path(f"artifact-{fold}.json")
        artifact.write_text("{}")
        told.artifact(artifact)
    seconds.put(time.perf_counter() - started)


def lost(writers: int, epochs: int) -> int:
    from tgdfer.config.params import load_params
    from tgdfer.tracking.store import Store

    store = Store(load_params())
    experiment = store.experiment("tgdfer/demo")
    runs = store.client.search_runs([experiment], "tags.\"tgdfer.kind\" = 'run'", max_results=1000)
    missing = abs(writers - len(runs))
    for run in runs:
        missing += sum(f"p{index}" not in run.data.params for index in range(PARAMETERS))
        missing += sum(
            abs(epochs - len(store.client.get_metric_history(run.info.run_id, f"m{index}"))) for index in range(METRICS)
        )
        missing += abs(1 - len(store.client.list_artifacts(run.info.run_id)))
    return missing


def log_at_once(writers: int, epochs: int) -> list[float]:
    """The seconds of each writer."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow.store.tracking.sqlalchemy_store", "tgdfer.tracking"])
    barrier, seconds = context.Barrier(writers), context.Queue()
    environment = {"PWD": str(Path.cwd()), "MLFLOW_TRACKING_URI": os.environ.get("MLFLOW_TRACKING_URI", "")}
    jobs = [
        context.Process(target=write, args=(fold, epochs, barrier, seconds, environment))
        for fold in range(1, writers + 1)
    ]
    for job in jobs:
        job.start()
    spent = [seconds.get(timeout=600) for _ in jobs]
    for job in jobs:
        job.join()
    return spent


def measure(where: str, writers: int, epochs: int) -> None:
    sys.path.insert(0, str(ROOT / "tests"))
    from mlflow_server import Server

    from tgdfer import tracking
    from tgdfer.config.params import load_params

    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["tracking"]["mode"] = "events" if where == "events" else "live"
    Path("params.yaml").write_text(yaml.safe_dump(params))
    server = Server(Path("server"), workers=2).start() if where == "server" else None
    os.environ["MLFLOW_TRACKING_URI"] = server.uri if server else ""
    tracking.create_store(load_params())
    spent = log_at_once(writers, epochs)
    row = {"store": where, "runs": writers, "points": writers * epochs * METRICS}
    row |= {"mean_s": round(sum(spent) / writers, 2), "slowest_s": round(max(spent), 2)}
    if where == "events":
        started = time.perf_counter()
        tracking.create_store(load_params())
        row["import_s"] = round(time.perf_counter() - started, 2)
    print(json.dumps(row | {"lost": lost(writers, epochs)}), flush=True)
    if server:
        server.kill()


def main() -> None:
    writers = int(sys.argv[1]) if len(sys.argv) > 1 else 16
    epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 30
    for where in ("events", "sqlite", "server"):
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            measure(where, writers, epochs)
            os.chdir(ROOT)


if __name__ == "__main__":
    main()
