"""A trained model as a folder to share: safetensors, JSON and a model card, without code."""

from __future__ import annotations

import shutil
from pathlib import Path
from string import Template

from tgdfer.core import storage
from tgdfer.core.errors import UserError
from tgdfer.core.escaping import markdown
from tgdfer.encoders import WEIGHTS
from tgdfer.prediction.saved import ENCODER, SavedModel

NEEDED = ("model.safetensors", "model.json", "run.json")
METRICS = "metrics.json"
HARMLESS = (".json", ".txt", ".model")
"""The suffixes of the encoder's description and configuration, and of the files of a tokenizer that is not CLIP's."""
CARD = Path(__file__).with_name("card.md")


def export(saved: SavedModel, folder: Path) -> None:
    """Write ``folder``; ``tgdfer.prediction.saved.load_saved`` needs nothing else.

    Raises:
        UserError: the folder exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists already; expected a new or an empty folder")
    for path in sorted(saved.encoder_folder.iterdir()):
        if path.name == WEIGHTS or path.suffix in HARMLESS:
            _copy(path, folder / ENCODER / path.name)
    for name in NEEDED:
        _copy(saved.folder / name, folder / name)
    if (saved.folder / METRICS).is_file():
        _copy(saved.folder / METRICS, folder / METRICS)
    storage.write_text(folder / "README.md", card(saved))


def card(saved: SavedModel) -> str:
    """The model card, in Markdown."""
    about = saved.description
    metrics = storage.read_json(saved.folder / METRICS) if (saved.folder / METRICS).is_file() else {}
    last = metrics.get("selections", {}).get("last")
    tested = sum(map(any, last["confusion"])) if last else 0
    measured = (
        f"On the test clips of its fold: UAR {100 * last['uar']:.1f} %, WAR {100 * last['war']:.1f} % "
        f"(last epoch, nothing selected on test clips; chance is {100 / tested:.1f} % UAR)."
        if last
        else "This model comes without metrics; measure it before you use it."
    )
    return Template(CARD.read_text(encoding="utf-8")).substitute(
        name=markdown(saved.name),
        dataset=about.dataset,
        classes=markdown(", ".join(about.classes)),
        measured=measured,
        encoder=about.encoder.name,
        architecture=about.model.architecture,
        crop="cropped faces" if about.frames.settings.crop == "face" else "whole frames of the data set",
        fingerprint=about.fingerprint,
        version=markdown(about.tgdfer),
    )


def _copy(source: Path, target: Path) -> None:
    with storage.atomic(target) as part:
        shutil.copyfile(source, part)
