"""What a classifier's probabilities are worth: UAR, WAR, per-class recall and F1, confusion, calibration error.

UAR is the unweighted mean of the recalls of the classes that occur, WAR the share of clips that are right (accuracy).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

CALIBRATION_BINS = 15


def rates(prediction: np.ndarray, label: np.ndarray, classes: int) -> tuple[float, float]:
    """UAR and WAR of class indices ``prediction`` [N] against ``label`` [N]; NaN, NaN when there is no clip.

    Only counts, for the numbers of every epoch; ``evaluate`` computes the final ones.
    """
    if not len(label):
        return float("nan"), float("nan")
    right = prediction == label
    occurs = np.bincount(label, minlength=classes)
    recall = np.bincount(label[right], minlength=classes) / np.maximum(occurs, 1)
    return float(recall[occurs > 0].mean()), float(right.mean())


def calibration_error(probabilities: np.ndarray, label: np.ndarray, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error: the mean gap of confidence and accuracy over ``bins`` equal widths of confidence.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, eq. 3. ``probabilities`` [N, C], ``label`` [N];
    the confidence is the probability of the predicted class. NaN when there is no clip.
    """
    if not len(label):
        return float("nan")
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == label
    # bins are (lower, upper], so that a confidence of 1 falls in the last one
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(place, weights=confidence - right, minlength=bins)
    return float(np.abs(gap).sum() / len(label))


def evaluate(probabilities: np.ndarray, label: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """Every metric of one selection, as stored in metrics.json.

    Args:
        probabilities: [N, C], columns in the order of ``classes``; the prediction is the first of the largest.
        label: [N] true class indices.
        classes: The C class names.

    Returns:
        ``uar``, ``war``, ``recall`` and ``f1`` by class name (None where the class has no clip), ``macro_f1`` (mean
        over the classes that occur), ``ece``, and ``confusion`` (rows are true classes, columns predictions).
        All rates are fractions; every one is None when there is no clip at all.
    """
    from sklearn.metrics import confusion_matrix, f1_score, recall_score  # takes seconds: not at import

    numbers = list(range(len(classes)))
    if not len(label):
        absent = dict.fromkeys(classes)
        return {
            "uar": None,
            "war": None,
            "recall": absent,
            "f1": dict(absent),
            "macro_f1": None,
            "ece": None,
            "confusion": [[0] * len(classes) for _ in classes],
        }
    prediction = probabilities.argmax(axis=1)
    occurs = np.bincount(label, minlength=len(classes)) > 0
    recall = recall_score(label, prediction, labels=numbers, average=None, zero_division=0)
    f1 = f1_score(label, prediction, labels=numbers, average=None, zero_division=0)

    def by_class(values: np.ndarray) -> dict[str, float | None]:
        return {name: float(values[c]) if occurs[c] else None for c, name in enumerate(classes)}

    return {
        "uar": float(recall[occurs].mean()),
        "war": float((prediction == label).mean()),
        "recall": by_class(recall),
        "f1": by_class(f1),
        "macro_f1": float(f1[occurs].mean()),
        "ece": calibration_error(probabilities, label),
        "confusion": confusion_matrix(label, prediction, labels=numbers).tolist(),
    }
