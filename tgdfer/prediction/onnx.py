"""A trained model as one ONNX file: image encoder and model, the label features as constants.

Inputs: ``frames`` uint8 [T, 3, size, size], resized and cropped to the encoder's size; ``frame_index`` int64 [T],
ascending; ``mask`` bool [T], false for the padding of a shorter clip. T is the number of frames of a bag.
Outputs: ``probabilities`` [C] and ``relevance`` [T].
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from tgdfer.core.errors import UserError
from tgdfer.core.storage import atomic
from tgdfer.model import relevance
from tgdfer.prediction.saved import SavedModel

FRAMES = 100
"""Frames of the parity check."""
TOLERANCE = 1e-4
OPSET = 18
INPUTS = ("frames", "frame_index", "mask")


class Clip(nn.Module):
    """A clip of T frames through the image encoder and the model."""

    def __init__(self, saved: SavedModel) -> None:
        super().__init__()
        self.tower = saved.encoder.vision_tower(torch.float32)
        model: Any = saved.model
        self.model = model
        # computed once: the text tower is not part of the file
        self.register_buffer("text", model.labels().detach() if hasattr(model, "labels") else None)

    def forward(
        self, frames: torch.Tensor, frame_index: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Probabilities [C] and relevance [T]."""
        x = self.tower(frames)[None]
        output = self.model(x, mask[None], frame_index[None].to(x.dtype))
        return output.logits.float().softmax(-1)[0], relevance(output)[0]


def export_onnx(saved: SavedModel, file: Path) -> str:
    """Write ``file`` and compare it with PyTorch on random frames, on the CPU.

    Returns:
        The result of the comparison, in one line.

    Raises:
        UserError: ONNX is not installed, or the file does not give what PyTorch gives; it is not kept then.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 (torch uses it)
    except ImportError as error:
        raise UserError(f"{error.name} is not installed; run pip install 'tgdfer[onnx]'") from None
    if saved.description.bags.instance_frames > 1:
        raise UserError(f"{saved.folder}: bags.instance_frames is above 1, which the ONNX export does not support")
    clip = Clip(saved).eval()
    text = clip.text
    if text is not None:
        saved.model.labels.forward = lambda: text  # type: ignore[union-attr]
    length = saved.description.bags.frames
    shape = saved.encoder.preprocess(torch.zeros(3, 64, 64, dtype=torch.uint8)).shape
    inputs = torch.zeros(length, *shape, dtype=torch.uint8), torch.arange(length), torch.ones(length, dtype=torch.bool)
    with atomic(file) as part, torch.inference_mode():
        program: Any = torch.onnx.export(
            clip,
            inputs,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(INPUTS),
            output_names=["probabilities", "relevance"],
            verbose=False,
        )
        program.save(str(part), external_data=False)
        session = onnxruntime.InferenceSession(str(part), providers=["CPUExecutionProvider"])
        distance, shown = 0.0, 0
        while shown < FRAMES:
            # the second clip and those after it are shorter than a bag
            clips = torch.randint_like(inputs[0], 256), inputs[1] * (1 + shown), inputs[1] < length - min(shown, 1)
            found = session.run(None, {name: value.numpy() for name, value in zip(INPUTS, clips, strict=True)})
            expected = clip(*clips)
            pairs = zip(found, expected, strict=True)
            distance = max(distance, *(float((torch.from_numpy(one) - other).abs().max()) for one, other in pairs))
            shown += length
        if distance > TOLERANCE:
            raise UserError(f"{file}: ONNX differs from PyTorch by {distance:.1e}, at most {TOLERANCE:.0e} is allowed")
    return f"{file}: differs from PyTorch by {distance:.1e} at most, over {shown} frames"
