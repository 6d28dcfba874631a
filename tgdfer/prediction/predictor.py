"""The predictor: a video in, probabilities along time out; through the same code as the clips of a data set."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torchvision.io import ImageReadMode, decode_jpeg

from tgdfer.bags import Bags, segment_frames
from tgdfer.encoders.precision import choose_dtype
from tgdfer.errors import UserError
from tgdfer.features.forward import Forward, repeatable
from tgdfer.frames import workers
from tgdfer.media import images, videos
from tgdfer.media.sampling import Frame, UnusableError
from tgdfer.model import relevance as relevance_of
from tgdfer.prediction import stream
from tgdfer.prediction.album import Album
from tgdfer.prediction.result import NO_FACE, Faces, FrameScore, Prediction, Window
from tgdfer.prediction.saved import SavedModel, load_saved
from tgdfer.prediction.windows import Span, sampling, slide
from tgdfer.progress import track

Crop = Literal["auto", "face", "none"]
TOGETHER = 4
"""Windows that go through the model at once."""
CLIP_S = 3.0
"""Length of a window where the run does not know the duration of its clips."""
ONE_CLIP = 1.5
"""A video of at most so many windows' length is seen as one clip."""
FILLED = 0.5
"""A face whose side is so much of the picture's longer one fills it: the picture is a face crop already."""
LOOKS = 4
"""How many times a second faces are looked for in a stream; between, the box moves on smoothly."""
EDGE = 0.1
"""Frames before the face comes or after it has gone are left out, if they are more than this share of a window."""
SEVERAL = 0.2
"""The share of frames with several faces from which on the prediction mentions it."""


class Predictor:
    """A trained model with its encoder, ready for videos.

    >>> predictor = Predictor.from_run("runs/demo/tgdfer/fold1/seed0")
    >>> prediction = predictor.predict("holiday.mp4")
    >>> prediction.probabilities, prediction.entropy, prediction.relevance
    """

    def __init__(self, saved: SavedModel) -> None:
        """See :meth:`from_run`."""
        self.saved = saved
        about = saved.description
        self.classes = about.classes
        self.window_s = about.frames.clip_seconds or CLIP_S
        """The default length of a window: the median duration of the clips that the model was trained on."""
        # what has no face gets no number, whatever the training made of such clips
        self._frames = about.frames.settings.model_copy(update={"no_face": "reject"})
        self._device = saved.encoder.device
        tower = saved.encoder.vision_tower(choose_dtype(saved.encoder, about.features.dtype, self._device))
        self._forward = Forward(tower, self._device)
        self._pool = ThreadPoolExecutor(workers())

    @classmethod
    def from_run(cls, path: str | Path, models: str | Path = "models", device: str = "auto") -> Predictor:
        """Load the model of a run.

        Args:
            path: a run's folder (``runs/<data set>/<variant>/fold<k>/seed<s>``), or one that :meth:`save` made.
            models: where the encoders lie; not needed for a folder that :meth:`save` made.
            device: auto, cpu, mps, cuda or cuda:<number>.

        Raises:
            UserError: a file is missing, is a pickle, is of another version, or does not fit the others.
        """
        return cls(load_saved(Path(path), Path(models), device))

    def save(self, folder: str | Path) -> None:
        """Write a folder that can be given away: model, encoder and model card; safetensors, JSON and Markdown alone.

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

        A video longer than one and a half windows is read as a stream, in windows that slide along it; memory does not
        grow with its length.

        Args:
            path: the video or folder.
            crop: ``face`` cuts out the largest face and follows it; ``none`` takes the pictures as they are; ``auto``
                does as the training did, and where that did not crop, still cuts out a face that does not fill the
                picture.
            window: seconds of a window; None: :attr:`window_s`; 0: the whole video as one clip.
            stride: seconds from one window to the next; None: half a window.
            progress: show how far it is.

        Returns:
            The prediction; where no face is found it says so and has no probabilities.

        Raises:
            UserError: the file cannot be used; the message says why. Or an argument is out of range.
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
            frames, duration = images.read_images(path, whole)[0], None
        else:
            if not path.is_file():
                raise UnusableError("no such file")
            duration = stream.duration(path) if path.stat().st_size else None
            if length and (duration or 0.0) > ONE_CLIP * length:
                assert duration
                spans: Iterator[Span] = slide(stream.frames(path, sampling(whole, length)), length, step)
                if progress:
                    spans = track(spans, path.name, total=int((duration - length) / step) + 1, unit="windows")
                return self._collect(path, spans, crop, duration)
            frames = videos.read_video(path, whole)
        if duration is None:
            duration = _span(frames)
        return self._collect(path, [Span(frames[0].time_s, frames[0].time_s + duration, frames)], crop, duration)

    def _collect(self, path: Path, spans: Iterable[Span], crop: Crop, duration: float) -> Prediction:
        look = _Look(self._pool, often=isinstance(spans, list))
        album = Album()
        windows: list[Window] = []
        crops: set[str] = set()
        spans = iter(spans)
        while together := list(islice(spans, TOGETHER)):
            shown = [self._shown(look, span, crop) for span in together]
            crops |= {how for _, _, how in shown}
            for (frames, faces, _), window in zip(shown, self._see(together, shown), strict=True):
                windows.append(replace(window, faces=faces))
                if window.probabilities:
                    album.add(frames, window)
        if not windows:
            raise UnusableError("no frame could be decoded")
        seen = [window for window in windows if window.probabilities]
        mean = {name: float(np.mean([w.probabilities[name] for w in seen])) for name in self.classes} if seen else {}
        total = windows[-1].end_s - windows[0].start_s if len(windows) > 1 else duration
        return Prediction(
            source=str(path),
            duration_s=max(duration, total) if len(windows) == 1 else total,
            probabilities=mean,
            windows=windows,
            crop="face" if "face" in crops else "none",
            model=self.saved.identity(),
            seconds=0.0,
            reason=None if seen else _reason(windows),
            notes=_notes(windows, seen),
            thumbnails=album.pictures(mean),
        )

    def _shown(self, look: _Look, span: Span, crop: Crop) -> tuple[list[Frame], Faces | None, str]:
        """What the model is shown of a window: its frames, none if there is no face to show; what was found; how."""
        if crop == "none":
            return self._as_they_are(span.frames), None, "none"
        from tgdfer.media import faces  # OpenCV is loaded where it is needed

        candidates = look.faces(span.frames)
        track = faces.follow([boxes or [] for boxes in candidates])
        looked = [place for place, boxes in enumerate(candidates) if boxes is not None]
        found = [(place, box) for place, box in enumerate(track) if box is not None]
        sides = [box.side / max(span.frames[place].width, span.frames[place].height) for place, box in found]
        counts = [len(boxes) for boxes in candidates if boxes is not None]
        share = round(float(np.median(sides)), 3) if sides else None
        about = Faces(len(looked), len(found), sum(count > 1 for count in counts), max(counts), share)
        if not faces.enough([track[place] for place in looked]):
            return [], about, "face"
        shown = slice(*_present(len(track), found[0][0], found[-1][0]))
        if crop == "auto" and self._frames.crop == "none" and share is not None and share >= FILLED:
            return self._as_they_are(span.frames[shown]), about, "none"
        return faces.crop(span.frames[shown], self._frames, candidates[shown])[0], about, "face"

    def _as_they_are(self, frames: list[Frame]) -> list[Frame]:
        side = self._frames.resize
        if side is None or all(min(frame.width, frame.height) <= side for frame in frames):
            return frames
        small = [(frame, images.shrink(images.open_image(frame.jpeg), side)) for frame in frames]
        return [replace(one, jpeg=images.encode(img), width=img.width, height=img.height) for one, img in small]

    def _see(self, spans: Sequence[Span], shown: Sequence[tuple[list[Frame], Faces | None, str]]) -> Iterator[Window]:
        """The windows that the model makes of ``shown``, in their order."""
        bags = [frames for frames, _, _ in shown if frames]
        scores = iter(self._score(bags) if bags else [])
        for span, (frames, _, _) in zip(spans, shown, strict=True):
            if frames:
                probabilities, seen = next(scores)
                yield Window(span.start, span.end, probabilities, seen)
            else:
                yield Window(span.start, span.end, {}, [], reason=NO_FACE)

    def _score(self, bags: list[list[Frame]]) -> list[tuple[dict[str, float], list[FrameScore]]]:
        """Probabilities and frames of each bag of frames."""
        about = self.saved.description
        lengths = torch.tensor([len(frames) for frames in bags])
        starts = lengths.cumsum(0) - lengths
        every = [frame for frames in bags for frame in frames]
        used = segment_frames(lengths, about.bags.frames * about.bags.instance_frames, None) + starts[:, None]
        needed = used.unique()
        with repeatable(), torch.inference_mode():
            features = torch.zeros(1, len(every), about.encoder.dim, dtype=torch.float16)
            pictures = list(self._pool.map(self._prepared, [every[row] for row in needed.tolist()]))
            for rows, part in zip(
                needed.split(about.features.batch_size), _parts(pictures, about.features.batch_size), strict=True
            ):
                features[0, rows] = self._forward(torch.stack(part)).cpu()
            index = torch.tensor([frame.index for frame in every], dtype=torch.int32)
            batch = Bags(
                [str(number) for number in range(len(bags))],
                torch.zeros(len(bags), dtype=torch.int64),
                starts,
                lengths,
                features,
                index,
                about.bags.frames,
                about.bags.instance_frames,
            ).batch(torch.arange(len(bags)), None)
            x, mask = batch.x.to(self._device), batch.mask.to(self._device)
            output = self.saved.model(x, mask, batch.frame_index.to(x))
            clips = output.logits.float().softmax(-1).cpu()
            relevance = relevance_of(output).float().cpu()
            alone = output.alignment.float().softmax(-1).cpu()
        results = []
        for row, frames in enumerate(bags):
            times = {frame.index: frame.time_s for frame in frames}
            seen = [
                FrameScore(number, times[number], float(relevance[row, t]), self._named(alone[row, t]))
                for t, (number, valid) in enumerate(zip(batch.frame_index[row].tolist(), batch.mask[row], strict=True))
                if valid
            ]
            results.append((self._named(clips[row]), seen))
        return results

    def _prepared(self, frame: Frame) -> torch.Tensor:
        data = torch.frombuffer(bytearray(frame.jpeg), dtype=torch.uint8)
        return self.saved.encoder.preprocess(decode_jpeg(data, ImageReadMode.RGB))

    def _named(self, values: torch.Tensor) -> dict[str, float]:
        return dict(zip(self.classes, values.tolist(), strict=True))


class _Look:
    """Looks for faces, once in every frame although windows overlap, and in a stream only so many times a second."""

    def __init__(self, pool: ThreadPoolExecutor, often: bool) -> None:
        self._pool = pool
        self._often = often
        self._known: dict[int, list] = {}

    def faces(self, frames: list[Frame]) -> list[list | None]:
        """The faces of each frame; None where nobody looked."""
        from tgdfer.media.faces import find

        ticks = [int(frame.time_s * LOOKS) for frame in frames]
        wanted = [
            frame
            for place, frame in enumerate(frames)
            if self._often or place in (0, len(frames) - 1) or ticks[place] != ticks[place - 1]
        ]
        new = [frame for frame in wanted if frame.index not in self._known]
        kept = {frame.index: self._known[frame.index] for frame in frames if frame.index in self._known}
        self._known = kept | dict(zip((frame.index for frame in new), self._pool.map(find, new), strict=True))
        return [self._known.get(frame.index) for frame in frames]


def _present(count: int, first: int, last: int) -> tuple[int, int]:
    """The frames from ``first``, where a face is seen, to ``last``; short gaps at both ends count as seen."""
    gap = max(2, round(EDGE * count))
    return first if first > gap else 0, last + 1 if count - 1 - last > gap else count


def _parts(items: list, size: int) -> Iterator[list]:
    return (items[at : at + size] for at in range(0, len(items), size))


def _span(frames: list[Frame]) -> float:
    """About how long a clip is whose frames were taken evenly."""
    return (frames[-1].time_s - frames[0].time_s) * len(frames) / max(1, len(frames) - 1)


def _reason(windows: list[Window]) -> str:
    looked = sum(window.faces.frames for window in windows if window.faces)
    return f"{NO_FACE} in {looked} frames"


def _notes(windows: list[Window], seen: list[Window]) -> list[str]:
    notes = []
    found = [window.faces for window in windows if window.faces]
    frames = sum(one.frames for one in found)
    several = sum(one.with_several for one in found)
    if frames and several >= SEVERAL * frames:
        most = max(one.most for one in found)
        notes.append(f"several faces (up to {most} in a frame): the largest one is followed, the others are left out")
    if seen and len(seen) < len(windows):
        notes.append(f"{NO_FACE} in {len(windows) - len(seen)} of {len(windows)} windows, which have no number")
    return notes
