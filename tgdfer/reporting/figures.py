"""Figures as PNG and PDF, the same bytes every time, in colours that colour-blind readers tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tgdfer.config.params import Params
from tgdfer.core.plots import COLOURS, GREY
from tgdfer.core.storage import atomic
from tgdfer.evaluation.metrics import CALIBRATION_BINS, calibration_error
from tgdfer.reporting.analysis import Estimate, Result
from tgdfer.reporting.rankings import CHANCE
from tgdfer.reporting.relevance import Relevance
from tgdfer.reporting.wording import label_of
from tgdfer.runs.results import Experiment

MARKERS = ("o", "s", "^", "D", "v", "P", "X")


@dataclass(frozen=True)
class Picture:
    """A figure on disk: ``file`` is its name without the suffix, ``photographs`` says that it holds frames of clips."""

    file: str
    dataset: str
    title: str
    caption: str
    photographs: bool = False


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write ``name``.png and ``name``.pdf without dates or versions, so that the same figure has the same bytes."""
    for suffix, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None, "Producer": None})):
        with atomic(folder / f"{name}.{suffix}") as part:
            figure.savefig(part, format=suffix, metadata=metadata, dpi=144, facecolor="white")
        figure.set_layout_engine(None)  # the layout is found: once is enough


def confusion(experiment: Experiment, variant: str, selection: str) -> Figure:
    """A panel per fold and one for their mean: rows are true classes, cells the share of the row in percent."""
    size = len(experiment.classes)
    panels: list[tuple[str, np.ndarray | None]] = []
    for fold in experiment.folds:
        total = np.zeros((size, size))
        for run in experiment.finished(variant):
            if run.fold == fold and selection in run.outcomes:
                outcome = run.outcomes[selection]
                total += np.bincount(outcome.label * size + outcome.prediction, minlength=size * size).reshape(
                    size, size
                )
        panels.append((f"Fold {fold}", total if total.any() else None))
    shares = [_row_shares(counts) for _, counts in panels if counts is not None]
    rows = (len(panels) + 1 + 2) // 3
    cell = 2.55 if size <= 8 else 3.3
    figure = Figure(figsize=(3 * cell, rows * cell), layout="constrained")
    axes = figure.subplots(rows, 3, squeeze=False).ravel()
    missing = sum(counts is None for _, counts in panels)
    title = f"Mean of {len(shares)} folds" if missing or len(shares) > 1 else "Mean (one fold)"
    present = np.sum([~np.isnan(share) for share in shares], axis=0)
    mean = np.where(present > 0, np.nansum(shares, axis=0) / np.maximum(present, 1), np.nan)
    for axis, (name, counts) in zip(axes, [*panels, ("mean", None)], strict=False):
        share = mean if name == "mean" else None if counts is None else _row_shares(counts)
        _matrix(axis, share, experiment.classes, title if name == "mean" else name)
    for axis in axes[len(panels) + 1 :]:
        axis.axis("off")
    return figure


def _row_shares(counts: np.ndarray) -> np.ndarray:
    total = counts.sum(axis=1, keepdims=True)
    return np.where(total > 0, 100 * counts / np.maximum(total, 1), np.nan)


def _matrix(axis: Axes, share: np.ndarray | None, classes: list[str], title: str) -> None:
    axis.set_title(title, fontweight="bold" if title.startswith("Mean") else "normal")
    if share is None:
        axis.axis("off")
        axis.text(0.5, 0.5, "no results", ha="center", va="center", transform=axis.transAxes, color=GREY)
        return
    axis.imshow(share, cmap="Blues", vmin=0, vmax=100)
    axis.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor", fontsize=7)
    axis.set_yticks(range(len(classes)), classes, fontsize=7)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    small = 6.5 if len(classes) <= 8 else 5.5
    for i, row in enumerate(share):
        for j, value in enumerate(row):
            text, dark = ("–", False) if np.isnan(value) else (f"{value:.0f}", value > 55)
            cell = axis.text(j, i, text, ha="center", va="center", fontsize=small, color="white" if dark else "#1f2937")
            cell.set_in_layout(False)  # inside the axes anyway: no need to measure it


def curves(params: Params, experiment: Experiment, variants: list[str]) -> Figure | None:
    """Training loss and test UAR by epoch: mean over folds and seeds, the band from the lowest to the highest run."""
    figure = Figure(figsize=(7.2, 2.9), layout="constrained")
    loss, uar = figure.subplots(1, 2)
    drawn = False
    for k, variant in enumerate(variants[: len(COLOURS)]):
        histories = [history for run in experiment.finished(variant) if (history := run.history())]
        for axis, key, scale in ((loss, "loss", 1.0), (uar, "test_uar", 100.0)):
            kept = [history for history in histories if all(key in epoch for epoch in history)]
            if not kept:
                continue
            length = min(map(len, kept))
            values = scale * np.array([[epoch[key] for epoch in history[:length]] for history in kept], dtype=float)
            epochs = [epoch["epoch"] for epoch in kept[0][:length]]
            axis.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=COLOURS[k], alpha=0.15, linewidth=0)
            axis.plot(
                epochs, values.mean(axis=0), color=COLOURS[k], linewidth=1.4, label=params.variants[variant].label
            )
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


def recall(params: Params, experiment: Experiment, results: dict[str, Result], variants: list[str]) -> Figure:
    """Recall of every class with its interval, variants side by side."""
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    axis = figure.subplots()
    shown = [name for name in variants if results[name].measured][: len(COLOURS)]
    for k, variant in enumerate(shown):
        offset = (k - (len(shown) - 1) / 2) * min(0.16, 0.7 / max(len(shown), 1))
        for c, name in enumerate(experiment.classes):
            _dot(axis, c + offset, results[variant].recall[name], k, params.variants[variant].label if c == 0 else None)
    # any run of a fold has all its clips
    one = {run.fold: next(iter(run.outcomes.values())) for run in experiment.runs if run.problem is None}
    every = np.concatenate([outcome.label for outcome in one.values()])
    clips = np.bincount(every, minlength=len(experiment.classes))
    axis.set_xticks(
        range(len(experiment.classes)), [f"{n}\n{k:,} clips" for n, k in zip(experiment.classes, clips, strict=True)]
    )
    axis.set_ylim(0, 100)
    axis.set_ylabel("Recall (%)")
    axis.grid(axis="y")
    if len(shown) > 1:
        figure.legend(loc="outside lower center", ncols=4, fontsize=7.5)
    return figure


def _dot(axis: Axes, x: float, estimate: Estimate, k: int, label: str | None) -> None:
    if estimate.mean is None:
        return
    if estimate.low is not None and estimate.high is not None:
        axis.plot([x, x], [100 * estimate.low, 100 * estimate.high], color=COLOURS[k], linewidth=1.4)
    axis.plot(x, 100 * estimate.mean, MARKERS[k], color=COLOURS[k], markersize=4.5, label=label)


def ablation(params: Params, results: dict[str, Result], variants: list[str]) -> Figure:
    """A dot plot of every variant: UAR and the difference to the reference, each with its interval."""
    shown = [name for name in variants if results[name].measured]
    figure = Figure(figsize=(7.2, 1.0 + min(0.27 * len(shown), 8.0)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    colours = [COLOURS[int(variant == params.report.reference)] for variant in shown]
    _bars(left, [(results[variant].uar, True) for variant in shown], colours)
    compared = [results[variant].comparisons.get("uar") for variant in shown]
    differences = [(Estimate(c.difference, None, c.low, c.high), c.significant) if c else None for c in compared]
    _bars(right, differences, colours)
    for y, variant in enumerate(shown):
        if variant == params.report.reference:
            right.plot(0, y, "D", color=colours[y], markersize=4.5)
    labels = [params.variants[name].label + ("" if not results[name].missing else " (incomplete)") for name in shown]
    left.set_yticks(range(len(shown)), labels)
    left.set_ylim(len(shown) - 0.4, -0.6)
    left.set_title("UAR (%)", loc="left")
    right.set_title(f"Δ UAR to {params.variants[params.report.reference].label} (points)", loc="left")
    low, high = right.get_xlim()
    right.set_xlim(min(low, -1), max(high, 1))  # without it, equal variants would differ by rounding alone
    right.axvline(0, color=GREY, linewidth=0.8, linestyle="--")
    for axis in (left, right):
        axis.grid(axis="both")
        axis.tick_params(axis="y", length=0)
    return figure


def _bars(axis: Axes, estimates: Sequence[tuple[Estimate, bool] | None], colours: Sequence[str]) -> None:
    """A dot and its interval on each line, in percent: filled or white; nothing on a line without an estimate."""
    known = [(y, *one) for y, one in enumerate(estimates) if one is not None and one[0].mean is not None]
    if not known:
        return
    lines = [(y, e) for y, e, _ in known if e.low is not None and e.high is not None]
    axis.hlines(
        [y for y, _ in lines],
        [100 * (e.low or 0.0) for _, e in lines],
        [100 * (e.high or 0.0) for _, e in lines],
        colors=[colours[y] for y, _ in lines],
        linewidth=1.6,
        capstyle="round",
    )
    axis.scatter(
        [100 * (e.mean or 0.0) for _, e, _ in known],
        [y for y, _, _ in known],
        s=25,
        edgecolors=[colours[y] for y, _, _ in known],
        facecolors=[colours[y] if filled else "white" for y, _, filled in known],
        zorder=3,
    )


def reliability(experiment: Experiment, variant: str, selection: str) -> Figure | None:
    """Accuracy against confidence over all test clips, and how many clips have which confidence."""
    runs = [run for run in experiment.finished(variant) if selection in run.outcomes]
    outcomes = [run.outcomes[selection] for run in runs]
    if not outcomes:
        return None
    confidence = np.concatenate([outcome.confidence for outcome in outcomes]).astype(float)
    right = np.concatenate([outcome.prediction == outcome.label for outcome in outcomes])
    place = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    count = np.bincount(place, minlength=CALIBRATION_BINS)
    filled = count > 0
    accuracy = np.bincount(place, weights=right, minlength=CALIBRATION_BINS)[filled] / count[filled]
    mean = np.bincount(place, weights=confidence, minlength=CALIBRATION_BINS)[filled] / count[filled]
    # the calibration error needs the top probability and whether it is right, which two columns carry as well as all
    top = np.stack([confidence, np.full_like(confidence, -1.0)], axis=1)
    error = calibration_error(top, np.where(right, 0, 1))
    figure = Figure(figsize=(4.2, 3.8), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.plot([0, 100], [0, 100], "--", color=GREY, linewidth=0.9)
    # another seed's predictions are of the same clips: no further trials
    clips = count * len({run.fold for run in runs}) / len(runs)
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
    """Wilson's interval (1927) of shares [k] of ``count`` [k] trials: right for few trials and shares of 0 or 1 too."""
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return centre - half, centre + half


def relevance_measured(params: Params, found: dict[str, Relevance | None]) -> Figure | None:
    """AUROC and average precision of relevance against truth, every variant with its interval."""
    shown = [(name, value) for name, value in found.items() if value is not None]
    if not shown:
        return None
    figure = Figure(figsize=(7.2, 1.0 + min(0.27 * len(shown), 8.0)), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, key, title in ((axes[0], "auroc", "AUROC (%)"), (axes[1], "ap", "Average precision (%)")):
        colours = [GREY if n not in params.variants else COLOURS[int(n == params.report.reference)] for n, _ in shown]
        _bars(axis, [(getattr(value, key), True) for _, value in shown], colours)
        chance = found.get(CHANCE)
        if chance is not None and getattr(chance, key).mean is not None:
            axis.axvline(100 * getattr(chance, key).mean, color=GREY, linewidth=0.8, linestyle="--")
        axis.set_title(title, loc="left")
        axis.grid()
        axis.tick_params(axis="y", length=0)
    axes[0].set_yticks(range(len(shown)), [label_of(params, name) for name, _ in shown])
    axes[0].set_ylim(len(shown) - 0.4, -0.6)
    return figure
