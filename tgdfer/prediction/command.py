"""`tgdfer predict`: many videos, one after another; an unusable one is recorded with its reason, the others go on."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import Any, cast, get_args

from tgdfer.core import storage
from tgdfer.core.errors import UserError
from tgdfer.core.escaping import csv_cell
from tgdfer.core.progress import log, track
from tgdfer.datasets.listing import VIDEO_SUFFIXES
from tgdfer.media.images import LEADS_OUT, SUFFIXES, leads_out
from tgdfer.prediction.cropping import Crop
from tgdfer.prediction.predictor import Predictor
from tgdfer.prediction.result import NOTICE, Prediction, printable

LONGEST = 200
"""How many bytes of a video's name are used for the names of its files; file systems allow a few more."""


@dataclass(frozen=True)
class Options:
    """The options of the command line."""

    crop: Crop = "auto"
    window: float | None = None
    stride: float | None = None
    output: Path | None = Path("predictions")
    picture: bool = True
    annotate: Path | None = None
    print_as: str = "text"
    """The format of standard output: text, json or csv."""


def options(
    run: str,
    crop: str,
    window: float | None,
    stride: float | None,
    output: Path,
    picture: bool,
    annotate: Path | None,
    as_json: bool,
    as_csv: bool,
) -> Options:
    """The options, checked before a model is loaded; a UserError names a wrong one."""
    if not run:
        raise UserError("--run: expected a run, such as --run runs/demo/tgdfer/fold1/seed0")
    if crop not in get_args(Crop):
        raise UserError(f"--crop {crop}: expected one of {', '.join(get_args(Crop))}")
    if as_json and as_csv:
        raise UserError("--json and --csv: expected one of them; both are in the folder of --output anyway")
    print_as = "json" if as_json else "csv" if as_csv else "text"
    return Options(cast(Crop, crop), window, stride, output, picture, annotate, print_as)


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
    members = sorted(path for path in folder.iterdir() if path.name[0] != ".")
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
    if asked.output is not None:  # before the work begins
        with _writing(asked.output):
            asked.output.mkdir(parents=True, exist_ok=True)
    if asked.annotate is not None and len(paths) != 1:
        raise UserError(f"--annotate {asked.annotate}: {len(paths)} videos given; expected one")
    done: list[Prediction] = []
    failed: dict[str, str] = {}
    names = dict(zip(paths, _names(paths), strict=True))
    for path in track(list(paths), "predict", unit="videos") if len(paths) > 1 else paths:
        try:
            if leads_out(path, paths[path]):
                raise UserError(f"{path}: {LEADS_OUT} {paths[path]}; it is predicted if you name the file itself")
            prediction = model.predict(
                path, crop=asked.crop, window=asked.window, stride=asked.stride, progress=len(paths) == 1
            )
        except UserError as error:
            failed[printable(path)] = printable(str(error).removeprefix(f"{path}: "))
            log.error("%s", printable(error))
            continue
        if asked.output is not None:
            with _writing(asked.output):
                _write(prediction, asked.output / names[path], asked.picture)
        if asked.annotate is not None:
            from tgdfer.prediction.annotate import annotate

            with _writing(asked.annotate):
                annotate(prediction, asked.annotate)
        done.append(replace(prediction, thumbnails=[]))
    if asked.output is not None:
        with _writing(asked.output):
            storage.write_text(asked.output / "predictions.csv", _table(model, done, failed))
            storage.write_text(asked.output / "NOTICE.txt", f"{NOTICE}\n")  # a CSV has no place for it
    return _text(model, done, failed, asked.print_as), 1 if failed else 0


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{place}: cannot be written: {error.strerror or error}") from None


def _names(paths: Iterable[Path]) -> list[str]:
    """A file name for each video, from its own; equal names get a number, upper and lower case being equal."""
    names: dict[str, str] = {}
    for path in paths:
        stem = os.fsencode(path.resolve().stem)[:LONGEST].decode("utf-8", "ignore") or "video"
        candidates = chain([stem], (f"{stem}-{number}" for number in count(2)))
        name = next(name for name in candidates if name.casefold() not in names)
        names[name.casefold()] = name
    return list(names.values())


def _write(prediction: Prediction, base: Path, picture: bool) -> None:
    storage.write_json(base.with_name(f"{base.name}.json"), prediction.to_dict())
    if picture:
        from tgdfer.prediction.timeline import write_timeline

        write_timeline(prediction, base.with_name(f"{base.name}.png"))


def _table(model: Predictor, done: Sequence[Prediction], failed: dict[str, str]) -> str:
    """CSV: a row for each window of every video, and one for each unusable video."""
    columns = ["source", "start_s", "end_s", "prediction", "entropy", "reason"]
    out = io.StringIO()
    writer = csv.DictWriter(out, [*columns, *(f"p_{name}" for name in model.classes)], lineterminator="\n")
    writer.writeheader()
    rows = chain.from_iterable(prediction.rows() for prediction in done)
    for row in chain(rows, ({"source": source, "reason": reason} for source, reason in failed.items())):
        writer.writerow({key: csv_cell(value) for key, value in row.items()})
    return out.getvalue()


def _text(model: Predictor, done: Sequence[Prediction], failed: dict[str, str], form: str) -> str:
    if form == "csv":
        return _table(model, done, failed)
    if form == "json":
        value: dict[str, Any] = {
            "notice": NOTICE,
            "predictions": [prediction.to_dict() for prediction in done],
            "failed": [{"source": source, "reason": reason} for source, reason in failed.items()],
        }
        return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    lines = [f"{prediction} ({prediction.speed:.1f} s of video per second)" for prediction in done]
    lines += [f"{source}: not predicted: {reason}" for source, reason in failed.items()]
    return "\n".join([*lines, NOTICE]) + "\n"
