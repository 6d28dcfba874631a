"""Write docs/demo-study.md from the runs: which parts of the model help, and whether it finds the right frames.

    python workflow/study.py [--dataset demo] [--selection last] [--output docs/demo-study.md]

Run it from the project's root after `make grid` (with `seeds: [0, 1, 2]` in params.yaml for three trainings of each).
Every number and every verdict is computed from what lies in runs/; variants that were not run are left out, and the
seeds are those that the reference has.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tgdfer.config.params import Params, load_params
from tgdfer.core import paths
from tgdfer.core.storage import write_text
from tgdfer.evaluation.protocol import SELECTIONS
from tgdfer.evaluation.statistics import mean_and_deviation
from tgdfer.reporting import parts
from tgdfer.reporting.analysis import Comparison, Result
from tgdfer.reporting.relevance import Relevance
from tgdfer.reporting.report import Part, build
from tgdfer.reporting.wording import missing_notes, seeds_line

AXES = {
    "components": "Components",
    "temporal": "Temporal network",
    "text": "Text",
    "aggregation": "Aggregation",
    "visual-prompt": "Visual prompt",
    "baselines": "Baselines",
}
CHOICES = ("temporal", "text", "aggregation", "visual-prompt")
"""The axes on which one would choose; components are there to be left out, baselines are other models."""


def points(value: float | None, sign: bool = False) -> str:
    """A fraction in points; a dash where there is none."""
    return "–" if value is None else f"{100 * value:{'+' if sign else ''}z.1f}"


def span(low: float | None, high: float | None) -> str:
    """An interval in points."""
    return "–" if low is None or high is None else f"{points(low)} to {points(high)}"


def p_value(p: float) -> str:
    """A p-value as it is read."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def verdict(found: Comparison) -> str:
    """What a comparison with the reference says, in words."""
    if not found.significant:
        return f"no difference shown (80 % power from {points(found.detectable)} points)"
    words = "worse than the full model" if found.difference < 0 else "better than the full model"
    return words if found.signs_agree else f"{words}, but not with every seed"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def measured_relevance(part: Part, selection: str) -> dict[str, Relevance]:
    """What the truth says of the frames' relevance, by variant and ranking; empty where there is no truth."""
    known = {name: found for name, found in (part.relevance or {}).get(selection, {}).items() if found}
    return {name: found for name, found in known.items() if found.auroc.mean is not None}


def rates(params: Params, results: dict[str, Result], table: str, relevance: dict[str, Relevance]) -> str | None:
    """The variants of an axis beside the reference; None where nothing but the reference was run."""
    names = [name for name, about in params.variants.items() if table in about.tables and results[name].measured]
    if len(names) < 2:
        return None
    about = params.report.tables[table]
    several = len(params.seeds) > 1
    rows = []
    for name in names:
        result = results[name]
        row = [params.variants[name].label, *(parts.setting(params, name, key, about.ticks) for key in about.columns)]
        row += [f"{points(e.mean)} ± {points(e.sd)} ({span(e.low, e.high)})" for e in (result.uar, result.war)]
        found = result.comparisons.get("uar")
        by_seed = ", ".join(points(value, True) for value in found.by_seed.values()) if found else ""
        row += [points(result.seed_sd.get("uar")), by_seed] if several else []
        if found is None:
            row += ["reference", "", ""]
        else:
            row += [f"{points(found.difference, True)} ({span(found.low, found.high)})", p_value(found.p_holm)]
            row.append(verdict(found))
        if relevance:
            row.append(f"{relevance[name].auroc.mean:.3f}" if name in relevance else "–")
        rows.append(row)
    head = ["", *about.columns.values(), "UAR, %", "WAR, %"]
    head += ["SD of UAR over seeds", "Δ UAR of each seed"] if several else []
    head += ["Δ UAR", "p (Holm)", "verdict", *(["AUROC of relevance"] if relevance else [])]
    return markdown(head, rows)


def inner_choice(params: Params, part: Part, table: str) -> str | None:
    """What would have been chosen on an axis without a look at the test folds, and how it does there.

    In every fold the variant of the highest UAR on the inner validation split after the last epoch, seeds averaged. A
    fold's choice sees nothing of its test clips. None where fewer than two variants have validation figures everywhere.
    """
    names = [name for name, about in params.variants.items() if table in about.tables]
    validated: dict[str, list[float]] = {}
    tested: dict[str, list[float]] = {}
    for name in names:
        runs = part.experiment.of(name)
        last = [run.history()[-1:] if run.problem is None else [] for run in runs]
        if not all(rows and "val_uar" in rows[0] for rows in last):
            continue
        folds = [run.fold for run in runs]
        validated[name] = by_fold(folds, [rows[0]["val_uar"] for rows in last])
        tested[name] = by_fold(folds, [run.outcomes["last"].metrics["uar"] for run in runs])
    if len(validated) < 2 or params.report.reference not in validated:
        return None
    chosen = [max(validated, key=lambda name: validated[name][fold]) for fold in range(len(part.experiment.folds))]
    uar, _ = mean_and_deviation([tested[name][fold] for fold, name in enumerate(chosen)])
    reference, _ = mean_and_deviation(tested[params.report.reference])
    counted = "; ".join(f"{params.variants[name].label} ({n})" for name, n in Counter(chosen).most_common())
    return (
        f"Had each fold chosen by UAR on its own inner validation split (last epoch, number of folds in parentheses): "
        f"{counted}. UAR of that choice on the test folds: {points(uar)} %, of the full model: {points(reference)} %.\n"
    )


def by_fold(folds: Sequence[int], values: Sequence[float]) -> list[float]:
    """The means of ``values`` in each fold, folds ascending."""
    return [float(np.mean([v for f, v in zip(folds, values, strict=True) if f == fold])) for fold in sorted(set(folds))]


def frame_relevance(params: Params, known: dict[str, Relevance]) -> list[str]:
    """The section on relevance: every variant and ranking, and the reference beside each of them, clip by clip."""
    if params.report.reference not in known:
        return []
    label = params.variants[params.report.reference].label
    rows: list[list[str]] = []
    groups: dict[str, list[str]] = {"worse": [], "better": [], "no": []}
    for name, found in sorted(known.items(), key=lambda entry: -(entry[1].auroc.mean or 0)):
        shown = params.variants[name].label if name in params.variants else f"*{name}*"
        row = [f"**{shown}**" if name == params.report.reference else shown]
        row += [f"{e.mean:.3f} ({e.low:.3f} to {e.high:.3f})" for e in (found.auroc, found.ap)]
        if against := found.comparison:
            row += [f"{against.difference:+.3f} ({against.low:+.3f} to {against.high:+.3f})", p_value(against.p_holm)]
            groups[verdict(against).split()[0]].append(shown)
        else:
            row += ["", ""]
        rows.append(row)
    clips = known[params.report.reference].clips
    return [
        "## Are the frames that the model finds relevant the right ones?\n",
        f"{clips} clips have frames with and without the expression (at least half of the largest true intensity "
        "of the clip). AUROC and average precision are computed in each clip and averaged; chance is 0.5 in AUROC. "
        f"Δ: the row minus {label}, AUROC, paired by clip and corrected over all rows. Rankings in italics need no "
        "training.\n",
        markdown(["ranking", "AUROC", "average precision", "Δ AUROC", "p (Holm)"], rows),
        f"The frame relevance of {label} is better than that of: {'; '.join(groups['worse']) or 'nothing'}. "
        f"It is worse than that of: {'; '.join(groups['better']) or 'nothing'}. "
        f"No difference is shown to: {'; '.join(groups['no']) or 'nothing'}.\n",
    ]


def study(params: Params, dataset: str, selection: str) -> str:
    """The whole page."""
    ran = {v for v in params.variants if paths.variant(dataset, v).exists()}
    params = params.only({*ran, params.report.reference})
    found = paths.run(dataset, params.report.reference, 1, 0).parents[1].glob("fold*/seed*/metrics.json")
    seeds = sorted({int(path.parent.name.removeprefix("seed")) for path in found})
    params = params.model_copy(update={"seeds": seeds or params.seeds})
    part = build(params, dataset)
    results = part.results[selection]
    reference = results[params.report.reference]
    if not reference.measured:
        sys.exit(f"error: runs/{dataset}/{params.report.reference}: no finished runs; run make grid first")
    label = params.variants[params.report.reference].label
    seeds = params.seeds
    trainings = f"seed {seeds[0]}"
    if len(seeds) > 1:
        trainings = f"seeds {', '.join(map(str, seeds))} (a clip's outcome is the share of them that get it right)"
    runs = sum(run.problem is None for run in part.experiment.runs)
    page = [
        f"# What helps on {dataset}\n",
        "Made by `python workflow/study.py` from the files of the runs; do not edit it. "
        f"{len(params.variants)} variants, {len(part.experiment.folds)} folds, {trainings}: "
        f"{runs} of {len(part.experiment.runs)} runs are finished. "
        f"The epoch is chosen by: {SELECTIONS[selection]}. ± is the standard deviation over folds; in "
        f"parentheses are {100 * params.report.confidence:.0f} % bootstrap intervals over clips. Each variant is "
        f"tested against {label} on the same clips (signs flipped at random) and corrected after Holm over all "
        "variants and both metrics. Intervals and tests are about the clips, for the models as trained. How far "
        f"another training moves a variant: {seeds_line(params, part.results, selection)}\n",
    ]
    told: dict[str, list[str]] = {"worse": [], "better": [], "no": []}
    for name, result in results.items():
        if comparison := result.comparisons.get("uar"):
            said = f"{params.variants[name].label} ({points(comparison.difference, True)})"
            told[verdict(comparison).split()[0]].append(said)
    page += [
        "## In short\n",
        f"* {label}: UAR {points(reference.uar.mean)} % ({span(reference.uar.low, reference.uar.high)}), "
        f"WAR {points(reference.war.mean)} % ({span(reference.war.low, reference.war.high)}).\n"
        f"* Worse in UAR: {'; '.join(told['worse']) or 'none'}.\n"
        f"* Better in UAR: {'; '.join(told['better']) or 'none'}.\n"
        f"* No difference shown, so nothing says that the full model's choice helps here: "
        f"{'; '.join(told['no']) or 'none'}.\n",
    ]
    relevance = measured_relevance(part, selection)
    for table, title in AXES.items():
        text = rates(params, results, table, relevance)
        page += [f"## {title}\n", text] if text else []
        if text and table in CHOICES and (choice := inner_choice(params, part, table)):
            page.append(choice)
    page += frame_relevance(params, relevance)
    problems = [
        *part.experiment.problems,
        *(f"{params.variants[n].label}: {'; '.join(missing_notes(r))}" for n, r in results.items() if r.missing),
    ]
    if problems:
        page += ["## What is missing\n", "\n".join(f"* {problem}" for problem in problems) + "\n"]
    return "\n".join(page)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="demo")
    parser.add_argument("--selection", default="last", choices=("last", "best_val", "best_test"))
    parser.add_argument("--output", type=Path, default=Path("docs/demo-study.md"))
    args = parser.parse_args()
    write_text(args.output, study(load_params(), args.dataset, args.selection))


if __name__ == "__main__":
    main()
