"""Whether a run is current: one answer for trainings, status, explain, the report and the graph."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tgdfer.config import dependencies
from tgdfer.config.params import Params
from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.runs.files import ATTEMPT, FILES, SYSTEM, Key, made_by, read_record, run_fingerprint

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
        other = any(reason.startswith("parameter ") for reason in self.reasons)
        return self.done or (self.name == "outdated" and not other)


class Expected:
    """What the runs of ``dataset`` are made from now: parameters, code, and the fingerprints of the inputs on disk."""

    def __init__(self, params: Params, dataset: str) -> None:
        self.params, self.dataset = params, dataset
        encoder = params.dataset(dataset).encoder
        self.inputs: dict[str, str | None] = {
            "clips": _of_file(paths.clips(dataset)),
            "folds": _of_file(paths.folds(dataset)),
            "features": _of_manifest(paths.features(dataset, encoder)),
            "encoder": _of_manifest(paths.encoder(encoder)),
        }
        """By name; None for an input that is not on disk, which no run can be compared with."""
        self._words: dict[str, dict[str, str]] = {}

    def made_by(self, key: Key) -> dict[str, Any]:
        """The parameters, inputs and code of a run that is made now."""
        if key.variant not in self._words:
            texts = dependencies.words(self.params, self.dataset, key.variant)
            self._words[key.variant] = {"words": storage.fingerprint(texts)} if texts else {}
        return made_by(self.params, key, {**self.inputs, **self._words[key.variant]})

    def state(self, key: Key, files: Collection[str] = FILES) -> State:
        """The state of a run, of whose files ``files`` are compared with the checksums that run.json records."""
        folder, record = key.folder, read_record(key.folder)
        if not record and (attempt := _object(folder / ATTEMPT)):
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
        """The inputs that are not on disk."""
        return [name for name, value in self.inputs.items() if value is None]


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
    storage.write_json(
        path, {"dataset": dataset, "variant": variant, "label": label, "fingerprint": fingerprint, "runs": rows}
    )
    return True


def is_current(params: Params, dataset: str, variant: str) -> bool:
    """Whether the runs that the summary of ``variant`` lists are those asked for, and each is done or failed."""
    rows = _object(paths.variant(dataset, variant)).get("runs")
    expected = Expected(params, dataset)
    states = [expected.state(Key(dataset, variant, row["fold"], row["seed"])) for row in rows or []]
    return rows is not None and all(state.name in ("done", "failed") for state in states)


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
    """What a run was made from and is not so now."""
    found = []
    then, asked = _flat(record.get("parameters") or {}), _flat(now["parameters"])
    for name in sorted(then.keys() | asked.keys()):
        if then.get(name) != asked.get(name):
            found.append(f"parameter {name} was {then.get(name)}, is {asked.get(name)}")
    for name in sorted(record.get("inputs", {}).keys() | now["inputs"].keys()):
        was, value = record.get("inputs", {}).get(name), now["inputs"].get(name)
        if was != value and not (name in now["inputs"] and value is None):
            found.append(f"the {name} changed")
    if record.get("code") != now["code"]:
        found.append("the code of the training changed")
    return tuple(found)


def _flat(parameters: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in parameters.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _of_file(path: Path) -> str | None:
    return storage.file_fingerprint(path) if path.is_file() else None


def _of_manifest(path: Path) -> str | None:
    return _object(path).get("fingerprint")


def _object(path: Path) -> dict[str, Any]:
    """A JSON object; empty where the file is missing or broken."""
    try:
        found = storage.read_json(path)
    except UserError:
        return {}
    return found if isinstance(found, dict) else {}


def duration(seconds: float) -> str:
    """A length of time in its most fitting unit."""
    for limit, unit, size in ((90, "s", 1), (5400, "min", 60), (129600, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"
