"""A command line of the same stages that writes little and at once: what the graphs do with it is what is tested.

Every output holds a digest of the stage's parameters, code and inputs; runs have the records of real ones. calls.log
gets a line when a call starts and one when it ends. behaviour.json, if there is one, says how long the first try of a
call takes, which may be changed meanwhile, and how often it fails:
``{"train demo tgdfer 1 0": {"seconds": 5, "fail": 1}}``.
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

import pyarrow as pa
import pyarrow.parquet as pq

from tgdfer.config import dependencies
from tgdfer.config.params import load_params
from tgdfer.core import devices, paths, storage
from tgdfer.core.parts import Part
from tgdfer.core.storage import write_sealed, write_text
from tgdfer.datasets import fold_numbers
from tgdfer.runs import files, outputs, state

REPORTS = (
    *("tables/main.csv", "figures/a.png", "numbers.tex", "index.html", "SHA256SUMS", "metrics.json"),
    *(f"plots/{plot}/demo.csv" for plot in ("variants", "learning", "confusion")),
)


def inputs_and_outputs(params, stage, dataset, variant, name, source, target):
    if stage == "transfer":
        features = paths.features(target, params.datasets[target].encoder)
        inputs = [paths.variant(source, variant), paths.clips(target), paths.folds(target), features]
        return inputs, [paths.transfer(source, target, variant)]
    encoder = params.datasets[dataset].encoder if dataset else name
    table = {
        "render-demo": ([], [paths.DEMO_ROOT / "videos" / "a.mp4", paths.DEMO_TRUTH, paths.DEMO_CLIPS]),
        "train-demo-encoder": ([], [paths.MODELS / "demo-clip" / "weights", paths.encoder("demo-clip")]),
    }
    if stage == "render":
        return [], [paths.rendered(name).with_name("truth.parquet"), paths.rendered(name)]
    if name:
        table["import-encoder"] = ([], [paths.MODELS / name / "weights", paths.encoder(name)])
    if dataset:
        annotations, frames = Path(params.datasets[dataset].annotations), paths.frames(dataset)
        features = paths.features(dataset, encoder)
        table["clips"] = ([annotations], [paths.clips(dataset), paths.folds(dataset)])
        table["frames"] = ([paths.clips(dataset)], [frames.with_name("shard-00000.parquet"), frames])
        table["features"] = ([frames, paths.encoder(encoder)], [features.with_name("cache"), features])
    if variant:
        table["train"] = ([paths.clips(dataset), paths.folds(dataset), features], [])
    summaries = [paths.variant(d, v) for d in params.datasets for v in params.grid]
    truths = [Path(d.truth) for d in params.datasets.values() if d.truth]
    pairs = [(source, target) for source in params.datasets for target in params.datasets]
    transfers = [paths.transfer(*pair, v) for pair in pairs for v in params.transfer]
    table["report"] = (
        summaries + transfers + truths,
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
    parser.add_argument("--study", default=paths.STUDY)
    parser.add_argument("stage")
    for option in ("--dataset", "--source", "--target", "--variant", "--name", "--fold", "--seed"):
        parser.add_argument(option)
    for option in ("--collect", "--no-tracking"):
        parser.add_argument(option, action="store_true")
    parser.add_argument("--part")
    parser.add_argument("lists", nargs="*")
    args = parser.parse_args()
    paths.choose_study(args.study)
    params = load_params()
    wildcards = {
        key: value
        for key, value in (
            ("dataset", args.dataset),
            ("source", args.source),
            ("target", args.target),
            ("variant", args.variant),
            ("rendered" if args.stage == "render" else "encoder", args.name),
        )
        if value
    }
    call = " ".join(
        [args.stage, *wildcards.values(), *filter(None, [args.fold, args.seed, args.part]), *["collect"] * args.collect]
    )
    with devices.own_gpu() if args.stage in dependencies.ON_GPU and not args.collect else nullcontext():
        run(params, args, wildcards, call)


def behaviour(call):
    """What behaviour.json says about a call now."""
    file = Path("behaviour.json")
    return json.loads(file.read_text()).get(call, {}) if file.exists() else {}


def run(params, args, wildcards, call):
    if args.stage == "tracking":
        sys.exit("error: made to fail" if behaviour(call) else 0)
    tries = note("start", call)
    started = time.monotonic()
    while not tries and time.monotonic() < started + behaviour(call).get("seconds", 0):
        time.sleep(0.05)
    if tries < behaviour(call).get("fail", 0):
        sys.exit(f"{call} was made to fail")
    if behaviour(call).get("refuse"):
        print(f"error: {call} was made to refuse its input", file=sys.stderr)
        sys.exit(2)
    inputs, made = inputs_and_outputs(
        params, args.stage, args.dataset, args.variant, args.name, args.source, args.target
    )
    made_by = dependencies.made_by(args.stage, dependencies.settings(params, args.stage, **wildcards), {})
    digest = hashlib.sha256(json.dumps(made_by).encode())
    for path in inputs:
        digest.update(path.read_bytes())
    for path in [Part.parse(args.part).list_of(made[-1])] if args.part else made:
        write(path, {"made": digest.hexdigest(), "fingerprint": digest.hexdigest(), "made_by": made_by}, params)
    if args.stage == "clips":
        folds = fold_numbers(params, args.dataset)
        rows = {"clip_id": map(str, folds), "fold": folds, "split": ["test"] * len(folds)}
        storage.write_table(
            paths.folds(args.dataset), "folds", {name: list(column) for name, column in rows.items()}, made_by
        )
    if args.stage == "train":
        train(params, args, digest.hexdigest())
    note("end", call)


def write(path, content, params):
    """A file of its kind that says what made it."""
    if path == paths.REPORT_PAGE:
        write_text(path, f'<meta name="made-by" content="{outputs.stamp(params, "report")}">')
    elif path.suffix == ".parquet":
        with storage.atomic(path, sealed=True) as part:
            table = pa.table({"path": [str(path)], "made": [content["made"]]})
            pq.write_table(table.replace_schema_metadata(storage.metadata(content["made_by"])), part)
    else:
        write_sealed(path, {**content, "path": str(path)})


def train(params, args, made):
    """The runs that were asked for, and the summary if all were."""
    expected = state.Expected(params, args.dataset)
    every = state.keys(params, args.dataset, args.variant)
    for key in every if not args.collect else ():
        if args.fold in (None, str(key.fold)) and args.seed in (None, str(key.seed)):
            for name in files.FILES:
                write_text(key.folder / name, json.dumps({"made": made, "run": str(key)}))
            files.write_record(key.folder, expected.made_by(key))
    if not args.fold:
        assert state.write_summary(expected, every, {}), "a run is missing"
