"""Records of stages that computed: what they made from what, when, with which numbers and how it ended.

Records are in ``logs/stages/``, outside the stages' outputs, whose bytes must not depend on the time of day.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tgdfer.core import paths, provenance, storage
from tgdfer.core.errors import UserError
from tgdfer.core.monitor import Monitor

MADE_FROM = ("parameters", "inputs", "code")


def fingerprint(made_by: Mapping[str, Any]) -> str:
    """The fingerprint of what an output was made from, tool versions aside."""
    return storage.fingerprint({name: made_by[name] for name in MADE_FROM})


@contextmanager
def recorded(
    made_by: Mapping[str, Any], dataset: str | None = None, encoder: str | None = None
) -> Iterator[dict[str, Any]]:
    """Write the record of the block's work when it ends.

    The block gets a dictionary for its numbers; a list has a value per epoch. A block that ends well without numbers
    had nothing to do, and an earlier record stays.

    ``made_by`` is from ``tgdfer.config.dependencies``; ``dataset`` and ``encoder`` are those of the stage, if any.
    """
    record: dict[str, Any] = {
        "stage": made_by["stage"],
        "dataset": dataset,
        "encoder": encoder,
        **{name: made_by[name] for name in MADE_FROM},
        "fingerprint": fingerprint(made_by),
        **provenance.circumstances(),
        "started": provenance.now(),
        "failed": None,
        "metrics": {},
        "system": [],
    }
    try:
        with Monitor(record["system"].append):
            yield record["metrics"]
    except BaseException as error:
        record["failed"] = provenance.reason(error)
        raise
    finally:
        if record["metrics"] or record["failed"]:
            record["ended"] = provenance.now()
            name = "-".join(name for name in (made_by["stage"], dataset, encoder) if name)
            storage.write_json(paths.STAGE_RECORDS / name / f"{record['fingerprint'][:16]}.json", record)


def load() -> Iterator[tuple[dict[str, Any], bool]]:
    """The records of all stages, each with whether it is the one of the outputs that are on disk now."""
    for folder in sorted(paths.STAGE_RECORDS.glob("*")):
        records = sorted(map(storage.read_json, folder.glob("*.json")), key=lambda record: str(record["ended"]))
        current = _of_outputs(records[-1]) or records[-1]["fingerprint"]
        yield from ((record, record["fingerprint"] == current) for record in records)


def _of_outputs(record: Mapping[str, Any]) -> str | None:
    """The fingerprint of what a stage's outputs were made from; None where they do not say."""
    dataset, encoder = record["dataset"] or "", record["encoder"] or ""
    outputs = {
        "render-demo": paths.DEMO_TRUTH,
        "frames": paths.frames(dataset),
        "features": paths.features(dataset, encoder),
        "import-encoder": paths.encoder(encoder),
        "train-demo-encoder": paths.encoder(encoder),
    }
    try:
        return fingerprint(storage.made_by(outputs[record["stage"]]))
    except (OSError, KeyError, UserError):
        return None
