"""A command line of the same stages that writes little and at once: what the graphs do with it is what is tested.

Every output holds a digest of the stage's parameters, code and inputs; every call leaves a line in calls.log.
"""

import argparse
import hashlib
import json
from pathlib import Path

from tgdfer import paths, stages
from tgdfer.params import load_params
from tgdfer.storage import write_text


def inputs_and_outputs(params, stage, dataset, variant, name):
    encoder = params.datasets[dataset].encoder if dataset else name
    table = {
        "render-demo": ([], [paths.DEMO_ROOT / "videos" / "a.mp4", paths.DEMO_TRUTH, paths.DEMO_CLIPS]),
        "train-demo-encoder": ([], [paths.MODELS / "demo-clip" / "weights", paths.encoder("demo-clip")]),
        "tracking": ([], [paths.MLFLOW / "mlflow.db", paths.EXPERIMENTS]),
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
    summaries = [paths.variant(d, v) for d in params.datasets for v in params.variants]
    truths = [Path(d.truth) for d in params.datasets.values() if d.truth]
    table["report"] = (
        summaries + truths,
        [paths.REPORTS / "tables" / "main.csv", paths.REPORTS / "figures" / "a.png", paths.REPORT_PAGE],
    )
    return table[stage]


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
    inputs, outputs = inputs_and_outputs(params, args.stage, args.dataset, args.variant, args.name)
    made_of = [stages.settings(params, args.stage, **wildcards), stages.code_fingerprint(args.stage)]
    digest = hashlib.sha256(json.dumps(made_of).encode())
    for path in inputs:
        digest.update(path.read_bytes())
    for path in outputs:
        write_text(path, f"{path} {digest.hexdigest()}\n")
    with Path("calls.log").open("a") as log:
        log.write(" ".join([args.stage, *wildcards.values()]) + "\n")
