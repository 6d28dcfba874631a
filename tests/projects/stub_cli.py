"""A command line of the same stages that writes little and at once: what the graphs do with it is what is tested.

Every output holds a digest of the stage's parameters, code and inputs. calls.log gets a line when a call starts and one
when it ends. behaviour.json, if there is one, says how long a call takes and how often it fails:
``{"train demo tgdfer": {"seconds": 5, "fail": 1}}``.
"""

import argparse
import fcntl
import hashlib
import json
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path

from tgdfer.config import dependencies
from tgdfer.config.params import load_params
from tgdfer.core import devices, paths
from tgdfer.core.storage import write_text

REPORTS = (
    *("tables/main.csv", "figures/a.png", "numbers.tex", "index.html", "metrics.json"),
    *(f"plots/{plot}/demo.csv" for plot in ("variants", "learning", "confusion")),
)


def inputs_and_outputs(params, stage, dataset, variant, name):
    encoder = params.datasets[dataset].encoder if dataset else name
    table = {
        "render-demo": ([], [paths.DEMO_ROOT / "videos" / "a.mp4", paths.DEMO_TRUTH, paths.DEMO_CLIPS]),
        "train-demo-encoder": ([], [paths.MODELS / "demo-clip" / "weights", paths.encoder("demo-clip")]),
    }
    if name:
        table["import-encoder"] = ([], [paths.MODELS / name / "weights", paths.encoder(name)])
    if dataset:
        annotations, frames = Path(params.datasets[dataset].annotations), paths.frames(dataset)
        features = paths.features(dataset, encoder)
        table["clips"] = ([annotations], [paths.clips(dataset), paths.folds(dataset)])
        table["frames"] = ([paths.clips(dataset)], [frames.with_name("shard-00000.parquet"), frames])
        table["features"] = ([frames, paths.encoder(encoder)], [features.with_name("cache"), features])
    if variant:
        run = paths.run(dataset, variant, 1, 0)
        table["train"] = (
            [paths.clips(dataset), paths.folds(dataset), features],
            [run / "metrics.json", paths.variant(dataset, variant)],
        )
    summaries = [paths.variant(d, v) for d in params.datasets for v in params.grid]
    truths = [Path(d.truth) for d in params.datasets.values() if d.truth]
    table["report"] = (
        summaries + truths,
        [paths.REPORTS / name for name in REPORTS],
    )
    return table[stage]


def note(event, call):
    """A line of calls.log; returns how many lines of this kind there were for this call."""
    with Path("calls.log").open("a+") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        log.seek(0)
        before = sum(json.loads(line)[:2] == [event, call] for line in log)
        where = [os.environ.get(key) for key in ("SLURM_JOB_ID", "SLURMD_NODENAME", "CUDA_VISIBLE_DEVICES")]
        log.write(json.dumps([event, call, time.time(), *where]) + "\n")
    return before


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("stage")
    for option in ("--dataset", "--variant", "--name"):
        parser.add_argument(option)
    args = parser.parse_args()
    params = load_params()
    wildcards = {
        key: value
        for key, value in (("dataset", args.dataset), ("variant", args.variant), ("encoder", args.name))
        if value
    }
    call = " ".join([args.stage, *wildcards.values()])
    with devices.own_gpu() if args.stage in dependencies.ON_GPU else nullcontext():
        run(params, args, wildcards, call)


def run(params, args, wildcards, call):
    behaviour = json.loads(Path("behaviour.json").read_text()) if Path("behaviour.json").exists() else {}
    if args.stage == "tracking":
        sys.exit("error: told to fail" if call in behaviour else 0)
    tries = note("start", call)
    time.sleep(behaviour.get(call, {}).get("seconds", 0))
    if tries < behaviour.get(call, {}).get("fail", 0):
        sys.exit(f"error: {call} was told to fail")
    inputs, outputs = inputs_and_outputs(params, args.stage, args.dataset, args.variant, args.name)
    made_of = [dependencies.settings(params, args.stage, **wildcards), dependencies.code_fingerprint(args.stage)]
    digest = hashlib.sha256(json.dumps(made_of).encode())
    for path in inputs:
        digest.update(path.read_bytes())
    for path in outputs:
        write_text(path, json.dumps({"runs": [], "path": str(path), "made": digest.hexdigest()}))
    note("end", call)
