"""The table across data sets, from tables of predictions with known answers."""

from pathlib import Path

import numpy as np
import pytest
from report_project import Project
from report_tables import FEW, records, table
from sklearn.metrics import balanced_accuracy_score

from tgdfer.config.params import load_params
from tgdfer.core import paths, storage
from tgdfer.core.classes import SEVEN
from tgdfer.reporting import render
from tgdfer.reporting.part import Part
from tgdfer.reporting.report import build

SHARED = SEVEN[:3]
ACCURACY = {("demo", "demo"): 0.9, ("demo", "other"): 0.5, ("other", "demo"): 0.6, ("other", "other"): 0.8}
EXPECTED: dict[tuple[str, str], float] = {}
"""UAR by trained on and tested on, by scikit-learn: the mean over folds of the mean over runs."""


def write(source: str, target: str, variant: str, rng: np.random.Generator) -> None:
    rows: dict[str, list] = {name: [] for name in storage.SCHEMAS["transfer"].names}
    rates = []
    for fold in (1, 2):
        # the number of clips of a class depends on the fold, so that folds and clips are not the same mean
        label = np.repeat(range(3), [10 * fold, 6, 4])
        for source_fold, seed in [(f, s) for f in (1, 2) for s in (0, 1) if source != target or f == fold]:
            right = rng.random(len(label)) < ACCURACY[source, target]
            predicted = np.where(right, label, (label + 1) % 3)
            rates.append(balanced_accuracy_score(label, predicted))
            rows["clip_id"] += [f"{fold}-{n:02d}" for n in range(len(label))]
            rows["fold"] += [fold] * len(label)
            rows["label"] += [SHARED[c] for c in label]
            rows["source_fold"] += [source_fold] * len(label)
            rows["seed"] += [seed] * len(label)
            rows["probabilities"] += (0.1 + 0.7 * np.eye(3)[predicted]).tolist()
    EXPECTED[source, target] = float(np.mean(rates))
    summary = storage.file_fingerprint(paths.variant(source, variant))
    storage.write_table(paths.transfer(source, target, variant), "transfer", rows, {"inputs": {"runs": summary}})


@pytest.fixture
def params(new_folder: Path, monkeypatch: pytest.MonkeyPatch):
    project = Project({"demo": "folder", "other": "folder"}, FEW, folds=2, clips=60, bootstrap=200, truth=False)
    text = Path("params.yaml").read_text() + "transfer: [tgdfer]\n"
    Path("params.yaml").write_text(text.replace("    - fear\n", "", 1).replace("    - disgust\n", "", 1))
    project.write()
    chosen = load_params()
    assert len(chosen.shared_classes) == 5
    monkeypatch.setattr(type(chosen), "shared_classes", SHARED)
    rng = np.random.default_rng(0)
    for pair in ACCURACY:
        write(*pair, "tgdfer", rng)
    return chosen


def matrix(part: Part) -> dict[tuple[str, str], dict[str, str]]:
    return {(row["trained_on"], row["tested_on"]): row for row in records(part, "transfer")}


def test_every_cell_is_the_mean_over_folds_and_runs_and_differences_are_to_the_diagonal(params) -> None:
    part = build(params, "demo")
    found = matrix(part)
    for (source, target), expected in EXPECTED.items():
        record = found[source, target]
        assert float(record["uar"]) == pytest.approx(expected, abs=1e-12)
        assert float(record["uar_low"]) < expected < float(record["uar_high"])
        if source == target:
            assert record["uar_vs_reference_difference"] == ""
        else:
            difference = float(record["uar_vs_reference_difference"])
            assert difference == pytest.approx(expected - EXPECTED[target, target], abs=1e-12)
            low, high = (float(record[f"uar_vs_reference_{end}"]) for end in ("low", "high"))
            assert low < difference < high < 0
            assert float(record["uar_vs_reference_p"]) < 0.05
    markdown = render.to_markdown(table(part, "transfer"))
    assert f"{100 * EXPECTED['other', 'demo']:.2f}" in markdown
    assert "its own" in markdown


def test_the_table_is_made_once_and_only_if_transfer_is_asked_for(params) -> None:
    assert "transfer" not in [one.name for one in build(params, "other").tables]
    without = params.model_copy(update={"transfer": []})
    assert "transfer" not in [one.name for one in build(without, "demo").tables]


def test_what_is_missing_damaged_or_from_earlier_runs_is_a_note(params) -> None:
    paths.transfer("demo", "other", "tgdfer").unlink()
    damaged = paths.transfer("demo", "demo", "tgdfer")
    damaged.write_bytes(damaged.read_bytes()[:-20])
    paths.variant("other", "tgdfer").write_text("{}")
    first, second = table(build(params, "demo"), "transfer").rows
    command = "tgdfer transfer --source demo --target demo --variant tgdfer"
    assert first.notes == [f"{damaged}: not the file that its stage wrote; run: {command}", "not tested on other"]
    assert [note.split(";")[0] for note in second.notes] == [
        f"tested on {target} with earlier runs" for target in ("demo", "other")
    ]
