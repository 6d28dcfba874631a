"""The networks that find faces, run by onnxruntime: CenterFace, YuNet and SCRFD, known by their outputs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tgdfer.core.errors import UserError

CENTERFACE = Path(__file__).with_name("centerface.onnx")
BATCH_PIXELS = 8 << 20
"""The most pixels that go through a network at once."""
STEP = 32
"""Heights and widths are multiples of this."""
GRIDS = (8, 16, 32)
"""The grids, in pixels, of SCRFD and YuNet."""
Found = tuple[np.ndarray, float, np.ndarray]
"""A box (left, top, width, height), a score from 0 to 1 and five landmarks [5, 2], in pixels."""
Decode = Callable[[list[np.ndarray], tuple[int, ...], float], list[Found]]
"""Reads the outputs for one image, of an input of some height and width, down to the lowest score."""


class Network:
    """A network in an onnxruntime session; it computes on a GPU where onnxruntime has one.

    ``prepare`` makes the values that it wants of an image, ``decode`` reads its outputs.
    """

    def __init__(self, session: Any, prepare: Callable[[np.ndarray], np.ndarray], decode: Decode) -> None:
        self._session, self._prepare, self._decode = session, prepare, decode
        self._input = session.get_inputs()[0]
        self._outputs = [output.name for output in session.get_outputs()]
        batch, _, *self._fixed = self._input.shape
        self._one_by_one = batch == 1

    def find(self, images: list[np.ndarray], lowest: float) -> list[list[Found]]:
        """What has at least the score ``lowest`` in each image (uint8 [height, width, 3], RGB); boxes may overlap."""
        results: list[list[Found]] = [[] for _ in images]
        order = sorted(range(len(images)), key=lambda number: images[number].shape[:2])
        for (height, width), group in groupby(order, key=lambda number: images[number].shape[:2]):
            same = list(group)
            together = 1 if self._one_by_one else max(1, BATCH_PIXELS // (height * width))
            for start in range(0, len(same), together):
                numbers = same[start : start + together]
                scale, batch = self._batch([images[number] for number in numbers])
                outputs = self._session.run(self._outputs, {self._input.name: batch})
                for place, number in enumerate(numbers):
                    # SCRFD's files have no batch dimension
                    mine = [output[place] if output.ndim > 2 else output for output in outputs]
                    found = self._decode(mine, batch.shape[2:], lowest)
                    results[number] = [(box / scale, score, points / scale) for box, score, points in found]
        return results

    def _batch(self, images: list[np.ndarray]) -> tuple[float, np.ndarray]:
        height, width = images[0].shape[:2]
        scale = 1.0
        size = (-(-height // STEP) * STEP, -(-width // STEP) * STEP)
        if all(isinstance(side, int) for side in self._fixed):
            size = (self._fixed[0], self._fixed[1])
            scale = min(size[0] / height, size[1] / width)
            height, width = round(height * scale), round(width * scale)
            images = [cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in images]
        batch = np.zeros((len(images), 3, *size), np.float32)
        for row, image in zip(batch, images, strict=True):
            row[:, :height, :width] = self._prepare(image).transpose(2, 0, 1)
        return scale, batch


def centerface(outputs: list[np.ndarray], size: tuple[int, ...], lowest: float) -> list[Found]:
    """CenterFace (Xu et al., 2019): a heat map of centres, with sizes, offsets and landmarks, on a grid of 4 pixels."""
    heat, scale, offset, landmarks = outputs
    peak = (heat[0] >= lowest) & (heat[0] == cv2.dilate(heat[0], np.ones((3, 3), np.uint8)))
    rows, columns = np.nonzero(peak)
    size_of = 4 * np.exp(scale[::-1, rows, columns]).T  # width, height
    corners = 4 * (np.array([columns, rows]) + offset[::-1, rows, columns] + 0.5).T - size_of / 2
    points = landmarks[:, rows, columns].T.reshape(-1, 5, 2)[..., ::-1] * size_of[:, None] + corners[:, None]
    boxes = np.hstack([corners, size_of])
    return list(zip(boxes, map(float, heat[0, rows, columns]), points, strict=True))


def scrfd(outputs: list[np.ndarray], size: tuple[int, ...], lowest: float) -> list[Found]:
    """SCRFD (Guo et al., 2021) with landmarks: scores, distances to the four sides, landmarks."""

    def box(sides: np.ndarray, centre: np.ndarray, step: int) -> np.ndarray:
        corner = centre - sides[:2] * step
        return np.array([*corner, *(centre + sides[2:] * step - corner)])

    return _on_grids(outputs, size, lowest, lambda scores: scores[:, 0], box)


def yunet(outputs: list[np.ndarray], size: tuple[int, ...], lowest: float) -> list[Found]:
    """YuNet (Wu et al., 2023): classes, objectness, boxes by centre and logarithm of the size, landmarks."""

    def score(classes: np.ndarray, objects: np.ndarray) -> np.ndarray:
        return np.sqrt(np.clip(classes[:, 0], 0, 1) * np.clip(objects[:, 0], 0, 1))

    def box(place: np.ndarray, centre: np.ndarray, step: int) -> np.ndarray:
        sides = np.exp(place[2:]) * step
        return np.array([*(centre + place[:2] * step - sides / 2), *sides])

    return _on_grids(outputs, size, lowest, score, box)


def _on_grids(
    outputs: list[np.ndarray],
    size: tuple[int, ...],
    lowest: float,
    score_of: Callable[..., np.ndarray],
    box_of: Callable[[np.ndarray, np.ndarray, int], np.ndarray],
) -> list[Found]:
    """Decode a score, box and set of landmarks for each cell (and anchor) of grids of 8, 16 and 32 pixels.

    ``score_of`` makes the scores [n] of the outputs before boxes and landmarks; ``box_of`` makes a box (left, top,
    width, height) of the output for a cell, the first pixel of the cell and the grid.
    """
    found = []
    for number, step in enumerate(GRIDS):
        *before, boxes, points = (part.reshape(-1, part.shape[-1]) for part in outputs[number :: len(GRIDS)])
        scores = score_of(*before)
        cells = size[0] // step * (size[1] // step)
        anchors = len(scores) // cells
        for place in np.flatnonzero(scores >= lowest):
            row, column = divmod(int(place) // anchors, size[1] // step)
            centre = np.array([column, row]) * step
            landmarks = points[place].reshape(5, 2) * step + centre
            found.append((box_of(boxes[place], centre, step), float(scores[place]), landmarks))
    return found


KINDS: dict[int, tuple[Callable[[np.ndarray], np.ndarray], Decode]] = {
    4: (lambda image: image, centerface),
    9: (lambda image: (image.astype(np.float32) - 127.5) / 128, scrfd),
    12: (lambda image: image[..., ::-1], yunet),
}
"""By its number of outputs, the values that a network wants of an image, and how its outputs are decoded."""


def load(weights: Path | None) -> Network:
    """The network of an ONNX file; None: the CenterFace of this package.

    Raises:
        UserError: it is not one of the networks.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # clips are worked on at the same time
    options.log_severity_level = 3
    providers = [
        name
        for name in ("CUDAExecutionProvider", "CPUExecutionProvider")
        if name in onnxruntime.get_available_providers()
    ]
    path = weights or CENTERFACE
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        raise UserError(
            f"{path}: not an ONNX file that onnxruntime reads: {str(error).splitlines()[0][:120]}"
        ) from None
    if (kind := KINDS.get(len(session.get_outputs()))) is None:
        raise UserError(f"{path}: expected YuNet, SCRFD with landmarks, or CenterFace as an ONNX file")
    return Network(session, *kind)
