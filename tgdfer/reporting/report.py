"""All that is known of one data set, ready to be printed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tgdfer.config.params import Params
from tgdfer.core import paths
from tgdfer.evaluation.protocol import SELECTIONS
from tgdfer.reporting import relevance
from tgdfer.reporting.analysis import analyse
from tgdfer.reporting.figures import Picture
from tgdfer.reporting.layout import Results, Table
from tgdfer.reporting.rankings import rankings
from tgdfer.reporting.relevance import Relevance, Truth
from tgdfer.reporting.tables import make_tables
from tgdfer.runs.results import Experiment, collect


@dataclass
class Part:
    """The report on one data set."""

    experiment: Experiment
    results: Results
    relevance: dict[str, dict[str, Relevance | None]] | None
    truth: Truth | None
    tables: list[Table]
    pictures: list[Picture] = field(default_factory=list)


def build(params: Params, dataset: str) -> Part:
    """Collect, analyse and tabulate ``dataset``."""
    experiment = collect(params, dataset)
    results = {
        selection: analyse(experiment, list(params.variants), selection, params.report) for selection in SELECTIONS
    }
    truth, found = None, None
    path = params.dataset(dataset).truth
    if path is not None and not Path(path).exists():
        experiment.problems.append(f"{path} is missing: relevance is not compared with the truth")
    elif path is not None:
        truth = relevance.read_truth(Path(path))
        caches = {run.info["inputs"]["features"] for run in experiment.runs if "features" in run.info.get("inputs", {})}
        manifest = paths.features(dataset, params.dataset(dataset).encoder)
        simple = rankings(manifest, caches, experiment.problems)
        found = relevance.evaluate(experiment, list(params.variants), truth, params.report, simple)
    return Part(experiment, results, found, truth, make_tables(params, experiment, results, found))
