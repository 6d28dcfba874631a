"""What each stage of the graph depends on: keys of params.yaml, and code.

Snakemake's rules take both from here; a test compares dvc.yaml with it.
"""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tgdfer.config import code
from tgdfer.config.architectures import ARCHITECTURES
from tgdfer.config.params import Params
from tgdfer.config.words import DESCRIPTIONS, load_words, prompts
from tgdfer.core.version import __version__

STAGES: dict[str, tuple[str, ...]] = {
    "render-demo": ("demo.clips", "demo.folds", "demo.seed", "demo.size"),
    "render": ("renders.{rendered}",),
    "train-demo-encoder": ("demo.seed", "demo.encoder_faces", "demo.encoder_epochs", "demo.encoder_threads"),
    "import-encoder": ("encoders.{encoder}",),
    "clips": ("datasets.{dataset}",),
    "frames": ("frames", "datasets.{dataset}.root", "datasets.{dataset}.features"),
    "features": ("features", "datasets.{dataset}.encoder", "datasets.{dataset}.features"),
    "train": ("bags", "model", "training", "datasets.{dataset}.training", "seeds", "variants.{variant}.set"),
    "transfer": ("datasets",),
    "report": ("report", "datasets", "variants", "grid", "seeds", "transfer"),
}
"""The stages, and the dotted keys that each reads, with wildcards in braces."""
DATA = {
    "render-demo": ("demo/expressions.yaml",),
    "render": ("demo/expressions.yaml",),
    "clips": ("datasets/published.yaml",),
    "train-demo-encoder": ("demo/expressions.yaml", "demo/phrases.yaml"),
    "frames": ("media/faces/centerface.onnx",),
    "report": ("core/page.css", "reporting/template", "reporting/published_results.csv"),
}
"""Package files that a stage reads and does not import."""
ON_GPU = ("features", "train", "transfer")
"""The stages that compute on a GPU where there is one; their rules ask for it."""


def settings(params: Params, stage: str, **wildcards: str) -> dict[str, Any]:
    """The part of ``params`` that ``stage`` reads, by dotted key: what its outputs depend on."""
    dump = params.model_dump(mode="json")
    if stage == "frames":
        dump["frames"] = params.frames_of(wildcards["dataset"]).model_dump(mode="json")
    if stage != "train":
        for dataset in dump["datasets"].values():
            del dataset["training"]
    chosen: dict[str, Any] = {}
    for key in STAGES[stage]:
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
        **params.run(variant, dataset).model_dump(mode="json"),
    }


def words(params: Params, dataset: str, variant: str) -> list[list[str]] | None:
    """The texts of each class that a variant reads of descriptions.yaml, and the words that learnt tokens start from.

    None where the variant reads no text.
    """
    model = params.run(variant).model
    if not model.uses_text:
        return None
    known = load_words()
    texts = prompts(model, params.dataset(dataset).classes, known)
    return [*texts, [known.prefix]] if model.context_tokens else texts


def entries(stage: str, architecture: str | None = None) -> list[str]:
    """The files below ``tgdfer/`` whose imports are the code of ``stage``; of a training also the architecture's."""
    found = [f"stages/{stage.replace('-', '_')}.py"]
    for name in DATA.get(stage, ()):
        files = (code.PACKAGE / name).rglob("*") if (code.PACKAGE / name).is_dir() else [code.PACKAGE / name]
        found += sorted(file.relative_to(code.PACKAGE).as_posix() for file in files if file.is_file())
    if stage == "train":
        chosen = ARCHITECTURES if architecture is None else [architecture]
        found += sorted({f"model/{ARCHITECTURES[name].made_by.partition('.')[0]}.py" for name in chosen})
    return found


def code_files(stage: str) -> list[Path]:
    """The package files that the outputs of ``stage`` depend on, with any architecture and any words, sorted."""
    return sorted({*code.reached(*entries(stage)), *([DESCRIPTIONS] if stage == "train" else ())})


def code_fingerprint(stage: str, architecture: str | None = None) -> str:
    """The fingerprint of the code of ``stage``; of a training the code of its own architecture only."""
    return code.fingerprint(*entries(stage, architecture))


def made_by(
    stage: str, chosen: Mapping[str, Any], inputs: Mapping[str, str | None], architecture: str | None = None
) -> dict[str, Any]:
    """The metadata of a stage's outputs: parameters, fingerprints of inputs and code, and the versions of the tools."""
    return {
        "stage": stage,
        "parameters": dict(chosen),
        "inputs": dict(inputs),
        "code": code_fingerprint(stage, architecture),
        "versions": {"tgdfer": __version__, **{name: version(name) for name in ("pyarrow", "numpy")}},
    }
