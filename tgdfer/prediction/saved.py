"""A saved model, read from JSON and safetensors, which contain no code; refused if its parts do not fit together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open

from tgdfer.config.data import FeaturesParams, FramesParams
from tgdfer.config.section import Name, Section
from tgdfer.config.training import BagsParams, ModelParams
from tgdfer.core import paths, storage
from tgdfer.core.determinism import deterministic
from tgdfer.core.errors import UserError
from tgdfer.encoders import WEIGHTS, Encoder, VisionTower, load_encoder
from tgdfer.model import BagModel, build_model
from tgdfer.training.description import FORMAT, answers
from tgdfer.training.weights import load_own_state

LARGEST = 4096
"""An upper limit for every size of a model, far above real ones; more would exhaust the memory."""
ENCODER = "encoder"
"""The encoder's folder in an exported folder."""
TOLERANCE = 2e-3
"""The largest difference of a probability from the one after training; processors round differently."""


class EncoderIdentity(Section):
    """Which encoder made the features."""

    name: Name
    fingerprint: str
    dim: int


class FramesIdentity(Section):
    """How the frames were taken, and the median duration of the clips."""

    settings: FramesParams
    clip_seconds: float | None


class Description(Section):
    """model.json, as ``tgdfer.training.description.describe`` writes it."""

    format: int
    tgdfer: str
    dataset: Name
    classes: Annotated[list[str], Field(min_length=2, max_length=LARGEST)]
    bags: BagsParams
    model: ModelParams
    encoder: EncoderIdentity
    frames: FramesIdentity
    features: FeaturesParams
    answers: list[list[float]]
    fingerprint: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class SavedModel:
    """A model that is ready to predict."""

    folder: Path
    encoder_folder: Path
    description: Description
    run: dict[str, Any]
    """run.json."""
    model: BagModel
    encoder: Encoder

    def tower(self, dtype: torch.dtype) -> VisionTower:
        """The image tower that makes of a frame what the model takes: a feature, or tokens where it adapts the rest."""
        block = self.description.features.keep
        if self.model.adaptation is None or block is None:
            return self.encoder.vision_tower(dtype)
        return self.encoder.token_tower(block, dtype=dtype)

    @property
    def dim(self) -> int:
        """How many numbers the model takes of a frame."""
        return self.description.encoder.dim if self.model.adaptation is None else self.model.adaptation.dim

    @property
    def name(self) -> str:
        """Data set, variant, fold and seed."""
        return "{dataset}/{variant} fold {fold} seed {seed}".format(**self.run)

    def identity(self) -> dict[str, Any]:
        """The part of a prediction that names its model."""
        return {
            "name": self.name,
            "trained_on": self.description.dataset,
            "classes": self.description.classes,
            "fingerprint": self.description.fingerprint,
            "encoder": self.description.encoder.name,
            "encoder_fingerprint": self.description.encoder.fingerprint,
            "tgdfer": self.description.tgdfer,
        }


def load_saved(folder: Path, models: Path, device: str = "auto") -> SavedModel:
    """Load the model of a run folder or of an exported folder.

    Args:
        folder: with model.json, model.safetensors and run.json, and perhaps ``encoder/``.
        models: the folder of the encoders, if ``folder`` has none.
        device: auto, cpu, mps, cuda or cuda:<number>.

    Raises:
        UserError: a file is missing, is a pickle, has another version, or does not belong to the others.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected a run, such as runs/demo/tgdfer/fold1/seed0")
    weights = folder / "model.safetensors"
    refuse_pickle(weights)
    about = _description(folder / "model.json")
    run = _mapping(folder / "run.json", "dataset", "variant", "fold", "seed", "outputs")
    for name in ("model.json", weights.name):
        if dict(run["outputs"]).get(name) != storage.file_fingerprint(folder / name):
            raise UserError(f"{folder / name}: not the file that the run.json next to it names; train or copy it again")
    state, fingerprint = _weights(weights)
    if fingerprint != about.fingerprint:
        raise UserError(f"{weights}: belongs to another run than the model.json next to it; train or copy it again")

    place = folder / ENCODER if (folder / ENCODER).is_dir() else models / about.encoder.name
    described = _mapping(place / paths.encoder("").name, "fingerprint")
    if described["fingerprint"] != about.encoder.fingerprint:
        raise UserError(
            f"{place}: encoder {str(described['fingerprint'])[:12]}, but the model was trained with encoder "
            f"{about.encoder.fingerprint[:12]}; use that encoder, or train again"
        )
    refuse_pickle(place / WEIGHTS)
    encoder = load_encoder(about.encoder.name, device, place)
    if about.encoder.dim != encoder.dim:
        raise UserError(f"{folder}/model.json: encoder.dim: {about.encoder.dim}, but the encoder makes {encoder.dim}")
    model = build_model(about.model, about.classes, about.encoder.dim, encoder, about.features.keep)
    model = model.to(encoder.device).eval()
    try:
        load_own_state(model, state)
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{weights}: not the weights of this version's model ({reason}); use the tgdfer that made it or train again"
        ) from None
    with deterministic():
        found = answers(model, about.encoder.dim, about.bags.frames)
    distance = _distance(found, about.answers)
    if distance > TOLERANCE:
        raise UserError(
            f"{folder}: the probabilities of the test clip in model.json differ by {distance:.3f} from those after "
            "training, because this version's code or words differ; use the tgdfer that trained it, or train again"
        )
    return SavedModel(folder, place, about, run, model, encoder)


def refuse_pickle(path: Path) -> None:
    """Raise a UserError unless ``path`` begins as a safetensors file does, which no pickle and no archive does."""
    try:
        with path.open("rb") as stream:
            head = stream.read(9)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected the weights of a finished run") from None
    if len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size:
        return
    if head[:4] == b"PK\x03\x04" or head[:1] == b"\x80":
        raise UserError(f"{path}: a pickle, which could run any code when it is loaded; refused: expected safetensors")
    raise UserError(f"{path}: not a safetensors file; refused")


def _mapping(path: Path, *keys: str) -> dict[str, Any]:
    """A JSON object with ``keys``; a UserError otherwise."""
    found = storage.read_json(path)
    if not isinstance(found, dict):
        raise UserError(f"{path}: {type(found).__name__}, expected an object; train or copy it again")
    missing = [key for key in keys if key not in found]
    if missing:
        raise UserError(f"{path}: no '{missing[0]}' in it; train or copy it again")
    return found


def _description(path: Path) -> Description:
    raw = _mapping(path)
    if raw.get("format") != FORMAT:
        raise UserError(
            f"{path}: format {raw.get('format')} (of tgdfer {raw.get('tgdfer', '?')}), but this version reads format "
            f"{FORMAT}; use the tgdfer that made it, or train again"
        )
    try:
        found = Description.model_validate(raw)
        for name, section in (("bags", found.bags), ("model", found.model)):
            for key, value in section:
                if isinstance(value, int) and value > LARGEST:
                    raise UserError(f"{path}: {name}.{key}: {value}; expected at most {LARGEST}")
        return found
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        raise UserError(f"{path}: {key}: {problem['msg']}; train the run again with this version") from None


def _weights(path: Path) -> tuple[dict[str, torch.Tensor], str | None]:
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            return state, (file.metadata() or {}).get("fingerprint")
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a safetensors file ({' '.join(str(error).split())})") from None


def _distance(a: Any, b: Any) -> float:
    x, y = torch.tensor(a), torch.tensor(b)
    return float((x - y).abs().max()) if x.shape == y.shape else float("inf")
