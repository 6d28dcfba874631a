"""What tables, figures and the page say alike: titles, captions, notes on missing runs, the full-precision records."""

from __future__ import annotations

from statistics import median
from typing import Any

from tgdfer.config.params import Params, ReportParams
from tgdfer.evaluation.protocol import METRICS, SELECTIONS
from tgdfer.reporting.analysis import Estimate, Result
from tgdfer.reporting.layout import Cell, Results, Row, compared_record, spread
from tgdfer.runs.results import Experiment

POWER = "What these data can tell"
TITLES = {
    "main": "Recall per class, UAR and WAR",
    "relevance": "Frame relevance against the true intensity",
    "costs": "Costs",
}


def variants_of(params: Params, name: str) -> list[str]:
    """The variants that are rows of table ``name``."""
    return [variant for variant, chosen in params.variants.items() if name in chosen.tables]


def label_of(params: Params, name: str) -> str:
    """A variant's label; a ranking without training has none but its name."""
    return params.variants[name].label if name in params.variants else name


def missing_notes(result: Result) -> list[str]:
    """What was expected and is not there, in words; runs with the same reason together."""
    by_reason: dict[str, list[str]] = {}
    for run in result.missing:
        reason = run.problem or f"has no selection {result.selection}"
        by_reason.setdefault(reason, []).append(run.name)
    return [
        f"{'; '.join(names) if len(names) <= 6 else f'{len(names)} runs'}: {reason}"
        for reason, names in by_reason.items()
    ]


def power_line(params: Params, results: Results) -> str:
    """What the data can and cannot tell."""
    found = [
        comparison
        for result in results[params.report.selection].values()
        for metric, comparison in result.comparisons.items()
        if metric == "uar"
    ]
    if not found:
        return "There is nothing to compare with the reference yet."
    sizes = sorted(100 * comparison.detectable for comparison in found)
    low, high = f"{sizes[0]:.1f}", f"{sizes[-1]:.1f}"
    size = low if low == high else f"{low} to {high}"
    return (
        f"{POWER}: over {max(comparison.clips for comparison in found)} paired test clips, a true difference in UAR "
        f"of {size} points is found with 80 % probability by a single test at the 5 % level, before the correction; "
        "smaller ones often go unnoticed, and 'not significant' does not mean 'equal'. Intervals and tests are "
        "about the clips: they do not cover the chance of another training run; "
        + seeds_line(params, results, params.report.selection)
    )


def seeds_line(params: Params, results: Results, selection: str) -> str:
    """How far another training moves the numbers, as far as the seeds tell."""
    spreads = [result.seed_sd.get("uar") for result in results[selection].values()]
    sizes = sorted(100 * sd for sd in spreads if sd is not None)
    if not sizes:
        return "with one seed nothing is known of it."
    return (
        f"over {len(params.seeds)} seeds, the standard deviation of a variant's UAR is {sizes[0]:.1f} to "
        f"{sizes[-1]:.1f} points (median {median(sizes):.1f})."
    )


def selection_of(report: ReportParams) -> str:
    """The selection in print, for a caption."""
    return f"selection: {SELECTIONS[report.selection]}"


def caption_of(
    params: Params, experiment: Experiment, results: Results, title: str, what: str, where: str, published: bool = False
) -> str:
    """The caption of a table of rates: encoder, selection, what the spread and the intervals, ``where``, are over."""
    chosen = params.dataset(experiment.dataset)
    clips = max((result.clips for result in results[params.report.selection].values()), default=0)
    seeds = len(params.seeds)
    over = f"{len(experiment.folds)} folds" if len(experiment.folds) != 1 else "one fold, so without a deviation"
    seed_text = f", each the mean of {seeds} seeds" if seeds > 1 else ", one seed"
    level = f"{100 * params.report.confidence:g} %"
    return (
        f"{title} on {experiment.dataset}, {'published and ' if published else ''}measured here with "
        f"{chosen.encoder} features; {selection_of(params.report)}. {what} in percent: mean ± standard deviation over "
        f"{over}{seed_text}; {where}: {level} bootstrap intervals over {clips} test clips, stratified by fold."
    )


def records_of(params: Params, experiment: Experiment, results: Results, variants: list[str]) -> list[dict[str, Any]]:
    """Everything known of ``variants`` under every selection, as fractions in full precision."""
    records = []
    for variant in variants:
        for selection in SELECTIONS:
            result = results[selection][variant]
            record: dict[str, Any] = {
                "dataset": experiment.dataset,
                "row": params.variants[variant].label,
                "variant": variant,
                "origin": "measured",
                "selection": selection,
                "encoder": params.dataset(experiment.dataset).encoder,
                "folds": len(result.folds),
                "seeds": len(result.seeds),
                "clips": result.clips,
            }
            for metric in METRICS:
                estimate = getattr(result, metric)
                record |= spread(metric, estimate)
                record[f"{metric}_seed_sd"] = result.seed_sd.get(metric)
                record |= {f"{metric}_fold{fold}": estimate.per_fold.get(fold) for fold in experiment.folds}
                record |= compared_record(metric, result.comparisons.get(metric))
            for name in experiment.classes:
                record |= spread(name, result.recall.get(name, Estimate()))
            records.append(record | {"note": "; ".join(missing_notes(result))})
    return records


def measured_row(params: Params, variant: str, result: Result, cells: dict[str, Cell]) -> Row:
    """A row of what was measured here: with its gaps as notes, ranked only when it has none."""
    reference = variant == params.report.reference
    label = params.variants[variant].label
    notes = missing_notes(result)
    if result.measured and result.missing:
        # a fold may have some of its seeds
        absent = {run.fold for run in result.missing} - set(result.folds)
        over = f"over folds {', '.join(map(str, result.folds))} alone" if absent else "some folds over fewer seeds"
        notes.insert(0, f"incomplete, {over}; not ranked")
    return Row(label, "measured", cells, notes, result.measured and not result.missing, reference)
