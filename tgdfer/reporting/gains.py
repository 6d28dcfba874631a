"""The gain of the reference over other variants, by the fraction of the training clips."""

from dataclasses import dataclass, replace

import numpy as np

from tgdfer.config.params import Params
from tgdfer.evaluation.statistics import holm
from tgdfer.reporting.analysis import Comparison, Result, analyse
from tgdfer.runs.results import Experiment, Outcome

RARE = 2 / 3
"""A class is rare if it has fewer clips than this times an equal share."""


@dataclass(frozen=True)
class Gain:
    """The reference and another variant, both trained on the same fraction of the clips."""

    fraction: float
    clips: float
    """Training clips, mean over the reference's runs."""
    reference: dict[str, Result]
    """Over all classes (``all``), and over the rare ones (``rare``) if there are any."""
    other: dict[str, Result]
    difference: dict[str, Comparison]
    """The reference minus the other in UAR, corrected for all gains of the data set."""


def curves(params: Params) -> list[dict[float, str]]:
    """Variants that differ only in ``training.fraction``, by fraction; the reference's come first.

    Empty where the reference has only one fraction.
    """
    groups: dict[str, dict[float, str]] = {}
    for variant in params.variants:
        run = params.run(variant)
        whole = run.model_copy(update={"training": run.training.model_copy(update={"fraction": 1.0})})
        groups.setdefault(whole.model_dump_json(), {}).setdefault(run.training.fraction, variant)
    several = [curve for curve in groups.values() if len(curve) > 1]
    several.sort(key=lambda curve: params.report.reference not in curve.values())
    return several if several and params.report.reference in several[0].values() else []


def rare_classes(experiment: Experiment) -> list[int]:
    """The numbers of the classes with fewer than two thirds of an equal share of the test clips."""
    clips = experiment.clips()
    return np.flatnonzero(clips < RARE * clips.sum() / len(clips)).tolist()


def gains(params: Params, experiment: Experiment, selection: str) -> dict[str, list[Gain]]:
    """The gains over every other curve, keyed by its variant with the most clips, at the fractions that both have."""
    own, *others = curves(params) or [{}]
    rare = rare_classes(experiment)
    seen = {"all": experiment} | ({"rare": _only(experiment, rare)} if rare else {})
    found: dict[str, list[Gain]] = {}
    for curve in others:
        for fraction in sorted(own.keys() & curve.keys()):
            first, second = own[fraction], curve[fraction]
            report = params.report.model_copy(update={"reference": second})
            results = {over: analyse(some, [first, second], selection, report) for over, some in seen.items()}
            trained = [run.metrics["n_train"] for run in experiment.finished(first)]
            found.setdefault(curve[max(curve)], []).append(
                Gain(
                    fraction,
                    float(np.mean(trained)) if trained else float("nan"),
                    {over: result[first] for over, result in results.items()},
                    {over: result[second] for over, result in results.items()},
                    {over: c for over, result in results.items() if (c := result[first].comparisons.get("uar"))},
                )
            )
    every = [(gain, over) for listed in found.values() for gain in listed for over in gain.difference]
    for (gain, over), p in zip(every, holm([gain.difference[over].p for gain, over in every]), strict=True):
        gain.difference[over] = replace(gain.difference[over], p_holm=p)
    return found


def _only(experiment: Experiment, classes: list[int]) -> Experiment:
    """``experiment`` with the test clips of ``classes`` only: its UAR is the mean recall of these classes."""
    runs = []
    for run in experiment.runs:
        outcomes: dict[str, Outcome] = {}
        for name, outcome in run.outcomes.items():
            kept = np.isin(outcome.label, classes)
            arrays = {key: getattr(outcome, key)[kept] for key in ("clip_id", "label", "prediction", "confidence")}
            outcomes |= {name: replace(outcome, **arrays)} if kept.any() else {}
        runs.append(replace(run, outcomes=outcomes))
    return replace(experiment, runs=runs)
