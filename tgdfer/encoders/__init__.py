"""CLIP encoders: ``models/<name>/`` is an open_clip ``local-dir`` plus ``encoder.json``, which is written last.

No other room imports open_clip. Importing it takes seconds, so the functions that need it import it themselves.
"""

import copy
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from tgdfer.config.clip_models import check_config, takes_prompts
from tgdfer.core import checksums, paths, storage
from tgdfer.core.devices import choose_device
from tgdfer.core.errors import UserError
from tgdfer.encoders.blocks import First, Last, cut
from tgdfer.encoders.preprocess import Preprocess
from tgdfer.encoders.text_tower import TextTower

WEIGHTS = "open_clip_model.safetensors"
CONFIG = "open_clip_config.json"
DESCRIPTION = "encoder.json"
PREPROCESS_KEYS = ("size", "mean", "std", "interpolation", "resize_mode", "fill_color")


class VisionTower(nn.Module):
    """The image side: uint8 [n, 3, H, W], resized and cropped, -> float32 [n, D], L2-normalised."""

    def __init__(self, visual: nn.Module, preprocess: Preprocess, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        # a copy, because converting in place would change the encoder that the tower came from
        self.visual = copy.deepcopy(visual).to(device=device, dtype=dtype).requires_grad_(False)
        self.visual.to(memory_format=torch.channels_last)  # convolutions run 1.4 times faster
        self.dtype = dtype
        mean = torch.tensor(preprocess.mean, dtype=torch.float32, device=device).view(1, 3, 1, 1)
        std = torch.tensor(preprocess.std, dtype=torch.float32, device=device).view(1, 3, 1, 1)
        self.scale: torch.Tensor
        self.shift: torch.Tensor
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Encode a batch. The whole model runs in ``dtype``; both normalisations run in float32."""
        return F.normalize(self.visual(self.normalised(images)).float(), dim=-1)

    def normalised(self, images: torch.Tensor) -> torch.Tensor:
        """A batch as the model takes it."""
        x = images.float() * self.scale + self.shift
        return x.to(self.dtype, memory_format=torch.channels_last)


class TokenTower(VisionTower):
    """The image side up to a block: uint8 [n, 3, H, W] -> float32 [n, K], all tokens of an image in one row.

    With ``features``, [n, D + K]: the features of the whole image side come first.
    """

    def __init__(self, parts: nn.ModuleList, features: bool, *how: Any) -> None:
        super().__init__(parts, *how)
        self.features = features

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Encode a batch."""
        first, last = self.visual.children()
        tokens = first(self.normalised(images))
        row = tokens.float().flatten(1)
        return torch.cat([last(tokens, whole=True), row], dim=1) if self.features else row


class Encoder:
    """A CLIP model with its preprocessing and tokenizer, in float32, frozen. Made by ``load_encoder``."""

    def __init__(
        self,
        name: str,
        model: Any,
        tokenizer: Any,
        preprocess: Preprocess,
        dim: int,
        fingerprint: str,
        device: torch.device,
    ) -> None:
        self.name = name
        self.preprocess = preprocess
        self.dim = dim
        self.fingerprint = fingerprint
        self.device = device
        self._model = model.requires_grad_(False).eval().to(device)
        self._tokenizer = tokenizer
        self.context_length = int(model.context_length)
        self.logit_scale = float(model.logit_scale.detach().exp())

    def text_tower(self) -> TextTower:
        """The frozen text tower, which takes token embeddings."""
        return TextTower(self._model, self._tokenizer, self.name)

    def vision_tower(self, dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> VisionTower:
        """A copy of the image tower in ``dtype`` on ``device`` (by default the encoder's)."""
        return VisionTower(self._model.visual, self.preprocess, dtype, device or self.device)

    def cut(self, block: int) -> tuple[First, Last]:
        """The image tower in two parts, cut after ``block``; they share its weights."""
        return cut(self._model.visual, block, self.name)

    def token_tower(
        self,
        block: int,
        features: bool = False,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> TokenTower:
        """A copy of the image tower that gives its tokens after ``block``."""
        return TokenTower(nn.ModuleList(self.cut(block)), features, self.preprocess, dtype, device or self.device)

    @torch.no_grad()
    def token_shape(self, block: int) -> list[int]:
        """The shape of an image's tokens after ``block``: [L, W], or of its maps: [C, H, W]."""
        return list(self.cut(block)[0](torch.zeros(1, 3, *self.preprocess.size, device=self.device)).shape[1:])

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


def write_encoder(
    folder: Path,
    model: nn.Module,
    config: Mapping[str, Any],
    preprocess: Mapping[str, Any],
    made_by: Mapping[str, Any],
    tokenizer: Any = None,
) -> None:
    """Write an open_clip model as ``folder``, an open_clip ``local-dir`` that ``load_encoder`` reads.

    The same model gives the same bytes.

    Args:
        folder: models/<name>.
        model: the open_clip model.
        config: open_clip's ``model_cfg`` that builds ``model``.
        preprocess: ``mean``, ``std``, ``interpolation``, ``resize_mode`` (and ``fill_color``); the size is the model's.
        made_by: what made the weights; see ``tgdfer.config.dependencies.made_by``.
        tokenizer: a Hugging Face tokenizer to store too; None for CLIP's, which is part of open_clip.
    """
    size: Any = model.visual.image_size  # type: ignore[union-attr]
    height, width = (size, size) if isinstance(size, int) else size
    preprocess_cfg = {key: preprocess[key] for key in PREPROCESS_KEYS if key in preprocess}
    mean, std = ([float(value) for value in preprocess[key]] for key in ("mean", "std"))
    preprocess_cfg |= {"size": [height, width], "mean": mean, "std": std}
    # without a description the folder is not an encoder: so it is while its files are replaced
    (folder / DESCRIPTION).unlink(missing_ok=True)
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    with storage.atomic(folder / WEIGHTS) as part:
        save_file(state, part, metadata={"format": "pt"})
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    storage.write_json(folder / CONFIG, {"model_cfg": dict(config), "preprocess_cfg": preprocess_cfg})
    description = {
        "name": folder.name,
        "dim": config["embed_dim"],
        "image_size": height if height == width else [height, width],
        "context_length": int(model.context_length),  # type: ignore[arg-type]
        "fingerprint": _fingerprint(folder),
        "files": [checksums.entry(path) for path in sorted(folder.glob("[!.]*"))],
        "made_by": dict(made_by),
    }
    storage.write_sealed(folder / DESCRIPTION, description)


def _fingerprint(folder: Path) -> str:
    """The fingerprint of the weights, the architecture and the preprocessing."""
    config = storage.read_json(folder / CONFIG)
    return storage.fingerprint({"weights": storage.file_fingerprint(folder / WEIGHTS), "config": config})


def is_made_by(folder: Path, made_by: Mapping[str, Any]) -> bool:
    """Whether ``folder`` holds an undamaged encoder that ``made_by`` made."""
    try:
        return _description(folder)["made_by"] == made_by
    except UserError:
        return False


def _description(folder: Path) -> dict[str, Any]:
    """What encoder.json says, once all files of the encoder are known to be those that were written."""
    description = storage.read_sealed(folder / DESCRIPTION)
    for listed in description["files"]:
        path = folder / listed["file"]
        if not path.is_file() or storage.file_fingerprint(path) != listed["sha256"]:
            raise storage.damaged(path)
    return description


def load_encoder(name: str, device: str = "auto", folder: Path | None = None) -> Encoder:
    """Load the encoder ``name`` from ``folder``, by default ``models/<name>/``.

    Raises:
        UserError: the folder is missing, a file of it is not the one that was written, or the device does not exist.
    """
    chosen = choose_device(device)
    folder = folder or paths.encoder(name).parent
    description = _description(folder)
    if not description["files"]:
        raise UserError(
            f"{folder}: has no model, for its features are made elsewhere: it can encode neither frames nor words"
        )
    import open_clip

    local = f"local-dir:{folder}"
    config = storage.read_json(folder / CONFIG)
    with or_user_error(f"{folder}: not an encoder that can be loaded; make it again"), quiet_open_clip():
        check_config(config["model_cfg"], str(folder / CONFIG))
        _check_sizes(folder, config["model_cfg"])
        model = open_clip.create_model(local, require_pretrained=True)
        # a text tower that cannot be used needs no tokenizer, which other libraries may have to load
        tokenizer = open_clip.get_tokenizer(local) if takes_prompts(config["model_cfg"]) else None
        preprocess = Preprocess.from_config(config["preprocess_cfg"])
        dim = config["model_cfg"]["embed_dim"]
    return Encoder(name, model, tokenizer, preprocess, dim, description["fingerprint"], chosen)


def _check_sizes(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise a UserError if the config describes a larger or smaller model than the weights, before it takes memory."""
    import open_clip

    with safe_open(folder / WEIGHTS, framework="pt") as file:
        names = list(file.keys())
        stored = sum(math.prod(file.get_slice(name).get_shape()) for name in names)
    fits = all(np.sum(config[tower].get("layers") or 0) <= len(names) for tower in ("vision_cfg", "text_cfg"))
    if fits:
        with torch.device("meta"):
            model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, device="meta")
        fits = sum(value.numel() for value in model.state_dict().values()) == stored
    if not fits:
        raise UserError(f"{folder}: {CONFIG} describes a model of another size than {WEIGHTS} holds; make it again")


@contextmanager
def or_user_error(message: str) -> Iterator[None]:
    """Turn any error of a library that reads foreign files or the network into a UserError: message (reason)."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UserError(f"{message} ({reason})") from None


@contextmanager
def quiet_open_clip() -> Iterator[None]:
    """Keep open_clip's messages about every step, which go to the root logger, out of the log."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
