"""What a run has to say, as lines of JSON in a file of its own: written first, sent to MLflow from there.

A line is one event: ``start`` (which run, its parameters and tags), ``metrics`` (points), ``artifact`` (a file),
``data`` (the clips it was made from), ``model`` (to be registered) and ``end`` (a status). Nothing here needs MLflow, a
network or a lock: a job on a node without either loses nothing.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tgdfer.core import paths
from tgdfer.core.storage import file_fingerprint, fingerprint

Event = dict[str, Any]

FOLDER = paths.MLFLOW / "events"
UNNAMEABLE = re.compile(r"[^/\w.\- :]")
"""What MLflow takes in no name of a metric; classes of a user's own data set may hold it."""
DIGEST = 12
"""Digits of a fingerprint that MLflow shows beside a data set's name; it takes 36 at most."""


def now() -> int:
    """Milliseconds since 1970, as MLflow counts."""
    return int(time.time() * 1000)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested parameters as dotted keys and text, the form that MLflow keeps and its UI compares."""
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return found


def start(
    run: str,
    experiment: str,
    name: str,
    parameters: Mapping[str, Any],
    tags: Mapping[str, Any],
    parent: str | None = None,
) -> Event:
    """The first event of a run. Two runs of one name are the same run if their fingerprints are the same.

    Args:
        run: the run's own name, for example ``demo/tgdfer/fold1/seed0``; it becomes the tag ``tgdfer.run``.
        experiment: the MLflow experiment.
        name: what the UI shows.
        parameters: nested or flat.
        tags: all but MLflow's own get the prefix ``tgdfer.``; a tag ``fingerprint`` says what the run was made from.
        parent: the name of the run that this one is a part of.
    """
    named = {
        key if key.startswith("mlflow.") else f"tgdfer.{key}": str(value)
        for key, value in tags.items()
        if value is not None
    }
    named.setdefault("tgdfer.fingerprint", fingerprint(flat(parameters)))
    return {
        "event": "start",
        "run": run,
        "experiment": experiment,
        "name": name,
        "parent": parent,
        "parameters": flat(parameters),
        "tags": {**named, "tgdfer.run": run},
        "time": now(),
    }


def points(values: Mapping[str, float | None], step: int) -> list[list[Any]]:
    """Metrics as points [key, value, milliseconds, step]; absent and infinite values are left out."""
    at = now()
    return [
        [UNNAMEABLE.sub("_", key), float(value), at, step]
        for key, value in values.items()
        if value is not None and math.isfinite(value)
    ]


def artifact(path: Path, folder: str | None = None) -> Event:
    """A file to copy into ``folder`` of the run's artifacts, as it is now."""
    return {"event": "artifact", "path": str(path), "folder": folder, "sha256": file_fingerprint(path)}


def data(name: str, made_from: Mapping[str, str], context: str, source: Path, clips: int) -> Event:
    """Clips that a run used.

    Args:
        name: what the UI shows in its column of data sets.
        made_from: fingerprints of the tables that the clips come from; their fingerprint is the digest.
        context: ``train`` or ``test``.
        source: where they lie.
        clips: how many there are.
    """
    digest = fingerprint(dict(made_from))[:DIGEST]
    profile = {"num_rows": clips, "made_from": dict(made_from)}
    return {"event": "data", "name": name, "digest": digest, "context": context, "source": str(source)} | {
        "profile": json.dumps(profile)
    }


def file_of(run: str) -> Path:
    """A new file for an attempt at ``run``; attempts sort by time."""
    return FOLDER / run / f"{time.time_ns()}-{os.getpid()}.jsonl"


class Journal:
    """The event file of one attempt, open for writing. A line is with the system when ``write`` returns.

    What a full disk did not take is written with the next line, and where it broke off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._left = b""

    def write(self, event: Event) -> None:
        """Append one event."""
        self._left += json.dumps(event, allow_nan=False).encode() + b"\n"
        while self._left:
            self._left = self._left[self._file.write(self._left) :]

    def close(self) -> None:
        """Close the file; it stays."""
        self._file.close()


def read(path: Path) -> Iterator[Event]:
    """The events of a file; a last line that a killed job left unfinished is passed over."""
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            if line.endswith("\n"):
                yield json.loads(line)


def pending(run: str | None = None) -> list[Path]:
    """The event files that wait for their import, those of one run or all, oldest attempt of each run first."""
    folder = FOLDER / run if run else FOLDER
    return sorted(folder.glob("*.jsonl") if run else folder.rglob("*.jsonl"))
