"""Every number that a table prints, recomputed from the run files by scikit-learn and a bootstrap of its own."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from report_project import VARIANTS, Project
from sklearn.metrics import average_precision_score, balanced_accuracy_score, recall_score, roc_auc_score

from tgdfer.classes import SEVEN
from tgdfer.reporting.report import Part, build

FOLDS, SEEDS, DRAWS = (1, 2, 3), (0, 3), 1500
LABELS = {str(about["label"]): name for name, about in VARIANTS.items()}


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Part:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("values"))
        made = Project(folds=3, seeds=SEEDS, clips=120, bootstrap=DRAWS)
        found = build(made.write(), "demo")
        found.runs = {  # type: ignore[attr-defined]
            (variant, fold, seed): read(variant, fold, seed)
            for variant in VARIANTS for fold in FOLDS for seed in SEEDS
        }  # fmt: skip
        found.intensity = pq.read_table("data/raw/demo/truth.parquet").to_pandas()  # type: ignore[attr-defined]
        found.info = {  # type: ignore[attr-defined]
            variant: [
                json.loads(Path(f"runs/demo/{variant}/fold{fold}/seed{seed}/run.json").read_text())
                for fold in FOLDS for seed in SEEDS
            ]
            for variant in VARIANTS
        }  # fmt: skip
        return found


def read(variant: str, fold: int, seed: int) -> pd.DataFrame:
    frame = pq.read_table(f"runs/demo/{variant}/fold{fold}/seed{seed}/predictions.parquet").to_pandas()
    frame = frame[frame["selection"] == "last"].sort_values("clip_id").reset_index(drop=True)
    frame["prediction"] = [SEVEN[int(np.argmax(p))] for p in frame["probabilities"]]
    return frame


def per_fold(part: Part, variant: str, score: Callable[[pd.DataFrame], float]) -> list[float]:
    return [float(np.mean([score(part.runs[variant, f, s]) for s in SEEDS])) for f in FOLDS]  # type: ignore[attr-defined]


def uar(frame: pd.DataFrame) -> float:
    return float(balanced_accuracy_score(frame["label"], frame["prediction"]))


def war(frame: pd.DataFrame) -> float:
    return float((frame["label"] == frame["prediction"]).mean())


def recall(name: str) -> Callable[[pd.DataFrame], float]:
    return lambda frame: float(recall_score(frame["label"], frame["prediction"], labels=[name], average=None)[0])


def resampled(part: Part, variants: list[str], metric: str) -> np.ndarray:
    """[variants, R]: the mean over folds under clips drawn clip by clip, recall by recall."""
    rng, draws = np.random.default_rng(99), np.zeros((len(variants), DRAWS))
    for fold in FOLDS:
        label = part.runs[variants[0], fold, 0]["label"].to_numpy()  # type: ignore[attr-defined]
        correct = [np.mean([part.runs[v, fold, s]["prediction"] == label for s in SEEDS], axis=0) for v in variants]  # type: ignore[attr-defined]
        for r in range(DRAWS):
            pick = rng.integers(0, len(label), len(label))
            for v, right in enumerate(correct):
                groups = [pick] if metric == "war" else [pick[label[pick] == c] for c in np.unique(label[pick])]
                draws[v, r] += np.mean([right[group].mean() for group in groups]) / len(FOLDS)
    return draws


def test_every_printed_number_of_the_rates(part: Part) -> None:
    checked = 0
    draws = {metric: resampled(part, list(VARIANTS), metric) for metric in ("uar", "war")}
    place = {variant: v for v, variant in enumerate(VARIANTS)}
    for table in part.tables:
        if table.name in ("relevance", "costs"):
            continue
        for row in table.rows:
            variant = LABELS[row.label]
            for column in table.columns:
                if column.kind == "text":
                    continue
                cell = row.cells.get(column.key)
                checked += 1
                score = {"uar": uar, "war": war}.get(column.key) or (
                    recall(column.key) if column.key in SEVEN else None
                )
                if score is not None:
                    values = per_fold(part, variant, score)
                    assert cell is not None
                    assert cell.value == pytest.approx(100 * np.mean(values), abs=1e-9)
                    assert cell.sd == pytest.approx(100 * np.std(values, ddof=1), abs=1e-9)
                elif column.key in ("uar_ci", "war_ci"):
                    low, high = 100 * np.quantile(draws[column.key[:3]][place[variant]], [0.025, 0.975])
                    assert cell is not None
                    assert (cell.low, cell.high) == (pytest.approx(low, abs=1.6), pytest.approx(high, abs=1.6))
                elif variant == "tgdfer":
                    assert cell is None or cell.value is None  # nothing to compare the reference with
                else:
                    assert cell is not None
                    _compare(part, variant, column.key, cell, draws["uar"][place[variant]] - draws["uar"][0])
    assert checked == 2 * 9 + 2 * 8 + 3 * 8 + 2 * 8 + 2 * 8


def _compare(part: Part, variant: str, key: str, cell, difference: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    runs = part.runs  # type: ignore[attr-defined]
    if key == "delta":
        expected = np.mean(per_fold(part, variant, uar)) - np.mean(per_fold(part, "tgdfer", uar))
        assert cell.value == pytest.approx(100 * expected, abs=1e-9)
        return
    if key == "delta_ci":
        low, high = 100 * np.quantile(difference, [0.025, 0.975])
        assert (cell.low, cell.high) == (pytest.approx(low, abs=1.6), pytest.approx(high, abs=1.6))
        return
    right = {
        (v, f): np.mean([runs[v, f, s]["prediction"] == runs[v, f, s]["label"] for s in SEEDS], axis=0)
        for v in VARIANTS
        for f in FOLDS
    }
    gain = np.concatenate([right[variant, f] - right["tgdfer", f] for f in FOLDS])
    if key == "wins":
        assert cell.value == pytest.approx(100 * gain[gain > 0].sum() / np.abs(gain).sum())
        return
    assert key == "p"
    printed = {(v, m): c.p for v, r in part.results["last"].items() for m, c in r.comparisons.items()}
    own = _p(right, variant, "uar")
    error = np.sqrt(max(own * (1 - own), 1e-3) * (1 / 2000 + 1 / 4000))
    assert printed[variant, "uar"] == pytest.approx(own, abs=4 * error)
    assert set(printed) == {(v, m) for v in list(VARIANTS)[1:] for m in ("uar", "war")}
    largest, adjusted = 0.0, {}
    for rank, (pair, value) in enumerate(sorted(printed.items(), key=lambda entry: entry[1])):  # Holm, by hand
        largest = max(largest, min(1.0, (len(printed) - rank) * value))
        adjusted[pair] = largest
    assert cell.value == pytest.approx(adjusted[variant, "uar"])


LABEL_OF: dict[int, np.ndarray] = {}


def _p(right: dict[tuple[str, int], np.ndarray], variant: str, metric: str) -> float:
    rng = np.random.default_rng(5)
    weighed = []
    for f in FOLDS:
        label = LABEL_OF[f]
        classes, counts = np.unique(label, return_counts=True)
        share = {c: 1 / (n * len(classes)) for c, n in zip(classes, counts, strict=True)}
        weight = np.array([share[c] if metric == "uar" else 1 / len(label) for c in label])
        weighed.append(weight * (right[variant, f] - right["tgdfer", f]) / len(FOLDS))
    values = np.concatenate(weighed)
    flipped = rng.choice([-1.0, 1.0], (4000, len(values))) @ values
    return float((1 + (np.abs(flipped) >= abs(values.sum()) - 1e-12).sum()) / 4001)


@pytest.fixture(scope="module", autouse=True)
def _labels(part: Part) -> None:
    LABEL_OF.update({f: part.runs["tgdfer", f, 0]["label"].to_numpy() for f in FOLDS})  # type: ignore[attr-defined]


def test_every_printed_number_of_relevance(part: Part) -> None:
    truth = {clip: rows.set_index("frame_index")["intensity"] for clip, rows in part.intensity.groupby("clip_id")}  # type: ignore[attr-defined]
    table = next(table for table in part.tables if table.name == "relevance")
    for row in table.rows:
        variant = LABELS.get(row.label, "tgdfer")
        measures: dict[str, list[float]] = {"auroc": [], "ap": [], "hit": []}
        groups: dict[bool, list[float]] = {True: [], False: []}
        clips = set()
        for fold in FOLDS:
            seeds: list[np.ndarray] = []
            for seed in SEEDS:
                found = []
                for clip in part.runs[variant, fold, seed].itertuples():  # type: ignore[attr-defined]
                    intensity = truth[clip.clip_id]
                    positive = (intensity[clip.frame_index] >= intensity.max() / 2).to_numpy() & (intensity.max() > 0)
                    if positive.all() or not positive.any():
                        continue
                    score = clip.relevance
                    if row.label.startswith("chance"):
                        score = np.zeros(len(positive))
                    elif row.label.startswith("middle"):
                        score = -np.abs(np.arange(len(positive)) - (len(positive) - 1) / 2)
                    clips.add(clip.clip_id)
                    hit = positive[score == score.max()].mean()
                    found.append([roc_auc_score(positive, score), average_precision_score(positive, score), hit])
                    groups[clip.label == clip.prediction].append(found[-1][0])
                seeds.append(np.mean(found, axis=0))
            for name, value in zip(measures, np.mean(seeds, axis=0), strict=True):
                measures[name].append(float(value))
        for name, values in measures.items():
            assert row.cells[name].value == pytest.approx(100 * np.mean(values), abs=1e-4), (row.label, name)
            assert row.cells[name].sd == pytest.approx(100 * np.std(values, ddof=1), abs=1e-4)
        assert row.cells["clips"].value == len(clips)
        if variant == LABELS.get(row.label):
            assert row.cells["right"].value == pytest.approx(100 * np.mean(groups[True]), abs=1e-4)
            assert row.cells["wrong"].value == pytest.approx(100 * np.mean(groups[False]), abs=1e-4)
        interval, centre = row.cells["auroc_ci"], row.cells["auroc"].value
        assert interval.low is not None
        assert interval.high is not None
        assert centre is not None
        assert interval.low - 1e-9 <= centre <= interval.high + 1e-9


def test_every_printed_number_of_the_costs(part: Part) -> None:
    table = next(table for table in part.tables if table.name == "costs")
    for row in table.rows:
        info = part.info[LABELS[row.label]]  # type: ignore[attr-defined]
        assert row.cells["seconds"].value == pytest.approx(np.mean([run["seconds"] for run in info]))
        assert row.cells["memory"].value == pytest.approx(np.mean([run["peak_memory_mb"] for run in info]))
        assert row.cells["runs"].value == len(info) == 6
        assert row.cells["parameters"].value == 12345
