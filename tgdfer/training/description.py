"""model.json: all that a saved model needs in addition to its weights, and its output for a fixed input.

The code that loads the model gives it the same input. Another output means that the code, the words or the weights are
not those of the run, whose numbers it would silently not reproduce.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from tgdfer.core import paths, storage
from tgdfer.model import BagModel

FORMAT = 1
"""Of model.json and of the names in model.safetensors; a reader refuses any other."""


def describe(
    dataset: str, encoder: str, about: Mapping[str, Any], model: BagModel, dim: int, frames: int, block: int | None
) -> dict[str, Any]:
    """The content of model.json.

    Args:
        dataset: whose clips it was trained on.
        encoder: the name of the CLIP encoder.
        about: what the run depends on; see ``tgdfer.runs.files.made_by``.
        model: the trained model.
        dim: D of its features.
        frames: T of its bags.
        block: the block after which the tokens are that it takes, if it adapts the encoder.
    """
    from tgdfer.core.version import __version__

    features = storage.read_sealed(paths.features(dataset, encoder))
    made = features.get("made_by", {}).get("parameters", {}).get("features", {})
    return {
        "format": FORMAT,
        "tgdfer": __version__,
        "dataset": dataset,
        **{key: about["parameters"][key] for key in ("classes", "bags", "model")},
        "encoder": {"name": encoder, "fingerprint": about["inputs"]["encoder"], "dim": dim},
        "frames": features.get("frames"),
        "features": made | ({"keep": block} if block else {}),
        "answers": answers(model, dim, frames),
    }


@torch.no_grad()
def answers(model: nn.Module, dim: int, frames: int) -> Sequence[Sequence[float]]:
    """The probabilities that ``model`` gives for two made-up bags of ``frames`` instances, the second half empty."""
    adaptation: Any = getattr(model, "adaptation", None)
    if adaptation is not None:
        dim = adaptation.dim
    device = next((value.device for value in [*model.parameters(), *model.buffers()]), torch.device("cpu"))
    # sines, because they are the same on every machine and in every version; random numbers are not
    x = torch.arange(2 * frames * dim, dtype=torch.float64).mul(0.7).sin().view(2, frames, dim)
    x = nn.functional.normalize(x, dim=-1).float().to(device)
    position = torch.arange(frames, device=device).expand(2, -1)
    mask = torch.stack([position[0] >= 0, position[0] < (frames + 1) // 2])
    training = model.training
    model.eval()
    try:
        probabilities = model(x, mask, position.float()).logits.float().softmax(dim=-1)
    finally:
        model.train(training)
    return [[round(value, 6) for value in row] for row in probabilities.cpu().tolist()]
