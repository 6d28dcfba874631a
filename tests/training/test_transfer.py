"""The transfer stage: runs of one data set tested on the clips of another, over the classes that both have."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import training_project as project
from safetensors.torch import save_file

from tgdfer.config.params import Params
from tgdfer.core import paths, storage
from tgdfer.prediction import saved
from tgdfer.stages import train, transfer

OTHER = ["sad", "fear", "happy"]


@pytest.fixture
def params(new_folder, monkeypatch) -> Params:
    """Two trained data sets, whose class 2 is not the same: the second is a copy of the first with other names."""
    project.make_project()
    manifest = paths.features("tiny", "demo-clip")
    frames = {"settings": {}, "clip_seconds": None}
    about = {"frames": frames, "made_by": {"parameters": {"features": {}}}}
    storage.write_sealed(manifest, {**storage.read_sealed(manifest), **about})
    shutil.copytree(paths.clips("tiny").parent, paths.clips("other").parent)
    names = dict(zip(project.CLASSES, OTHER, strict=True))
    clips = storage.read_table(paths.clips("other"), "clips").to_pydict()
    clips["label"] = [names[label] for label in clips["label"]]
    storage.write_table(paths.clips("other"), "clips", clips, {})
    one = project.params(seeds=(0, 1), epochs=10)
    two = one.datasets["tiny"].model_copy(update={"classes": OTHER})
    chosen = one.model_copy(update={"datasets": {**one.datasets, "other": two}, "transfer": ["probe"]})
    assert train.run(chosen, "tiny", "probe") == 0
    save_file({"none": torch.zeros(1)}, paths.encoder("demo-clip").with_name(saved.WEIGHTS))
    encoder = SimpleNamespace(dim=16, device=torch.device("cpu"))
    monkeypatch.setattr(saved, "load_encoder", lambda *_: encoder)
    return chosen


def test_clips_of_the_same_data_set_are_predicted_as_after_training(params: Params) -> None:
    same = params.model_copy(update={"datasets": {"tiny": params.datasets["tiny"]}})
    transfer.run(same, "tiny", "tiny", "probe")
    found = storage.read_table(paths.transfer("tiny", "tiny", "probe"), "transfer").to_pandas()
    assert (found["fold"] == found["source_fold"]).all()
    for fold, seed in np.ndindex(2, 2):
        run = storage.read_table(paths.run("tiny", "probe", fold + 1, seed) / "predictions.parquet", "predictions")
        run = run.to_pandas().query("selection == 'last'").set_index("clip_id")
        own = found[(found["fold"] == fold + 1) & (found["seed"] == seed)].set_index("clip_id")
        assert set(own.index) == set(run.index)
        for clip, row in own.iterrows():
            assert row["probabilities"] == pytest.approx(run.loc[clip, "probabilities"], abs=1e-6)


def test_other_clips_are_predicted_by_every_run_over_the_shared_classes(params: Params) -> None:
    transfer.run(params, "tiny", "other", "probe")
    found = storage.read_table(paths.transfer("tiny", "other", "probe"), "transfer").to_pandas()
    assert params.shared_classes == ["happy", "sad"]
    assert set(found["label"]) == {"happy", "sad"}
    clips = storage.read_table(paths.clips("other"), "clips").to_pandas().set_index("clip_id")["label"]
    shared = clips[clips.isin(["happy", "sad"])]
    assert found.groupby("clip_id").size().to_dict() == dict.fromkeys(shared.index, 4), "each of four runs once"
    assert (found["label"] == clips.loc[found["clip_id"]].to_numpy()).all()
    probabilities = np.stack(found["probabilities"])
    assert probabilities.sum(axis=1) == pytest.approx(1)
    # the features are the same, so that happy of the one is sad of the other
    right = np.array(["happy", "sad"])[probabilities.argmax(axis=1)] == found["label"]
    assert right[found["label"] == "sad"].mean() < 0.5
