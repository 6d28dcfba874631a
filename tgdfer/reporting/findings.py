"""What the numbers say in words, and what they were made from: the page's summary, its gaps and its provenance."""

from __future__ import annotations

from typing import Any

from tgdfer.config.params import Params
from tgdfer.reporting.report import Part
from tgdfer.reporting.wording import missing_notes, power_line
from tgdfer.runs.results import Run, ordered


def tiles(params: Params, part: Part) -> list[dict[str, str]]:
    """The reference variant's headline numbers."""
    result = part.results[params.report.selection][params.report.reference]
    made = []
    for name, estimate in (("UAR", result.uar), ("WAR", result.war)):
        if estimate.mean is None:
            made.append({"name": name, "value": "–", "detail": "no results yet"})
            continue
        interval = (
            "" if estimate.low is None else f"interval {100 * estimate.low:.1f} to {100 * (estimate.high or 0):.1f}"
        )
        spreads = ((estimate.sd, "folds"), (result.seed_sd.get(name.lower()), "seeds"))
        deviations = "".join(f"± {100 * sd:.1f} over {what}, " for sd, what in spreads if sd is not None)
        made.append({"name": name, "value": f"{100 * estimate.mean:.1f} %", "detail": deviations + interval})
    if part.relevance is not None:
        found = part.relevance[params.report.selection].get(params.report.reference)
        if found is not None and found.auroc.mean is not None:
            made.append(
                {
                    "name": "Frame relevance",
                    "value": f"{100 * found.auroc.mean:.1f} %",
                    "detail": "AUROC against the true intensity; chance is 50 %",
                }
            )
    finished = sum(run.problem is None for run in part.experiment.runs)
    whole = finished == len(part.experiment.runs)
    made.append(
        {
            "name": "Runs",
            "value": f"{finished} of {len(part.experiment.runs)}",
            "detail": "complete" if whole else "the others are listed below",
        }
    )
    return made


def findings(params: Params, part: Part) -> list[str]:
    """Sentences on the comparisons, the selection and what the data cannot tell."""
    results = part.results[params.report.selection]
    reference = params.variants[params.report.reference].label
    sentences = []
    measured = {name: result for name, result in results.items() if result.uar.mean is not None}
    whole = {name: result for name, result in measured.items() if not result.missing}
    chance = 100 / len(part.experiment.classes)
    if whole:
        best = max(whole, key=lambda name: whole[name].uar.mean or 0.0)
        among = "all variants" if len(whole) == len(results) else f"the {len(whole)} complete variants"
        sentences.append(
            f"Highest UAR of {among}: {params.variants[best].label}, {100 * (whole[best].uar.mean or 0):.1f} % "
            f"(chance is {chance:.1f} %)."
        )
    compared = [(name, result.comparisons["uar"]) for name, result in measured.items() if "uar" in result.comparisons]
    below = [(n, c) for n, c in compared if c.significant and c.difference < 0]
    above = [(n, c) for n, c in compared if c.significant and c.difference > 0]
    for word, group in (("below", below), ("above", above)):
        if group:
            group.sort(key=lambda entry: -abs(entry[1].difference))
            listed = ", ".join(f"{params.variants[n].label} ({_signed(c.difference)})" for n, c in group[:6])
            more = f" and {len(group) - 6} more" if len(group) > 6 else ""
            sentences.append(f"Significantly {word} {reference} in UAR, in points: {listed}{more}.")
    open_ = [name for name, comparison in compared if not comparison.significant]
    if open_:
        listed = ", ".join(params.variants[name].label for name in open_[:6])
        more = f" and {len(open_) - 6} more" if len(open_) > 6 else ""
        sentences.append(f"Not told apart from {reference} by these data: {listed}{more}.")
    last, custom = (part.results[name][params.report.reference] for name in ("last", "best_test"))
    if last.uar.mean is not None and custom.uar.mean is not None and last.folds == custom.folds:
        sentences.append(
            f"Choosing the epoch on the test fold, the literature's custom, would change the UAR of {reference} by "
            f"{_signed(custom.uar.mean - last.uar.mean)} points without any better model."
        )
    if found := _against_simple(params, part):
        sentences.append(found)
    if compared:
        sentences.append(power_line(params, part.results))
    return sentences


def _against_simple(params: Params, part: Part) -> str | None:
    """The reference's relevance beside the best ranking of the frames for which nothing was trained."""
    known = (part.relevance or {}).get(params.report.selection, {})
    reference = known.get(params.report.reference)
    simple = {
        name: found for name, found in known.items() if name not in params.variants and found and found.comparison
    }
    if not simple or reference is None:
        return None
    name, best = max(simple.items(), key=lambda entry: entry[1].auroc.mean or 0)
    assert best.comparison is not None
    verdict = "worse than" if best.comparison.difference > 0 else "better than"
    if not best.comparison.significant:
        verdict = "not told apart from"
    return (
        f"The frame relevance of {params.variants[params.report.reference].label} (AUROC "
        f"{100 * (reference.auroc.mean or 0):.1f} %) is {verdict} the best ranking without training, {name} "
        f"({100 * (best.auroc.mean or 0):.1f} %)."
    )


def _signed(difference: float) -> str:
    return f"{100 * difference:+.1f}".replace("-", "−")


def missing(params: Params, part: Part) -> list[tuple[str, list[str]]]:
    """Variants that lack runs, with what they lack."""
    results = part.results[params.report.selection]
    return [(params.variants[name].label, missing_notes(result)) for name, result in results.items() if result.missing]


def run_line(run: Run, params: Params) -> dict[str, Any]:
    """One run in the list of runs."""
    outcome = run.outcomes.get(params.report.selection)
    git = run.info.get("git") or {}
    commit = git.get("commit") or ""
    return {
        "variant": run.variant,
        "fold": run.fold,
        "seed": run.seed,
        "uar": f"{100 * outcome.metrics['uar']:.2f}" if outcome else "–",
        "war": f"{100 * outcome.metrics['war']:.2f}" if outcome else "–",
        "clips": len(outcome.label) if outcome else "–",
        "revision": commit[:10] + (" + changes" if git.get("dirty") else "") if commit else "–",
        "fingerprint": str(run.info.get("fingerprint") or "–")[:12],
        "problem": run.problem or "",
        "folder": run.folder.as_posix(),
    }


def provenance(parts: list[Part]) -> dict[str, list[str]]:
    """What the runs were made from: the distinct answers, most often one each."""
    made: dict[str, list[str]] = {"Code revision": [], "Python and libraries": [], "Hardware": [], "Encoder": []}
    for part in parts:
        for run in part.experiment.runs:
            if run.problem is not None or not run.info:
                continue
            git, versions, hardware = (run.info.get(key) or {} for key in ("git", "versions", "hardware"))
            commit = git.get("commit") or "unknown (not in a git repository)"
            made["Code revision"].append(commit + (" with uncommitted changes" if git.get("dirty") else ""))
            made["Python and libraries"].append(
                ", ".join(f"{name} {value}" for name, value in sorted(versions.items()))
            )
            gpus = ", ".join(hardware.get("gpus") or []) or "no GPU"
            made["Hardware"].append(f"{hardware.get('machine')}, {hardware.get('cpus')} CPUs, {gpus}")
            for what, value in sorted((run.info.get("inputs") or {}).items()):
                if value == "none":
                    continue  # a variant that does not use it
                made.setdefault(f"{part.experiment.dataset}: fingerprint of {what}", []).append(str(value))
        facts = part.experiment.facts
        fingerprint = str(facts.get("encoder_fingerprint") or "")[:16]
        made["Encoder"].append(f"{facts['encoder']}" + (f" ({fingerprint}…)" if fingerprint else ""))
    return {name: ordered(values) for name, values in made.items() if values}
