"""Which figures a data set gets, and what stands under them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure

from tgdfer.config.params import Params
from tgdfer.core import plots
from tgdfer.evaluation.protocol import SELECTIONS
from tgdfer.reporting import figures, maps, strips
from tgdfer.reporting.figures import Picture
from tgdfer.reporting.report import Part
from tgdfer.reporting.wording import variants_of


def make_figures(params: Params, part: Part, folder: Path) -> list[Picture]:
    """Draw and save the figures of one data set."""
    pictures = []
    with plots.style():
        for name, title, caption, figure, photographs in _figures(params, part):
            if figure is None:
                continue
            file = f"{name}-{part.experiment.dataset}"
            figures.save(figure, folder, file)
            pictures.append(Picture(file, part.experiment.dataset, title, caption, photographs))
    return pictures


def _figures(params: Params, part: Part) -> Iterator[tuple[str, str, str, Figure | None, bool]]:
    experiment, selection = part.experiment, params.report.selection
    results, dataset = part.results[selection], part.experiment.dataset
    reference = params.report.reference
    label = params.variants[reference].label
    level = f"{100 * params.report.confidence:g} %"
    over_seeds = ", mean over seeds" if len(params.seeds) > 1 else ""
    protocol = f"Selection: {SELECTIONS[selection]}."
    if not any(result.measured for result in results.values()):
        return
    yield (
        "ablation",
        "All variants",
        f"UAR of every variant on {dataset} with {level} bootstrap intervals over clips, and the paired difference to "
        f"{label}; filled "
        f"dots differ from it at the 5 % level after Holm's correction. {protocol}",
        figures.ablation(params, results, list(params.variants)),
        False,
    )
    main = [variant for variant in variants_of(params, "main") if results[variant].measured] or [reference]
    yield (
        "recall",
        "Recall per class",
        f"Recall of every class on {dataset}, mean over folds with {level} bootstrap intervals over clips. {protocol}",
        figures.recall(params, experiment, results, main),
        False,
    )
    if results[reference].measured:
        yield (
            "confusion",
            f"Confusion matrices of {label}",
            f"{label} on {dataset}: rows are the true classes, columns the predictions, in percent of the row. "
            f"{protocol}",
            figures.confusion(experiment, reference, selection),
            False,
        )
    yield (
        "curves",
        "Learning curves",
        f"Training loss and test UAR by epoch on {dataset}: mean over runs, the band from the lowest to the highest "
        "run. The test curves are shown, not selected on, unless the caption of a table says so.",
        figures.curves(params, experiment, main),
        False,
    )
    yield (
        "reliability",
        f"Reliability of {label}",
        f"How often {label} is right when it says so on {dataset}: accuracy in bins of confidence with Wilson's "
        f"95 % intervals, and the number of test clips in each bin{over_seeds}. {protocol}",
        figures.reliability(experiment, reference, selection),
        False,
    )
    if part.relevance is not None:
        yield (
            "relevance",
            "Frame relevance against the truth",
            f"Whether the frames that a variant finds relevant are the expressive ones on {dataset}, with {level} "
            f"intervals; the dashed line is chance. {protocol}",
            figures.relevance_measured(params, part.relevance[selection]),
            False,
        )
    yield (
        "features",
        f"Label and frame features of {label}",
        f"t-SNE maps of one run of {label} on {dataset}, last epoch. Stars: label features before the visual prompt; "
        "dots: the same enriched for each of some test clips. Right: frames of these clips, coloured by the class of "
        "the clip, though most of a clip may be neutral. Neighbours mean something, distances between groups do not.",
        maps.draw(experiment, reference),
        False,
    )
    truth = " The line is the true intensity of the expression, which no model has seen." if part.truth else ""
    yield (
        "strips",
        "Relevance along clips",
        f"Test clips of the first run that {label} gets right and wrong, the one of median confidence in its class: "
        "bars are the relevance of each frame of the bag (numbers: frame in the source; dashed: all frames "
        f"alike).{truth} {protocol}",
        strips.draw(experiment, reference, selection, part.truth),
        True,
    )
