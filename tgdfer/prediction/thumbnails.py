"""The few frames of a video that are kept for its timeline, however long the video is."""

from __future__ import annotations

import heapq
import io
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from PIL import Image

from tgdfer.media.frame import Frame
from tgdfer.prediction.result import Thumbnail, Window, most_likely

SIDE = 112
"""Pixels of the longer side."""
EVENLY = 64
"""At most twice as many thumbnails are kept along the video."""
DECISIVE = 3
"""How many frames are marked as decisive."""
OUTSTANDING = 1.1
"""A frame of a single clip is decisive only if its relevance is this many times that of equally relevant frames."""


class ThumbnailCollector:
    """Thumbnails evenly along the video, and for each class those of the windows with its largest probabilities."""

    def __init__(self) -> None:
        self._along: list[Thumbnail] = []
        self._every = 1
        self._count = 0
        self._best: dict[str, list[tuple[float, int, Thumbnail]]] = {}

    def add(self, pictures: Mapping[int, Frame], window: Window) -> None:
        """Add the most relevant frame of a window; of the first window all frames, in case it is the only one."""
        by_relevance = sorted(window.frames, key=lambda frame: -frame.relevance)
        if self._count == 0:
            self._first = [_thumbnail(pictures[frame.index]) for frame in window.frames]
            limit = OUTSTANDING / len(by_relevance)
            self._first_decisive = {frame.time_s for frame in by_relevance[:DECISIVE] if frame.relevance > limit}
        top = _thumbnail(pictures[by_relevance[0].index])
        if self._count % self._every == 0:
            self._along.append(top)
            if len(self._along) > 2 * EVENLY:
                self._along, self._every = self._along[::2], 2 * self._every
        for name, value in window.probabilities.items():
            best = self._best.setdefault(name, [])
            heapq.heappush(best, (value, -self._count, top))
            if len(best) > DECISIVE:
                heapq.heappop(best)
        self._count += 1

    def thumbnails(self, probabilities: Mapping[str, float]) -> list[Thumbnail]:
        """The thumbnails in the order of time; those that decided for the most likely class are marked."""
        name = most_likely(probabilities)
        if name is None:
            return []
        if self._count == 1:
            return [replace(one, decisive=one.time_s in self._first_decisive) for one in self._first]
        decisive = {one.time_s: replace(one, decisive=True) for _, _, one in self._best[name]}
        others = {one.time_s: one for one in self._along}
        return sorted((others | decisive).values(), key=lambda one: one.time_s)


def choose(thumbnails: list[Thumbnail], most: int) -> list[Thumbnail]:
    """At most ``most`` thumbnails: the decisive ones, and others evenly along the video."""
    decisive = [one for one in thumbnails if one.decisive]
    others = [one for one in thumbnails if not one.decisive]
    count = min(len(others), most - len(decisive))
    places = np.unique(np.linspace(0, len(others) - 1, count).round().astype(int))
    return sorted([*decisive, *(others[k] for k in places)], key=lambda one: one.time_s)


def _thumbnail(frame: Frame) -> Thumbnail:
    image = Image.open(io.BytesIO(frame.jpeg)).convert("RGB")
    image.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return Thumbnail(frame.time_s, out.getvalue())
