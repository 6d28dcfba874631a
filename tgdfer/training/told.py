"""What the tracking hears of a run: clips, every epoch, the result, the files, and the final variant's model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tgdfer.config.params import Params
from tgdfer.core import paths
from tgdfer.runs.files import Key
from tgdfer.tracking import Tracker

PARTS = ("train", "val", "test")
MODEL_FILES = ("model.safetensors", "model.json", "run.json")


def begin(tracker: Tracker, params: Params, key: Key, inputs: Mapping[str, str], clips: Mapping[str, int]) -> None:
    """Name the clips that the run trains on and is tested on, by data set and fold."""
    source = paths.features(key.dataset, params.dataset(key.dataset).encoder)
    for context, count in clips.items():
        tracker.data(f"{key.dataset} fold{key.fold} {context}", inputs, context, source, count)


def epoch(row: Mapping[str, Any]) -> dict[str, float]:
    """A row of the history as metrics: ``train/loss``, ``val/uar``, ``test/war``; the UI groups them by the slash."""
    named = {}
    for key, value in row.items():
        part, _, rest = key.partition("_")
        if key != "epoch":
            named[f"{part}/{rest}" if part in PARTS else f"train/{key}"] = value
    return dict(sorted(named.items()))  # the UI offers the first one first


def result(tracker: Tracker, params: Params, key: Key, metrics: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    """The selections' rates and the recall of every class, the files, and a model version of the reference variant."""
    for name, chosen in metrics["selections"].items():
        rates = {f"{name}/{rate}": chosen[rate] for rate in ("uar", "war", "macro_f1")}
        recall = {f"{name}/recall_{label}": value for label, value in chosen["recall"].items()}
        tracker.metrics(rates | (recall if name == "last" else {}), chosen["epoch"])
    tracker.metrics({"peak_memory_mb": record["peak_memory_mb"], "parameters": metrics["parameters_trainable"]})
    for file in ("metrics.json", "history.json", "run.json"):
        tracker.artifact(key.folder / file)
    if key.variant == params.report.reference:
        for file in MODEL_FILES:
            tracker.artifact(key.folder / file, "model")
        last = metrics["selections"]["last"]
        about = f"{key}: UAR {_percent(last['uar'])}, WAR {_percent(last['war'])} on the fold's test clips, last epoch"
        tracker.model(f"{params.tracking.project}-{key.dataset}", f"fold{key.fold}-seed{key.seed}", about)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
