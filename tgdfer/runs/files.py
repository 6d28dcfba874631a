"""The files of a run: which they are, what they are made from, and how they are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tgdfer.config import dependencies
from tgdfer.config.params import Params
from tgdfer.core import paths, provenance, storage
from tgdfer.core.errors import UserError
from tgdfer.core.record import MADE_FROM
from tgdfer.core.record import fingerprint as run_fingerprint

if TYPE_CHECKING:
    import torch

FILES = (
    "metrics.json",
    "history.jsonl",
    "predictions.parquet",
    "vectors.safetensors",
    "model.safetensors",
    "model.json",
)
"""What a run writes before run.json, which records their checksums."""
ATTEMPT = "attempt.json"
"""What a run without run.json is: running, failed or interrupted; it is removed when run.json has been written."""
SYSTEM = "system.jsonl"
"""The load of the machine during the run; what it holds is not a result."""


@dataclass(frozen=True)
class Key:
    """Which run."""

    dataset: str
    variant: str
    fold: int
    seed: int

    @property
    def folder(self) -> Path:
        """The folder of its files."""
        return paths.run(self.dataset, self.variant, self.fold, self.seed)

    @property
    def checkpoint(self) -> Path:
        """Where it is resumed from."""
        return paths.checkpoint(self.dataset, self.variant, self.fold, self.seed)

    def __str__(self) -> str:
        return f"{self.dataset}/{self.variant} fold {self.fold} seed {self.seed}"


def made_by(params: Params, key: Key, inputs: Mapping[str, str | None]) -> dict[str, Any]:
    """What a run depends on: its parameters, inputs and code."""
    chosen = dependencies.run_settings(params, key.dataset, key.variant, key.fold, key.seed)
    return dependencies.made_by("train", chosen, inputs, chosen["model"]["architecture"])


@contextmanager
def attempt(key: Key, about: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Keep attempt.json while the block trains; it gets the part of run.json that is known at the start.

    What an earlier run with other parameters left is removed first, so that nobody takes it for a result. When the
    block raises, attempt.json says when and why: an Exception is a failure, all else an interruption.
    """
    path, fingerprint = key.folder / ATTEMPT, run_fingerprint(about)
    earlier = storage.read_object(path)
    resumed = key.checkpoint.exists() and earlier.get("fingerprint") == fingerprint
    for name in ("run.json", *FILES, *(() if resumed else (SYSTEM,))):
        (key.folder / name).unlink(missing_ok=True)
    record = {
        **provenance.describe(),
        "dataset": key.dataset,
        "variant": key.variant,
        "fold": key.fold,
        "seed": key.seed,
        **{name: about[name] for name in MADE_FROM},
        "fingerprint": fingerprint,
        "started": earlier.get("started") if resumed else provenance.now(),
    }
    storage.write_json(path, record)
    storage.write_text(key.folder / "history.jsonl", "")
    try:
        yield record
    except BaseException as error:
        failed = provenance.reason(error) if isinstance(error, Exception) else None
        storage.write_json(path, {**record, "ended": provenance.now(), "failed": failed})
        raise
    path.unlink()


def write(
    key: Key,
    about: Mapping[str, Any],
    metrics: Mapping[str, Any],
    predictions: Mapping[str, Sequence[Any]] | pa.Table,
    vectors: dict[str, torch.Tensor],
    state: dict[str, torch.Tensor],
    description: Mapping[str, Any],
    record: Mapping[str, Any],
) -> None:
    """Write the files of a run but history.jsonl, which has grown with its epochs; run.json last.

    ``about`` is from ``made_by``, ``vectors`` from ``tgdfer.training.vectors.vectors``, ``description`` from
    ``tgdfer.training.description.describe``; ``record`` is from ``attempt``, with what else belongs to this
    execution only (seconds, memory).
    """
    from safetensors.torch import save_file

    folder = key.folder
    classes = about["parameters"]["classes"]
    storage.write_json(folder / "metrics.json", metrics)
    storage.write_table(
        folder / "predictions.parquet", "predictions", predictions, {**about, "classes": classes, "seed": key.seed}
    )
    for name, tensors in (("vectors", vectors), ("model", state)):
        with storage.atomic(folder / f"{name}.safetensors") as part:
            save_file(tensors, part, metadata={"fingerprint": run_fingerprint(about)})
    storage.write_json(folder / "model.json", {**description, "fingerprint": run_fingerprint(about)})
    write_record(folder, {**record, "ended": provenance.now()})


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write run.json: ``record``, and the checksums of the run's other files."""
    whole = {**record, "outputs": {name: storage.file_fingerprint(folder / name) for name in FILES}}
    storage.write_sealed(folder / "run.json", whole)


def read_record(folder: Path) -> dict[str, Any]:
    """The content of run.json; empty where the file is missing or not what the run wrote."""
    try:
        return storage.read_sealed(folder / "run.json")
    except UserError:
        return {}
