"""Everything about one data set, from its run files to its tables."""

from pathlib import Path

from tgdfer.config.params import Params
from tgdfer.core import paths
from tgdfer.core.errors import UserError
from tgdfer.evaluation.protocol import SELECTIONS
from tgdfer.reporting import relevance
from tgdfer.reporting.analysis import analyse
from tgdfer.reporting.gains import gains
from tgdfer.reporting.part import Part
from tgdfer.reporting.rankings import rankings
from tgdfer.reporting.tables import make_tables
from tgdfer.reporting.transfer import transfer_table
from tgdfer.runs.results import collect


def build(params: Params, dataset: str) -> Part:
    """Collect, analyse and tabulate ``dataset``."""
    experiment, variants = collect(params, dataset), list(params.variants)
    part = Part(params, experiment, {name: analyse(experiment, variants, name, params.report) for name in SELECTIONS})
    part.gains = {name: gains(params, experiment, name) for name in SELECTIONS}
    part.truth = _truth(params.dataset(dataset).truth, experiment.problems)
    if part.truth is not None:
        caches = {run.info["inputs"]["features"] for run in experiment.runs if "features" in run.info.get("inputs", {})}
        manifest = paths.features(dataset, params.dataset(dataset).encoder)
        untrained = rankings(manifest, caches, experiment.problems)
        part.relevance = relevance.evaluate(experiment, variants, part.truth, params.report, untrained)
    part.tables = make_tables(part)
    if params.transfer and dataset == next(iter(params.datasets)):
        part.tables.append(transfer_table(params))
    return part


def _truth(path: str | None, problems: list[str]) -> relevance.Truth | None:
    """The true intensity; None if it is not known, or if the table cannot be read, which is added to ``problems``."""
    try:
        return relevance.read_truth(Path(path)) if path else None
    except UserError as error:
        problems.append(f"relevance is not compared with the truth: {error}")
        return None
