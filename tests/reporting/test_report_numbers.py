"""What is computed and written of results that are made up here: rates, comparisons, macros, rows, records."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tgdfer.config.report import ReportParams
from tgdfer.evaluation import statistics
from tgdfer.reporting import numbers, rows
from tgdfer.reporting.analysis import NAN, Comparison, Estimate, Result, analyse, generator
from tgdfer.reporting.choice import inner_choice
from tgdfer.reporting.layout import Column
from tgdfer.reporting.part import Part
from tgdfer.runs.files import Key
from tgdfer.runs.results import Experiment, Outcome, RunResult
from tgdfer.runs.state import State

CLASSES = ["happy", "sad", "fear"]
LABEL = {1: [0, 0, 0, 1, 1, 2], 2: [0, 1, 1, 2]}
WRONG: dict[tuple[str, int, int], list[int]] = {
    ("full", 1, 0): [0, 3],
    ("full", 1, 1): [0, 5],
    ("full", 2, 0): [1],
    ("full", 2, 1): [],
    ("probe", 1, 0): [0, 1, 3],
    ("probe", 1, 1): [1, 2, 5],
    ("probe", 2, 0): [1, 2],
    ("probe", 2, 1): [0],
    ("part", 1, 0): [0, 1],
    ("part", 1, 1): [2, 3],
    ("part", 2, 1): [2, 3],
}
"""The clips that a run gets wrong; ``part`` lacks a run."""
REPORT = ReportParams(reference="full", bootstrap=40, confidence=0.9, seed=5)


def run(variant: str, fold: int, seed: int) -> RunResult:
    key, label = Key("demo", variant, fold, seed), np.array(LABEL[fold])
    wrong = WRONG.get((variant, fold, seed))
    if wrong is None:
        return RunResult(key, State("missing"), "not run")
    prediction = np.where(np.isin(np.arange(len(label)), wrong), (label + 1) % 3, label)
    clip_id = np.array([f"{fold}-{n}" for n in range(len(label))])
    return RunResult(key, State("done"), None, {"last": Outcome(clip_id, label, prediction, 0.9 + 0 * label, {})})


def experiment() -> Experiment:
    runs = [run(variant, fold, seed) for variant in ("full", "probe", "part") for fold in (1, 2) for seed in (0, 1)]
    return Experiment("demo", CLASSES, [1, 2], runs, [])


def right(variant: str, fold: int, seeds: tuple[int, ...]) -> np.ndarray:
    """The share of the seeds that get each clip right."""
    return np.mean([np.isin(np.arange(len(LABEL[fold])), WRONG[variant, fold, s], invert=True) for s in seeds], axis=0)


def rate(metric: str, fold: int, share: np.ndarray) -> float:
    label = np.array(LABEL[fold])
    recall = [share[label == c].mean() for c in range(3)]
    return float({"uar": np.mean(recall), "war": share.mean(), **dict(zip(CLASSES, recall, strict=True))}[metric])


HAVE = {"full": {1: (0, 1), 2: (0, 1)}, "probe": {1: (0, 1), 2: (0, 1)}, "part": {1: (0, 1), 2: (1,)}}


@pytest.fixture(scope="module")
def found() -> dict[str, Result]:
    return analyse(experiment(), ["full", "probe", "part"], "last", REPORT)


@pytest.mark.parametrize("variant", HAVE)
def test_rates_are_means_over_seeds_then_folds(found: dict[str, Result], variant: str) -> None:
    result, have = found[variant], HAVE[variant]
    assert (result.variant, result.selection, result.folds, result.seeds) == (variant, "last", [1, 2], [0, 1])
    assert result.clips == 10
    assert [run.name for run in result.missing] == (["fold 2, seed 0"] if variant == "part" else [])
    for name in ("uar", "war", *CLASSES):
        estimate = result.recall[name] if name in CLASSES else getattr(result, name)
        per_fold = [rate(name, fold, right(variant, fold, seeds)) for fold, seeds in have.items()]
        assert estimate.per_fold == pytest.approx(dict(zip(have, per_fold, strict=True)))
        assert (estimate.mean, estimate.sd) == pytest.approx((np.mean(per_fold), np.std(per_fold, ddof=1)))
        assert estimate.low <= estimate.mean <= estimate.high


def test_the_spread_over_seeds_is_that_of_seeds_that_all_folds_have(found: dict[str, Result]) -> None:
    for metric in ("uar", "war"):
        means = [np.mean([rate(metric, fold, right("probe", fold, (seed,))) for fold in (1, 2)]) for seed in (0, 1)]
        assert found["probe"].seed_sd[metric] == pytest.approx(np.std(means, ddof=1))
        assert np.isnan(found["part"].seed_sd[metric])


def test_intervals_are_quantiles_of_draws_that_all_variants_share(found: dict[str, Result]) -> None:
    draws: dict[str, list[Any]] = {"full": [], "probe": []}
    for fold, label in LABEL.items():
        times = statistics.draw_clips(len(label), 40, generator(5, "demo", f"fold {fold}"))
        for variant, kept in draws.items():
            kept.append(times @ right(variant, fold, (0, 1)) / len(label))
    means = {variant: np.mean(kept, axis=0) for variant, kept in draws.items()}
    for variant, mean in means.items():
        war = found[variant].war
        assert (war.low, war.high) == pytest.approx(np.quantile(mean, [0.05, 0.95]))
    comparison, difference = found["probe"].comparisons["war"], means["probe"] - means["full"]
    assert (comparison.low, comparison.high) == pytest.approx(np.quantile(difference, [0.05, 0.95]))
    assert comparison.detectable == pytest.approx(statistics.detectable(difference.std(ddof=1)))


@pytest.mark.parametrize("variant", ["probe", "part"])
def test_comparisons_are_over_the_folds_and_seeds_that_both_have(found: dict[str, Result], variant: str) -> None:
    have, whole = HAVE[variant], (0, 1) if variant == "probe" else (1,)
    for metric in ("uar", "war"):
        comparison = found[variant].comparisons[metric]

        def gap(seeds: dict[int, tuple[int, ...]], metric: str = metric) -> float:
            own, other = (
                np.mean([rate(metric, fold, right(name, fold, s)) for fold, s in seeds.items()])
                for name in (variant, "full")
            )
            return float(own - other)

        assert comparison.difference == pytest.approx(gap(have))
        assert comparison.by_seed == pytest.approx({seed: gap({1: (seed,), 2: (seed,)}) for seed in whole})
        assert (comparison.folds, comparison.clips) == (2, 10)
        change = np.concatenate([right(variant, f, seeds) - right("full", f, seeds) for f, seeds in have.items()])
        assert comparison.win_share == pytest.approx(change[change > 0].sum() / np.abs(change).sum())
    assert found["full"].comparisons == {}


def test_p_is_of_random_signs_and_corrected_over_all_comparisons(found: dict[str, Result]) -> None:
    every = [found[name].comparisons[metric] for name in ("probe", "part") for metric in ("uar", "war")]
    parts = []
    for name in ("probe", "part"):
        for metric in ("uar", "war"):
            weights = statistics.clip_weights([np.array(LABEL[1]), np.array(LABEL[2])], metric)
            change = [right(name, fold, s) - right("full", fold, s) for fold, s in HAVE[name].items()]
            parts.append(np.concatenate(weights) * np.concatenate(change))
    p = statistics.sign_flip_test(np.stack(parts, axis=1), statistics.FLIPS, generator(5, "demo", "signs"))
    assert [one.p for one in every] == pytest.approx(p.tolist())
    assert [one.p_holm for one in every] == pytest.approx(statistics.holm(p.tolist()))


def test_a_variant_without_results_has_none(found: dict[str, Result]) -> None:
    empty = analyse(experiment(), ["full", "probe"], "best_val", REPORT)["probe"]
    assert not empty.measured
    assert (len(empty.missing), empty.clips, empty.comparisons) == (4, 0, {})
    assert found["part"].measured
    assert not empty.uar.known


PROBE = Comparison(-0.125, -0.2, 0.05, 0.01, 0.02, 0.25, 0.07, 2, 10, {0: -0.1, 3: -0.15})


def part(seeds: tuple[int, ...] = (0, 3), stale: bool = False, **changes: Any) -> Part:
    """A reference that lacks nothing, a variant with a comparison, one that lacks a run, one without results."""
    state = State("outdated", ("the code of the training changed",)) if stale else State("done")
    runs = [RunResult(Key("demo", "linear-probe", 1, 0), state, None, run("full", 1, 0).outcomes)]
    absent = [RunResult(Key("demo", "partial", 2, 3), State("missing"), "not run")]
    shown = {
        "full": Result("full", "last", [1, 2], [0, 3], 10, Estimate(0.5, 0.1, 0.4, 0.6, {1: 0.4, 2: 0.6})),
        "linear-probe": Result("linear-probe", "last", [1, 2], [0, 3], 10, comparisons={"uar": PROBE}),
        "partial": Result("partial", "last", [1], [0, 3], 6, Estimate(0.3), missing=absent),
        "none": Result("none", "last", [], [], missing=absent),
    }
    shown["full"].war = Estimate(0.75, NAN, 0.7, 0.8)
    shown["full"].seed_sd = {"uar": 0.0123, "war": NAN}
    shown["full"].recall = {"happy": Estimate(0.9, 0.01, 0.8, 1.0)}
    labels = {name: SimpleNamespace(label=f"{name}!", tables=["text"]) for name in shown}
    params: Any = SimpleNamespace(
        seeds=list(seeds),
        variants=labels,
        report=ReportParams(reference="full", confidence=0.9),
        dataset=lambda name: {"demo": SimpleNamespace(encoder="tiny")}[name],
    )
    results = {"last": shown, "best_val": shown, "best_test": shown}
    return Part(params, Experiment("demo", CLASSES, [1, 2], runs, []), results, **changes)


def test_the_macros_of_every_estimate() -> None:
    made = part()
    lines = numbers.to_latex(made.params, [made]).splitlines()
    assert lines[:2] == ["% made by `tgdfer report`; percent, mean over folds", "% selection: last epoch, no selection"]
    macros = dict(line.removeprefix("\\newcommand{\\")[:-1].split("}{") for line in lines[2:])
    values = {"": "50.00", "Sd": "10.00", "Low": "40.00", "High": "60.00", "SeedSd": "1.23"}
    assert {f"UarDemo{ending}": text for ending, text in values.items()}.items() <= macros.items()
    values = {"": "75.00", "Sd": "??", "Low": "70.00", "High": "80.00", "SeedSd": "??"}
    assert {f"WarDemo{ending}": text for ending, text in values.items()}.items() <= macros.items()
    assert macros["UarDemoPartial"] == "??", "the mean would be over other folds"
    assert macros["ClipsDemo"] == "10"
    assert len(macros) == 4 * 2 * 5 + 1
    once = part(seeds=(0,))
    assert "SeedSd" not in numbers.to_latex(once.params, [once])


def test_macros_consist_of_letters_and_keep_the_capitals_of_a_name() -> None:
    assert numbers.macro("uar", "crema-d", "window_16") == "UarCremaDWindowOneSix"
    assert numbers.macro("war", "CREMA-D", "LoRA4") == "WarCREMADLoRAFour"


def test_a_macro_of_two_variants_is_that_of_the_first() -> None:
    made = part()
    made.results["last"]["linear_probe"] = Result("linear_probe", "last", [1], [0], uar=Estimate(0.11))
    text = numbers.to_latex(made.params, [made])
    assert "% \\UarDemoLinearProbe would also be demo/linear_probe; it is demo/linear-probe\n" in text
    assert text.count("{\\UarDemoLinearProbe}") == 1
    assert "11.00" not in text


def test_macros_of_runs_that_are_not_current_say_so() -> None:
    made = part(stale=True)
    third = numbers.to_latex(made.params, [made]).splitlines()[2]
    assert third.startswith("% Not current: linear-probe! (the code of the training changed)")


def test_a_row_that_lacks_runs_is_not_ranked() -> None:
    made = part()
    cells = {"uar": Estimate(0.5)}
    whole, partial, none = (rows.measured_row(made, name, cells) for name in ("full", "partial", "none"))
    assert (whole.label, whole.origin, whole.cells, whole.notes) == ("full!", "measured", cells, [])
    assert (whole.ranked, whole.variant, whole.reference) == (True, "full", True)
    assert partial.notes == ["incomplete, only folds 1; not ranked", "fold 2, seed 3: not run"]
    assert (partial.ranked, partial.reference) == (False, False)
    assert none.notes == ["fold 2, seed 3: not run"]
    assert not none.ranked
    made.shown["partial"].folds = [1, 2]
    assert rows.measured_row(made, "partial", {}).notes[0] == "incomplete, some folds have fewer seeds; not ranked"


def test_a_column_and_its_interval() -> None:
    rate_, points = (rows.with_interval(part(), Column("x", "X", kind)) for kind in ("percent", "points"))
    assert rate_ == [Column("x", "X", "percent"), Column("x", "90 % interval", "interval")]
    assert points[1] == Column("x", "90 % interval", "interval-points")


def test_the_records_of_a_variant_hold_everything() -> None:
    made = part()
    records = rows.records_of(made, ["full", "linear-probe", "none"])
    assert [(record["variant"], record["selection"]) for record in records] == [
        (variant, selection)
        for variant in ("full", "linear-probe", "none")
        for selection in ("last", "best_val", "best_test")
    ]
    full, probe, none = records[0], records[3], records[6]
    expected = {"dataset": "demo", "row": "full!", "origin": "measured", "encoder": "tiny", "folds": 2, "seeds": 2}
    expected |= {"clips": 10, "uar": 0.5, "uar_sd": 0.1, "uar_low": 0.4, "uar_high": 0.6, "uar_seed_sd": 0.0123}
    expected |= {"uar_fold1": 0.4, "uar_fold2": 0.6, "war": 0.75, "happy": 0.9, "happy_sd": 0.01, "note": ""}
    assert {name: full[name] for name in expected} == expected
    assert full["war_fold1"] is None
    assert np.isnan(full["fear"])
    compared = {name: probe[f"uar_vs_reference_{name}"] for name in ("difference", "low", "high", "p", "p_holm")}
    assert compared == {"difference": -0.125, "low": -0.2, "high": 0.05, "p": 0.01, "p_holm": 0.02}
    assert (probe["uar_vs_reference_win_share"], probe["uar_vs_reference_detectable"]) == (0.25, 0.07)
    assert (probe["uar_vs_reference_seed0"], probe["uar_vs_reference_seed3"]) == (-0.1, -0.15)
    assert probe["war_vs_reference_difference"] is None
    assert probe["war_vs_reference_seed3"] is None
    assert none["note"] == "fold 2, seed 3: not run"


def chosen(validated: dict[str, list[float]], tested: dict[str, list[float]], **about: Any) -> str | None:
    """The choice between variants whose runs (folds 1 and 2, two seeds each) gave these UARs; 1 fold a pair."""
    made = part()
    runs = []
    for variant, values in validated.items():
        for n, value in enumerate(values):
            history = [{"val_uar": 1.0}, {"val_uar": value} if value == value else {}]
            outcome = SimpleNamespace(metrics={"uar": tested[variant][n]})
            runs.append(
                SimpleNamespace(
                    key=Key("demo", variant, n // 2 + 1, n % 2),
                    problem=None,
                    history=lambda history=history: history,
                    outcomes={"last": outcome},
                )
            )
    made.experiment.runs = runs
    made.params.variants = {name: SimpleNamespace(label=f"{name}!", tables=["text"]) for name in validated}
    tables = {"text": SimpleNamespace(ticks=[], columns={"model.text": "text"})}
    for name, value in about.items():
        setattr(tables["text"], name, value)
    made.params.report = SimpleNamespace(reference="full", tables=tables)
    return inner_choice(made, "text")


def test_the_choice_by_inner_validation() -> None:
    validated = {"full": [0.5, 0.5, 0.5, 0.1], "probe": [0.9, 0.3, 0.2, 0.2]}
    tested = {"full": [0.1, 0.3, 0.6, 0.4], "probe": [0.7, 0.5, 0.8, 0.8]}
    assert chosen(validated, tested) == (
        "Chosen by UAR on the inner validation split (last epoch; number of folds in parentheses): "
        "probe! (1); full! (1). UAR of that choice on the test folds: 55.0 %, of full!: 35.0 %."
    )
    assert chosen({"full": validated["full"]}, tested) is None, "no choice"
    assert chosen({"probe": validated["full"], "other": validated["probe"]}, {**tested, "other": [0.0] * 4}) is None
    assert chosen({**validated, "probe": [0.9, NAN, 0.2, 0.2]}, tested) is None, "a run without validation"
    assert chosen(validated, tested, ticks=["text"]) is None
    assert chosen(validated, tested, columns={"model.architecture": "model"}) is None
