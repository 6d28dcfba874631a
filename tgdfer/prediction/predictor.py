"""The predictor turns a video into probabilities along time, with the code that processes the clips of a data set."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from tgdfer.config.params import DEMO_ENCODER, load_params
from tgdfer.core.errors import UserError
from tgdfer.core.progress import track
from tgdfer.core.provenance import cores
from tgdfer.media import images, videos
from tgdfer.media.frame import UnusableError, clip_seconds
from tgdfer.prediction.cropping import Crop, FaceCropper
from tgdfer.prediction.result import NO_FACE, Prediction, Window
from tgdfer.prediction.saved import SavedModel, load_saved
from tgdfer.prediction.scoring import Scorer
from tgdfer.prediction.thumbnails import ThumbnailCollector
from tgdfer.prediction.windows import FrameWindow, sliding_windows, stream_sampling

TOGETHER = 4
"""How many windows go through the model at once."""
CLIP_S = 3.0
"""The length of a window if the run does not know the duration of its clips."""
STREAM_SIDE = 720
"""The largest shorter side of a stream's frames, in pixels: 4K frames would fill the memory and help no encoder."""
ONE_CLIP = 1.5
"""A video is one clip if it is at most this many times as long as a window."""
SEVERAL = 0.2
"""The share of frames with several faces above which the prediction mentions them."""


class Predictor:
    """A trained model with its encoder, ready for videos.

    >>> predictor = Predictor.from_run("runs/demo/tgdfer/fold1/seed0")
    >>> prediction = predictor.predict("holiday.mp4")
    >>> prediction.probabilities, prediction.entropy, prediction.relevance
    """

    def __init__(self, saved: SavedModel) -> None:
        """See ``from_run``."""
        self.saved = saved
        about = saved.description
        self.classes = about.classes
        self.window_s = about.frames.clip_seconds or CLIP_S
        """The default length of a window: the median duration of the clips that the model was trained on."""
        # without a face there is no prediction, whatever the training did with such clips
        self._frames = about.frames.settings.model_copy(update={"no_face": "reject"})
        drawn = about.encoder.name == DEMO_ENCODER
        self._caution = ["the model has only seen drawn faces: on people its numbers mean nothing"] if drawn else []
        self._pool = ThreadPoolExecutor(cores())
        self._score = Scorer(saved, self._frames, self._pool)

    @classmethod
    def from_run(
        cls,
        path: str | Path,
        models: str | Path = "models",
        device: str = "auto",
        params: str | Path = "params.yaml",
    ) -> Predictor:
        """Load the model of a run.

        Args:
            path: a run's folder (``runs/<data set>/<variant>/fold<k>/seed<s>``), one that ``save`` made, or a name
                in MLflow: ``runs:/<id>``, ``models:/<name>/<version>``, ``models:/<name>@<alias>``.
            models: the folder of the encoders; not needed for a folder that ``save`` made.
            device: auto, cpu, mps, cuda or cuda:<number>.
            params: the parameters file, which says where MLflow is; only read for a name in MLflow.

        Raises:
            UserError: a file is missing, is a pickle, has another version, or does not belong to the others.
        """
        folder = Path(path)
        if str(path).startswith(("runs:/", "models:/")):
            from tgdfer.tracking.models import folder_of

            folder = folder_of(load_params(params), str(path))
        return cls(load_saved(folder, Path(models), device))

    def save(self, folder: str | Path) -> None:
        """Write a folder to share: model, encoder and model card, as safetensors, JSON and Markdown.

        Raises:
            UserError: the folder exists and is not empty.
        """
        from tgdfer.prediction.export import export

        export(self.saved, Path(folder))

    def predict(
        self,
        path: str | Path,
        *,
        crop: Crop = "auto",
        window: float | None = None,
        stride: float | None = None,
        progress: bool = False,
    ) -> Prediction:
        """Predict one video, or one folder of images, which is a clip.

        A video longer than one and a half windows is decoded as a stream and seen through sliding windows; memory does
        not grow with its length.

        Args:
            path: the video or folder.
            crop: ``face`` follows and crops the largest face; ``none`` leaves frames whole; ``auto`` does as the
                training did, and if that did not crop, still crops a face that does not fill the frame.
            window: the length of a window in seconds; None: ``window_s``; 0: the whole video is one clip.
            stride: seconds from one window to the next; None: half a window.
            progress: show the progress.

        Returns:
            The prediction; without a face it has a reason and no probabilities.

        Raises:
            UserError: the file cannot be used (the message says why), or an argument is out of range.
        """
        path = Path(path)
        length = self.window_s if window is None else window
        step = length / 2 if stride is None else stride
        if length < 0 or (length and not 0 < step <= length):
            raise UserError(
                f"window {length:g} s, stride {step:g} s: expected a stride above 0 and at most the window's length"
            )
        began = time.monotonic()
        try:
            found = self._predict(path, crop, length, step, progress)
        except UnusableError as error:
            raise UserError(f"{path}: {error}") from None
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
        return replace(found, seconds=time.monotonic() - began)

    def _predict(self, path: Path, crop: Crop, length: float, step: float, progress: bool) -> Prediction:
        # a face is cut out before it is resized
        whole = self._frames if crop == "none" else self._frames.model_copy(update={"resize": None})
        if path.is_dir():
            frames, duration = images.read_images(path, whole, path)[0], None
        else:
            duration = videos.duration(path)
            if length and (duration or 0.0) > ONE_CLIP * length:
                assert duration
                small = whole.model_copy(update={"resize": min(STREAM_SIDE, whole.resize or STREAM_SIDE)})
                frames_of = videos.stream_video(path, stream_sampling(small, length))
                spans = sliding_windows(frames_of, length, step)
                if progress:
                    spans = track(spans, path.name, total=int((duration - length) / step) + 1, unit="windows")
                return self._collect(path, spans, crop, duration)
            frames = videos.read_video(path, whole)
        if duration is None:
            duration = clip_seconds(frames)
        start = 0.0 if frames[0].time_s < duration else frames[0].time_s  # some files do not begin at time 0
        return self._collect(path, [FrameWindow(start, start + duration, frames)], crop, duration)

    def _collect(self, path: Path, spans: Iterable[FrameWindow], crop: Crop, duration: float) -> Prediction:
        whole = isinstance(spans, list)  # the video is one window
        cropper = FaceCropper(self._pool, self._frames, crop, every=whole)
        collector = ThumbnailCollector()
        windows: list[Window] = []
        cropped = False
        spans = iter(spans)
        while together := list(islice(spans, TOGETHER)):
            inputs = [cropper(span.frames) for span in together]
            scores = iter(self._score([one for one in inputs if one.frames], each_frame=whole))
            for span, one in zip(together, inputs, strict=True):
                if not one.frames:
                    windows.append(Window(span.start, span.end, {}, [], one.faces, NO_FACE))
                    continue
                probabilities, frames, pictures = next(scores)
                windows.append(Window(span.start, span.end, probabilities, frames, one.faces))
                collector.add(pictures, windows[-1])
                cropped |= one.boxes is not None
        if not windows:
            raise UnusableError("no frame could be decoded")
        seen = [window for window in windows if window.probabilities]
        mean = {name: float(np.mean([w.probabilities[name] for w in seen])) for name in self.classes} if seen else {}
        return Prediction(
            source=str(path),
            duration_s=duration if whole else windows[-1].end_s - windows[0].start_s,
            probabilities=mean,
            windows=windows,
            crop="face" if cropped or not seen else "none",
            model=self.saved.identity(),
            seconds=0.0,
            reason=None if seen else _reason(windows),
            notes=[*_notes(windows, seen), *(self._caution if seen else [])],
            thumbnails=collector.thumbnails(mean),
        )


def _reason(windows: list[Window]) -> str:
    if len(windows) > 1:  # windows overlap: a sum over them would count most frames twice
        return f"{NO_FACE} in any of {len(windows)} windows"
    searched = sum(window.faces.frames for window in windows if window.faces)
    return f"{NO_FACE} in {searched} frames"


def _notes(windows: list[Window], seen: list[Window]) -> list[str]:
    notes = []
    found = [window.faces for window in windows if window.faces]
    frames = sum(one.frames for one in found)
    several = sum(one.with_several for one in found)
    if frames and several >= SEVERAL * frames:
        most = max(one.most for one in found)
        notes.append(f"several faces (up to {most} in a frame): only the largest one is followed")
    if seen and len(seen) < len(windows):
        notes.append(f"{NO_FACE} in {len(windows) - len(seen)} of {len(windows)} windows, which have no number")
    return notes
