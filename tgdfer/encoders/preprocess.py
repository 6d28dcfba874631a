"""Image preprocessing on uint8 tensors; on natural images within two grey levels of open_clip's own PIL transform.

open_clip resizes PIL images on one thread; here the same antialiased resize runs on the decoder's tensor, which is
several times faster, and the images stay uint8 until they reach the device of the model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F

ResizeMode = Literal["shortest", "longest", "squash"]


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes the model's input: open_clip's ``preprocess_cfg``.

    ``size`` is (height, width) in pixels; ``mean`` and ``std`` are per RGB channel on the scale 0..1.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    resize_mode: ResizeMode = "shortest"
    fill_color: int = 0

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Preprocess:
        """From open_clip's ``preprocess_cfg`` (``size`` may be one number)."""
        size = config["size"]
        height, width = size if isinstance(size, list | tuple) else (size, size)
        # open_clip treats "random" as bicubic at inference
        interpolation = "bilinear" if config.get("interpolation") == "bilinear" else "bicubic"
        return cls(
            (int(height), int(width)),
            tuple(config["mean"]),
            tuple(config["std"]),
            interpolation,
            config.get("resize_mode") or "shortest",
            int(config.get("fill_color") or 0),
        )

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Resize and crop one image: uint8 [3, H, W] -> uint8 [3, *size]."""
        height, width = image.shape[-2:]
        image = self._resize(image, self.resized(height, width))
        return _crop_or_pad(image, self.size, self.fill_color)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) to which open_clip's transform resizes before it crops."""
        target_height, target_width = self.size
        if self.resize_mode == "squash":
            return self.size
        if self.resize_mode == "shortest" and target_height == target_width:
            # torchvision's Resize with one number: the short side is exact, the long side is cut down to an integer
            short, long = sorted((height, width))
            other = int(target_height * long / short)
            return (target_height, other) if height <= width else (other, target_height)
        ratios = (height / target_height, width / target_width)
        ratio = max(ratios) if self.resize_mode == "longest" else min(ratios)
        return round(height / ratio), round(width / ratio)

    def view(self, image: torch.Tensor, view: View) -> torch.Tensor:
        """One augmented view of an image: uint8 [3, H, W] -> uint8 [3, *size]."""
        image = self._seen(image)
        height, width = image.shape[-2:]
        crop_height, crop_width = max(1, round(view.height * height)), max(1, round(view.width * width))
        top, left = round(view.top * (height - crop_height)), round(view.left * (width - crop_width))
        image = self._resize(image[:, top : top + crop_height, left : left + crop_width], self.size)
        if view.flip:
            image = image.flip(-1)
        return _jitter(image, view)

    def _seen(self, image: torch.Tensor) -> torch.Tensor:
        """The part that the plain transform does not crop away: faces of oblong frames are not squashed in views."""
        sides = list(image.shape[-2:])
        resized = self.resized(*sides)
        seen = [min(side, round(side * size / now)) for side, size, now in zip(sides, self.size, resized, strict=True)]
        return _crop_or_pad(image, (seen[0], seen[1]), 0)

    def _resize(self, image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        if tuple(image.shape[-2:]) == size:
            return image
        # antialias is what PIL does; without it features of shrunken images are wrong
        return F.interpolate(image[None], size, mode=self.interpolation, antialias=True)[0]


@dataclass(frozen=True)
class View:
    """An augmentation drawn once per clip: crop in fractions of the image, flip, factors of colour (1: unchanged)."""

    height: float
    width: float
    top: float
    left: float
    flip: bool
    brightness: float
    contrast: float
    saturation: float


def draw_view(seed: int, clip_id: str, number: int, scale: float, jitter: float) -> View:
    """View ``number`` (1..) of a clip; the same for every frame, and independent of all other clips.

    Args:
        seed: of the cache.
        clip_id: the clip.
        number: which view.
        scale: smallest share of the image's area that is kept.
        jitter: largest relative change of brightness, contrast and saturation.
    """
    digest = hashlib.sha256(f"{seed}\0{number}\0{clip_id}".encode()).digest()
    # eight 32-bit numbers of the hash as uniform draws: the cache does not depend on a generator's algorithm
    u = [int.from_bytes(digest[4 * i : 4 * i + 4], "big") / 2**32 for i in range(8)]
    area, aspect = scale + (1 - scale) * u[0], (3 / 4) ** (1 - 2 * u[1])
    height, width = min(1.0, (area / aspect) ** 0.5), min(1.0, (area * aspect) ** 0.5)
    colour = [1 + jitter * (2 * draw - 1) for draw in u[5:]]
    return View(height, width, u[2], u[3], u[4] < 0.5, *colour)


def _jitter(image: torch.Tensor, view: View) -> torch.Tensor:
    if view.brightness == view.contrast == view.saturation == 1:
        return image
    x = image.float().mul_(view.brightness)
    luma = x.new_tensor([0.299, 0.587, 0.114])
    mean = (x.mean((1, 2)) * luma).sum()
    x = x.sub_(mean).mul_(view.contrast).add_(mean)
    grey = torch.tensordot(luma, x, 1)
    return x.sub_(grey).mul_(view.saturation).add_(grey).round_().clamp_(0, 255).to(torch.uint8)


def _crop_or_pad(image: torch.Tensor, size: tuple[int, int], fill: int) -> torch.Tensor:
    for dim, target in ((-2, size[0]), (-1, size[1])):
        length = image.shape[dim]
        if length < target:
            before = (target - length) // 2
            after = target - length - before
            image = F.pad(image, (0, 0, before, after) if dim == -2 else (before, after), value=fill)
        elif length > target:
            image = image.narrow(dim, round((length - target) / 2), target)
    return image
