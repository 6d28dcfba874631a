"""A data set as training sees it: the feature cache, loaded once, and the clips of each fold with their classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from tgdfer.config.params import Params
from tgdfer.config.sections import BagsParams
from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.core.progress import log
from tgdfer.features.bags import Bags
from tgdfer.features.cache import FeatureCache, load_features
from tgdfer.training.splits import inner_split


@dataclass(frozen=True)
class Inputs:
    """What all folds and seeds of a data set share."""

    dataset: str
    classes: list[str]
    cache: FeatureCache
    labels: dict[str, int]
    """Class index by clip id."""
    subjects: dict[str, str | None]
    folds: dict[int, dict[str, list[str]]]
    """Clip ids by fold and split (train, test), ascending; clips without features are left out."""
    fingerprints: dict[str, str]
    """Of the clips table, the folds table and the feature cache."""
    _copies: dict[torch.device, FeatureCache] = field(default_factory=dict)

    def cache_on(self, device: torch.device) -> FeatureCache:
        """The feature cache with its tensors on ``device``, copied there once for all folds and seeds."""
        if device not in self._copies:
            self._copies[device] = replace(
                self.cache,
                offsets=self.cache.offsets.to(device),
                frame_index=self.cache.frame_index.to(device),
                features=self.cache.features.to(device),
            )
        return self._copies[device]


@dataclass(frozen=True)
class FoldBags:
    """The bags of one fold."""

    number: int
    train: Bags
    validation: Bags | None
    test: Bags
    test_ids: list[str]
    test_labels: np.ndarray
    validation_labels: np.ndarray
    train_counts: torch.Tensor
    """int64 [C]: training clips of each class, without the validation clips."""


def load_inputs(params: Params, dataset: str) -> Inputs:
    """Read the clips table, the folds table and the feature cache of ``dataset``.

    Raises:
        UserError: a file is missing or broken, or a label is not a class of the data set.
    """
    about = params.dataset(dataset)
    clips, folds = paths.clips(dataset), paths.folds(dataset)
    features = paths.features(dataset, about.encoder)
    number = {name: index for index, name in enumerate(about.classes)}
    table = storage.read_table(clips, "clips").select(["clip_id", "label", "subject"]).to_pydict()
    labels, subjects = {}, dict(zip(table["clip_id"], table["subject"], strict=True))
    for clip, label in zip(table["clip_id"], table["label"], strict=True):
        if label not in number:
            raise UserError(f"{clips}: clip '{clip}' has label '{label}'; expected one of {', '.join(about.classes)}")
        labels[clip] = number[label]
    cache = load_features(features)
    encoded = set(cache.clip_ids)
    parts: dict[int, dict[str, list[str]]] = {}
    missing = set()
    rows = storage.read_table(folds, "folds").sort_by([("fold", "ascending"), ("clip_id", "ascending")]).to_pydict()
    for clip, fold, split in zip(rows["clip_id"], rows["fold"], rows["split"], strict=True):
        if clip not in labels:
            raise UserError(f"{folds}: clip '{clip}' of fold {fold} is not in {clips}; run the clips stage again")
        chosen = parts.setdefault(fold, {"train": [], "test": []})
        if split not in chosen:
            raise UserError(f"{folds}: clip '{clip}' of fold {fold} has split '{split}'; expected train or test")
        if clip in encoded:
            chosen[split].append(clip)
        else:
            missing.add(clip)
    if missing:
        log.warning("%s: %d clips have no features (rejected earlier); they take no part", dataset, len(missing))
    fingerprints = {
        "clips": storage.file_fingerprint(clips),
        "folds": storage.file_fingerprint(folds),
        "features": cache.fingerprint,
    }
    return Inputs(dataset, list(about.classes), cache, labels, subjects, parts, fingerprints)


def check_folds(inputs: Inputs, numbers: Sequence[int]) -> None:
    """Raise a UserError if there is no fold at all, or one of ``numbers`` is none or lacks training or test clips."""
    if not inputs.folds:
        raise UserError(f"{paths.folds(inputs.dataset)}: no clips; expected at least one fold")
    for number in numbers:
        if number not in inputs.folds:
            known = ", ".join(map(str, inputs.folds))
            raise UserError(f"data set {inputs.dataset}: no fold {number}; its folds are: {known}")
        for split, what in (("train", "training"), ("test", "test")):
            if not inputs.folds[number][split]:
                raise UserError(
                    f"data set {inputs.dataset}: fold {number} has no {what} clips with features; "
                    f"check {paths.folds(inputs.dataset)} and the rejects of the frames stage"
                )


def make_fold(
    inputs: Inputs, number: int, params: BagsParams, validation_fraction: float, device: torch.device
) -> FoldBags:
    """The bags of fold ``number`` (see ``check_folds``) on ``device``, the validation split made."""
    cache = inputs.cache_on(device)
    parts = inputs.folds[number]
    ids = parts["train"]
    labels = np.array([inputs.labels[clip] for clip in ids])
    key = f"{inputs.dataset}/fold{number}"
    rest, held = inner_split(ids, labels, [inputs.subjects[clip] for clip in ids], validation_fraction, key)
    counts = np.bincount(labels[rest], minlength=len(inputs.classes))
    test_labels = np.array([inputs.labels[clip] for clip in parts["test"]])
    empty = [name for name, count in zip(inputs.classes, counts, strict=True) if not count]
    if empty:
        log.warning("%s fold %d: no training clips of class %s", inputs.dataset, number, ", ".join(empty))

    def bags(clip_ids: Sequence[str], classes: np.ndarray) -> Bags:
        target = torch.from_numpy(classes.astype(np.int64)).to(device)
        return Bags.from_cache(cache, clip_ids, target, params.frames, params.instance_frames)

    return FoldBags(
        number,
        bags([ids[i] for i in rest], labels[rest]),
        bags([ids[i] for i in held], labels[held]) if len(held) else None,
        bags(parts["test"], test_labels),
        parts["test"],
        test_labels,
        labels[held],
        torch.from_numpy(counts.astype(np.int64)),
    )
