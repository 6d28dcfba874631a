"""From frames to a model whose encoder is adapted: the cache of tokens, training, resuming, and prediction."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from features_project import make_encoder, make_frames, params
from safetensors.torch import load_file

from tgdfer.config.data import FramesParams
from tgdfer.config.params import Params
from tgdfer.core import paths, storage
from tgdfer.core.classes import SEVEN
from tgdfer.core.errors import UserError
from tgdfer.core.parts import Part
from tgdfer.encoders import load_encoder
from tgdfer.features.bags import Bags
from tgdfer.features.cache import load_features
from tgdfer.features.frame_batches import ShardTask, decode, read_batches
from tgdfer.prediction.saved import load_saved
from tgdfer.runs.files import Key
from tgdfer.runs.outputs import damages
from tgdfer.runs.state import Expected
from tgdfer.stages import features, train
from tgdfer.training.evaluation import batches, score

VARIANTS = {
    "frozen": {},
    "lora": {"model": {"adapt": "lora", "adapt_rank": 2}},
    "last": {"model": {"adapt": "blocks"}, "training": {"recompute": True}},
}
TRAINING = {"epochs": 2, "batch_size": 4, "warmup_epochs": 1, "encoder_learning_rate": 0.01}


def project(keep: int | None = 1, **settings) -> Params:
    raw = params(keep=keep, **settings).model_dump()
    # text needs every class's words
    raw |= {
        "model": {"text": "class-name", "heads": 2, "context_tokens": 2},
        "training": TRAINING,
        "bags": {"frames": 3},
    }
    raw["variants"] = {name: {"label": name, "tables": [], "set": change} for name, change in VARIANTS.items()}
    return Params.model_validate({**raw, "grid": list(VARIANTS), "report": {"reference": "frozen"}})


def make_project() -> None:
    make_encoder()
    rows = sorted(make_frames(clips=42))
    about = {**storage.read_sealed(paths.frames("tiny")), "clip_seconds": None}
    settings = {"parameters": {"frames": FramesParams().model_dump(mode="json")}}
    storage.write_sealed(paths.frames("tiny"), {**about, "made_by": settings})
    count = len(rows)
    columns = {
        "clip_id": rows,
        "source": rows,
        "kind": ["video"] * count,
        "label": [SEVEN[i % 7] for i in range(count)],
    }
    columns |= {"n_frames": [None] * count, "subject": [None] * count}
    storage.write_table(paths.clips("tiny"), "clips", columns, {})
    split = ["test" if i // 7 == 0 else "train" for i in range(count)]
    storage.write_table(paths.folds("tiny"), "folds", {"clip_id": rows, "fold": [1] * count, "split": split}, {})


@pytest.fixture(autouse=True)
def here(new_folder: Path) -> None:
    make_project()


def files(*folders: str) -> dict[str, bytes]:
    found = [path for folder in folders for path in sorted(Path(folder).rglob("*.*")) if path.is_file()]
    return {str(path): path.read_bytes() for path in found if "part" not in path.name}


MANIFEST = Path("data/tiny/features/demo-clip/manifest.json")


def test_keeping_tokens_does_not_change_the_features(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "tgdfer")
    features.run(project(None, views=1), "tiny")
    plain = {path: data for path, data in files("data/tiny/features").items() if path.endswith(".arrow")}
    fingerprint = storage.read_json(MANIFEST)["fingerprint"]
    with pytest.raises(
        UserError, match=r"manifest.json: has no tokens of frames, which model.adapt needs; set features.k"
    ):
        load_features(MANIFEST, tokens=True)
    chosen = project(1, views=1)
    features.run(chosen, "tiny")
    said = next(line.message for line in caplog.records if "tokens after block 1" in line.message)
    rows = 2 * sum(shard["rows"] for shard in storage.read_json(paths.frames("tiny"))["shards"])
    assert said.endswith(f"GB: {rows} frames of 17 x 64 numbers in float16")
    assert all(Path(path).read_bytes() == data for path, data in plain.items())
    assert storage.read_json(MANIFEST)["fingerprint"] == fingerprint, "frozen variants are not trained again"

    tokens, plain_cache = load_features(MANIFEST, tokens=True), load_features(MANIFEST)
    assert tokens.dim == 17 * 64 and tokens.clip_ids.equals(plain_cache.clip_ids) and tokens.views == 2
    encoder, number = load_encoder("demo-clip", "cpu"), 0
    tower = encoder.token_tower(1)
    for listed in storage.read_json(paths.frames("tiny"))["shards"]:
        path = paths.frames("tiny").with_name(listed["file"])
        task = ShardTask(path, listed["sha256"], listed["rows"], path)
        for batch in read_batches([task], 100):
            if batch.jpegs:
                expected = tower(decode(batch, encoder.preprocess, chosen.features))
                clips = [tokens.clip_ids.to_pylist().index(clip) for clip in batch.clip_ids]
                places = [batch.clip_ids[:i].count(clip) for i, clip in enumerate(batch.clip_ids)]
                for view in (0, 1):
                    rows = tokens.starts[clips] + view * tokens.strides[clips] + places
                    found, _ = tokens.read(rows[:, None])
                    torch.testing.assert_close(
                        torch.from_numpy(found[:, 0]).float(), expected[view::2], rtol=2e-3, atol=2e-3
                    )
                    number += 1
    assert number

    parts = [Part(part, 2) for part in (1, 2)]
    whole = files("data/tiny/features")
    for part in parts:
        features.run(chosen, "tiny", part)
    features.join(chosen, "tiny", [part.list_of(MANIFEST) for part in parts])
    assert files("data/tiny/features") == whole

    shard = MANIFEST.parent / storage.read_json(MANIFEST)["tokens"]["folder"] / "shard-00000.arrow"
    shard.write_bytes(shard.read_bytes()[:-100])
    assert damages(MANIFEST) == [f"{shard} is not the file that its stage wrote"]
    features.run(chosen, "tiny")
    assert files("data/tiny/features") == whole


KILLED_FEATURES = """
import os, sys
sys.path[:0] = {path!r}
from tgdfer.features import encoding
from tgdfer.stages import features
import test_training_adaptation
write = encoding._Writer.write
def write_or_die(self):
    if self.shard.source.stem == "shard-00002":
        os._exit(9)
    write(self)
encoding._Writer.write = write_or_die
features.run(test_training_adaptation.project(), "tiny")
"""
PATHS = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "projects")]


def test_a_killed_job_goes_on_to_the_same_bytes_and_leaves_nothing_else() -> None:
    chosen = project()
    features.run(chosen, "tiny")
    whole = files("data/tiny/features")
    shutil.rmtree("data/tiny/features")
    killed = subprocess.run([sys.executable, "-c", KILLED_FEATURES.format(path=PATHS)], check=False, timeout=300)
    assert killed.returncode == 9
    assert list(MANIFEST.parent.rglob(".*.tokens.part"))
    features.run(chosen, "tiny")
    assert files("data/tiny/features") == whole and not list(MANIFEST.parent.rglob("*part"))


PROGRAM = """
import sys
sys.path[:0] = {path!r}
import os, signal
from tgdfer.core.progress import setup_logging
from tgdfer.stages import train
from tgdfer.training import engine
import test_training_adaptation
setup_logging()
engine.SAVE_EVERY_S = 0.0
save = engine.Engine._save
def save_and_die(self):
    save(self)
    if self.epoch == 2 and self.step == 1:
        os.kill(os.getpid(), signal.SIGKILL)
engine.Engine._save = save_and_die
train.run(test_training_adaptation.project(), "tiny", sys.argv[1])
"""


@pytest.mark.parametrize("variant", ["lora", "last"])
def test_a_killed_training_goes_on_to_the_same_bits_and_predicts_the_same(variant: str) -> None:
    chosen = project()
    features.run(chosen, "tiny")
    assert train.run(chosen, "tiny", variant) == 0
    folder = Path(f"runs/tiny/{variant}/fold1/seed0")
    names = ("metrics.json", "history.jsonl", "predictions.parquet", "vectors.safetensors", "model.safetensors")
    whole = {name: (folder / name).read_bytes() for name in names}
    program = PROGRAM.format(path=PATHS)
    shutil.rmtree(folder)
    killed = subprocess.run([sys.executable, "-c", program, variant], check=False, capture_output=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    assert train.run(chosen, "tiny", variant) == 0
    assert {name: (folder / name).read_bytes() for name in names} == whole

    state = load_file(folder / "model.safetensors")
    assert any(name.startswith("adaptation.") for name in state)
    assert not any("visual" in name or "tower" in name for name in state if not name.startswith("adaptation."))
    saved = load_saved(folder, paths.MODELS, "cpu")
    predictions = storage.read_table(folder / "predictions.parquet", "predictions").to_pylist()
    tokens = load_features(MANIFEST, tokens=True)
    last = [row for row in predictions if row["selection"] == "last"]
    number = torch.tensor([tokens.clip_ids.to_pylist().index(row["clip_id"]) for row in last])
    found = score(saved.model, batches(Bags(tokens, number, number, 3), torch.device("cpu"))).probabilities
    np.testing.assert_allclose(found, [row["probabilities"] for row in last], atol=1e-5)


def test_the_frozen_variant_does_not_depend_on_the_tokens_and_an_adapted_one_does() -> None:
    features.run(project(), "tiny")
    keys = [Key("tiny", variant, 1, 0) for variant in VARIANTS]
    for variant in ("frozen", "lora"):
        assert train.run(project(), "tiny", variant) == 0
    features.run(project(keep=None), "tiny")
    states = [Expected(project(keep=None), "tiny").state(key) for key in keys[:2]]
    assert [state.name for state in states] == ["done", "done"], "without tokens there is nothing to compare with"
    manifest = json.loads(MANIFEST.read_text())
    manifest.pop("sha256", None)
    storage.write_sealed(MANIFEST, {**manifest, "tokens": {"fingerprint": "other"}})
    states = [Expected(project(), "tiny").state(key) for key in keys[:2]]
    assert [state.name for state in states] == ["done", "outdated"] and states[1].reasons == ("the tokens changed",)
