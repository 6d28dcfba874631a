"""t-SNE maps of the features in a trained model: labels before and after the visual prompt, and frames.

t-SNE (van der Maaten and Hinton, Visualizing Data using t-SNE, 2008) keeps neighbours together; the distances between
groups and their sizes mean nothing.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tgdfer.core import storage
from tgdfer.core.plots import COLOURS
from tgdfer.reporting.figures import MARKERS, spaced
from tgdfer.runs.results import Experiment, RunResult

FRAMES = 6
"""Frames of each clip, evenly spaced."""
PERPLEXITY = 20.0


def read(experiment: Experiment, variant: str) -> tuple[RunResult, dict[str, np.ndarray]] | None:
    """The vectors of the variant's first finished run; None where they are missing or damaged."""
    run = next(iter(experiment.finished(variant)), None)
    path = run.key.folder / "vectors.safetensors" if run else None
    if run is None or path is None or not path.exists():
        return None
    if storage.file_fingerprint(path) != run.info["outputs"].get(path.name):
        experiment.problems.append(f"{storage.damaged(path)}: no map of features")
        return None
    from safetensors.numpy import load_file

    return run, load_file(path)


def embed(vectors: np.ndarray) -> np.ndarray:
    """t-SNE of rows [n, D] by their cosine distances -> [n, 2]; the same rows give the same map."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    # on unit vectors, Euclidean distances rank as cosines do, and they allow a start from the principal components
    tsne = TSNE(perplexity=min(PERPLEXITY, (len(vectors) - 1) / 3), init="pca", random_state=0)
    with threadpool_limits(1):  # for some hundred points, threads cost more than they gain
        return np.asarray(tsne.fit_transform(_unit(vectors)))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def draw(experiment: Experiment, variant: str) -> Figure | None:
    """The maps of one run: label features if the model has them, frames on the right; None without vectors."""
    found = read(experiment, variant)
    if found is None:
        return None
    run, held = found
    labels = "labels_before" in held
    figure = Figure(figsize=(7.2 if labels else 4.2, 3.9), layout="constrained")
    axes = figure.subplots(1, 2 if labels else 1, squeeze=False)[0]
    if labels:
        _labels(axes[0], held)
    _frames(axes[-1], held, run)
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(True)
        axis.spines[:].set_color("#d1d5db")
    for c, name in enumerate(experiment.classes):
        axes[-1].plot([], [], _marker(c), color=_colour(c), markersize=4.5, linestyle="none", label=name)
    if labels:
        star = {"color": "white", "markeredgecolor": "black", "markersize": 10, "linestyle": "none"}
        axes[-1].plot([], [], "*", label="before", **star)
    figure.legend(loc="outside lower center", ncols=6, fontsize=7.5)
    return figure


def _labels(axis: Axes, held: dict[str, np.ndarray]) -> None:
    before = held["labels_before"].astype(np.float32)
    size = len(before)
    after = held["labels_after"].astype(np.float32) if "labels_after" in held else np.zeros((0, *before.shape))
    places = embed(np.concatenate([before, after.reshape(-1, before.shape[1])]))
    for c in range(size):
        _dots(axis, places[size + c :: size], c)
        axis.plot(*places[c], "*", color=_colour(c), markeredgecolor="black", markersize=12, markeredgewidth=0.7)
    title = "Label features" + (" of each clip" if len(after) else ", no visual prompt")
    axis.set_title(f"{title}\ncosine between classes: {_between(before[None]):.2f} before"
                   + (f", {_between(after):.2f} after" if len(after) else ""), loc="left")  # fmt: skip


def _between(labels: np.ndarray) -> float:
    """The mean cosine of two different classes' features in [n, C, D]."""
    unit = _unit(labels)
    cosine = unit @ unit.transpose(0, 2, 1)
    size = labels.shape[1]
    return float((cosine.sum(axis=(1, 2)) - size).mean() / (size * (size - 1)))


def _frames(axis: Axes, held: dict[str, np.ndarray], run: RunResult) -> None:
    picked, classes = [], []
    for frames, mask, label in zip(held["frames"], held["mask"], held["label"], strict=True):
        valid = np.flatnonzero(mask)
        shown = valid[spaced(len(valid), FRAMES)]
        picked.append(frames[shown].astype(np.float32))
        classes += [int(label)] * len(shown)
    places, of = embed(np.concatenate(picked)), np.array(classes)
    for c in np.unique(of):
        _dots(axis, places[of == c], c)
    axis.set_title(f"Frames of {len(picked)} test clips\n{run.name}", loc="left")


def _dots(axis: Axes, places: np.ndarray, c: int) -> None:
    axis.scatter(places[:, 0], places[:, 1], s=12, color=_colour(c), marker=_marker(c), linewidths=0, alpha=0.8)


def _colour(c: int) -> str:
    return COLOURS[c % len(COLOURS)]


def _marker(c: int) -> str:
    return MARKERS[(c + c // len(COLOURS)) % len(MARKERS)]
