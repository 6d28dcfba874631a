"""Align faces: a similarity moves five landmarks to where published data sets have them, smoothly over time."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

TEMPLATE = np.array([[38.29, 51.70], [73.53, 51.50], [56.03, 71.74], [41.55, 92.37], [70.73, 92.20]]) / 112
"""The landmarks of an upright face in a square of side 1 (Deng et al., ArcFace, 2019)."""
SMOOTHING_S = 0.12
"""The standard deviation in seconds of the Gaussian that smooths landmarks over time."""


def align(image: np.ndarray, landmarks: np.ndarray, size: int, margin: float) -> np.ndarray:
    """The upright face: uint8 [size, size, 3].

    Args:
        image: the frame, uint8 [height, width, 3].
        landmarks: [5, 2], in pixels of the frame.
        size: the side of the result in pixels.
        margin: what is added on each side of the square of ``TEMPLATE``, as a share of its side.

    Where the square leaves the frame, its outermost pixels are repeated: a black border would move with the face.
    """
    way = similarity(landmarks, (TEMPLATE + margin) / (1 + 2 * margin) * size)
    shrunk = int(1 / max(1e-6, np.hypot(way[0, 0], way[1, 0])))
    if shrunk > 1:  # linear interpolation skips pixels where it makes a picture much smaller
        image, way = _shrink(image, way, size, shrunk)
    return cv2.warpAffine(image, way, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rotation, scale and shift [2, 3] that brings points [n, 2] nearest to others, by least squares."""
    centre, goal = source.mean(0), target.mean(0)
    a, b = source - centre, target - goal
    square = float((a**2).sum())
    along = float((a * b).sum()) / square
    across = float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / square
    turn = np.array([[along, -across], [across, along]])
    return np.column_stack([turn, goal - turn @ centre])


def smooth(landmarks: Sequence[np.ndarray], found_s: Sequence[float], times_s: Sequence[float]) -> np.ndarray:
    """The landmarks [n, 5, 2] at ``times_s``, from those found at ``found_s``: gaps are bridged, jitter is smoothed."""
    points = np.stack(landmarks).reshape(len(landmarks), -1).astype(np.float64)
    path = np.column_stack([np.interp(times_s, found_s, column) for column in points.T])
    return (smoothing(np.asarray(times_s), SMOOTHING_S) @ path).reshape(-1, 5, 2)


def smoothing(times: np.ndarray, width: float) -> np.ndarray:
    """The weights [n, n] by which a Gaussian of standard deviation ``width`` smooths values at ``times`` [n]."""
    weights = np.exp(-0.5 * ((times[:, None] - times[None, :]) / width) ** 2)
    return weights / weights.sum(axis=1, keepdims=True)


def _shrink(image: np.ndarray, way: np.ndarray, size: int, times: int) -> tuple[np.ndarray, np.ndarray]:
    """The part of an image around the face, made ``times`` smaller, and the way from there."""
    corners = np.array([[0, 0, 1], [size, 0, 1], [0, size, 1], [size, size, 1.0]]) @ cv2.invertAffineTransform(way).T
    limits = image.shape[1::-1]
    low = [int(np.clip(value, 0, limit - 1)) for value, limit in zip(corners.min(0), limits, strict=True)]
    high = [int(np.clip(value, 0, limit - 1)) + 1 for value, limit in zip(corners.max(0), limits, strict=True)]
    part = image[low[1] : high[1], low[0] : high[0]]
    width, height = (max(1, -(-side // times)) for side in part.shape[1::-1])
    part = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
    across, down = (high[0] - low[0]) / width, (high[1] - low[1]) / height
    # the centre of pixel p of the small picture is at (p + 0.5) * scale - 0.5 of the part
    larger = np.array([[across, 0, low[0] + across / 2 - 0.5], [0, down, low[1] + down / 2 - 0.5], [0, 0, 1]])
    return part, (way @ larger)
