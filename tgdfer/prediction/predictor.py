"""The predictor turns a video into probabilities along time, with the code that processes the clips of a data set."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path

from tgdfer.config.data import DEMO_ENCODER
from tgdfer.config.params import load_params
from tgdfer.core.errors import UserError
from tgdfer.core.progress import track
from tgdfer.core.provenance import cores
from tgdfer.media import images, videos
from tgdfer.media.frame import Frame, UnusableError, clip_seconds
from tgdfer.prediction.cropping import Crop, PersonCropper, Persons
from tgdfer.prediction.result import ANOTHER, NO_FACE, FaceBox, Interval, Person, Prediction, Window, united
from tgdfer.prediction.saved import SavedModel, load_saved
from tgdfer.prediction.scoring import Scorer
from tgdfer.prediction.thumbnails import ThumbnailCollector
from tgdfer.prediction.windows import FrameWindow, sliding_windows, stream_sampling

DRAWN = "demo"
"""The embedded data set, whose faces are drawn."""
TOGETHER = 4
"""How many windows go through the model at once."""
CLIP_S = 3.0
"""The length of a window if the run does not know the duration of its clips."""
STREAM_SIDE = 720
"""The largest shorter side of a stream's frames, in pixels: 4K frames would fill the memory and help no encoder."""
NAMED = 3
"""How many of the times at which somebody else is on screen are named."""
ONE_CLIP = 1.5
"""A video is one clip if it is at most this many times as long as a window."""


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
        seen = {"encoder": about.encoder.name == DEMO_ENCODER, "training data": about.dataset == DRAWN}
        drawn = " and ".join(f"its {name}" for name, value in seen.items() if value)
        self._caution = (
            [f"the model knows only drawn faces ({drawn}): on people its numbers mean nothing"] if drawn else []
        )
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
        person: Persons = "largest",
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
            person: ``largest`` answers for the person with the largest face, ``all`` for everybody; nobody is
                recognised, so after a cut everybody counts as somebody else.
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
            found = self._predict(path, crop, person, length, step, progress)
        except UnusableError as error:
            raise UserError(f"{path}: {error}") from None
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
        return replace(found, seconds=time.monotonic() - began)

    def _predict(
        self, path: Path, crop: Crop, persons: Persons, length: float, step: float, progress: bool
    ) -> Prediction:
        # a face is cut out before it is resized
        whole = self._frames if crop == "none" else self._frames.model_copy(update={"resize": None})
        if path.is_dir():
            frames = images.read_images(path, whole, path)[0]
            start, end = 0.0, clip_seconds(frames)
        else:
            duration = videos.duration(path)
            if length and (duration or 0.0) > ONE_CLIP * length:
                assert duration
                small = whole.model_copy(update={"resize": min(STREAM_SIDE, whole.resize or STREAM_SIDE)})
                frames_of = videos.stream_video(path, stream_sampling(small, length))
                spans = sliding_windows(frames_of, length, step)
                if progress:
                    spans = track(spans, path.name, total=int((duration - length) / step) + 1, unit="windows")
                return self._collect(path, spans, crop, persons, duration)
            frames = videos.read_video(path, whole)
            start, end = videos.span(path)
        return self._collect(path, [FrameWindow(start, end, frames)], crop, persons, end - start)

    def _collect(
        self, path: Path, spans: Iterable[FrameWindow], crop: Crop, persons: Persons, duration: float
    ) -> Prediction:
        whole = isinstance(spans, list)  # the video is one window
        cropper = PersonCropper(self._frames, crop, persons, every=whole)
        followed: dict[int, _Followed] = {}
        unseen: list[Window] = []
        size, cropped = (0, 0), False
        spans = iter(spans)
        start, end, total = math.inf, 0.0, 0
        while together := list(islice(spans, TOGETHER)):
            size = together[0].frames[0].width, together[0].frames[0].height
            start, end, total = min(start, together[0].start), together[-1].end, total + len(together)
            inputs = [(span, one) for span in together for one in cropper(span.frames)]
            scores = self._score([one for _, one in inputs], each_frame=whole)
            for (span, one), (probabilities, frames, pictures) in zip(inputs, scores, strict=True):
                window = Window(span.start, span.end, probabilities, frames, one.faces)
                followed.setdefault(one.person, _Followed()).add(window, one.boxes, pictures)
                cropped |= one.places is not None
            shown = {id(span) for span, _ in inputs}
            unseen += [Window(one.start, one.end, {}, [], None, NO_FACE) for one in together if id(one) not in shown]
        if not total:
            raise UnusableError("no frame could be decoded")
        order = sorted(followed, key=lambda person: -cropper.areas.get(person, 0.0))
        if persons == "largest":
            others = [window for person in order[1:] for window in followed[person].windows]
            unseen += [Window(one.start_s, one.end_s, {}, [], None, ANOTHER) for one in others]
            order = order[:1]
        others_s = united(when for person, when in cropper.seen.items() if person not in order)
        answers = [followed[person].person(number) for number, person in enumerate(order, 1)]
        return Prediction(
            source=str(path),
            start_s=start,
            duration_s=duration if whole else end - start,
            size=size,
            persons=answers,
            without_face=sorted(unseen, key=lambda one: one.start_s),
            crop="face" if cropped or not answers else "none",
            model=self.saved.identity(),
            seconds=0.0,
            notes=[*_notes(answers, len(cropper.seen), others_s, unseen, total), *(self._caution if answers else [])],
            others_s=others_s,
        )


class _Followed:
    """What is collected of a person while the video is read."""

    def __init__(self) -> None:
        self.windows: list[Window] = []
        self._boxes: dict[float, FaceBox] = {}  # windows overlap
        self._thumbnails = ThumbnailCollector()

    def add(self, window: Window, boxes: list[FaceBox], pictures: Mapping[int, Frame]) -> None:
        self.windows.append(window)
        self._boxes |= {box.time_s: box for box in boxes}
        self._thumbnails.add(pictures, window)

    def person(self, number: int) -> Person:
        made = Person(number, self.windows, [self._boxes[time] for time in sorted(self._boxes)])
        return replace(made, thumbnails=self._thumbnails.thumbnails(made.probabilities))


def _notes(
    persons: list[Person], count: int, others_s: list[Interval], unseen: list[Window], windows: int
) -> list[str]:
    notes = []
    if count > len(persons) > 0:
        (first, *_) = persons
        times = ", ".join(f"from {begin:.1f} to {end:.1f} s" for begin, end in others_s[:NAMED])
        more = f" and {len(others_s) - NAMED} times more" if len(others_s) > NAMED else ""
        notes.append(
            f"{count} persons (after a cut, each counts again): the answer is for the largest, followed from "
            f"{first.seen[0][0]:.1f} to {first.seen[-1][1]:.1f} s; somebody else is on screen {times}{more}; "
            "--person all answers for each"
        )
    for person in persons:
        if person.doubtful:
            which = f"person {person.number}" if len(persons) > 1 else "it"
            notes.append(
                f"the detector is not sure that {which} is a face (score {person.score:.2f}): perhaps a drawing"
            )
    without = sum(one.reason == NO_FACE for one in unseen)
    if persons and without:
        notes.append(f"{NO_FACE} in {without} of {windows} windows, which have no number")
    return notes
