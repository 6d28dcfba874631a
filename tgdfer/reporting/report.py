"""Everything about one data set, from its run files to its tables."""

from __future__ import annotations

from pathlib import Path

from tgdfer.config.params import Params
from tgdfer.core import paths
from tgdfer.evaluation.protocol import SELECTIONS
from tgdfer.reporting import relevance
from tgdfer.reporting.analysis import analyse
from tgdfer.reporting.part import Part
from tgdfer.reporting.rankings import rankings
from tgdfer.reporting.tables import make_tables
from tgdfer.runs.results import collect


def build(params: Params, dataset: str) -> Part:
    """Collect, analyse and tabulate ``dataset``."""
    experiment, variants = collect(params, dataset), list(params.variants)
    part = Part(params, experiment, {name: analyse(experiment, variants, name, params.report) for name in SELECTIONS})
    truth = params.dataset(dataset).truth
    if truth is not None and Path(truth).exists():
        part.truth = relevance.read_truth(Path(truth))
        caches = {run.info["inputs"]["features"] for run in experiment.runs if "features" in run.info.get("inputs", {})}
        manifest = paths.features(dataset, params.dataset(dataset).encoder)
        untrained = rankings(manifest, caches, experiment.problems)
        part.relevance = relevance.evaluate(experiment, variants, part.truth, params.report, untrained)
    elif truth is not None:
        experiment.problems.append(f"{truth} is missing: relevance is not compared with the truth")
    part.tables = make_tables(part)
    return part
