r"""Numbers for a paper's text: ``\UarDemo`` and the like, so that a sentence never goes stale.

``\UarDemo`` is the reference variant's UAR on data set ``demo`` in percent; ``\UarDemoLinearProbe`` that of variant
``linear-probe``; the endings ``Sd``, ``Low`` and ``High`` give deviation and interval, ``SeedSd`` the deviation over
several seeds. A variant without results has
``??``, as LaTeX prints an unknown reference; one that lacks runs has none either: its mean would be over other folds.
"""

from __future__ import annotations

import re

from tgdfer.config.params import Params
from tgdfer.evaluation.protocol import METRICS, SELECTIONS
from tgdfer.reporting.layout import Results

DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")


def macro(*names: str) -> str:
    """Letters alone, words capitalised, digits spelled out: what TeX takes for a command."""
    words = (word for name in names for word in re.findall(r"[A-Za-z]+|\d", name))
    return "".join(DIGITS[int(word)] if word.isdigit() else word[0].upper() + word[1:] for word in words)


def to_latex(params: Params, by_dataset: dict[str, Results]) -> str:
    """The macros of every data set and variant under the printed selection."""
    lines = [
        "% made by `tgdfer report`; percent, mean over folds",
        f"% selection: {SELECTIONS[params.report.selection]}",
    ]
    seen: dict[str, str] = {}
    for dataset, results in by_dataset.items():
        for variant, result in results[params.report.selection].items():
            names = [dataset] if variant == params.report.reference else [dataset, variant]
            for metric in METRICS:
                estimate = getattr(result, metric)
                values = {"": estimate.mean, "Sd": estimate.sd, "Low": estimate.low, "High": estimate.high}
                if len(params.seeds) > 1:
                    values["SeedSd"] = result.seed_sd.get(metric)
                for ending, value in values.items():
                    name = macro(metric, *names) + ending
                    text = "??" if value is None or result.missing else f"{100 * value:.2f}"
                    if name in seen:
                        lines.append(f"% \\{name} would also be {dataset}/{variant}; it is {seen[name]}")
                        continue
                    seen[name] = f"{dataset}/{variant}"
                    lines.append(f"\\newcommand{{\\{name}}}{{{text}}}")
        clips = max((result.clips for result in results[params.report.selection].values()), default=0)
        lines.append(f"\\newcommand{{\\{macro('clips', dataset)}}}{{{clips}}}")
    return "\n".join(lines) + "\n"
