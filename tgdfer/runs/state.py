"""Whether a run is current: one answer for trainings, status, explain, the report and the graph."""

import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from tgdfer.config import dependencies
from tgdfer.config.params import Params
from tgdfer.config.training import BagsParams, ModelParams, RunParams, TrainingParams
from tgdfer.core import checksums, paths, storage
from tgdfer.core.errors import UserError
from tgdfer.runs.files import ATTEMPT, FILES, SYSTEM, Key, made_by, read_record, run_fingerprint

PARAMETER = "parameter "
"""How the reason begins that a parameter is another now."""
FRESH_S = 60.0
"""A run that wrote a file within this time is running; it writes its load every 10 s."""


@dataclass(frozen=True)
class State:
    """What the files of a run say of it."""

    name: str
    """done, outdated, damaged, running, interrupted, failed or missing."""
    reasons: tuple[str, ...] = ()
    """Why it is not done, each in a few words."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """The content of run.json; empty where it is missing or broken."""

    @property
    def done(self) -> bool:
        """Whether the run is finished, whole, and made from what is on disk now."""
        return self.name == "done"

    @property
    def usable(self) -> bool:
        """Whether its results are whole and of the parameters asked for; code or inputs may have changed since."""
        other = any(reason.startswith(PARAMETER) for reason in self.reasons)
        return self.done or (self.name == "outdated" and not other)


class Expected:
    """What the runs of ``dataset`` are made from now: parameters, code, and the fingerprints of the inputs on disk."""

    def __init__(self, params: Params, dataset: str) -> None:
        self.params, self.dataset = params, dataset
        encoder = params.dataset(dataset).encoder
        self.files = {
            "clips": paths.clips(dataset),
            "folds": paths.folds(dataset),
            "features": paths.features(dataset, encoder),
            "encoder": paths.encoder(encoder),
        }
        """The inputs by name."""
        self.inputs = {name: _fingerprint(path) for name, path in self.files.items()}
        """Their fingerprints; None for one that is missing or damaged, which no run can be compared with."""
        manifest = storage.read_object(self.files["features"])
        self.tokens: str | None = manifest.get("tokens", {}).get("fingerprint")
        """The fingerprint of the tokens, which only a variant that adapts the encoder reads."""
        self._words: dict[str, dict[str, str]] = {}

    def made_by(self, key: Key) -> dict[str, Any]:
        """The parameters, inputs and code of a run that is made now."""
        if key.variant not in self._words:
            texts = dependencies.words(self.params, self.dataset, key.variant)
            self._words[key.variant] = {"words": storage.fingerprint(texts)} if texts else {}
        tokens = {"tokens": self.tokens} if self.params.run(key.variant).model.adapts else {}
        return made_by(self.params, key, {**self.inputs, **self._words[key.variant], **tokens})

    def state(self, key: Key, files: Collection[str] = FILES) -> State:
        """The state of a run, of whose files ``files`` are compared with the checksums that run.json records."""
        folder, record = key.folder, read_record(key.folder)
        if not record and (attempt := storage.read_object(folder / ATTEMPT)):
            return _unfinished(folder, attempt)
        if not record:
            if any((folder / name).exists() for name in FILES):
                return State("damaged", ("run.json is missing or not the file that the run wrote",))
            return State("missing")
        if damages := _damages(folder, record, files):
            return State("damaged", damages, record)
        changes = _changes(record, self.made_by(key))
        return State("outdated" if changes else "done", changes, record)

    def unchecked(self) -> list[str]:
        """The inputs that are missing or damaged, and why."""
        return [
            f"{name}: {self.files[name]} is {'damaged' if self.files[name].exists() else 'missing'}"
            for name, value in self.inputs.items()
            if value is None
        ]


def write_summary(expected: Expected, keys: Sequence[Key], failed: Mapping[Key, str]) -> bool:
    """Write the summary.json of a variant once every run of ``keys`` is done, or is in ``failed`` with its reason.

    Returns:
        False if a run is still to be done; an earlier summary is removed then.
    """
    dataset, variant = keys[0].dataset, keys[0].variant
    path, rows = paths.variant(dataset, variant), []
    for key in keys:
        state = expected.state(key)
        if not state.done and key not in failed:
            path.unlink(missing_ok=True)
            return False
        written = {} if key in failed else state.record["outputs"]
        rows.append(
            {
                "fold": key.fold,
                "seed": key.seed,
                "folder": f"fold{key.fold}/seed{key.seed}",
                "metrics": written.get("metrics.json"),
                "predictions": written.get("predictions.parquet"),
                "failed": failed.get(key),
            }
        )
    fingerprint = storage.fingerprint([run_fingerprint(expected.made_by(key)) for key in keys])
    label = expected.params.variants[variant].label
    storage.write_sealed(
        path, {"dataset": dataset, "variant": variant, "label": label, "fingerprint": fingerprint, "runs": rows}
    )
    return True


def keys(params: Params, dataset: str, variant: str) -> list[Key]:
    """The runs of ``variant`` that the folds table and the seeds ask for.

    Raises:
        UserError: there is no readable folds table.
    """
    numbers = pc.unique(storage.read_table(paths.folds(dataset), "folds")["fold"]).to_pylist()
    return [Key(dataset, variant, fold, seed) for fold in sorted(numbers) for seed in params.seeds]


def on_disk(params: Params, dataset: str) -> list[Key]:
    """The runs of the variants of params.yaml that have a folder, by variant, fold and seed."""
    folders = (folder.as_posix() for folder in (paths.RUNS / dataset).glob("*/fold*/seed*"))
    names = (re.fullmatch(r".*/([^/]+)/fold([0-9]+)/seed([0-9]+)", folder) for folder in folders)
    found = (Key(dataset, name[1], int(name[2]), int(name[3])) for name in names if name and name[1] in params.variants)
    return sorted(found, key=astuple)


def collect(params: Params, dataset: str, variant: str) -> None:
    """Write the summary of a variant whose runs are all done.

    Raises:
        UserError: a run is not.
    """
    expected, every = Expected(params, dataset), keys(params, dataset, variant)
    if not write_summary(expected, every, {}):
        key = next(key for key in every if not expected.state(key).done)
        raise UserError(
            f"{key.folder}: {expected.state(key).name}; train it first: "
            f"tgdfer train --dataset {dataset} --variant {variant} --fold {key.fold} --seed {key.seed}"
        )


def is_listed(params: Params, dataset: str, variant: str) -> bool:
    """Whether the summary of ``variant`` lists the runs that are asked for."""
    try:
        rows = storage.read_sealed(paths.variant(dataset, variant))["runs"]
        asked = {(key.fold, key.seed) for key in keys(params, dataset, variant)}
    except UserError:
        return False
    return {(row["fold"], row["seed"]) for row in rows} == asked


def is_current(params: Params, dataset: str, variant: str) -> bool:
    """Whether the summary of ``variant`` lists the runs that are asked for, and each is done or failed."""
    expected = Expected(params, dataset)
    return is_listed(params, dataset, variant) and all(
        expected.state(key).name in ("done", "failed") for key in keys(params, dataset, variant)
    )


def _unfinished(folder: Path, attempt: Mapping[str, Any]) -> State:
    """The state of a run that has an attempt.json and no run.json."""
    if attempt.get("failed"):
        return State("failed", (str(attempt["failed"]),))
    written = [folder / name for name in (ATTEMPT, "history.jsonl", SYSTEM) if (folder / name).exists()]
    age = time.time() - max(file.stat().st_mtime for file in written)
    running = "ended" not in attempt and age < FRESH_S
    return State("running" if running else "interrupted", (f"last sign of it {duration(age)} ago",))


def _damages(folder: Path, record: Mapping[str, Any], files: Collection[str]) -> tuple[str, ...]:
    """The files that are not those that the run wrote."""
    found = []
    written = record.get("outputs") or {}
    for name in files:
        path = folder / name
        if not path.is_file():
            found.append(f"{name} is missing")
        elif name not in written or storage.file_fingerprint(path) != written[name]:
            found.append(f"{name} is not the file that the run wrote")
    return tuple(found)


def _changes(record: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """What differs between what a run was made from and what is on disk now."""
    found = []
    # a key that params.yaml did not have then had no effect, as its default has none
    then, asked = {**_defaults(), **flat(record.get("parameters") or {})}, flat(now["parameters"])
    for name in sorted(then.keys() | asked.keys()):
        if then.get(name) != asked.get(name):
            found.append(f"{PARAMETER}{name} was {then.get(name)}, is {asked.get(name)}")
    for name in sorted(record.get("inputs", {}).keys() | now["inputs"].keys()):
        was, value = record.get("inputs", {}).get(name), now["inputs"].get(name)
        if was != value and not (name in now["inputs"] and value is None):
            found.append(f"the {name} changed")
    if record.get("code") != now["code"]:
        found.append("the code of the training changed")
    return tuple(found)


def _defaults() -> dict[str, Any]:
    return flat(RunParams(bags=BagsParams(), model=ModelParams(), training=TrainingParams()).model_dump(mode="json"))


def flat(parameters: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested parameters with dotted names, such as ``model.top_k``."""
    found: dict[str, Any] = {}
    for name, value in parameters.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def _fingerprint(path: Path) -> str | None:
    """The fingerprint of a table or a manifest; None where it is missing or damaged."""
    if not path.is_file() or not checksums.intact(path):
        return None
    return storage.read_sealed(path)["fingerprint"] if path.suffix == ".json" else storage.file_fingerprint(path)


def duration(seconds: float) -> str:
    """A length of time in its most fitting unit."""
    for limit, unit, size in ((90, "s", 1), (5400, "min", 60), (129600, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"
