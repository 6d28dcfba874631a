"""Which number format the image tower runs in: the fastest on this hardware whose features agree with float32."""

import torch

from tgdfer.core.progress import log
from tgdfer.encoders import Encoder

AGREEMENT = 0.999
"""Smallest cosine between a feature and its float32 self that ``auto`` accepts."""


def candidates(device: torch.device) -> list[torch.dtype]:
    """Formats to try on ``device``, fastest first. A rule, not a timing: the same machine always chooses the same."""
    if device.type == "cuda":
        major, _ = torch.cuda.get_device_capability(device)
        # tensor cores run both at one speed, and float16 keeps three more bits; bfloat16 is there when it overflows
        return [*([torch.float16] if major >= 7 else []), *([torch.bfloat16] if major >= 8 else []), torch.float32]
    if device.type == "mps":
        return [torch.float16, torch.float32]
    native = torch.cpu.get_capabilities()
    if native.get("avx512_bf16") or native.get("amx_bf16") or native.get("bf16"):
        return [torch.bfloat16, torch.float32]
    return [torch.float32]


def choose_dtype(encoder: Encoder, setting: str, device: torch.device) -> torch.dtype:
    """The format for ``features.dtype: setting`` on ``device``."""
    if setting != "auto":
        return getattr(torch, setting)
    options = candidates(device)
    if options == [torch.float32]:
        return torch.float32
    tower = encoder.vision_tower(torch.float32, device)
    images = probe_images(*encoder.preprocess.size).to(device)
    with torch.inference_mode():
        exact = tower(images)
        for dtype in options[:-1]:
            cosine = float((encoder.vision_tower(dtype, device)(images) * exact).sum(-1).min())
            if cosine >= AGREEMENT:  # false for NaN, which an overflow gives
                return dtype
            log.warning("%s in %s: cosine %.5f with float32, below %s", encoder.name, dtype, cosine, AGREEMENT)
    return torch.float32


def probe_images(height: int, width: int, number: int = 8) -> torch.Tensor:
    """Images with the spectrum of natural ones (amplitude 1/f), uint8 [number, 3, height, width], always the same."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(number, 3, height, width, generator=generator)
    fy, fx = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    spectrum = torch.fft.rfft2(noise) / (fy**2 + fx**2).sqrt().clamp_min(1 / max(height, width))
    image = torch.fft.irfft2(spectrum, s=(height, width))
    image = image.mean(1, keepdim=True) * 2 + image  # channels of a photograph go together
    image = (image - image.mean((1, 2, 3), keepdim=True)) / image.std((1, 2, 3), keepdim=True)
    return (image * 50 + 120).clamp_(0, 255).to(torch.uint8)
