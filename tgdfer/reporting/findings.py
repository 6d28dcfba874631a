"""What the numbers mean in words: the summary of the page, and what is missing or not current."""

from collections.abc import Mapping

from tgdfer.reporting.analysis import Comparison
from tgdfer.reporting.part import Part
from tgdfer.reporting.wording import missing_notes, power_line, stale_line

LISTED = 6
"""How many variants a sentence names before it counts the others."""


def tiles(part: Part) -> list[dict[str, str]]:
    """The headline numbers of the reference variant."""
    result = part.shown[part.reference]
    made = []
    for name, estimate in (("UAR", result.uar), ("WAR", result.war)):
        if not estimate.known:
            made.append({"name": name, "value": "–", "detail": "no results yet"})
            continue
        spreads = ((estimate.sd, "folds"), (result.seed_sd[name.lower()], "seeds"))
        details = [f"± {100 * sd:.1f} over {what}" for sd, what in spreads if sd == sd]
        details.append(f"interval {100 * estimate.low:.1f} to {100 * estimate.high:.1f}")
        made.append({"name": name, "value": f"{100 * estimate.mean:.1f} %", "detail": ", ".join(details)})
    found = (part.relevance or {}).get(part.selection, {}).get(part.reference)
    if found is not None and found.auroc.known:
        detail = "AUROC against the true intensity; chance is 50 %"
        made.append({"name": "Frame relevance", "value": f"{100 * found.auroc.mean:.1f} %", "detail": detail})
    runs = part.experiment.runs
    finished = sum(run.problem is None for run in runs)
    detail = "complete" if finished == len(runs) else "the others are listed below"
    return [*made, {"name": "Runs", "value": f"{finished} of {len(runs)}", "detail": detail}]


def findings(part: Part, listed: int = LISTED) -> list[str]:
    """Sentences on the comparisons, the selection, and what the data cannot show."""
    reference = part.label(part.reference)
    sentences = []
    measured = {name: result for name, result in part.shown.items() if result.measured}
    whole = {name: result for name, result in measured.items() if not result.missing}
    if whole:
        best = max(whole, key=lambda name: whole[name].uar.mean)
        among = "all variants" if len(whole) == len(part.shown) else f"the {len(whole)} complete variants"
        chance = 100 / len(part.tested)
        sentences.append(
            f"Highest UAR of {among}: {part.label(best)}, {100 * whole[best].uar.mean:.1f} % "
            f"(chance is {chance:.1f} %)."
        )
    compared = {name: result.comparisons["uar"] for name, result in measured.items() if result.comparisons}
    sentences += _against_reference(part, "UAR", compared, listed)
    last, best_test = (part.results[name][part.reference] for name in ("last", "best_test"))
    if last.uar.known and last.folds == best_test.folds:
        sentences.append(
            "Choosing the epoch on the test fold, as is common in the literature, would change the UAR of "
            f"{reference} by {_signed(best_test.uar.mean - last.uar.mean)} points without a better model."
        )
    known = (part.relevance or {}).get(part.selection, {})
    ranked = {name: found for name, found in known.items() if found and found.comparison}
    untrained = {name: found for name, found in ranked.items() if name not in part.params.variants}
    if own := known.get(part.reference):
        sentences += _against_reference(
            part, "frame relevance (AUROC)", {name: r.comparison for name, r in ranked.items() if r.comparison}, listed
        )
        if untrained:
            name, best_ranking = max(untrained.items(), key=lambda entry: entry[1].auroc.mean)
            sentences.append(
                f"The best ranking of the frames without training is {name}: AUROC "
                f"{100 * best_ranking.auroc.mean:.1f} %, that of {reference} is {100 * own.auroc.mean:.1f} %."
            )
    if compared:
        sentences.append(power_line(part))
    return sentences


def _against_reference(part: Part, what: str, compared: Mapping[str, Comparison], listed: int) -> list[str]:
    """Which variants differ from the reference significantly, the largest differences first, and which do not."""
    reference, sentences = part.label(part.reference), []
    order = sorted(compared, key=lambda name: -abs(compared[name].difference))
    for word, sign in (("below", -1), ("above", 1)):
        group = [name for name in order if compared[name].significant and sign * compared[name].difference > 0]
        if group:
            names = [f"{part.label(name)} ({_signed(compared[name].difference)})" for name in group]
            sentences.append(f"Significantly {word} {reference} in {what}, in points: {_list(names, listed)}.")
    if group := [part.label(name) for name in compared if not compared[name].significant]:
        sentences.append(f"No significant difference to {reference} in {what}: {_list(group, listed)}.")
    return sentences


def _list(names: list[str], listed: int) -> str:
    return ", ".join(names[:listed]) + (f" and {len(names) - listed} more" if len(names) > listed else "")


def _signed(difference: float) -> str:
    return f"{100 * difference:+.1f}".replace("-", "−")


def gaps(part: Part) -> list[str]:
    """What is missing or not current, a line each."""
    lacking = [f"{part.label(name)}: {'; '.join(missing_notes(r))}" for name, r in part.shown.items() if r.missing]
    stale = stale_line(part, part.shown)
    return [*part.experiment.problems, *lacking, *([stale] if stale else [])]
