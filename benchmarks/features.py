"""How close the features stage comes to the bare speed of its model, and how close its features come to open_clip's.

    python benchmarks/features.py [--model ViT-B-32-quickgelu] [--frames 512] [--batch 64] [--rounds 3]

Makes a project in a temporary folder with a randomly initialised model (speed does not depend on the weights) and
frames cut from photographs. In each round it measures, one after the other so that other load on the machine meets all
alike:

- bare: only the image tower, on ready batches, as many at a time as the stage has threads, each on one core; and one at
  a time on all cores (the faster one is what the stage is compared with);
- stage: from frame shards to feature shards on disk;
- open_clip: its own transform and float32 model, one image at a time.

Rates are frames per second of wall time and, since other programs take part of the wall time, per second of CPU time.
"""

import argparse
import io
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import open_clip
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image
from sklearn.datasets import load_sample_image

from tgdfer.config.data import FeaturesParams
from tgdfer.core import storage
from tgdfer.core.devices import choose_device
from tgdfer.encoders import load_encoder, quiet_open_clip, write_encoder
from tgdfer.encoders.precision import choose_dtype
from tgdfer.features.encoding import Encoding, encode_shards
from tgdfer.features.frame_batches import FrameBatch, ShardTask, decode
from tgdfer.features.shards import is_whole

SIZES = ((256, 256), (224, 224), (480, 360), (112, 112), (640, 480))


def photographs() -> list[Image.Image]:
    with get_sample_data("grace_hopper.jpg") as stream:
        portrait = Image.open(stream).convert("RGB")
    return [portrait, *(Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg"))]


def jpegs(number: int, sizes: tuple[tuple[int, int], ...]) -> list[bytes]:
    """Random crops of photographs at the given (width, height), quality 92."""
    rng = np.random.default_rng(0)
    images, out = photographs(), []
    for index in range(number):
        image = images[index % len(images)]
        side = int(min(image.size) * rng.uniform(0.3, 1))
        left, top = (int(rng.integers(0, length - side + 1)) for length in image.size)
        stream = io.BytesIO()
        image.crop((left, top, left + side, top + side)).resize(sizes[index % len(sizes)]).save(
            stream, "JPEG", quality=92
        )
        out.append(stream.getvalue())
    return out


def write_frames(images: list[bytes]) -> list[ShardTask]:
    shards = []
    for number in range(2):
        mine = images[number::2]
        path = Path(f"frames/shard-{number:05d}.parquet")
        columns = {
            "clip_id": [f"clip{number}-{index // 16:04d}" for index in range(len(mine))],
            "frame_index": [index % 16 for index in range(len(mine))],
            "time_s": [0.0] * len(mine),
            "jpeg": mine,
            "width": [0] * len(mine),
            "height": [0] * len(mine),
        }
        storage.write_table(path, "frames", columns, {})
        target = Path("features") / path.name
        shards.append(ShardTask(path, storage.file_fingerprint(path), len(mine), target))
    return shards


def measure(work: Callable[[], int]) -> tuple[float, float]:
    """Frames per second of wall time and of CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    frames = work()
    return frames / (time.perf_counter() - wall), frames / (time.process_time() - cpu)


def bare(tower: torch.nn.Module, batch: torch.Tensor, batches: int, beside: bool) -> int:
    """Run ``batches`` forward passes; ``beside`` each other on one core each, or one at a time on all cores."""
    threads = torch.get_num_threads()

    def one(_: int) -> None:
        if beside:
            torch.set_num_threads(1)
        with torch.inference_mode():
            tower(batch).half()

    try:
        if beside:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(one, range(batches)))
        else:
            for index in range(batches):
                one(index)
            if batch.is_cuda:
                torch.cuda.synchronize()
    finally:
        torch.set_num_threads(threads)
    return batches * len(batch)


def plain_open_clip(model: torch.nn.Module, transform: Callable, images: list[bytes]) -> torch.Tensor:
    """Features by open_clip's own transform, in float32, one image at a time."""
    with torch.inference_mode():
        parts = [
            model.encode_image(transform(Image.open(io.BytesIO(data)).convert("RGB"))[None], normalize=True)
            for data in images
        ]
    return torch.cat(parts)


def agreement(found: torch.Tensor, expected: torch.Tensor) -> str:
    """Smallest cosine; and after the mean over images is taken off, which random weights make large."""
    cosine = torch.cosine_similarity(found, expected).min().item()
    mean = expected.mean(0)
    centred = torch.cosine_similarity(found - mean, expected - mean).min().item()
    return f"min cosine {cosine:.6f} (centred {centred:.6f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32-quickgelu")
    parser.add_argument("--encoder", type=Path, help="a folder under models/ to take instead of a random model")
    parser.add_argument("--frames", type=int, default=512)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--compare", type=int, default=60, help="images to compare with open_clip")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    encoder_folder = args.encoder and args.encoder.resolve()

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        if encoder_folder:
            shutil.copytree(encoder_folder, Path("models") / encoder_folder.name)
            name = encoder_folder.name
        else:
            torch.manual_seed(0)
            with quiet_open_clip():
                model = open_clip.create_model(args.model, load_weights=False, pretrained_text=False)
            name, preprocess = "random", open_clip.get_model_preprocess_cfg(model)
            write_encoder(Path("models/random"), model, open_clip.get_model_config(args.model), preprocess, {})
            del model
        run(name, args)


def run(name: str, args: argparse.Namespace) -> None:
    device = choose_device(args.device)
    encoder = load_encoder(name, "cpu")
    plain, _, transform = open_clip.create_model_and_transforms(f"local-dir:models/{name}")
    plain.eval()
    auto = choose_dtype(encoder, "auto", device)
    threads, load = torch.get_num_threads(), os.getloadavg()[0]
    print(f"{name} on {device}, {threads} threads, load before {load:.1f}; auto is {auto}")

    images = jpegs(args.compare, SIZES)
    expected = plain_open_clip(plain, transform, images)
    batch = FrameBatch(ShardTask(Path(), "", 0, Path()), ["c"] * len(images), [0] * len(images), images, True)
    pixels = decode(batch, encoder.preprocess, FeaturesParams())
    for dtype in dict.fromkeys((torch.float32, auto)):
        with torch.inference_mode():
            found = encoder.vision_tower(dtype, device)(pixels.to(device)).cpu()
        print(f"{dtype} against open_clip, {len(images)} images of {len(SIZES)} sizes: {agreement(found, expected)}")

    tower = encoder.vision_tower(auto, device)
    shards = write_frames(jpegs(args.frames, SIZES[:1]))
    settings = FeaturesParams(batch_size=args.batch)
    work = Encoding(encoder, settings, auto, {"cache": "benchmark"}, None, "")
    ready = pixels.repeat(-(-args.batch // len(pixels)), 1, 1, 1)[: args.batch].to(device)
    batches = -(-args.frames // args.batch)

    def stage() -> int:
        encode_shards(work, shards, device, "features")
        assert all(is_whole(shard.target, "benchmark", shard.sha256) for shard in shards)
        return args.frames

    ways: dict[str, Callable[[], int]] = {
        "bare, one core each": lambda: bare(tower, ready, batches, True),
        "bare, all cores": lambda: bare(tower, ready, batches, False),
        "stage": stage,
        "open_clip": lambda: len(plain_open_clip(plain, transform, images[: min(8, len(images))])),
    }
    if device.type != "cpu":
        del ways["bare, one core each"]
    elif threads == 1:
        del ways["bare, all cores"]  # the same as the other
    rates: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for number in range(args.rounds + 1):
        for way, function in ways.items():
            result = measure(function)
            if number:  # the first round warms up
                rates[way].append(result)
    for way, found in rates.items():
        wall, cpu = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"{way:22s} {wall:9.1f} frames/s   {cpu:9.1f} frames per CPU second")
    for number, unit in enumerate(("wall", "CPU")):
        best = [max(found[way][number] for way in rates if way.startswith("bare")) for found in by_round(rates)]
        share = [found["stage"][number] / top for found, top in zip(by_round(rates), best, strict=True)]
        times = [found["stage"][number] / found["open_clip"][number] for found in by_round(rates)]
        rounds = ", ".join(f"{value:.3f}" for value in share)
        print(f"{unit} time: stage / bare {statistics.median(share):.3f} (rounds {rounds}); ", end="")
        print(f"stage / open_clip {statistics.median(times):.2f}")
    print(f"load after {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def by_round(rates: dict[str, list[tuple[float, float]]]) -> list[dict[str, tuple[float, float]]]:
    return [dict(zip(rates, found, strict=True)) for found in zip(*rates.values(), strict=True)]


if __name__ == "__main__":
    main()
