"""Rankings of a clip's frames that need no training, which a model's relevance has to beat."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from tgdfer.core.errors import UserError
from tgdfer.core.storage import read_sealed
from tgdfer.features.cache import FeatureCache, load_features

Ranking = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""A score [n, T] of the frames numbered [n, T] (ascending, -1: padding, first) of clips [n]."""
CHANCE = "chance (all frames alike)"


def rankings(features: Path, fingerprints: set[str], problems: list[str]) -> dict[str, Ranking]:
    """The rankings by their names in print; rankings by features only if the runs were made from this cache.

    Args:
        features: the manifest of the feature cache.
        fingerprints: the caches that the runs name.
        problems: the reason is added to it if there are no rankings by features.
    """
    found: dict[str, Ranking] = {CHANCE: chance, "middle of the clip": middle}
    if not fingerprints:
        return found
    try:
        if {read_sealed(features)["fingerprint"]} != fingerprints:
            raise UserError(f"{features}: not the features that the runs were made from")
        cache = load_features(features)
    except UserError as error:
        problems.append(f"{error}: the frames are not ranked by their features")
        return found
    return found | {
        "feature's distance to the clip's mean": partial(distance, cache, lambda x: x.mean(axis=0)),
        "feature's distance to the first frame's": partial(distance, cache, lambda x: x[0]),
    }


def first_times(frames: np.ndarray) -> np.ndarray:
    """Where a frame [n, T] occurs for the first time: a short clip may repeat its last frame to fill the bag."""
    return (frames >= 0) & np.diff(frames, axis=1, prepend=-1).astype(bool)


def chance(clip_id: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """The same score for every frame."""
    return np.zeros(frames.shape)


def middle(clip_id: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """The nearer the middle of the bag, the more relevant."""
    single = first_times(frames)
    place = np.cumsum(single, axis=1) - 1
    return -np.abs(place - (single.sum(axis=1, keepdims=True) - 1) / 2)


def distance(
    cache: FeatureCache, origin: Callable[[np.ndarray], np.ndarray], clip_id: np.ndarray, frames: np.ndarray
) -> np.ndarray:
    """How far a frame's feature is from ``origin`` of its bag's features [t, D]: 1 - cosine."""
    number = {clip: i for i, clip in enumerate(cache.clip_ids.to_pylist())}
    found = np.zeros(frames.shape)
    for n, clip in enumerate(clip_id.tolist()):
        features, index = cache.clip(number[clip])
        single = first_times(frames[n : n + 1])[0]
        x = features[np.searchsorted(index, frames[n][single])].astype(np.float64)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        start = origin(x)
        found[n, single] = 1 - x @ start / np.linalg.norm(start)
    return found
