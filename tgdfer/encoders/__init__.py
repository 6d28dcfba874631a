"""CLIP encoders on disk: ``models/<name>/`` is an open_clip ``local-dir`` plus ``encoder.json``, which is written last.

With :mod:`tgdfer.stages.import_encoder` and the demo encoder's training the only importer of open_clip, which takes
seconds to import, so that happens inside the functions.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.encoders.preprocess import Preprocess
from tgdfer.encoders.text_tower import TextTower

if TYPE_CHECKING:
    from collections.abc import Iterator

WEIGHTS = "open_clip_model.safetensors"
CONFIG = "open_clip_config.json"
DESCRIPTION = paths.encoder("name").name
PREPROCESS_KEYS = ("size", "mean", "std", "interpolation", "resize_mode", "fill_color")


def choose_device(device: str = "auto") -> torch.device:
    """The device called ``device``; ``auto`` is the first CUDA GPU, else MPS, else the CPU.

    Raises:
        UserError: no such device on this machine.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise UserError(f"device '{device}': expected auto, cpu, mps, cuda or cuda:<number>") from None
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(chosen.type, False):
        raise UserError(f"device '{device}': not available on this machine; write auto or cpu")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device '{device}': this machine has {torch.cuda.device_count()} CUDA device(s)")
    return torch.device("cuda", chosen.index or 0) if chosen.type == "cuda" else chosen


class VisionTower(nn.Module):
    """The image side: uint8 [n, 3, H, W], resized and cropped, -> float32 [n, D], L2-normalised."""

    def __init__(self, visual: nn.Module, preprocess: Preprocess, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        # converting in place would change the encoder that the tower came from
        self.visual = copy.deepcopy(visual).to(device=device, dtype=dtype).requires_grad_(False)
        self.visual.to(memory_format=torch.channels_last)  # convolutions run 1.4 times faster; others do not mind
        self.dtype = dtype
        mean = torch.tensor(preprocess.mean, dtype=torch.float32, device=device).view(1, 3, 1, 1)
        std = torch.tensor(preprocess.std, dtype=torch.float32, device=device).view(1, 3, 1, 1)
        self.scale: torch.Tensor
        self.shift: torch.Tensor
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)
        self.train(False)

    def train(self, mode: bool = True) -> VisionTower:
        """Stays in eval mode."""
        return super().train(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Encode a batch. The whole model runs in ``dtype``; the normalisations run in float32."""
        x = images.float() * self.scale + self.shift
        x = x.to(self.dtype, memory_format=torch.channels_last)
        return F.normalize(self.visual(x).float(), dim=-1)


class Encoder:
    """A CLIP model with its preprocessing and tokenizer, in float32, frozen. Made by :func:`load_encoder`."""

    def __init__(
        self, name: str, model: Any, tokenizer: Any, preprocess: Preprocess, fingerprint: str, device: torch.device
    ) -> None:
        self.name = name
        self.preprocess = preprocess
        self.fingerprint = fingerprint
        self.device = device
        self._model = model.requires_grad_(False).eval().to(device)
        self._tokenizer = tokenizer
        self.dim: int = _embed_dim(model)
        self.context_length: int = int(model.context_length)
        self.logit_scale = float(model.logit_scale.detach().exp())

    def text_tower(self) -> TextTower:
        """The frozen text tower, open at its token embeddings; see :class:`~tgdfer.encoders.text_tower.TextTower`."""
        return TextTower(self._model, self._tokenizer, self.name)

    def vision_tower(self, dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> VisionTower:
        """A copy of the image tower in ``dtype`` on ``device`` (the encoder's own by default)."""
        return VisionTower(self._model.visual, self.preprocess, dtype, device or self.device)

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str], batch_size: int = 256) -> torch.Tensor:
        """Text features, float32 [n, D], L2-normalised, on the encoder's device.

        Raises:
            UserError: a text is longer than the tower's context.
        """
        tower = self.text_tower()
        features = [torch.zeros(0, self.dim, device=self.device)]
        for start in range(0, len(texts), batch_size):
            tokens = tower.tokenize(texts[start : start + batch_size]).to(self.device)
            features.append(tower(tower.embed(tokens), tower.eot(tokens)))
        return torch.cat(features)


def _embed_dim(model: Any) -> int:
    """D of an open_clip model: what its text projection gives."""
    text = getattr(model, "text", model)
    projection = text.text_projection
    if projection is None:
        return int(text.token_embedding.embedding_dim)
    return int(projection.out_features if isinstance(projection, nn.Linear) else projection.shape[1])


def write_encoder(
    folder: Path,
    model: nn.Module,
    config: Mapping[str, Any],
    preprocess: Mapping[str, Any],
    made_by: Mapping[str, Any],
    tokenizer: Any = None,
) -> None:
    """Write an open_clip model as ``folder``, an open_clip ``local-dir`` that :func:`load_encoder` reads.

    Args:
        folder: models/<name>.
        model: the open_clip model.
        config: open_clip's ``model_cfg`` that builds ``model``.
        preprocess: ``mean``, ``std``, ``interpolation``, ``resize_mode`` (and ``fill_color``); the size is the model's.
        made_by: what made the weights; see :func:`tgdfer.stages.made_by`.
        tokenizer: a Hugging Face tokenizer to store too; None for CLIP's own, which comes with open_clip.

    The same model gives the same bytes.
    """
    size: Any = model.visual.image_size  # type: ignore[union-attr]
    size = [size, size] if isinstance(size, int) else list(size)
    preprocess_cfg = {**{key: preprocess[key] for key in PREPROCESS_KEYS if key in preprocess}, "size": size}
    for key in ("mean", "std"):
        preprocess_cfg[key] = [float(value) for value in preprocess_cfg[key]]
    # the old description goes first: what lies here is no encoder until the new one stands
    (folder / DESCRIPTION).unlink(missing_ok=True)
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    with storage.atomic(folder / WEIGHTS) as part:
        save_file(state, part, metadata={"format": "pt"})
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    storage.write_json(folder / CONFIG, {"model_cfg": dict(config), "preprocess_cfg": preprocess_cfg})
    description = {
        "name": folder.name,
        "dim": _embed_dim(model),
        "image_size": size[0] if size[0] == size[1] else size,
        "context_length": int(model.context_length),  # type: ignore[arg-type]
        "fingerprint": _fingerprint(folder),
        "made_by": dict(made_by),
    }
    storage.write_json(folder / DESCRIPTION, description)


def _fingerprint(folder: Path) -> str:
    """Of the weights, of the architecture and of the preprocessing."""
    config = storage.read_json(folder / CONFIG)
    return storage.fingerprint({"weights": storage.file_fingerprint(folder / WEIGHTS), "config": config})


def load_encoder(name: str, device: str = "auto", folder: Path | None = None) -> Encoder:
    """Load ``models/<name>/``.

    Args:
        name: the encoder.
        device: auto, cpu, mps, cuda or cuda:<number>.
        folder: where it lies, if not there.

    Raises:
        UserError: the folder is missing or incomplete, its weights or config are not the ones that its fingerprint was
            taken of, or the device does not exist.
    """
    chosen = choose_device(device)
    folder = folder or paths.encoder(name).parent
    description_file = folder / DESCRIPTION
    description = storage.read_json(description_file)
    if not isinstance(description, dict) or _fingerprint(folder) != description.get("fingerprint"):
        raise UserError(
            f"{folder}: its weights or config differ from the ones that {description_file.name} was written for; "
            "remove the folder and make the encoder again"
        )
    import open_clip

    local = f"local-dir:{folder}"
    config = storage.read_json(folder / CONFIG)
    try:
        refuse_foreign(config["model_cfg"], str(folder / CONFIG))
        with quiet_open_clip():
            _check_sizes(folder, config["model_cfg"])
            model = open_clip.create_model(local, require_pretrained=True)
            tokenizer = open_clip.get_tokenizer(local)
        preprocess = Preprocess.from_config(config["preprocess_cfg"])
    except UserError:
        raise
    except Exception as error:  # whatever open_clip makes of a file that is not its own
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"{folder}: not an encoder that can be loaded ({reason}); make it again") from None
    return Encoder(name, model, tokenizer, preprocess, description["fingerprint"], chosen)


def refuse_foreign(config: Mapping[str, Any], where: str) -> None:
    """Raise a UserError where ``model_cfg`` asks for a model from elsewhere, or for a tokenizer that may run code."""
    text, vision = config["text_cfg"], config["vision_cfg"]
    if text.get("hf_model_name") or ":" in str(vision.get("timm_model_name", "")):
        raise UserError(f"{where}: asks for a model from elsewhere; expected one of open_clip's own")
    odd = set(text.get("tokenizer_kwargs") or ()) - {"clean", "strip_sep_token", "language"}
    if odd:  # such as trust_remote_code
        raise UserError(f"{where}: text_cfg.tokenizer_kwargs.{min(odd)}: not allowed, for it may run code")


def _check_sizes(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise a UserError where the config asks for another size than the weights have, before memory is asked for."""
    import open_clip

    with safe_open(folder / WEIGHTS, framework="pt") as file:
        names = list(file.keys())
        stored = sum(math.prod(file.get_slice(name).get_shape()) for name in names)
    too_deep = any(np.sum(config[tower].get("layers") or 0) > len(names) for tower in ("vision_cfg", "text_cfg"))
    if not too_deep:
        with torch.device("meta"):
            model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, device="meta")
    if too_deep or sum(value.numel() for value in model.state_dict().values()) != stored:
        raise UserError(f"{folder}: {CONFIG} describes a model of another size than {WEIGHTS} holds; make it again")


@contextmanager
def quiet_open_clip() -> Iterator[None]:
    """Keep open_clip's records of every step, which go to the root logger, out of the log; what matters is an error."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
