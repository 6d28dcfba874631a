"""Phrases that tables, figures and the page share: captions, notes on missing runs, what the data cannot show."""

from collections.abc import Iterable
from statistics import median

from tgdfer.core import paths
from tgdfer.evaluation.protocol import SELECTIONS
from tgdfer.reporting.analysis import Result
from tgdfer.reporting.part import Part

POWER = "What these data can show"


def missing_notes(result: Result) -> list[str]:
    """The runs without results and why; runs with the same reason together."""
    by_reason: dict[str, list[str]] = {}
    for run in result.missing:
        by_reason.setdefault(run.problem or f"has no selection {result.selection}", []).append(run.name)
    return [
        f"{'; '.join(names) if len(names) <= 6 else f'{len(names)} runs'}: {reason}"
        for reason, names in by_reason.items()
    ]


def stale_line(part: Part, variants: Iterable[str | None]) -> str | None:
    """Which of ``variants`` have results that are not current, why, and how to train them again."""
    stale = {name: reasons for name, reasons in part.experiment.stale().items() if name in set(variants)}
    if not stale:
        return None
    by_reason: dict[str, list[str]] = {}
    for name, reasons in stale.items():
        by_reason.setdefault("; ".join(reasons), []).append(part.label(name))
    listed = "; ".join(f"{', '.join(labels)} ({reason})" for reason, labels in by_reason.items())
    names = next(iter(stale)) if len(stale) == 1 else f"{{{','.join(stale)}}}"
    target = paths.variant(part.dataset, names)
    return f"Not current: {listed}. To train again: {paths.SNAKEMAKE} {target}"


def power_line(part: Part) -> str:
    """What the data can and cannot show."""
    found = [result.comparisons["uar"] for result in part.shown.values() if "uar" in result.comparisons]
    sizes = [f"{100 * size:.1f}" for size in sorted(comparison.detectable for comparison in found)]
    size = sizes[0] if sizes[0] == sizes[-1] else f"{sizes[0]} to {sizes[-1]}"
    return (
        f"{POWER}: over {max(comparison.clips for comparison in found)} paired test clips, a single test at the 5 % "
        f"level, before the correction, finds a true difference in UAR of {size} points with 80 % probability; it "
        "often misses smaller ones, and 'not significant' does not mean 'equal'. Intervals and tests are about the "
        f"clips: they do not cover the chance of another training run; {seeds_line(part)}"
    )


def seeds_line(part: Part) -> str:
    """How far another training moves the numbers, as far as the seeds show."""
    sizes = sorted(100 * sd for r in part.shown.values() if (sd := r.seed_sd.get("uar", 0)) >= 0 and r.seed_sd)
    if not sizes:
        return "one seed shows nothing about it."
    return (
        f"over {len(part.params.seeds)} seeds, the standard deviation of a variant's UAR is {sizes[0]:.1f} to "
        f"{sizes[-1]:.1f} points (median {median(sizes):.1f})."
    )


def selection_of(part: Part) -> str:
    """The selection in print, for a caption."""
    return f"selection: {SELECTIONS[part.selection]}"


def caption_of(part: Part, title: str, what: str, where: str, published: bool = False) -> str:
    """The caption of a table of rates: encoder, selection, and what spread and intervals (printed ``where``) cover."""
    clips = max((result.clips for result in part.shown.values()), default=0)
    folds, seeds = len(part.experiment.folds), len(part.params.seeds)
    over = f"{folds} folds" if folds != 1 else "one fold, so without a deviation"
    seed_text = f", each the mean of {seeds} seeds" if seeds > 1 else ", one seed"
    return (
        f"{title} on {part.dataset}, {'published and ' if published else ''}measured here with "
        f"{part.params.dataset(part.dataset).encoder} features; {selection_of(part)}. {what} in percent: mean ± "
        f"standard deviation over {over}{seed_text}; {where}: {part.level} bootstrap intervals over {clips} test "
        "clips, stratified by fold."
    )
