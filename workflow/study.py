"""Write docs/demo-study.md from the runs: which parts of the model help, and whether it finds the right frames.

    python workflow/study.py [--dataset demo] [--selection last] [--output docs/demo-study.md]

Run it from the project's root after `make grid` (with `seeds: [0, 1, 2]` in params.yaml for three trainings of each).
Every number and every verdict is computed from what lies in runs/; variants that were not run are left out, and the
seeds are those that the reference has.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tgdfer import paths, statistics
from tgdfer.features.cache import FeatureCache, load_features
from tgdfer.params import Params, load_params
from tgdfer.reporting import parts, relevance
from tgdfer.reporting.analysis import Comparison, Estimate, Result, generator
from tgdfer.reporting.report import Part, build
from tgdfer.storage import write_text

LEVEL = 0.05
AXES = {
    "components": "Components",
    "temporal": "Temporal network",
    "text": "Text",
    "aggregation": "Aggregation",
    "visual-prompt": "Visual prompt",
    "baselines": "Baselines",
}
Scores = dict[tuple[int, str], np.ndarray]
"""AUROC and AP of the clips that have both, by fold and clip, averaged over seeds."""


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
    if found.p_holm >= LEVEL:
        return f"no difference shown (80 % power from {points(found.detectable)} points)"
    return "worse than the full model" if found.difference < 0 else "better than the full model"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def rates(params: Params, results: dict[str, Result], table: str) -> str | None:
    """The variants of an axis beside the reference; None where nothing but the reference was run."""
    names = [name for name, about in params.variants.items() if table in about.tables and results[name].measured]
    if len(names) < 2:
        return None
    columns = parts.COLUMNS[table]
    rows = []
    for name in names:
        result = results[name]
        row = [params.variants[name].label, *(parts.describe(params, name, key) for key, _ in columns)]
        row += [f"{points(e.mean)} ± {points(e.sd)} ({span(e.low, e.high)})" for e in (result.uar, result.war)]
        row.append(points(result.seed_sd.get("uar")))
        found = result.comparisons.get("uar")
        if found is None:
            row += ["reference", "", ""]
        else:
            row += [f"{points(found.difference, True)} ({span(found.low, found.high)})", p_value(found.p_holm)]
            row.append(verdict(found))
        rows.append(row)
    head = ["", *(title for _, title in columns), "UAR, %", "WAR, %", "SD over seeds", "Δ UAR", "p (Holm)", "verdict"]
    return markdown(head, rows)


def distance_to_mean(cache: FeatureCache) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """How far a frame's feature is from the mean of its bag's, 1 - cosine: what stands out, with no model at all."""
    row = {clip: i for i, clip in enumerate(cache.clip_ids)}
    offsets, index = cache.offsets.numpy(), cache.frame_index.numpy()
    features = cache.features[0].numpy()

    def score(clip_id: np.ndarray, frames: np.ndarray) -> np.ndarray:
        found = np.zeros(frames.shape)
        for n, clip in enumerate(clip_id):
            rows = slice(*offsets[row[str(clip)] : row[str(clip)] + 2])
            valid = frames[n] >= 0
            x = features[rows][np.searchsorted(index[rows], frames[n][valid])].astype(np.float64)
            mean = x.mean(axis=0)
            found[n, valid] = 1 - x @ mean / (np.linalg.norm(x, axis=1) * np.linalg.norm(mean))
        return found

    return score


def by_clip(bags: Sequence[relevance.Bags]) -> Scores:
    """AUROC and AP of every clip that has both kinds of frames."""
    found: dict[tuple[int, str], list[np.ndarray]] = {}
    for run in bags:
        for clip, values in zip(run.clip_id, run.values, strict=True):
            if not np.isnan(values[0]):
                found.setdefault((run.fold, str(clip)), []).append(values[:2])
    return {key: np.mean(values, axis=0) for key, values in found.items()}


def mean_over_folds(scores: Scores, draws: int, rng: np.random.Generator, confidence: float) -> list[Estimate]:
    """AUROC and AP: the mean over folds, its deviation, and a bootstrap interval over clips."""
    folds = sorted({fold for fold, _ in scores})
    values = [np.array([value for (at, _), value in scores.items() if at == fold]) for fold in folds]
    drawn = np.mean(
        [statistics.draw_clips(len(v), draws, rng).astype(float) @ v / len(v) for v in values], axis=0
    )  # [draws, 2]
    estimates = []
    for m in range(2):
        mean, sd = statistics.mean_and_deviation([float(v[:, m].mean()) for v in values])
        estimates.append(Estimate(mean, sd, *statistics.interval(drawn[:, m], confidence)))
    return estimates


def frame_relevance(params: Params, part: Part, selection: str) -> list[str]:
    """The section on relevance: every ranking, and the reference against each of them, clip by clip."""
    if part.truth is None:
        return []
    experiment, reference, truth = part.experiment, params.report.reference, part.truth
    encoder = params.dataset(experiment.dataset).encoder
    rankings: dict[str, list[relevance.Bags]] = {
        params.variants[name].label: relevance.measured(experiment, name, truth)[selection] for name in params.variants
    }
    label = params.variants[reference].label
    if not rankings[label]:
        return []
    simple: dict[str, relevance.Ranking] = {"*chance*": "chance", "*middle of the clip*": "middle"}
    cache = paths.features(experiment.dataset, encoder)
    if cache.exists():
        simple["*feature's distance to the clip's mean*"] = distance_to_mean(load_features(cache))
    for name, ranking in simple.items():
        rankings[name] = relevance.measured(experiment, reference, truth, ranking)[selection]
    scores = {name: found for name, bags in rankings.items() if (found := by_clip(bags))}
    full = scores[label]
    compared = [name for name in scores if name != label and scores[name].keys() == full.keys()]
    keys = sorted(full)
    count = {fold: sum(at == fold for at, _ in keys) for fold, _ in keys}
    weight = np.array([1 / (count[fold] * len(count)) for fold, _ in keys])
    change = np.stack([[full[key][0] - scores[name][key][0] for key in keys] for name in compared], axis=1)
    draws = max(2000, params.report.bootstrap)
    p = statistics.holm(
        list(statistics.sign_flip_test(change * weight[:, None], draws, generator(params.report.seed, "relevance")))
    )
    rows = []
    beaten: list[str] = []
    lost: list[str] = []
    level: list[str] = []
    for name in sorted(scores, key=lambda name: -float(np.mean([v[0] for v in scores[name].values()]))):
        rng = generator(params.report.seed, experiment.dataset, "relevance clips")
        auroc, ap = mean_over_folds(scores[name], params.report.bootstrap, rng, params.report.confidence)
        row = [f"**{name}**" if name == label else name]
        row += [f"{e.mean:.3f} ({e.low:.3f} to {e.high:.3f})" for e in (auroc, ap)]
        if name in compared:
            at = compared.index(name)
            difference = float((change[:, at] * weight).sum())
            row += [f"{difference:+.3f}", p_value(p[at])]
            (level if p[at] >= LEVEL else beaten if difference > 0 else lost).append(name)
        else:
            row += ["", ""]
        rows.append(row)
    say = [
        f"The frame relevance of {label} is better than that of: {'; '.join(beaten) or 'nothing'}.",
        f"It is worse than that of: {'; '.join(lost) or 'nothing'}.",
        f"No difference is shown to: {'; '.join(level) or 'nothing'}.",
    ]
    return [
        "## Are the frames that the model finds relevant the right ones?\n",
        f"{len(keys)} clips have frames with and without the expression (at least half of the largest true intensity "
        "of the clip). AUROC and average precision are computed in each clip and averaged; chance is 0.5 in AUROC. Δ: "
        "the full model minus the row, AUROC, paired by clip.\n",
        markdown(["ranking", "AUROC", "average precision", "Δ AUROC", "p (Holm)"], rows),
        " ".join(say) + "\n",
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
    runs = sum(run.problem is None for run in part.experiment.runs)
    page = [
        f"# What helps on {dataset}\n",
        "Made by `python workflow/study.py` from the files of the runs; do not edit it. "
        f"{len(params.variants)} variants, {len(part.experiment.folds)} folds, seeds "
        f"{', '.join(map(str, part.experiment.seeds))}: {runs} of {len(part.experiment.runs)} runs are finished. "
        f"The epoch is chosen by: {selection}. ± is the standard deviation over folds; in parentheses are "
        f"{100 * params.report.confidence:.0f} % bootstrap intervals over clips. Each variant is tested "
        f"against {label} on the same clips (signs flipped at random) and corrected after Holm over all "
        "variants and both metrics.\n",
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
    for table, title in AXES.items():
        text = rates(params, results, table)
        page += [f"## {title}\n", text] if text else []
    page += frame_relevance(params, part, selection)
    problems = [
        *part.experiment.problems,
        *(f"{r.variant}, {r.name}: {r.problem}" for r in part.experiment.runs if r.problem),
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
