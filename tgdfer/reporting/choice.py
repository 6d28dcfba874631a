"""Which variant of a table would have been chosen without looking at the test folds."""

from collections import Counter
from statistics import fmean

from tgdfer.reporting.part import Part


def inner_choice(part: Part, table: str) -> str | None:
    """Which variant each fold would have chosen by UAR on its inner validation split, and its UAR on the test folds.

    The UAR after the last epoch counts, averaged over seeds. None unless at least two variants of the table, the
    reference among them, have validated every run. Tables of components or of other models offer no choice.
    """
    about = part.params.report.tables[table]
    if about.ticks or "model.architecture" in about.columns:
        return None
    validated: dict[str, list[float]] = {}
    tested: dict[str, list[float]] = {}
    for name in part.rows(table):
        if found := _by_fold(part, name):
            validated[name], tested[name] = found
    if len(validated) < 2 or part.reference not in validated:
        return None
    chosen = [max(validated, key=lambda name: validated[name][f]) for f in range(len(part.experiment.folds))]
    uar = fmean(tested[name][f] for f, name in enumerate(chosen))
    counted = "; ".join(f"{part.label(name)} ({n})" for name, n in Counter(chosen).most_common())
    return (
        "Chosen by UAR on the inner validation split (last epoch; number of folds in parentheses): "
        f"{counted}. UAR of that choice on the test folds: {100 * uar:.1f} %, of {part.label(part.reference)}: "
        f"{100 * fmean(tested[part.reference]):.1f} %."
    )


def _by_fold(part: Part, variant: str) -> tuple[list[float], list[float]] | None:
    """The variant's UAR on the inner validation splits and on the test folds; None if a run has no validation."""
    validated: dict[int, list[float]] = {fold: [] for fold in part.experiment.folds}
    tested: dict[int, list[float]] = {fold: [] for fold in part.experiment.folds}
    for run in part.experiment.of(variant):
        last = (run.history() or [{}])[-1] if run.problem is None else {}
        if "val_uar" not in last or "last" not in run.outcomes:
            return None
        validated[run.key.fold].append(last["val_uar"])
        tested[run.key.fold].append(run.outcomes["last"].metrics["uar"])
    if not tested:
        return None
    return [fmean(seeds) for seeds in validated.values()], [fmean(seeds) for seeds in tested.values()]
