"""Seconds per clip and epoch of training the last two blocks of ViT-B/32, from the cache of tokens and without it.

    python benchmarks/adaptation.py [CLIPS]

Weights are random, for the time does not depend on them. Each way trains the same head on CLIPS (8) clips of 16 frames;
it is repeated in turn, and the fastest of three rounds counts. Also printed are fine-tuning of the whole
encoder, and decoding and encoding every frame with the first ten blocks frozen. The last lines are the peak memory of a
process that trains from the cache on CLIPS clips, and of one that trains on four times as many.
"""

import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torchvision.io import ImageReadMode, decode_jpeg

from tgdfer.config.training import ModelParams
from tgdfer.core.progress import log
from tgdfer.encoders import Encoder
from tgdfer.encoders.preprocess import Preprocess
from tgdfer.features.bags import Bags
from tgdfer.features.cache import FeatureCache
from tgdfer.features.shards import open_shard, write_shard
from tgdfer.model import build_model

FRAMES, BATCH, BLOCK, SIZE, CLASSES = 16, 8, 10, 224, list("abcdefg")
MEAN, STD = (0.481, 0.458, 0.408), (0.269, 0.261, 0.276)


ADAPTED = ModelParams(architecture="transformer-cls", text="none", adapt="blocks", adapt_blocks=2)


def random_encoder() -> Encoder:
    """ViT-B/32 with random weights."""
    torch.manual_seed(0)
    clip = open_clip.create_model("ViT-B-32")
    preprocess = Preprocess.from_config({"size": [SIZE, SIZE], "mean": MEAN, "std": STD, "interpolation": "bicubic"})
    return Encoder("ViT-B-32", clip, None, preprocess, 512, "random", torch.device("cpu"))


def trained(model: nn.Module, clips: int, batch: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], None]:
    """A function that trains ``model`` for an epoch on ``clips``, whose frames ``batch`` gives."""
    optimiser = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=1e-4)
    mask = torch.ones(BATCH, FRAMES, dtype=torch.bool)

    def epoch() -> None:
        for part in torch.arange(clips).split(BATCH):
            optimiser.zero_grad()
            logits = model(batch(part), mask[: len(part)]).logits
            F.cross_entropy(logits, part % len(CLASSES)).backward()
            optimiser.step()

    return epoch


def from_cache(encoder: Encoder, shard: Path, clips: int) -> Callable[[], None]:
    """A function that trains for an epoch on the tokens of the first ``clips`` clips in ``shard``."""
    number = torch.arange(clips)
    bags = Bags(FeatureCache.of([open_shard(shard, "c")], "f", "ViT-B-32"), number, number % len(CLASSES), FRAMES)
    draw = torch.Generator().manual_seed(0)
    model = build_model(ADAPTED, CLASSES, 512, encoder, BLOCK)
    return trained(model, clips, lambda part: bags.batch(part, draw).x)


def main(clips: int) -> None:
    """Print the times and their ratios, and the peak memory."""
    encoder = random_encoder()
    rng = np.random.default_rng(0)
    jpegs = []
    for _ in range(clips * FRAMES):
        picture = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).resize((SIZE, SIZE))
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=95)
        jpegs.append(torch.frombuffer(bytearray(stream.getvalue()), dtype=torch.uint8))

    def images(part: torch.Tensor) -> torch.Tensor:
        chosen = [jpegs[number * FRAMES + frame] for number in part.tolist() for frame in range(FRAMES)]
        return torch.stack([encoder.preprocess(decode_jpeg(data, ImageReadMode.RGB)) for data in chosen])

    first = encoder.token_tower(BLOCK)

    def frozen(part: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return first(images(part)).unflatten(0, (len(part), FRAMES))

    with tempfile.TemporaryDirectory() as folder:
        shard = Path(folder) / "tokens.arrow"
        with torch.inference_mode():
            tokens = torch.cat([first(images(part)) for part in torch.arange(clips).split(BATCH)]).half().numpy()
        names = [f"{number // FRAMES:06d}" for number in range(4 * clips * FRAMES)]
        index = np.tile(np.arange(FRAMES, dtype=np.int32), 4 * clips)
        write_shard(shard, names, index, np.tile(tokens, (1, 4, 1)), {"cache": "c", "source": "s"})
        whole = build_model(ADAPTED.model_copy(update={"adapt": "none"}), CLASSES, 512, encoder)
        visual = encoder.vision_tower().visual.requires_grad_(True).train()
        ways = {
            "from the cache": from_cache(encoder, shard, clips),
            "whole encoder": trained(_Whole(whole, visual, encoder), clips, images),
            "first ten blocks frozen": trained(build_model(ADAPTED, CLASSES, 512, encoder, BLOCK), clips, frozen),
        }
        seconds = dict.fromkeys(ways, float("inf"))
        for _ in range(3):
            for name, epoch in ways.items():
                started = time.perf_counter()
                epoch()
                seconds[name] = min(seconds[name], time.perf_counter() - started)
        print(f"{clips} clips of {FRAMES} frames, batches of {BATCH}, {torch.get_num_threads()} threads")
        print(f"tokens after block {BLOCK}: {tokens.nbytes / clips / 1e6:.2f} MB per clip")
        for name, time_s in seconds.items():
            ratio = time_s / seconds["from the cache"]
            print(f"{name:24} {time_s / clips:8.3f} s per clip and epoch, {ratio:5.2f} times")
        for count in (clips, 4 * clips):
            child = [sys.executable, __file__, "--peak", str(shard), str(count)]
            print(f"{count} clips: ", subprocess.run(child, check=True, capture_output=True, text=True).stdout, end="")


def peak(shard: Path, clips: int) -> None:
    """Train for an epoch from ``shard`` and print the peak memory of this process."""
    from_cache(random_encoder(), shard, clips)()
    # not getrusage, whose peak is at least that of the process that started this one
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(f"peak memory {int(line.split()[1]) / 1024:.0f} MB")


class _Whole(nn.Module):
    """The whole encoder and a model on its features, as they are fine-tuned end to end."""

    def __init__(self, model: nn.Module, visual: nn.Module, encoder: Encoder) -> None:
        super().__init__()
        self.model, self.visual = model, visual
        self.normalised = encoder.vision_tower().normalised

    def forward(self, images: torch.Tensor, mask: torch.Tensor) -> object:
        features = F.normalize(self.visual(self.normalised(images)), dim=-1)
        return self.model(features.unflatten(0, mask.shape), mask)


if __name__ == "__main__":
    log.setLevel("WARNING")
    if "--peak" in sys.argv:
        peak(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 8)
