"""Score windows with the encoder and the model, by the code that made the run's own features and predictions."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torchvision.io import ImageReadMode, decode_jpeg

from tgdfer.config.data import FramesParams
from tgdfer.core.determinism import deterministic
from tgdfer.encoders.precision import choose_dtype
from tgdfer.features.bags import Bags, segment_frames
from tgdfer.features.cache import FeatureCache
from tgdfer.features.forward import Forward
from tgdfer.features.shards import Shard
from tgdfer.media.frame import Frame
from tgdfer.model import relevance as relevance_of
from tgdfer.prediction.cropping import ModelInput
from tgdfer.prediction.result import FrameScore
from tgdfer.prediction.saved import SavedModel


class WindowScore(NamedTuple):
    """The model's output for a window."""

    probabilities: dict[str, float]
    frames: list[FrameScore]
    pictures: dict[int, Frame]
    """The frames as the model saw them, by their numbers."""


class Scorer:
    """The encoder's image tower and the model.

    Args:
        saved: the model.
        params: how frames are cropped and resized.
        pool: prepares several frames at once.
    """

    def __init__(self, saved: SavedModel, params: FramesParams, pool: Executor) -> None:
        self._saved, self._about, self._params, self._pool = saved, saved.description, params, pool
        self._device = saved.encoder.device
        dtype = choose_dtype(saved.encoder, self._about.features.dtype, self._device)
        self._forward = Forward(saved.tower(dtype), self._device)

    @torch.inference_mode()
    def __call__(self, windows: Sequence[ModelInput], each_frame: bool) -> list[WindowScore]:
        """The scores of windows that have frames; with ``each_frame`` also of every frame by itself.

        Only the frames that a bag takes from a window are prepared.
        """
        if not windows:
            return []
        about = self._about.bags
        lengths = np.array([len(window.frames) for window in windows])
        starts = np.cumsum(lengths) - lengths
        every = [(window, place) for window in windows for place in range(len(window.frames))]
        chosen = segment_frames(lengths, about.frames * about.instance_frames, None)
        needed = torch.from_numpy(np.unique(chosen + starts[:, None]))
        pictures = dict(zip(needed.tolist(), self._pool.map(self._picture, (every[n] for n in needed)), strict=True))
        features = torch.zeros(len(every), self._saved.dim, dtype=torch.float16)
        with deterministic():
            for rows in needed.split(self._about.features.batch_size):
                images = torch.stack(list(self._pool.map(self._prepared, (pictures[n] for n in rows.tolist()))))
                features[rows] = self._forward(images).cpu()
            numbers = np.array([window.frames[place].index for window, place in every], np.int32)
            names = pa.array(f"{number:09d}" for number in range(len(windows)))
            shard = Shard(names, np.cumsum([0, *lengths]), numbers, features[None].numpy())
            number = torch.arange(len(windows))
            bags = Bags(FeatureCache.of([shard], "", ""), number, number, about.frames, about.instance_frames)
            batch = bags.batch(number, None, self._device)
            output = self._saved.model(batch.x, batch.mask, batch.frame_index.to(batch.x))
        clips = output.logits.float().softmax(-1).tolist()
        relevance = relevance_of(output).float().tolist()
        each = output.alignment.float().softmax(-1).tolist()
        index, mask = batch.frame_index.cpu(), batch.mask.cpu()
        scores = []
        for row, window in enumerate(windows):
            times = {frame.index: frame.time_s for frame in window.frames}
            valid = index[row][mask[row]].tolist()
            frames = [
                FrameScore(number, times[number], relevance[row][t], self._named(each[row][t]) if each_frame else {})
                for t, number in enumerate(valid)
            ]
            members = range(int(starts[row]), int(starts[row] + lengths[row]))
            seen = {pictures[n].index: pictures[n] for n in members if n in pictures}
            scores.append(WindowScore(self._named(clips[row]), frames, seen))
        return scores

    def _picture(self, frame: tuple[ModelInput, int]) -> Frame:
        window, place = frame
        return window.picture(place, self._params)

    def _prepared(self, frame: Frame) -> torch.Tensor:
        data = torch.frombuffer(bytearray(frame.jpeg), dtype=torch.uint8)
        return self._saved.encoder.preprocess(decode_jpeg(data, ImageReadMode.RGB))

    def _named(self, values: Sequence[float]) -> dict[str, float]:
        return dict(zip(self._about.classes, values, strict=True))
