"""Every number that any table prints, recomputed from the files of the runs by scikit-learn, and a bootstrap and sign
flips that are written here. Of the report's code only the cells are used."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import report_project
from report_tables import predictions
from report_tables import table as table_of
from sklearn.metrics import average_precision_score, balanced_accuracy_score, recall_score, roc_auc_score

from tgdfer.config.report import OTHER_TABLES
from tgdfer.core.classes import SEVEN
from tgdfer.reporting.analysis import Estimate
from tgdfer.reporting.part import Part
from tgdfer.reporting.report import build

FOLDS, SEEDS, DRAWS = (1, 2, 3), (0, 3), 4000
RATES = ["main", "baselines", "components", "temporal", "text", "visual-prompt", "aggregation"]
"""The tables whose columns are settings, recalls, UAR, WAR and what follows from them."""
RNG = np.random.default_rng(99)
VARIANTS: dict[str, dict[str, Any]] = {
    **report_project.VARIANTS,
    "max": {"label": "max", "tables": ["aggregation"], "set": {"model": {"aggregation": "max"}}},
    "per-class": {"label": "prompt per class", "tables": ["visual-prompt"],
                  "set": {"model": {"visual_prompt": "per-class"}}},
}  # fmt: skip
LABELS = {str(about["label"]): name for name, about in VARIANTS.items()}
SIMPLE = (
    "chance (all frames alike)",
    "middle of the clip",
    "feature's distance to the clip's mean",
    "feature's distance to the first frame's",
)
Values = Mapping[str, list[np.ndarray]]
"""By row: of every fold the outcome of each clip [n], averaged over seeds."""


@dataclass
class Made:
    part: Part
    runs: dict[tuple[str, int, int], pd.DataFrame]
    info: dict[str, list[dict[str, Any]]]
    label: list[np.ndarray]
    right: Values
    relevance: dict[str, Values]
    groups: dict[str, dict[bool, list[float]]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("values"))
        project = report_project.Project(
            variants=VARIANTS, folds=3, seeds=SEEDS, clips=120, bootstrap=DRAWS, features=True
        )
        part = build(project.write(), "demo")
        assert part.experiment.problems == []
        runs = {(v, f, s): predictions(v, f, s) for v in VARIANTS for f in FOLDS for s in SEEDS}
        info = {
            v: [json.loads(Path(f"runs/demo/{v}/fold{f}/seed{s}/run.json").read_text()) for f in FOLDS for s in SEEDS]
            for v in VARIANTS
        }
        label = [runs["tgdfer", f, 0]["label"].to_numpy() for f in FOLDS]
        right = {
            v: [np.mean([runs[v, f, s]["prediction"] == runs[v, f, s]["label"] for s in SEEDS], axis=0) for f in FOLDS]
            for v in VARIANTS
        }
        relevance, groups = relevances(runs)
        return Made(part, runs, info, label, right, relevance, groups)


def relevances(runs: dict[tuple[str, int, int], pd.DataFrame]) -> tuple[dict[str, Values], dict[str, Any]]:
    """AUROC, AP and hit of every clip that has both kinds of frames; AUROC of right and wrong ones."""
    truth = pq.read_table("data/raw/demo/truth.parquet").to_pandas().groupby("clip_id")
    known = {clip: rows.set_index("frame_index")["intensity"] for clip, rows in truth}
    cache = pa.ipc.open_file("data/demo/features/demo-clip/cache/0.arrow").read_pandas().groupby("clip_id")
    features = {
        clip: np.stack([np.frombuffer(x, np.float16).astype(float) for x in rows["feature"]]) for clip, rows in cache
    }
    values: dict[str, dict[str, list[np.ndarray]]] = {name: {} for name in ("auroc", "ap", "hit")}
    groups: dict[str, Any] = {name: {True: [], False: []} for name in VARIANTS}
    for name in (*VARIANTS, *SIMPLE):
        for fold in FOLDS:
            seeds = []
            for seed in SEEDS if name in VARIANTS else SEEDS[:1]:
                found = []
                for clip in runs[name if name in VARIANTS else "tgdfer", fold, seed].itertuples():
                    intensity = known[clip.clip_id]
                    positive = (intensity[clip.frame_index] >= intensity.max() / 2).to_numpy() & (intensity.max() > 0)
                    if positive.all() or not positive.any():
                        continue
                    score = clip.relevance if name in VARIANTS else simple(name, features[clip.clip_id], clip)
                    auroc = roc_auc_score(positive, score)
                    found.append(
                        [auroc, average_precision_score(positive, score), positive[score == score.max()].mean()]
                    )
                    if name in VARIANTS:
                        groups[name][clip.label == clip.prediction].append(auroc)
                seeds.append(found)
            for m, measure in enumerate(values):
                values[measure].setdefault(name, []).append(np.mean(seeds, axis=0)[:, m])
    return values, groups


def simple(name: str, features: np.ndarray, clip: Any) -> np.ndarray:
    count = len(clip.frame_index)
    if name == SIMPLE[0]:
        return np.zeros(count)
    if name == SIMPLE[1]:
        return -np.abs(np.arange(count) - (count - 1) / 2)
    x = features[clip.frame_index]
    x = x / np.linalg.norm(x, axis=1)[:, None]
    origin = x.mean(axis=0) if name == SIMPLE[2] else x[0]
    return np.linalg.norm(x - origin / np.linalg.norm(origin), axis=1)  # in the order of 1 - cosine


def weights(made: Made, metric: str) -> list[np.ndarray]:
    """The share of a clip in the mean over its fold."""
    if metric != "uar":
        return [np.full(len(label), 1 / len(label)) for label in made.label]
    shares = [pd.Series(label).value_counts() for label in made.label]
    return [1 / (len(share) * share[label].to_numpy()) for share, label in zip(shares, made.label, strict=True)]


def resampled(values: Values, labels: list[np.ndarray] | None) -> dict[str, np.ndarray]:
    """[R] by row: the mean over folds of the mean over drawn clips, or over classes if ``labels`` are given."""
    total = dict.fromkeys(values, np.zeros(DRAWS))
    for f in range(len(FOLDS)):
        size = len(next(iter(values.values()))[f])
        times = RNG.multinomial(size, np.full(size, 1 / size), DRAWS)
        groups = [np.full(size, True)] if labels is None else [labels[f] == c for c in np.unique(labels[f])]
        for name, by_fold in values.items():
            with np.errstate(invalid="ignore"):
                means = [(times[:, group] @ by_fold[f][group]) / times[:, group].sum(axis=1) for group in groups]
            total[name] = total[name] + np.nanmean(means, axis=0) / len(FOLDS)
    return total


def p_of(change: np.ndarray, flips: int = 6000) -> float:
    flipped = RNG.choice([-1.0, 1.0], (flips, len(change))) @ change
    return float((1 + (np.abs(flipped) >= abs(change.sum()) - 1e-12).sum()) / (flips + 1))


def holm(p: Mapping[Any, float]) -> dict[Any, float]:
    largest, adjusted = 0.0, {}
    for rank, (key, value) in enumerate(sorted(p.items(), key=lambda entry: entry[1])):
        largest = max(largest, min(1.0, (len(p) - rank) * value))
        adjusted[key] = largest
    return adjusted


def check_rate(cell: Estimate, values: list[float]) -> None:
    assert 100 * cell.mean == pytest.approx(100 * np.mean(values), abs=1e-4)
    assert 100 * cell.sd == pytest.approx(100 * np.std(values, ddof=1), abs=1e-4)


def check_interval(cell: Estimate, draws: np.ndarray) -> None:
    low, high = 100 * np.quantile(draws, [0.025, 0.975])
    assert (100 * cell.low, 100 * cell.high) == (pytest.approx(low, abs=1.0), pytest.approx(high, abs=1.0))


def check_p(cell: Estimate, p: float, adjusted: float, change: np.ndarray) -> None:
    own = p_of(change)
    assert p == pytest.approx(own, abs=4 * np.sqrt(max(own * (1 - own), 1e-3) * (1 / 20000 + 1 / 6000)))
    assert cell.mean == pytest.approx(adjusted)


def test_these_are_all_the_tables(made: Made) -> None:
    names = [table.name for table in made.part.tables]
    assert names == [*RATES, "relevance", "costs"]
    assert set(names) <= {*OTHER_TABLES, *made.part.params.report.tables}, "a table of params.yaml could take the name"


def test_every_printed_number_of_the_rates(made: Made) -> None:
    scores: dict[str, Callable[[pd.DataFrame], float]] = {
        "uar": lambda run: float(balanced_accuracy_score(run["label"], run["prediction"])),
        "war": lambda run: float((run["label"] == run["prediction"]).mean()),
        **{
            c: lambda run, c=c: recall_score(run["label"], run["prediction"], labels=[c], average=None)[0]  # type: ignore[misc]
            for c in SEVEN
        },
    }
    draws = {"uar": resampled(made.right, made.label), "war": resampled(made.right, None)}
    found = {(v, m): c for v, r in made.part.results["last"].items() for m, c in r.comparisons.items()}
    assert set(found) == {(v, m) for v in list(VARIANTS)[1:] for m in ("uar", "war")}, "the family of the correction"
    adjusted = holm({key: comparison.p for key, comparison in found.items()})
    change = {v: [a - b for a, b in zip(made.right[v], made.right["tgdfer"], strict=True)] for v in VARIANTS}
    checked = 0
    for table in made.part.tables:
        for row in table.rows if table.name in RATES else []:
            v = LABELS[row.label]
            for column in (column for column in table.columns if column.kind != "text"):
                cell, key = row.cells.get(column.key, Estimate()), column.key
                checked += 1
                if column.is_interval and key in draws:
                    check_interval(cell, draws[key][v])
                elif key in scores:
                    by_seed = [[scores[key](made.runs[v, f, s]) for s in SEEDS] for f in FOLDS]
                    check_rate(cell, np.mean(by_seed, axis=1).tolist())
                elif key == "seed_sd":
                    by_seed = [[scores["uar"](made.runs[v, f, s]) for f in FOLDS] for s in SEEDS]
                    assert cell.mean == pytest.approx(np.std(np.mean(by_seed, axis=1), ddof=1), abs=1e-9)
                elif v == "tgdfer":
                    assert cell == "reference" or not cell.known  # nothing to compare the reference with
                elif column.is_interval:
                    check_interval(cell, draws["uar"][v] - draws["uar"]["tgdfer"])
                elif key == "delta":
                    by_fold = [scores["uar"](made.runs[x, f, s]) for x in (v, "tgdfer") for f in FOLDS for s in SEEDS]
                    assert cell.mean == pytest.approx(-np.diff(np.reshape(by_fold, (2, -1)).mean(axis=1))[0])
                elif key == "wins":
                    gain = np.concatenate(change[v])
                    assert cell.mean == pytest.approx(gain[gain > 0].sum() / np.abs(gain).sum())
                else:
                    assert key == "p"
                    weighed = [w * x for w, x in zip(weights(made, "uar"), change[v], strict=True)]
                    check_p(cell, found[v, "uar"].p, adjusted[v, "uar"], np.concatenate(weighed))
    assert checked == 2 * 9 + 9 * (2 + 3 + 2 + 2 + 2 + 2)


def test_every_printed_number_of_relevance(made: Made) -> None:
    table, auroc = table_of(made.part, "relevance"), made.relevance["auroc"]
    assert [row.label for row in table.rows] == [*SIMPLE, *LABELS]
    counted = sum(map(len, auroc["tgdfer"]))
    assert f"; {counted} clips count; {120 - counted} without both kinds of frame in the bag" in table.caption
    draws = resampled(auroc, None)
    found = {name: r.comparison for name, r in made.part.relevance["last"].items() if r and r.comparison}  # type: ignore[index]
    assert set(found) == {*auroc} - {"tgdfer"}, "the family of the correction"
    adjusted = holm({name: comparison.p for name, comparison in found.items()})
    for row in table.rows:
        name, cells = LABELS.get(row.label, row.label), row.cells
        for measure, values in made.relevance.items():
            check_rate(cells[measure], [by_fold.mean() for by_fold in values[name]])
        check_interval(cells["auroc"], draws[name])
        for key, right in (("right", True), ("wrong", False)):
            values = made.groups.get(name, {}).get(right)
            assert cells[key].mean == pytest.approx(
                np.nan if values is None else np.mean(values), abs=1e-6, nan_ok=True
            )
        if name == "tgdfer":
            assert cells["delta"] == "reference"
            assert "p" not in cells
            continue
        change = [a - b for a, b in zip(auroc[name], auroc["tgdfer"], strict=True)]
        assert cells["delta"].mean == pytest.approx(np.mean([x.mean() for x in change]), abs=1e-6)
        check_interval(cells["delta"], draws[name] - draws["tgdfer"])
        check_p(cells["p"], found[name].p, adjusted[name], np.concatenate([x / len(x) for x in change]))
    printed = {column.key for column in table.columns}
    assert printed == {"label", "delta", "p", "right", "wrong", *made.relevance}


def test_every_printed_number_of_the_costs(made: Made) -> None:
    table = table_of(made.part, "costs")
    assert "Measured on: x86_64, 2 CPUs, no GPU." in table.caption
    assert {column.key for column in table.columns} == {"label", "seconds", "memory", "runs", "parameters"}
    for row in table.rows:
        info = made.info[LABELS[row.label]]
        assert row.cells["seconds"].mean == pytest.approx(np.mean([run["seconds"] for run in info]))
        assert row.cells["memory"].mean == pytest.approx(np.mean([run["peak_memory_mb"] for run in info]))
        assert row.cells["runs"].mean == len(info) == 6
        assert row.cells["parameters"].mean == 12345
