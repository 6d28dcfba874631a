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
TOLERANCE = {"probabilities": 1e-4, "relevance": 1e-3}
"""Of a model that finds all frames nearly alike, relevance compares differences as small as rounding errors."""
OPSET = 18
INPUTS = ("frames", "frame_index", "mask")


class Clip(nn.Module):
    """A clip of T frames through the image encoder and the model."""

    def __init__(self, saved: SavedModel) -> None:
        super().__init__()
        self.tower = saved.tower(torch.float32)
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
        UserError: ``file`` exists, ONNX is not installed, or the new file does not give what PyTorch gives; it is not
            kept then.
    """
    if file.exists():
        raise UserError(f"--output {file}: exists already; name another file, or remove it")
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
            output_names=list(TOLERANCE),
            verbose=False,
        )
        program.save(str(part), external_data=False)
        session = onnxruntime.InferenceSession(str(part), providers=["CPUExecutionProvider"])
        distances, shown, random = dict.fromkeys(TOLERANCE, 0.0), 0, torch.Generator().manual_seed(0)
        while shown < FRAMES:
            # the second clip and those after it are shorter than a bag
            frames = torch.randint(256, inputs[0].shape, generator=random, dtype=torch.uint8)
            clips = frames, inputs[1] * (1 + shown), inputs[1] < length - min(shown, 1)
            found = session.run(None, {name: value.numpy() for name, value in zip(INPUTS, clips, strict=True)})
            for name, one, other in zip(TOLERANCE, found, clip(*clips), strict=True):
                distances[name] = max(distances[name], float((torch.from_numpy(one) - other).abs().max()))
            shown += length
        for name, allowed in TOLERANCE.items():
            if distances[name] > allowed:
                by = f"{distances[name]:.1e}, at most {allowed:.0e} is allowed"
                raise UserError(f"{file}: ONNX differs from PyTorch in {name} by {by}")
    about = ", ".join(f"{distance:.1e} in {name}" for name, distance in distances.items())
    return f"{file}: differs from PyTorch by at most {about}, over {shown} frames"
