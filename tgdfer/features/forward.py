"""The image tower with a batch size that shrinks when memory runs out."""

import torch

from tgdfer.core.progress import log
from tgdfer.encoders import VisionTower


class Forward:
    """The image tower, which halves its batches when memory runs out. Returns float16 [n, D] on its device."""

    def __init__(self, tower: VisionTower, device: torch.device) -> None:
        self.tower = tower
        self.device = device
        self.limit: int | None = None

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Encode uint8 [n, 3, H, W], in parts if necessary; a single image that does not fit is an error."""
        if self.limit is not None and len(images) > self.limit:
            return torch.cat([self(part) for part in images.split(self.limit)])
        try:
            with torch.inference_mode():
                return self.tower(images.to(self.device, non_blocking=True)).half()
        except RuntimeError as error:
            if not out_of_memory(error) or len(images) == 1:
                raise
        # the exception is gone by now, and with it the tensors that its traceback held
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.limit = (len(images) + 1) // 2
        log.warning(
            "%s: out of memory with %d images, going on with %d, which may change the last bits of features; "
            "set features.batch_size lower to have it from the start",
            *(self.device, len(images), self.limit),
        )
        return self(images)


def out_of_memory(error: RuntimeError) -> bool:
    """Whether ``error`` is a device's or the CPU allocator's way of saying that there is no memory."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or any(
        sign in text for sign in ("out of memory", "can't allocate memory", "not enough memory")
    )
