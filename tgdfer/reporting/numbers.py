r"""Numbers for the text of a paper: ``\UarDemo`` and so on, so that no sentence becomes outdated.

``\UarDemo`` is the reference variant's UAR on data set ``demo`` in percent; ``\UarDemoLinearProbe`` that of variant
``linear-probe``; the endings ``Sd``, ``Low`` and ``High`` give deviation and interval, ``SeedSd`` the deviation over
several seeds. A variant without results has ``??``, as LaTeX prints an unknown reference; so has one that lacks runs,
because its mean would be over other folds.
"""

import re
from collections.abc import Sequence

from tgdfer.config.params import Params
from tgdfer.evaluation.protocol import METRICS, SELECTIONS
from tgdfer.reporting.part import Part
from tgdfer.reporting.wording import stale_line

DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")


def macro(*names: str) -> str:
    """A name that TeX takes for a command: letters only, words capitalised, digits spelled out."""
    words = (word for name in names for word in re.findall(r"[A-Za-z]+|\d", name))
    return "".join(DIGITS[int(word)] if word.isdigit() else word[0].upper() + word[1:] for word in words)


def to_latex(params: Params, parts: Sequence[Part]) -> str:
    """The macros of every data set and variant under the printed selection."""
    lines = [
        "% made by `tgdfer report`; percent, mean over folds",
        f"% selection: {SELECTIONS[params.report.selection]}",
    ]
    seen: dict[str, str] = {}
    for part in parts:
        if line := stale_line(part, part.shown):
            lines.append(f"% {line}")
        for variant, result in part.shown.items():
            names = [part.dataset] if variant == part.reference else [part.dataset, variant]
            for metric in METRICS:
                estimate = getattr(result, metric)
                values = {"": estimate.mean, "Sd": estimate.sd, "Low": estimate.low, "High": estimate.high}
                if len(params.seeds) > 1:
                    values["SeedSd"] = result.seed_sd.get(metric, float("nan"))
                for ending, value in values.items():
                    name = macro(metric, *names) + ending
                    if name in seen:
                        lines.append(f"% \\{name} would also be {part.dataset}/{variant}; it is {seen[name]}")
                        continue
                    seen[name] = f"{part.dataset}/{variant}"
                    text = "??" if value != value or result.missing else f"{100 * value:.2f}"
                    lines.append(f"\\newcommand{{\\{name}}}{{{text}}}")
        clips = max((result.clips for result in part.shown.values()), default=0)
        lines.append(f"\\newcommand{{\\{macro('clips', part.dataset)}}}{{{clips}}}")
    return "\n".join(lines) + "\n"
