"""Figures as PNG and PDF, the same bytes every time, in colours that colour-blind readers tell apart."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tgdfer.core.plots import COLOURS, GREY
from tgdfer.core.storage import atomic
from tgdfer.evaluation.metrics import CALIBRATION_BINS
from tgdfer.evaluation.statistics import mean_of_known
from tgdfer.reporting.analysis import Estimate
from tgdfer.reporting.part import Part
from tgdfer.reporting.rankings import CHANCE

MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def spaced(count: int, most: int) -> np.ndarray:
    """At most ``most`` of the places 0 to ``count`` - 1, evenly spaced, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write ``name``.png and ``name``.pdf without dates or versions, so that the same figure has the same bytes."""
    for suffix, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None, "Producer": None})):
        with atomic(folder / f"{name}.{suffix}") as part:
            figure.savefig(part, format=suffix, metadata=metadata, dpi=144, facecolor="white")
        figure.set_layout_engine(None)  # once the layout is computed it need not be computed again


def confusion(part: Part) -> Figure | None:
    """The reference, a panel per fold and one for their mean: rows are true classes, cells percent of the row.

    A class without test clips has no row, and a column only where it was predicted.
    """
    classes = part.experiment.classes
    size = len(classes)
    counts = dict.fromkeys(part.experiment.folds, np.zeros((size, size)))
    for run in part.experiment.finished(part.reference):
        if outcome := run.outcomes.get(part.selection):
            counts[run.key.fold] = counts[run.key.fold] + np.array(outcome.metrics["confusion"])
    total = sum(counts.values(), np.zeros((size, size)))
    rows_of = [c for c in range(size) if classes[c] in part.tested]
    columns_of = [c for c in range(size) if c in rows_of or total[:, c].any()]
    names = [[classes[c] for c in places] for places in (rows_of, columns_of)]
    shares = {fold: _row_shares(one[np.ix_(rows_of, columns_of)]) for fold, one in counts.items() if one.any()}
    if not shares:
        return None
    rows = (len(counts) + 1 + 2) // 3
    cell = 2.55 if size <= 8 else 3.3
    figure = Figure(figsize=(3 * cell, rows * cell), layout="constrained")
    axes = figure.subplots(rows, 3, squeeze=False).ravel()
    for axis, fold in zip(axes, counts, strict=False):
        _matrix(axis, shares.get(fold), names, f"Fold {fold}")
    mean = mean_of_known(np.array(list(shares.values())))
    title = f"Mean of {len(shares)} folds" if len(counts) > 1 else "Mean (one fold)"
    _matrix(axes[len(counts)], mean, names, title)
    for axis in axes[len(counts) + 1 :]:
        axis.axis("off")
    return figure


def _row_shares(counts: np.ndarray) -> np.ndarray:
    total = counts.sum(axis=1, keepdims=True)
    return np.where(total > 0, 100 * counts / np.maximum(total, 1), np.nan)


def _matrix(axis: Axes, share: np.ndarray | None, names: list[list[str]], title: str) -> None:
    axis.set_title(title, fontweight="bold" if title.startswith("Mean") else "normal")
    if share is None:
        axis.axis("off")
        axis.text(0.5, 0.5, "no results", ha="center", va="center", transform=axis.transAxes, color=GREY)
        return
    axis.imshow(share, cmap="Blues", vmin=0, vmax=100)
    rows, columns = names
    axis.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor", fontsize=7)
    axis.set_yticks(range(len(rows)), rows, fontsize=7)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    small = 6.5 if len(columns) <= 8 else 5.5
    for i, row in enumerate(share):
        for j, value in enumerate(row):
            text, dark = ("–", False) if np.isnan(value) else (f"{value:.0f}", value > 55)
            cell = axis.text(j, i, text, ha="center", va="center", fontsize=small, color="white" if dark else "#1f2937")
            cell.set_in_layout(False)  # inside the axes anyway: no need to measure it


def curves(part: Part, variants: list[str]) -> Figure | None:
    """Training loss and test UAR by epoch: mean over folds and seeds, the band from the lowest to the highest run."""
    figure = Figure(figsize=(7.2, 2.9), layout="constrained")
    loss, uar = figure.subplots(1, 2)
    drawn = False
    for colour, variant in zip(COLOURS, variants, strict=False):
        histories = [history for run in part.experiment.finished(variant) if (history := run.history())]
        for axis, key, scale in ((loss, "loss", 1.0), (uar, "test_uar", 100.0)):
            kept = [history for history in histories if all(key in epoch for epoch in history)]
            if not kept:
                continue
            length = min(map(len, kept))
            values = scale * np.array([[epoch[key] for epoch in history[:length]] for history in kept], dtype=float)
            epochs = [epoch["epoch"] for epoch in kept[0][:length]]
            axis.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, linewidth=0)
            axis.plot(epochs, values.mean(axis=0), color=colour, linewidth=1.4, label=part.label(variant))
            drawn = True
    if not drawn:
        return None
    for axis, name in ((loss, "Training loss"), (uar, "UAR on the test fold (%)")):
        axis.set_xlabel("Epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_title(name, loc="left")
        axis.grid(axis="y")
    handles, labels = uar.get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=7.5)
    return figure


def recall(part: Part, variants: list[str]) -> Figure:
    """Recall of every class with its interval, variants side by side."""
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    axis = figure.subplots()
    classes = part.tested
    shown = [name for name in variants if part.shown[name].measured][: len(COLOURS)]
    for k, variant in enumerate(shown):
        x = np.arange(len(classes)) + (k - (len(shown) - 1) / 2) * min(0.16, 0.7 / len(shown))
        mean, low, high = percent([part.shown[variant].recall[name] for name in classes])
        axis.vlines(x, low, high, colors=COLOURS[k], linewidth=1.4)
        axis.plot(x, mean, MARKERS[k], color=COLOURS[k], markersize=4.5, linestyle="none", label=part.label(variant))
    clips = dict(zip(part.experiment.classes, part.experiment.clips(), strict=True))
    ticks = [f"{name}\n{clips[name]:,} clips" for name in classes]
    axis.set_xticks(range(len(classes)), ticks)
    axis.set_ylim(0, 100)
    axis.set_ylabel("Recall (%)")
    axis.grid(axis="y")
    if len(shown) > 1:
        figure.legend(loc="outside lower center", ncols=4, fontsize=7.5)
    return figure


def percent(estimates: Sequence[Estimate]) -> np.ndarray:
    """Mean, low and high in percent [3, n]; NaN, which Matplotlib does not draw, where unknown."""
    return 100 * np.array([(e.mean, e.low, e.high) for e in estimates]).reshape(-1, 3).T


def ablation(part: Part) -> Figure:
    """A dot plot of every variant: UAR and the difference to the reference, each with its interval."""
    shown = [name for name, result in part.shown.items() if result.measured]
    colours = [COLOURS[int(name == part.reference)] for name in shown]
    figure, left, right = _two_panels(
        [part.label(name) + (" (incomplete)" if part.shown[name].missing else "") for name in shown]
    )
    _dots(left, [part.shown[name].uar for name in shown], colours)
    compared = [part.shown[name].comparisons.get("uar") for name in shown]
    differences = [c.estimate if c else Estimate() for c in compared]
    _dots(right, differences, colours, [bool(c and c.significant) for c in compared])
    if part.reference in shown:
        right.plot(0, shown.index(part.reference), "D", color=COLOURS[1], markersize=4.5)
    left.set_title("UAR (%)", loc="left")
    right.set_title(f"Δ UAR to {part.label(part.reference)} (points)", loc="left")
    low, high = right.get_xlim()
    right.set_xlim(min(low, -1), max(high, 1))  # otherwise rounding would make equal variants look different
    right.axvline(0, color=GREY, linewidth=0.8, linestyle="--")
    return figure


def relevance_measured(part: Part) -> Figure | None:
    """AUROC and average precision of relevance against truth, every variant with its interval."""
    found = (part.relevance or {}).get(part.selection, {})
    shown = {name: value for name, value in found.items() if value is not None}
    if not shown:
        return None
    figure, *axes = _two_panels([part.label(name) for name in shown])
    colours = [COLOURS[int(n == part.reference)] if n in part.params.variants else GREY for n in shown]
    for axis, key, title in ((axes[0], "auroc", "AUROC (%)"), (axes[1], "ap", "Average precision (%)")):
        _dots(axis, [getattr(value, key) for value in shown.values()], colours)
        if CHANCE in shown and getattr(shown[CHANCE], key).known:
            axis.axvline(100 * getattr(shown[CHANCE], key).mean, color=GREY, linewidth=0.8, linestyle="--")
        axis.set_title(title, loc="left")
    return figure


def _two_panels(labels: list[str]) -> tuple[Figure, Axes, Axes]:
    """Two panels side by side with a line for each of ``labels``, from top to bottom."""
    figure = Figure(figsize=(7.2, 1.0 + min(0.27 * len(labels), 8.0)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    left.set_yticks(range(len(labels)), labels)
    left.set_ylim(len(labels) - 0.4, -0.6)
    for axis in (left, right):
        axis.grid(axis="both")
        axis.tick_params(axis="y", length=0)
    return figure, left, right


def _dots(axis: Axes, estimates: Sequence[Estimate], colours: Sequence[str], filled: Sequence[bool] = ()) -> None:
    """A dot and its interval on each line, in percent; white where ``filled`` is false."""
    mean, low, high = percent(estimates)
    y = np.arange(len(mean))
    axis.hlines(y, low, high, colors=colours, linewidth=1.6, capstyle="round")
    faces = [colour if fill else "white" for colour, fill in zip(colours, filled or [True] * len(y), strict=True)]
    axis.scatter(mean, y, s=25, edgecolors=colours, facecolors=faces, zorder=3)


def reliability(part: Part) -> Figure | None:
    """The reference's accuracy against its confidence over all test clips, and how many clips have which confidence."""
    runs = [run for run in part.experiment.finished(part.reference) if part.selection in run.outcomes]
    outcomes = [run.outcomes[part.selection] for run in runs]
    if not outcomes:
        return None
    confidence = np.concatenate([outcome.confidence for outcome in outcomes]).astype(float)
    right = np.concatenate([outcome.right for outcome in outcomes])
    place = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    count = np.bincount(place, minlength=CALIBRATION_BINS)
    filled = count > 0
    accuracy = np.bincount(place, weights=right, minlength=CALIBRATION_BINS)[filled] / count[filled]
    mean = np.bincount(place, weights=confidence, minlength=CALIBRATION_BINS)[filled] / count[filled]
    error = np.average(np.abs(accuracy - mean), weights=count[filled])
    figure = Figure(figsize=(4.2, 3.8), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.plot([0, 100], [0, 100], "--", color=GREY, linewidth=0.9)
    # the predictions of another seed are about the same clips: they are not more trials
    clips = count * len({run.key.fold for run in runs}) / len(runs)
    spread = 100 * np.abs(np.stack(wilson(accuracy, clips[filled])) - accuracy)
    upper.errorbar(100 * mean, 100 * accuracy, yerr=spread, fmt="o-", color=COLOURS[0], markersize=4, linewidth=1.2)
    upper.set_ylim(0, 100)
    upper.set_ylabel("Accuracy (%)")
    upper.set_title(f"Expected calibration error {100 * error:.1f} %", loc="left")
    upper.grid()
    edges = 100 * np.arange(CALIBRATION_BINS) / CALIBRATION_BINS
    lower.bar(edges, clips, width=100 / CALIBRATION_BINS, align="edge", color=COLOURS[5], edgecolor="white")
    lower.set_xlim(0, 100)
    lower.set_xlabel("Confidence (%)")
    lower.set_ylabel("Clips")
    return figure


def wilson(share: np.ndarray, count: np.ndarray, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval (1927) of shares [k] of ``count`` [k] trials; good for few trials and shares of 0 or 1 too."""
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return centre - half, centre + half
