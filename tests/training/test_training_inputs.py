"""The train stage and what can be wrong with its data: classes without clips, rejected clips, bad input."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import training_project as project

from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.stages import train as training


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def train(variant, folds=None, **settings) -> int:
    return training.run(project.params(**settings), "tiny", variant, folds=folds)


def one_fold(labels: list[int], train_clips: int) -> None:
    clips = {f"c{i:02d}": label for i, label in enumerate(labels)}
    project.write_features(clips)
    project.write_tables(clips, [(c, 1, "train" if i < train_clips else "test") for i, c in enumerate(clips)])


def test_a_loss_that_is_not_a_number_fails_only_its_run(caplog):
    clips = project.make_project()
    folds = pq.read_table("data/tiny/folds.parquet").to_pydict()
    rows = zip(folds["clip_id"], folds["fold"], folds["split"], strict=True)
    # clip000 is a training clip of fold 2 and takes no part in fold 1
    project.write_tables(clips, [row for row in rows if row[:2] != ("clip000", 1)])
    project.write_features(clips, broken="clip000")
    assert train("tgdfer", validation_fraction=0.0) == training.FAILED
    runs = storage.read_json(Path("runs/tiny/tgdfer/summary.json"))["runs"]
    assert runs[0]["failed"] is None
    assert runs[1]["failed"].startswith("the loss is not finite at epoch 1, step ")
    assert runs[1]["metrics"] is None
    assert "tiny/tgdfer fold 2 seed 0: failed" in caplog.text
    assert not Path("runs/tiny/tgdfer/fold2/seed0/metrics.json").exists()


def test_a_class_without_training_clips():
    one_fold([0, 1] * 8 + [0, 1, 2], 16)
    for imbalance in ("none", "class-balanced", "logit-adjustment"):
        assert train("v", variants={"v": {"model": {"text": "none", "imbalance": imbalance}}}) == 0
        recall = storage.read_json(Path("runs/tiny/v/fold1/seed0/metrics.json"))["selections"]["last"]["recall"]
        assert all(value is not None for value in recall.values())


def test_a_class_without_test_clips_has_no_recall():
    one_fold([0, 1, 2] * 5 + [0, 1], 15)
    train("probe")
    last = storage.read_json(Path("runs/tiny/probe/fold1/seed0/metrics.json"))["selections"]["last"]
    assert last["recall"]["angry"] is last["f1"]["angry"] is None
    assert last["uar"] == pytest.approx((last["recall"]["happy"] + last["recall"]["sad"]) / 2)


@pytest.mark.parametrize("variant", ["probe", "mil", "tgdfer"])
def test_one_training_clip_and_one_test_clip(variant, caplog):
    one_fold([0, 1], 1)
    assert train(variant) == 0
    assert "tiny fold 1: no training clips of class sad, angry" in caplog.text
    metrics = storage.read_json(Path(f"runs/tiny/{variant}/fold1/seed0/metrics.json"))
    assert (metrics["n_train"], metrics["n_val"], metrics["n_test"]) == (1, 0, 1)


@pytest.mark.parametrize(("count", "what"), [(6, "no test clips"), (0, "no training clips")])
def test_a_fold_without_clips_is_bad_input(count, what):
    one_fold([0, 1, 2, 0, 1, 2], count)
    with pytest.raises(UserError, match=f"fold 1 has {what}"):
        train("probe")


def test_rejected_clips_take_no_part(caplog):
    one_fold([0, 1, 2] * 4, 6)
    clips = {f"c{i:02d}": i % 3 for i in range(12)}
    project.write_features({c: label for c, label in clips.items() if c not in ("c00", "c11")})
    train("probe")
    metrics = storage.read_json(Path("runs/tiny/probe/fold1/seed0/metrics.json"))
    assert (metrics["n_train"] + metrics["n_val"], metrics["n_test"]) == (5, 5)
    assert "2 clips have no features" in caplog.text


def test_bad_input_says_what_and_where():
    project.make_project()
    with pytest.raises(UserError, match="no fold 9; its folds are: 1, 2"):
        train("probe", folds=[9])
    with pytest.raises(UserError, match="no variant 'x'"):
        train("x")
    with pytest.raises(UserError, match=r"training\.device: 'warp' cannot be used"):
        train("probe", device="warp")
    Path("data/tiny/folds.parquet").unlink()
    with pytest.raises(UserError, match=r"folds\.parquet: no such file"):
        train("probe")


def test_a_label_that_is_not_a_class_is_named():
    project.make_project()
    path = paths.clips("tiny")
    clips = storage.read_table(path, "clips")
    labels = ["proud", *clips["label"].to_pylist()[1:]]
    changed = clips.set_column(clips.schema.get_field_index("label"), clips.schema.field("label"), [labels])
    storage.write_table(path, "clips", changed, {})
    with pytest.raises(
        UserError, match=r"clips\.parquet: clip 'clip000' has label 'proud'; expected one of happy, sad"
    ):
        train("probe")


def test_a_training_without_its_encoder_says_so():
    project.make_project()
    train("probe")
    paths.encoder("demo-clip").unlink()
    with pytest.raises(UserError, match=r"encoder\.json: no such file"):
        train("probe")
