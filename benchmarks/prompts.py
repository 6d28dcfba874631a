"""Time of one step of learnable prompts through CLIP's frozen text tower: after the words, before them, and uncut.

    python benchmarks/prompts.py [--model ViT-B-32-quickgelu] [--context 8] [--repeats 5] [--device auto]

A step is what training does: the context tokens and the descriptions of seven classes, forward, and backward to the
context tokens. `after` computes the words once and each step the context and the end of each text; `before` computes
whole texts, cut after the last end-of-text; `uncut` is `before` with all that CLIP pads with. They run in turns; times
are medians of wall and of CPU time. The weights are random: speed does not depend on them. The results of `before` and
`uncut` must be equal.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace

import open_clip
import torch

from tgdfer.config.training import ModelParams
from tgdfer.core.classes import SEVEN
from tgdfer.core.devices import choose_device
from tgdfer.encoders import quiet_open_clip
from tgdfer.encoders.text_tower import TextTower
from tgdfer.model.text import LabelText


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32-quickgelu")
    parser.add_argument("--context", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    device = choose_device(args.device)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    with quiet_open_clip():
        model = open_clip.create_model(args.model, load_weights=False, pretrained_text=False).eval().to(device)
    tower = TextTower(model, open_clip.get_tokenizer(args.model), args.model).to(device)
    encoder = SimpleNamespace(name=args.model, text_tower=lambda: tower)
    after, before = (
        LabelText(ModelParams(context_tokens=args.context, context_place=place), SEVEN, encoder).to(device)
        for place in ("after", "before")
    )
    length = before.embeddings().shape[1]
    padding = torch.zeros(len(before.embedded), tower.context_length - length, dtype=torch.int64, device=device)
    padding = tower.embed(padding)
    direction = torch.randn(len(SEVEN), int(before().shape[1]), device=device)

    def uncut() -> torch.Tensor:
        features = tower(torch.cat([before.embeddings(), padding], dim=1), before.eot)
        return torch.nn.functional.normalize(before.mean @ features, dim=-1)

    def step(labels: Callable[[], torch.Tensor], context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        context.grad = None
        features = labels()
        (features * direction).sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        assert context.grad is not None
        return features.detach(), context.grad.clone()

    ways = {"after": (after, after.context), "before": (before, before.context), "uncut": (uncut, before.context)}
    print(f"{args.model} on {device}, {torch.get_num_threads()} threads, load before {os.getloadavg()[0]:.1f}")
    print(
        f"{len(before.embedded)} prompts, {args.context} context tokens; computed in each step: "
        f"after {after.embeddings().shape[1]} tokens, before {length}, uncut {tower.context_length}"
    )
    (cut, cut_gradient), (whole, whole_gradient) = step(*ways["before"]), step(*ways["uncut"])
    print(f"largest difference of before and uncut: features {(cut - whole).abs().max():.1e}, ", end="")
    print(f"gradient {((cut_gradient - whole_gradient).abs().max() / whole_gradient.abs().max()):.1e} of its largest")
    found: dict[str, dict[str, list[float]]] = {unit: {way: [] for way in ways} for unit in ("wall", "CPU")}
    for _ in range(args.repeats):
        for way in ways:
            started, used = time.perf_counter(), time.process_time()
            step(*ways[way])
            found["wall"][way].append(time.perf_counter() - started)
            found["CPU"][way].append(time.process_time() - used)
    for unit, times in found.items():
        medians = {way: 1000 * statistics.median(times[way]) for way in ways}
        shown = [f"{way} {value:.0f} ms ({value / medians['after']:.2f})" for way, value in medians.items()]
        print(f"{unit} time per step: {', '.join(shown)}")


if __name__ == "__main__":
    main()
