"""The transfer stage: the runs of a variant on one data set, tested on the clips of another one or of the same.

The clips of another data set are tested by every run, those of the same one by the runs of the fold that tests them.
Only the classes that all data sets have count, in the clips and in the answers.
"""

import numpy as np
import pyarrow as pa
import torch

from tgdfer.config import dependencies
from tgdfer.config.params import Params
from tgdfer.core import paths, storage
from tgdfer.core.allocation import map_large_blocks
from tgdfer.core.determinism import deterministic
from tgdfer.core.devices import choose_device, own_gpu
from tgdfer.core.locks import writes
from tgdfer.core.progress import track
from tgdfer.features.bags import Bags
from tgdfer.prediction.saved import SavedModel, load_saved
from tgdfer.training.evaluation import evaluate
from tgdfer.training.folds import Inputs, check_folds, check_views, load_inputs


@own_gpu()
@writes(lambda params, source, target, variant: [paths.transfer(source, target, variant)])
def run(params: Params, source: str, target: str, variant: str) -> None:
    """Test every run of ``variant`` on ``source`` on the clips of ``target``.

    Raises:
        UserError: a name is unknown, an earlier stage has not run, or a run is damaged.
    """
    map_large_blocks()
    chosen = params.run(variant, source)
    training = chosen.training
    device = choose_device(training.device, "training.device")
    inputs, summary = load_inputs(params, target, chosen.model.adapts), paths.variant(source, variant)
    check_folds(inputs, list(inputs.folds))
    check_views(inputs, training.test_views)
    made_by = dependencies.made_by(
        "transfer",
        dependencies.settings(params, "transfer"),
        {"runs": storage.file_fingerprint(summary), **inputs.fingerprints},
    )
    done = [run for run in storage.read_sealed(summary)["runs"] if not run["failed"]]
    tables = []
    with deterministic(training.threads):
        for about in track(done, f"{source}/{variant} on {target}", unit="runs"):
            saved = load_saved(summary.parent / about["folder"], paths.MODELS, str(device))
            folds = {about["fold"]} if source == target else set(inputs.folds)
            tables.append(_tested(saved, inputs, params.shared_classes, folds, training.test_views, device))
    table = pa.concat_tables(tables).combine_chunks()
    storage.write_table(paths.transfer(source, target, variant), "transfer", table, made_by)


def _tested(
    saved: SavedModel, inputs: Inputs, shared: list[str], folds: set[int], views: int, device: torch.device
) -> pa.Table:
    """A run's probabilities of the ``shared`` classes for the test clips of some folds that are of these classes."""
    about, cache = saved.description, inputs.cache
    known = [c for c, name in enumerate(inputs.classes) if name in shared]
    tests = {fold: inputs.folds[fold]["test"] for fold in sorted(folds)}
    tests = {fold: clips[np.isin(inputs.labels[clips], known)] for fold, clips in tests.items()}
    clips = np.concatenate(list(tests.values()))
    labels = inputs.labels[clips]
    chosen = torch.from_numpy(clips), torch.from_numpy(labels)
    bags = Bags(cache, *chosen, about.bags.frames, about.bags.instance_frames)
    scores = evaluate(saved.model, bags, device, views)
    found = scores.probabilities[:, [about.classes.index(name) for name in shared]]
    found /= found.sum(axis=1, keepdims=True)
    offsets = np.arange(0, found.size + 1, len(shared), dtype=np.int32)
    return pa.table(
        {
            "clip_id": bags.clip_ids,
            "fold": np.repeat(list(tests), [len(clips) for clips in tests.values()]).astype(np.int32),
            "label": [inputs.classes[label] for label in labels],
            "source_fold": np.full(len(clips), saved.run["fold"], np.int32),
            "seed": np.full(len(clips), saved.run["seed"], np.int32),
            "probabilities": pa.ListArray.from_arrays(offsets, found.ravel()),
        }
    )
