"""Time of one step of learnable prompts through CLIP's frozen text tower: cut after the last end-of-text, and uncut.

    python benchmarks/prompts.py [--model ViT-B-32-quickgelu] [--context 8] [--repeats 5] [--device auto]

A step is what training does: context tokens in front of one description per class, forward, and backward to the context
tokens. Both ways run in turns; times are medians of wall and of CPU time. The weights are random: speed does not depend
on them, and results must be equal for any.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import open_clip
import torch

from tgdfer.core.devices import choose_device
from tgdfer.encoders import quiet_open_clip
from tgdfer.encoders.text_tower import TextTower

DESCRIPTIONS = [
    "a face with raised cheeks, crow's feet at the eyes and lip corners pulled up",
    "a face with inner brows raised, drooping lids and lip corners pulled down",
    "a face at rest with relaxed brows, open eyes and closed lips",
    "a face with lowered brows, a hard stare and lips pressed tightly together",
    "a face with raised brows, wide open eyes and a dropped jaw",
    "a face with a wrinkled nose, narrowed eyes and a raised upper lip",
    "a face with brows raised and drawn together, wide eyes and lips stretched sideways",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32-quickgelu")
    parser.add_argument("--context", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    device = choose_device(args.device)
    torch.manual_seed(0)
    with quiet_open_clip():
        model = open_clip.create_model(args.model, load_weights=False, pretrained_text=False).eval().to(device)
    tower = TextTower(model, open_clip.get_tokenizer(args.model), args.model).to(device)
    tokens = tower.tokenize(DESCRIPTIONS).to(device)
    words = tower.embed(tokens)
    eot = tower.eot(tokens) + args.context
    context = (0.02 * torch.randn(args.context, tower.width, device=device)).requires_grad_()
    direction = torch.randn(len(words), model.text_projection.shape[1], device=device)
    length = args.context + tokens.shape[1]
    padding = tower.embed(torch.zeros(len(words), tower.context_length - length, dtype=torch.int64, device=device))

    def step(uncut: bool) -> tuple[torch.Tensor, torch.Tensor]:
        context.grad = None
        shared = context.expand(len(words), -1, -1)
        # [start of text], context, words; and for the uncut way everything that CLIP pads with
        parts = [words[:, :1], shared, words[:, 1:], *([padding] if uncut else [])]
        features = tower(torch.cat(parts, 1), eot)
        (features * direction).sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        assert context.grad is not None
        return features.detach(), context.grad.clone()

    print(f"{args.model} on {device}, {torch.get_num_threads()} threads, load before {os.getloadavg()[0]:.1f}")
    print(f"{len(words)} prompts, {args.context} context tokens: {length} of {tower.context_length} tokens")
    (cut, cut_gradient), (whole, whole_gradient) = step(False), step(True)
    print(f"largest difference: features {(cut - whole).abs().max():.1e}, ", end="")
    print(f"gradient {((cut_gradient - whole_gradient).abs().max() / whole_gradient.abs().max()):.1e} of its largest")
    wall: dict[bool, list[float]] = {False: [], True: []}
    cpu: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(args.repeats):
        for uncut in (False, True):
            started, used = time.perf_counter(), time.process_time()
            step(uncut)
            wall[uncut].append(time.perf_counter() - started)
            cpu[uncut].append(time.process_time() - used)
    for unit, found in (("wall", wall), ("CPU", cpu)):
        short, long = (statistics.median(found[uncut]) for uncut in (False, True))
        print(f"{unit} time per step: cut {1000 * short:.0f} ms, uncut {1000 * long:.0f} ms: ", end="")
        print(f"{long / short:.2f} times faster")


if __name__ == "__main__":
    main()
