"""Which variant the inner validation splits prefer: the choice of settings that no test fold has a part in."""

import statistics

from tgdfer.config.params import Params
from tgdfer.core.errors import UserError
from tgdfer.runs.results import Experiment, collect


def tune(params: Params, dataset: str) -> str:
    """The finished variants of ``dataset`` by their UAR on the inner validation splits, and the choice.

    The UAR after the last epoch counts, averaged over folds and seeds. Variants that lack a run are left out.

    Raises:
        UserError: fewer than two variants have all their runs, or their runs have no inner validation split.
    """
    experiment = collect(params, dataset)
    found = {name: uar for name in params.variants if (uar := _validated(experiment, name))}
    if len(found) < 2:
        raise UserError(
            f"runs/{dataset}: {len(found)} variants have all their runs with an inner validation split; expected two "
            "or more: run `make grid` with training.validation_fraction above 0"
        )
    ranked = sorted(found, key=lambda name: -statistics.fmean(found[name]))
    best = ranked[0]
    lines = [
        f"{dataset}: UAR on the inner validation splits after the last epoch, in percent, over "
        f"{len(experiment.folds)} folds and {len(params.seeds)} seeds; behind it the difference to the best variant "
        "and its standard error over folds and seeds"
    ]
    ties = []
    for name in ranked:
        differences = [a - b for a, b in zip(found[name], found[best], strict=True)]
        line = f"{100 * statistics.fmean(found[name]):6.1f}  {name}"
        if name != best:
            mean = statistics.fmean(differences)
            error = statistics.stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else 0.0
            line += f"  {100 * mean:+.1f} ± {100 * error:.1f}"
            ties += [name] if mean + error >= 0 else []
        lines.append(line)
    changes = params.variants[best].set.model_dump(exclude_defaults=True) or "the defaults of params.yaml"
    lines.append(f"best: {best} ({changes})")
    if ties:
        lines.append(f"within one standard error of it: {', '.join(ties)}")
    return "\n".join(lines)


def _validated(experiment: Experiment, variant: str) -> list[float]:
    """The UAR on the inner validation split of every run of ``variant``; empty if one has none."""
    last = [(run.history() or [{}])[-1] if run.problem is None else {} for run in experiment.of(variant)]
    return [row["val_uar"] for row in last] if all("val_uar" in row for row in last) else []
