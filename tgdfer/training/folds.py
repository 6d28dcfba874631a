"""A data set as training sees it: the feature cache, and the clips of each fold with their classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from tgdfer.config.params import Params
from tgdfer.config.training import RunParams
from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.core.progress import log
from tgdfer.features.bags import Bags
from tgdfer.features.cache import FeatureCache, load_features
from tgdfer.training.splits import inner_split, part_of_each_class


@dataclass(frozen=True)
class Inputs:
    """What all folds and seeds of a data set share. Clips are given by their numbers in the feature cache."""

    dataset: str
    classes: list[str]
    cache: FeatureCache
    labels: np.ndarray
    """int64 [n], by clip; -1 for a clip that is not in the clips table."""
    subjects: pa.StringArray
    """[n], null where unknown."""
    folds: dict[int, dict[str, np.ndarray]]
    """Clips int64 by fold and split (train, test), ascending; clips without features are left out."""
    block: int | None
    """The block of the encoder after which ``cache`` has the tokens of frames; None where it has features."""
    fingerprints: dict[str, str]
    """Of the clips table, the folds table and the feature cache."""


@dataclass(frozen=True)
class FoldBags:
    """The bags of one fold."""

    number: int
    train: Bags
    """With a fraction of the clips, each as often as the fraction fits into the whole: an epoch stays as long."""
    validation: Bags | None
    test: Bags
    test_labels: np.ndarray
    validation_labels: np.ndarray
    train_counts: torch.Tensor
    """int64 [C]: different training clips of each class, without the validation clips."""


def load_inputs(params: Params, dataset: str, tokens: bool = False) -> Inputs:
    """Read the clips table and the folds table of ``dataset``, and open its cache of features or of ``tokens``.

    Raises:
        UserError: a file is missing or broken, or a label is not a class of the data set.
    """
    about = params.dataset(dataset)
    manifest = paths.features(dataset, about.encoder)
    cache = load_features(manifest, tokens)
    block = storage.read_sealed(manifest)["tokens"]["block"] if tokens else None
    clip_ids, labels, subjects = _clips(paths.clips(dataset), about.classes)
    row = pc.index_in(cache.clip_ids, clip_ids)
    fingerprints = {
        "clips": storage.file_fingerprint(paths.clips(dataset)),
        "folds": storage.file_fingerprint(paths.folds(dataset)),
        "features": cache.fingerprint,
    }
    return Inputs(
        dataset,
        list(about.classes),
        cache,
        pc.fill_null(labels.take(row), -1).to_numpy(),
        subjects.take(row),
        _folds(dataset, clip_ids, cache.clip_ids),
        block,
        fingerprints,
    )


def _clips(path: Path, classes: Sequence[str]) -> tuple[pa.StringArray, pa.Int64Array, pa.StringArray]:
    """The name, class index and subject of every clip of the clips table."""
    table = storage.read_table(path, "clips").combine_chunks()
    labels = pc.index_in(table["label"], pa.array(classes)).combine_chunks().cast(pa.int64())
    if labels.null_count:
        bad = table.filter(labels.is_null()).slice(0, 1).to_pylist()[0]
        raise UserError(
            f"{path}: clip '{bad['clip_id']}' has label '{bad['label']}'; expected one of {', '.join(classes)}"
        )
    return table["clip_id"].combine_chunks(), labels, table["subject"].combine_chunks()


def _folds(dataset: str, clip_ids: pa.StringArray, encoded: pa.StringArray) -> dict[int, dict[str, np.ndarray]]:
    """The clips of every fold, by their numbers among ``encoded``; all must be among ``clip_ids``."""
    path = paths.folds(dataset)
    table = storage.read_table(path, "folds")
    known = pc.is_in(table["clip_id"], clip_ids)
    sound = pc.and_(known, pc.is_in(table["split"], pa.array(["train", "test"])))
    if not pc.all(sound).as_py():
        bad = table.filter(pc.invert(sound)).slice(0, 1).to_pylist()[0]
        where = f"{path}: clip '{bad['clip_id']}' of fold {bad['fold']}"
        if pc.is_in(pa.scalar(bad["clip_id"]), clip_ids).as_py():
            raise UserError(f"{where} has split '{bad['split']}'; expected train or test")
        raise UserError(f"{where} is not in {paths.clips(dataset)}; run the clips stage again")
    number = pc.index_in(table["clip_id"], encoded)
    missing = pc.count_distinct(table["clip_id"].filter(number.is_null())).as_py()
    if missing:
        log.warning("%s: %d clips have no features (rejected earlier); they take no part", dataset, missing)
    clips = pc.fill_null(number, -1).to_numpy().astype(np.int64)
    fold, train = table["fold"].to_numpy(), pc.equal(table["split"], "train").to_numpy()
    return {
        int(one): {
            split: np.sort(clips[(fold == one) & (train == (split == "train")) & (clips >= 0)])
            for split in ("train", "test")
        }
        for one in np.unique(fold)
    }


def check_folds(inputs: Inputs, numbers: Sequence[int]) -> None:
    """Raise a UserError if there is no fold, or one of ``numbers`` is not a fold or lacks training or test clips."""
    if not inputs.folds:
        raise UserError(f"{paths.folds(inputs.dataset)}: no clips; expected at least one fold")
    for number in numbers:
        if number not in inputs.folds:
            known = ", ".join(map(str, inputs.folds))
            raise UserError(f"data set {inputs.dataset}: no fold {number}; its folds are: {known}")
        for split, what in (("train", "training"), ("test", "test")):
            if not len(inputs.folds[number][split]):
                raise UserError(
                    f"data set {inputs.dataset}: fold {number} has no {what} clips with features; "
                    f"check {paths.folds(inputs.dataset)} and the rejects of the frames stage"
                )


def check_views(inputs: Inputs, views: int) -> None:
    """Raise a UserError if the cache has fewer than ``views`` views of a clip."""
    if views > inputs.cache.views:
        raise UserError(
            f"training.test_views: {views}, but the features of {inputs.dataset} have {inputs.cache.views} of a clip: "
            f"the plain one and those of features.views; use features.views: {views - 1}, or fewer test views"
        )


def make_fold(inputs: Inputs, number: int, params: RunParams, seed: int) -> FoldBags:
    """The bags of fold ``number`` (see ``check_folds``), the validation split made.

    With ``training.fraction`` below 1 the ``seed`` decides which training clips are used.
    """
    train, test = inputs.folds[number]["train"], inputs.folds[number]["test"]
    labels, which = inputs.labels[train], pa.array(train)
    ids, subjects = inputs.cache.clip_ids.take(which).to_pylist(), inputs.subjects.take(which).to_pylist()
    training, key = params.training, f"{inputs.dataset}/fold{number}"
    rest, held = inner_split(ids, labels, subjects, training.validation_fraction, key)
    repeats = 1
    if training.fraction < 1:
        every = len(rest)
        rest = rest[part_of_each_class([ids[i] for i in rest], labels[rest], training.fraction, f"{key}/seed{seed}")]
        repeats = round(every / len(rest))
    counts = np.bincount(labels[rest], minlength=len(inputs.classes))
    empty = [name for name, count in zip(inputs.classes, counts, strict=True) if not count]
    if empty:
        log.warning("%s fold %d: no training clips of class %s", inputs.dataset, number, ", ".join(empty))

    def bags(clips: np.ndarray) -> Bags:
        chosen = torch.from_numpy(clips), torch.from_numpy(inputs.labels[clips])
        return Bags(inputs.cache, *chosen, params.bags.frames, params.bags.instance_frames)

    return FoldBags(
        number,
        bags(np.tile(train[rest], repeats)),
        bags(train[held]) if len(held) else None,
        bags(test),
        inputs.labels[test],
        labels[held],
        torch.from_numpy(counts.astype(np.int64)),
    )
