"""`tgdfer predict`: many videos, one after another; an unusable one is recorded with its reason, the others go on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

from tgdfer.core.errors import UserError
from tgdfer.core.progress import log, track
from tgdfer.datasets.listing import VIDEO_SUFFIXES
from tgdfer.datasets.walk import SYSTEM
from tgdfer.media.images import LEADS_OUT, SUFFIXES, leads_out
from tgdfer.prediction.cropping import Crop, Persons
from tgdfer.prediction.folder import ResultFolder, columns, csv_text, rows
from tgdfer.prediction.predictor import Predictor
from tgdfer.prediction.result import NOTICE, Prediction, printable

Page = Literal["link", "embed", "none"]


@dataclass(frozen=True)
class Options:
    """The options of the command line, checked before a model is loaded.

    Raises:
        UserError: the run is missing, or an option is not one of its values.
    """

    run: str
    crop: str
    person: str
    page: str
    window: float | None
    stride: float | None
    output: Path
    picture: bool
    annotate: Path | None
    as_json: bool
    as_csv: bool

    def __post_init__(self) -> None:
        if not self.run:
            raise UserError("--run: expected a run, such as --run runs/demo/tgdfer/fold1/seed0")
        for name, known in (("crop", Crop), ("person", Persons), ("page", Page)):
            if getattr(self, name) not in get_args(known):
                raise UserError(f"--{name} {getattr(self, name)}: expected one of {', '.join(get_args(known))}")
        if self.as_json and self.as_csv:
            raise UserError("--json and --csv: expected one of them; both are in the folder of --output anyway")


def find_videos(given: Sequence[Path]) -> dict[Path, Path]:
    """The videos among ``given``: files, and the videos and image folders in folders.

    Returns:
        For each the folder that its links must not leave: where it was found, or the root of the file system.

    Raises:
        UserError: a folder cannot be read, or has neither videos nor images.
    """
    found: dict[Path, Path] = {}
    for path in given:
        if not path.is_dir():
            found[path] = Path("/")  # a missing file is an unusable video among others
            continue
        try:
            below = list(_below(path))
        except OSError as error:
            raise UserError(f"{error.filename}: cannot be read: {error.strerror}") from None
        if not below:
            raise UserError(f"{path}: no video and no image in this folder")
        for one in below:
            found.setdefault(one, path)
    return found


def _below(folder: Path) -> Iterator[Path]:
    members = sorted(path for path in folder.iterdir() if not SYSTEM.fullmatch(path.name))
    if any(path.suffix.lower() in SUFFIXES and path.is_file() for path in members):
        yield folder
    for path in members:
        if path.is_dir() and not path.is_symlink():
            yield from _below(path)
        elif path.suffix.lower() in VIDEO_SUFFIXES:
            yield path


def predict_all(model: Predictor, given: Sequence[Path], asked: Options) -> tuple[str, int]:
    """Predict every video and write the files; returns what to print and the exit code (1: some are unusable).

    Raises:
        UserError: there is nothing to predict, or options contradict each other.
    """
    paths = find_videos(given)
    if not paths:
        raise UserError("no video given; say: tgdfer predict VIDEO --run RUN")
    with _writing(asked.output):  # before the work begins
        asked.output.mkdir(parents=True, exist_ok=True)
        folder = ResultFolder(asked.output, model.classes)
    if asked.annotate is not None and len(paths) != 1:
        raise UserError(f"--annotate {asked.annotate}: {len(paths)} videos given; expected one")
    if asked.annotate is not None and asked.annotate.exists():
        raise UserError(f"--annotate {asked.annotate}: exists already; name another file, or remove it")
    done: list[Prediction] = []
    failed: dict[str, str] = {}
    for path in track(list(paths), "predict", unit="videos") if len(paths) > 1 else paths:
        try:
            if leads_out(path, paths[path]):
                raise UserError(f"{path}: {LEADS_OUT} {paths[path]}; it is predicted if you name the file itself")
            prediction = model.predict(
                path,
                crop=cast(Crop, asked.crop),
                person=cast(Persons, asked.person),
                window=asked.window,
                stride=asked.stride,
                progress=len(paths) == 1,
            )
        except UserError as error:
            failed[printable(path)] = printable(str(error).removeprefix(f"{path}: "))
            log.error("%s", printable(error))
            continue
        with _writing(folder.path):
            folder.write(prediction, asked.picture, asked.page)
        if asked.annotate is not None:
            from tgdfer.prediction.annotate import annotate

            with _writing(asked.annotate):
                annotate(prediction, asked.annotate)
        done.append(replace(prediction, persons=[replace(one, thumbnails=[]) for one in prediction.persons]))
    with _writing(folder.path):
        folder.write_lists(done, failed, index=asked.page != "none")
    if asked.as_csv:
        text = csv_text(columns(model.classes), rows(done, failed, folder.files))
    else:
        text = _text(done, failed, asked.as_json)
    return text, 1 if failed else 0


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{place}: cannot be written: {error.strerror or error}") from None


def _text(done: Sequence[Prediction], failed: dict[str, str], as_json: bool) -> str:
    if as_json:
        value: dict[str, Any] = {
            "notice": NOTICE,
            "predictions": [prediction.to_dict() for prediction in done],
            "failed": [{"source": source, "reason": reason} for source, reason in failed.items()],
        }
        return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    lines = [f"{prediction} ({prediction.speed:.1f} s of video per second)" for prediction in done]
    lines += [f"{source}: not predicted: {reason}" for source, reason in failed.items()]
    return "\n".join([*lines, NOTICE]) + "\n"
