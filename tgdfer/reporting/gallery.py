"""Which figures a data set gets, and their captions."""

from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure

from tgdfer.core import plots
from tgdfer.evaluation.protocol import SELECTIONS
from tgdfer.reporting import figures, low_shot, maps, strips
from tgdfer.reporting.part import Part, Picture


def make_figures(part: Part, folder: Path) -> list[Picture]:
    """Draw and save the figures of one data set."""
    pictures = []
    with plots.style():
        for name, title, caption, figure in _figures(part):
            if figure is not None:
                file = f"{name}-{part.dataset}"
                figures.save(figure, folder, file)
                pictures.append(Picture(file, title, caption, photographs=name == "strips"))
    return pictures


def _figures(part: Part) -> Iterator[tuple[str, str, str, Figure | None]]:
    """Name, title, caption and figure; None for a figure that would show nothing."""
    if not any(result.measured for result in part.shown.values()):
        return
    dataset, label = part.dataset, part.label(part.reference)
    protocol = f"Selection: {SELECTIONS[part.selection]}."
    main = [variant for variant in part.rows("main") if part.shown[variant].measured] or [part.reference]
    yield (
        "ablation",
        "All variants",
        f"UAR of every variant on {dataset} with {part.level} bootstrap intervals over clips, and the paired "
        f"difference to {label}; filled dots differ from it at the 5 % level after Holm's correction. {protocol}",
        figures.ablation(part),
    )
    yield (
        "recall",
        "Recall per class",
        f"Recall of every class on {dataset}, mean over folds with {part.level} bootstrap intervals over clips. "
        f"{protocol}",
        figures.recall(part, main),
    )
    yield (
        "confusion",
        f"Confusion matrices of {label}",
        f"{label} on {dataset}: rows are the true classes, columns the predictions, in percent of the row. {protocol}",
        figures.confusion(part),
    )
    yield (
        "curves",
        "Learning curves",
        f"Training loss and test UAR by epoch on {dataset}: mean over runs, the band from the lowest to the highest "
        "run. No epoch is selected on the test curves, unless the caption of a table says so.",
        figures.curves(part, main),
    )
    over_seeds = ", mean over seeds" if len(part.params.seeds) > 1 else ""
    yield (
        "reliability",
        f"Reliability of {label}",
        f"How often {label} is right on {dataset}, given its confidence: accuracy in bins of confidence with Wilson's "
        f"95 % intervals, and the number of test clips in each bin{over_seeds}. {protocol}",
        figures.reliability(part),
    )
    yield (
        "low-shot",
        low_shot.TITLE,
        f"{label} and other variants on {dataset}, trained on fractions of the training clips, with {part.level} "
        f"bootstrap intervals over clips. {low_shot.explained(part)} {protocol}",
        low_shot.low_shot(part),
    )
    yield (
        "relevance",
        "Frame relevance against the truth",
        f"Whether the frames that a variant finds relevant are the expressive ones on {dataset}, with {part.level} "
        f"intervals; the dashed line is chance. {protocol}",
        figures.relevance_measured(part),
    )
    yield (
        "features",
        f"Label and frame features of {label}",
        f"t-SNE maps of one run of {label} on {dataset}, last epoch. Stars: label features before the visual prompt; "
        "dots: the same features enriched for each of some test clips. Right: frames of these clips, coloured by the "
        "class of the clip, though most of a clip may be neutral. Neighbours mean something, distances between groups "
        "do not.",
        maps.draw(part.experiment, part.reference),
    )
    truth = " The line is the true intensity of the expression, which no model has seen." if part.truth else ""
    yield (
        "strips",
        "Relevance along clips",
        f"Test clips of the first run, classified right and wrong by {label}, the one of median confidence in its "
        "class: bars are the relevance of each frame of the bag (numbers: frame in the source; dashed: all frames "
        f"equally relevant).{truth} {protocol}",
        strips.draw(part.experiment, part.reference, part.selection, part.truth),
    )
