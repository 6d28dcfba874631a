"""The train stage on a small project: files, protocol, repeatability, and which runs are kept."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import training_project as project
from safetensors.torch import load_file
from torch import nn

from tgdfer.core import storage
from tgdfer.core.errors import UserError
from tgdfer.evaluation.metrics import evaluate
from tgdfer.model.linear_probe import LinearProbe
from tgdfer.runs import files as runs
from tgdfer.runs import state
from tgdfer.stages import train as training
from tgdfer.training import engine
from tgdfer.training.evaluation import Scores
from tgdfer.training.folds import load_inputs, make_fold
from tgdfer.training.weights import load_own_state

RUN = Path("runs/tiny/tgdfer/fold1/seed0")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def train(variant="tgdfer", dataset="tiny", folds=None, seeds=None, again=False, **settings) -> int:
    return training.run(project.params(**settings), dataset, variant, folds=folds, seeds=seeds, again=again)


def test_the_files_of_a_run_agree_with_each_other():
    project.make_project()
    assert train() == 0
    metrics = storage.read_json(RUN / "metrics.json")
    history = storage.read_lines(RUN / "history.jsonl")
    table = storage.read_table(RUN / "predictions.parquet", "predictions")
    assert json.loads(pq.read_schema(RUN / "predictions.parquet").metadata[b"tgdfer"])["classes"] == project.CLASSES
    assert set(metrics["selections"]) == {"last", "best_val", "best_test"}
    assert (metrics["n_train"] + metrics["n_val"], metrics["n_test"]) == (24, 24)
    assert metrics["n_val"] > 0
    for name, chosen in metrics["selections"].items():
        rows = table.filter(np.array(table["selection"]) == name).to_pydict()
        label = np.array([project.CLASSES.index(name) for name in rows["label"]])
        again = evaluate(np.array(rows["probabilities"], np.float32), label, project.CLASSES)
        assert {key: chosen[key] for key in again} == again
        assert history[chosen["epoch"] - 1]["test_war"] == pytest.approx(chosen["war"])
        assert all(sum(r) == pytest.approx(1, abs=1e-5) for r in rows["relevance"])
    assert metrics["selections"]["last"]["epoch"] == len(history) == 3
    assert metrics["selections"]["best_test"]["war"] == max(row["test_war"] for row in history)
    best = metrics["selections"]["best_val"]["epoch"]
    assert best == 1 + int(np.argmax([row["val_war"] for row in history]))
    summary = storage.read_json(Path("runs/tiny/tgdfer/summary.json"))
    assert [(run["fold"], run["seed"], run["failed"]) for run in summary["runs"]] == [(1, 0, None), (2, 0, None)]
    assert summary["runs"][0]["metrics"] == storage.file_fingerprint(RUN / "metrics.json")
    assert storage.read_json(RUN / "run.json")["seconds"] > 0
    assert not list(Path("checkpoints").rglob("*.pt"))


def test_the_losses_and_the_share_of_right_answers_of_an_epoch_are_means_over_its_clips(monkeypatch):
    project.make_project()
    seen, loss_of = [], engine.loss_of

    def recorded(output, target, *more):
        loss, parts = loss_of(output, target, *more)
        means = [
            value.item() for value in (loss, *parts.values(), (output.logits.argmax(dim=-1) == target).float().mean())
        ]
        seen.append([len(target) * mean for mean in (*means, 1)])
        return loss, parts

    monkeypatch.setattr(engine, "loss_of", recorded)
    train(folds=[1], epochs=1)
    (row,) = storage.read_lines(RUN / "history.jsonl")
    *sums, clips = np.sum(seen, axis=0)
    assert len(seen) == 3 and clips % 8, "the last batch is smaller"
    names = [name for name in row if name.startswith("loss")]
    assert len(names) > 1
    assert [row[name] for name in (*names, "train_war")] == pytest.approx(np.array(sums) / clips, rel=1e-5)
    assert row["learning_rate"] == pytest.approx(0.01 * 0.5), "the last of three steps is half-way down"


def test_the_same_bits_again_by_itself_and_after_other_runs():
    project.make_project()
    train()
    whole = project.results()
    for path in sorted(Path("runs").rglob("*.json")):
        path.unlink()
    torch.rand(7)  # the state of the global generator must not matter
    train(folds=[2])
    train("mil")
    train()
    again = project.results()
    assert {name: again[name] for name in whole} == whole


def test_training_does_not_change_the_global_random_state_and_settings():
    project.make_project()
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    train("probe")
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_views_at_test_time_change_only_the_evaluation_and_must_be_there():
    project.make_project(views=3)
    train("mil")
    run = Path("runs/tiny/mil/fold1/seed0")
    weights, predictions = load_file(run / "model.safetensors"), (run / "predictions.parquet").read_bytes()
    train("mil", test_views=3)
    again = load_file(run / "model.safetensors")
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert (run / "predictions.parquet").read_bytes() != predictions
    with pytest.raises(UserError, match=r"training.test_views: 4, but the features of tiny have 3 of a clip"):
        train("mil", test_views=4)


def test_a_fraction_of_the_training_clips_leaves_everything_else():
    project.make_project(count=60)
    train("mil")
    whole = {fold: storage.read_json(Path(f"runs/tiny/mil/fold{fold}/seed0/metrics.json")) for fold in (1, 2)}
    train("mil", fraction=0.25)
    for fold in (1, 2):
        part = storage.read_json(Path(f"runs/tiny/mil/fold{fold}/seed0/metrics.json"))
        assert part["n_train"] == 3 * max(1, round(whole[fold]["n_train"] / 3 / 4))
        assert (part["n_test"], part["n_val"]) == (whole[fold]["n_test"], whole[fold]["n_val"])
        assert part["selections"] != whole[fold]["selections"]
    inputs, run = load_inputs(project.params(), "tiny"), project.params(fraction=0.25).run("mil")
    few, other = (make_fold(inputs, 1, run, seed) for seed in (0, 1))
    every = make_fold(inputs, 1, project.params().run("mil"), 0)
    assert set(few.train.clips.tolist()) < set(every.train.clips.tolist())
    assert set(few.train.clips.tolist()) != set(other.train.clips.tolist()), "each seed draws its own clips"
    assert len(few.train) == len(every.train), "an epoch has as many steps"
    assert np.array_equal(few.validation.clips, every.validation.clips)


def test_other_seeds_give_other_runs_and_finished_ones_are_kept():
    project.make_project()
    train("mil")
    first = project.results()
    stamp = Path("runs/tiny/mil/fold1/seed0/run.json").stat().st_mtime_ns
    train("mil", seeds=(0, 1))
    both = project.results()
    assert Path("runs/tiny/mil/fold1/seed0/run.json").stat().st_mtime_ns == stamp
    assert first["tiny/mil/fold1/seed0/metrics.json"] == both["tiny/mil/fold1/seed0/metrics.json"]
    weights = [both[f"tiny/mil/fold1/seed{seed}/model.safetensors"] for seed in (0, 1)]
    assert weights[0] != weights[1]


def test_no_two_random_choices_of_a_seed_a_fold_or_a_step_are_the_same(monkeypatch):
    project.make_project()
    derived, derive = [], engine.derive
    monkeypatch.setattr(engine, "derive", lambda *what: derived.append(derive(*what)) or derived[-1])
    train("mil", seeds=(0, 1), epochs=2, mixing=0.4)
    runs, steps = 4, 2 * 3
    assert len(set(derived)) == len(derived) == runs * (2 + 2 + steps), "dropout, frames, the order of epochs, mixing"


def test_what_does_not_fit_any_more_is_made_again():
    project.make_project()
    train("probe")
    run = Path("runs/tiny/probe/fold1/seed0")
    before = project.results()
    (run / "metrics.json").write_text("{}")
    train("probe")
    assert project.results() == before, "a damaged file"
    train("probe", learning_rate=0.02)
    assert project.results()["tiny/probe/fold1/seed0/history.jsonl"] != before["tiny/probe/fold1/seed0/history.jsonl"]
    project.write_features({f"clip{i:03d}": i % 3 for i in range(48)}, seed=1)
    changed = (run / "history.jsonl").read_bytes()
    train("probe", learning_rate=0.02)
    assert (run / "history.jsonl").read_bytes() != changed, "other features"


def test_other_variants_do_not_matter_to_a_run():
    project.make_project()
    train("probe")
    stamp = Path("runs/tiny/probe/fold1/seed0/run.json").stat().st_mtime_ns
    train("probe", variants={**project.VARIANTS, "new": {"training": {"epochs": 1}}})
    assert Path("runs/tiny/probe/fold1/seed0/run.json").stat().st_mtime_ns == stamp


def test_the_summary_is_written_when_all_runs_are_done():
    project.make_project()
    summary = Path("runs/tiny/probe/summary.json")
    assert train("probe", folds=[2]) == 0
    with pytest.raises(UserError, match=r"fold1/seed0: missing; train it first: tgdfer train .* --fold 1 --seed 0"):
        state.collect(project.params(), "tiny", "probe")
    assert train("probe", folds=[1]) == 0
    assert not summary.exists()
    state.collect(project.params(), "tiny", "probe")
    collected = summary.read_bytes()
    assert [run["fold"] for run in storage.read_json(summary)["runs"]] == [1, 2]
    assert train("probe") == 0
    assert summary.read_bytes() == collected
    train("probe", folds=[1], learning_rate=0.5)
    assert not summary.exists(), "a summary of runs that are no longer there is gone"


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
        ValueError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_fails_its_run_in_a_line_and_the_others_are_tried(error, monkeypatch, caplog):
    project.make_project()
    write = runs.write

    def full(key, *about):
        if key.fold == 1:
            raise error
        write(key, *about)

    monkeypatch.setattr(runs, "write", full)
    assert train("probe") == training.FAILED
    assert "tiny/probe fold 1 seed 0: failed: no space left on the disk" in caplog.text
    assert Path("runs/tiny/probe/fold2/seed0/run.json").is_file()


def test_finished_runs_are_trained_again_on_request():
    project.make_project()
    train("probe")
    records = [path.stat().st_mtime_ns for path in sorted(Path("runs").rglob("run.json"))]
    before = project.results()
    assert train("probe", folds=[1], again=True) == 0
    first, second = (path.stat().st_mtime_ns for path in sorted(Path("runs").rglob("run.json")))
    assert (first > records[0], second) == (True, records[1])
    train("probe")
    assert project.results() == before


def test_test_clips_influence_nothing_but_their_own_numbers():
    clips = project.make_project()
    train("tgdfer", folds=[1])
    before, history = load_file(RUN / "model.safetensors"), storage.read_lines(RUN / "history.jsonl")
    test = [c for i, c in enumerate(clips) if i // 3 % 2 == 0]
    for clip in test:
        clips[clip] = (clips[clip] + 1) % 3
    folds = pq.read_table("data/tiny/folds.parquet").to_pydict()
    project.write_tables(clips, list(zip(folds["clip_id"], folds["fold"], folds["split"], strict=True)))
    train("tgdfer", folds=[1])
    after, again = load_file(RUN / "model.safetensors"), storage.read_lines(RUN / "history.jsonl")
    assert all(torch.equal(before[name], after[name]) for name in before)
    for one, other in zip(history, again, strict=True):
        assert {k: v for k, v in one.items() if "test" not in k} == {k: v for k, v in other.items() if "test" not in k}
    assert [epoch["test_war"] for epoch in history] != [epoch["test_war"] for epoch in again]


def test_no_validation_split_no_best_val():
    project.make_project()
    train("probe", folds=[1], validation_fraction=0.0)
    metrics = storage.read_json(Path("runs/tiny/probe/fold1/seed0/metrics.json"))
    assert set(metrics["selections"]) == {"last", "best_test"}
    assert metrics["n_val"] == 0


def test_average_of_weights_is_what_is_evaluated_and_stored(monkeypatch):
    project.make_project()
    train("mil", folds=[1])
    plain = load_file("runs/tiny/mil/fold1/seed0/model.safetensors")
    evaluated, expected = [], []

    class Followed(engine.Average):
        """An average that also computes, in another way, what it must be."""

        def __init__(self, parameters, decay):
            super().__init__(parameters, decay)
            expected[:] = [weights.clone() for weights in self.shadow]

        def update(self):
            decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
            pairs = zip(expected, self.live, strict=True)
            expected[:] = [decay * average + (1 - decay) * live.detach() for average, live in pairs]
            super().update()

    def evaluate(model, *arguments):
        torch.testing.assert_close([w.detach() for w in model.parameters() if w.requires_grad], expected)
        evaluated.append({name: value.clone() for name, value in model.state_dict().items()})
        return evaluated_by(model, *arguments)

    evaluated_by = engine.evaluate
    monkeypatch.setattr(engine, "evaluate", evaluate)
    monkeypatch.setattr(engine, "Average", Followed)
    train("mil", folds=[1], ema=0.9)
    averaged = load_file("runs/tiny/mil/fold1/seed0/model.safetensors")
    assert any(not torch.equal(plain[name], averaged[name]) for name in plain)
    assert all(torch.equal(evaluated[-1][name], averaged[name]) for name in averaged)
    assert any(not torch.equal(evaluated[0][name], averaged[name]) for name in averaged)


@pytest.mark.parametrize(("by", "epoch"), [("war", 1), ("uar", 2)])
def test_select_by_decides_which_epoch_a_selection_takes(by: str, epoch: int) -> None:
    labels = np.array([0] * 8 + [1] * 2)
    likely = scores(np.zeros(10, dtype=int))  # WAR 0.8, UAR 0.5
    fair = scores(np.array([0] * 4 + [1] * 6))  # WAR 0.6, UAR 0.75
    fold = SimpleNamespace(test_labels=labels, validation_labels=labels)
    settings = SimpleNamespace(training=SimpleNamespace(select_by=by))
    run = SimpleNamespace(params=settings, fold=fold, classes=2, selections={})
    for number, chosen in enumerate((likely, fair, likely), start=1):
        engine.Engine._select(run, number, chosen, chosen)
    assert {name: chosen.epoch for name, chosen in run.selections.items()} == {
        "best_test": epoch,
        "best_val": epoch,
        "last": 3,
    }


def scores(predicted: np.ndarray) -> Scores:
    return Scores(np.eye(2, dtype=np.float32)[predicted], np.ones((len(predicted), 1), dtype=np.float32))


def test_a_model_without_training_is_evaluated_once(monkeypatch):
    project.make_project()

    original = training.build_model

    def build(*arguments):
        model = original(*arguments)
        model.trainable = False
        return model

    monkeypatch.setattr(training, "build_model", build)
    assert train("probe") == 0
    run = Path("runs/tiny/probe/fold1/seed0")
    selections = storage.read_json(run / "metrics.json")["selections"]
    assert selections["last"] == selections["best_val"] == selections["best_test"]
    assert selections["last"]["epoch"] == 0
    assert storage.read_lines(run / "history.jsonl") == []


def test_the_model_gets_the_places_of_the_frames_in_training_as_in_testing(monkeypatch):
    project.make_project()
    forward, seen = LinearProbe.forward, set()

    def noted(self, x, mask, frame_position=None):
        seen.add((self.training, frame_position is not None and frame_position.shape == mask.shape))
        return forward(self, x, mask, frame_position)

    monkeypatch.setattr(LinearProbe, "forward", noted)
    train("probe")
    assert {places for training, places in seen if training} == {True}
    assert (False, True) in seen


def test_weights_of_another_model_are_named():
    with pytest.raises(ValueError, match=r"weights do not fit: \['bias', 'other'\]"):
        load_own_state(nn.Linear(2, 1), {"weight": torch.zeros(1, 2), "other": torch.zeros(1)})
