"""What each stage of the graph reads: the keys of params.yaml and the modules it is made of.

Snakemake's rules take both from here; a test holds dvc.yaml against it. A stage that imports a new module of the
package names it here, or a change to that module would not remake the stage's outputs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tgdfer.params import Params

PACKAGE = Path(__file__).parent
BASE = ("classes.py", "storage.py")
SUFFIXES = (".py", ".yaml", ".csv", ".html", ".css", ".js")
"""What counts as code in a folder of the package."""
FACES = tuple(f"demo/{name}.py" for name in ("units", "people", "sheet", "head", "parts", "faces"))
ENCODER = ("encoders/__init__.py", "encoders/text_tower.py", "encoders/preprocess.py")
ON_GPU = ("train-demo-encoder", "features", "train")
"""The stages that compute on a GPU where there is one; their rules ask for it."""


@dataclass(frozen=True)
class Stage:
    """A stage: the dotted keys of params.yaml (with wildcards in braces) and the package files it depends on."""

    params: tuple[str, ...]
    code: tuple[str, ...]


STAGES: dict[str, Stage] = {
    "render-demo": Stage(
        ("demo.clips", "demo.folds", "demo.seed", "demo.size"),
        (*FACES, "demo/script.py", "demo/clips.py", "media/ffmpeg.py"),
    ),
    "train-demo-encoder": Stage(
        ("demo.seed", "demo.encoder_faces", "demo.encoder_epochs", "demo.encoder_threads"),
        (*FACES, "demo/captions.py", "demo/phrases.py", "demo/encoder.py", *ENCODER),
    ),
    "import-encoder": Stage(("encoders.{encoder}",), ("encoders/importing.py", *ENCODER)),
    # once and for all: jobs make what a later data set or store lacks, and no result depends on where it is told
    "tracking": Stage((), ()),
    "clips": Stage(("datasets.{dataset}",), ("datasets", "media/images.py", "media/sampling.py", "media/ffmpeg.py")),
    "frames": Stage(("frames", "datasets.{dataset}.root"), ("frames.py", "media")),
    "features": Stage(("features", "datasets.{dataset}.encoder"), ("features", "encoders/precision.py", *ENCODER)),
    "train": Stage(
        ("bags", "model", "training", "seeds", "variants.{variant}.set"),
        ("features/cache.py", "bags.py", "architectures.py", "model", "metrics.py", "training", *ENCODER),
    ),
    "report": Stage(
        ("report", "datasets", "variants", "grid", "seeds"),
        ("reporting", "metrics.py", "statistics.py", "features/cache.py"),
    ),
}


def settings(params: Params, stage: str, **wildcards: str) -> dict[str, Any]:
    """The part of ``params`` that ``stage`` reads, by dotted key: what its outputs depend on."""
    dump = params.model_dump(mode="json")
    chosen: dict[str, Any] = {}
    for key in STAGES[stage].params:
        value: Any = dump
        filled = key.format(**wildcards)
        for step in filled.split("."):
            value = value[step]
        chosen[filled] = value
    return chosen


def run_settings(params: Params, dataset: str, variant: str, fold: int, seed: int) -> dict[str, Any]:
    """What one training depends on: its own parameters, not those of other variants, folds or seeds."""
    return {
        "classes": params.dataset(dataset).classes,
        "fold": fold,
        "seed": seed,
        **params.run(variant).model_dump(mode="json"),
    }


def code(stage: str) -> list[Path]:
    """The package files of ``stage``, folders expanded, sorted."""
    files: set[Path] = set()
    for name in (*BASE, *STAGES[stage].code):
        path = PACKAGE / name
        files.update(
            (file for file in path.rglob("*") if file.suffix in SUFFIXES) if path.is_dir() else [path],
        )
    return sorted(files)


def code_fingerprint(stage: str) -> str:
    """SHA-256 over the package files of ``stage``."""
    digest = hashlib.sha256()
    for path in code(stage):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def made_by(stage: str, chosen: Mapping[str, Any], inputs: Mapping[str, str]) -> dict[str, Any]:
    """The metadata of a stage's outputs: parameters, fingerprints of inputs and code, and the versions of the tools."""
    from importlib.metadata import version

    from tgdfer import __version__

    return {
        "stage": stage,
        "parameters": dict(chosen),
        "inputs": dict(inputs),
        "code": code_fingerprint(stage),
        "versions": {"tgdfer": __version__, **{name: version(name) for name in ("pyarrow", "numpy")}},
    }
