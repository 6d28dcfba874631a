"""The tables: every value recomputed from the predictions, and nothing guessed where runs are missing."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from report_project import ACCURACY, VARIANTS, Project
from sklearn.metrics import balanced_accuracy_score, recall_score

from tgdfer import paths, stages, storage
from tgdfer.classes import ELEVEN, SEVEN
from tgdfer.params import ReportParams
from tgdfer.reporting import numbers, render
from tgdfer.reporting.analysis import Paired, compare
from tgdfer.reporting.layout import Column, Table
from tgdfer.reporting.report import Part, build

FEW = {name: VARIANTS[name] for name in ("tgdfer", "no-text", "linear-probe")}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def project(**settings: Any) -> Project:
    return Project(**{"variants": FEW, "clips": 100, "bootstrap": 60, "truth": False, "folds": 3, **settings})


def table(part: Part, name: str) -> Table:
    return next(table for table in part.tables if table.name == name)


def row(part: Part, name: str, label: str) -> Any:
    return next(row for row in table(part, name).rows if row.label == label)


def records(part: Part, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(render.to_csv(table(part, name)).splitlines()))


def from_predictions(variant: str, selection: str, fold: int, seed: int) -> tuple[list[str], list[str]]:
    """True labels and predictions, read without any of the report's code."""
    frame = pq.read_table(f"runs/demo/{variant}/fold{fold}/seed{seed}/predictions.parquet").to_pandas()
    frame = frame[frame["selection"] == selection]
    return list(frame["label"]), [SEVEN[int(np.argmax(p))] for p in frame["probabilities"]]


def test_every_value_is_that_of_scikit_learn_on_the_predictions() -> None:
    params = project(seeds=(0, 3)).write()
    part = build(params, "demo")
    checked = 0
    for name in ("main", "components", "baselines"):
        for record in records(part, name):
            variant, selection = record["variant"], record["selection"]
            uar, war = np.zeros((3, 2)), np.zeros((3, 2))
            recall = np.zeros((3, 2, 7))
            for f in range(3):
                for s, seed in enumerate((0, 3)):
                    label, prediction = from_predictions(variant, selection, f + 1, seed)
                    uar[f, s] = balanced_accuracy_score(label, prediction)
                    war[f, s] = np.mean(np.array(label) == np.array(prediction))
                    recall[f, s] = recall_score(label, prediction, labels=list(SEVEN), average=None)
            for metric, values in (("uar", uar), ("war", war)):
                assert float(record[metric]) == pytest.approx(values.mean(), abs=1e-12)
                assert float(record[f"{metric}_sd"]) == pytest.approx(values.mean(axis=1).std(ddof=1), abs=1e-12)
                assert float(record[f"{metric}_seed_sd"]) == pytest.approx(values.mean(axis=0).std(ddof=1), abs=1e-12)
                assert float(record[f"{metric}_fold2"]) == pytest.approx(values[1].mean(), abs=1e-12)
                assert float(record[f"{metric}_low"]) < values.mean() < float(record[f"{metric}_high"])
            for c, emotion in enumerate(SEVEN):
                assert float(record[emotion]) == pytest.approx(recall[:, :, c].mean(), abs=1e-12)
            checked += 1
            if selection == params.report.selection:
                printed = row(part, name, record["row"])
                assert printed.cells["uar"].value == pytest.approx(100 * uar.mean())
                assert f"{100 * uar.mean():.2f}" in render.to_markdown(table(part, name))
                assert f"{100 * uar.mean():.2f}" in render.to_latex(table(part, name))
    assert checked == 3 * (2 + 2 + 2)


def test_differences_to_the_reference_are_paired_and_corrected() -> None:
    part = build(project(clips=300, bootstrap=400).write(), "demo")
    worse = part.results["last"]["linear-probe"].comparisons["uar"]
    reference = part.results["last"]["tgdfer"]
    assert reference.comparisons == {}
    assert worse.difference == pytest.approx(
        (part.results["last"]["linear-probe"].uar.mean or 0) - (reference.uar.mean or 0)
    )
    assert worse.low is not None
    assert worse.high is not None
    assert worse.low < worse.difference < worse.high < 0
    assert worse.p <= worse.p_holm < 0.05
    assert worse.win_share is not None
    assert worse.win_share < 0.5
    # hard clips are hard for both, so the interval of the difference is narrower than that of independent samples
    own = part.results["last"]["linear-probe"].uar
    independent = np.hypot((own.high or 0) - (own.low or 0), (reference.uar.high or 0) - (reference.uar.low or 0))
    assert worse.high - worse.low < independent


def test_another_variant_changes_no_number_of_the_others() -> None:
    small = build(project(variants={name: FEW[name] for name in ("tgdfer", "no-text")}).write(), "demo")
    large = build(project().write(), "demo")
    for name in ("tgdfer", "no-text"):
        assert small.results["last"][name].uar == large.results["last"][name].uar
    first, second = (part.results["last"]["no-text"].comparisons["uar"] for part in (small, large))
    assert (first.p, first.low, first.high) == (second.p, second.low, second.high)
    assert second.p_holm >= first.p_holm


def test_a_missing_fold_is_said_and_its_row_is_not_ranked() -> None:
    made = project()
    params = made.write()
    (paths.run("demo", "tgdfer", 2, 0) / "metrics.json").unlink()
    part = build(params, "demo")
    missing = row(part, "main", "TG-DFER (full)")
    assert missing.notes[:2] == ["incomplete, over folds 1, 3 alone; not ranked", "fold 2, seed 0: not run"]
    assert not missing.ranked
    assert all(cell.mark == "" for cell in missing.cells.values())
    for text in (render.to_markdown(table(part, "main")), render.to_latex(table(part, "main"))):
        assert "fold 2, seed 0: not run" in text
    # the comparison with the incomplete reference is over the folds that both have
    assert part.results["last"]["no-text"].comparisons["uar"].folds == 2
    assert "\\newcommand{\\UarDemo}{??}" in numbers.to_latex(params, {"demo": part.results})


def test_a_missing_seed_is_no_missing_fold() -> None:
    params = project(seeds=(0, 1)).write()
    (paths.run("demo", "tgdfer", 2, 1) / "metrics.json").unlink()
    part = build(params, "demo")
    notes = row(part, "main", "TG-DFER (full)").notes
    assert notes[:2] == ["incomplete, some folds over fewer seeds; not ranked", "fold 2, seed 1: not run"]
    # compared on the seeds that both have
    found = part.results["last"]["no-text"].comparisons["uar"]
    assert (found.folds, list(found.by_seed)) == (3, [0])


def test_the_random_signs_suffice_for_many_variants() -> None:
    """With 2,000 signs and Holm's correction of 120 tests, not even the largest difference would be significant."""
    rng = np.random.default_rng(0)
    none, large = rng.choice([-1.0, 0.0, 1.0], (119, 50)), np.ones((1, 50))
    pairs = {n: Paired(change, np.full(50, 1 / 50), np.zeros(2), 1) for n, change in enumerate([*none, *large])}
    found = compare(pairs, ReportParams(), "demo")
    assert found[119].p_holm < 0.01
    assert found[119].difference == pytest.approx(1.0)
    assert min(comparison.p_holm for n, comparison in found.items() if n < 119) > 0.05


def test_captions_say_how_many_seeds_and_how_far_they_move_the_numbers() -> None:
    for seeds, over, spread in (
        ((0,), "over 3 folds, one seed", "one seed nothing"),
        ((0, 1), "mean of 2 seeds", "2 seeds, the standard deviation"),
    ):
        part = build(project(seeds=seeds).write(), "demo")
        components = table(part, "components")
        assert over in components.caption
        assert spread in components.remarks[0]
        assert ("seed_sd" in [column.key for column in components.columns]) == (len(seeds) > 1)


def test_a_failed_variant_says_why_and_has_no_numbers() -> None:
    made = project()
    params = made.write()
    for fold in (1, 2, 3):
        made.fail("demo", "no-text", fold, 0, "loss became NaN in epoch 3")
    part = build(params, "demo")
    failed = row(part, "components", "without text")
    assert failed.notes == ["fold 1, seed 0; fold 2, seed 0; fold 3, seed 0: failed: loss became NaN in epoch 3"]
    assert failed.cells["uar"].value is None
    record = next(r for r in records(part, "components") if r["variant"] == "no-text")
    assert (record["uar"], record["folds"], record["clips"]) == ("", "0", "0")
    assert "no-text" not in [name for name, r in part.results["last"].items() if r.comparisons]


def test_nothing_run_at_all_makes_tables_without_numbers() -> None:
    made = project()
    made._data("demo", np.random.default_rng(0))
    part = build(made.params, "demo")
    assert all(row.cells["uar"].value is None for row in table(part, "main").rows)
    assert "3 folds" in table(part, "main").caption
    assert part.results["last"]["tgdfer"].missing[0].problem == "not run"


def test_a_single_fold_has_no_deviation() -> None:
    part = build(project(folds=1).write(), "demo")
    cell = row(part, "main", "TG-DFER (full)").cells["uar"]
    assert cell.sd is None
    assert cell.low is not None
    assert "one fold, so without a deviation" in table(part, "main").caption


def test_a_class_that_never_occurs_is_left_out_and_said() -> None:
    made = project(classes=ELEVEN)
    made._data("demo", np.random.default_rng(0))
    made.label[made.label == 9] = 0
    for variant in FEW:
        made._variant("demo", variant, np.random.default_rng(1))
    part = build(made.params, "demo")
    printed = row(part, "main", "TG-DFER (full)")
    assert printed.cells["helplessness"].value is None
    assert "no test clip of helplessness: left out of UAR" in printed.notes
    assert "helplessness" in part.experiment.classes


def test_a_selection_that_a_run_lacks_is_said() -> None:
    made = project(selection="best_val")
    params = made.write()
    for fold in (1, 2, 3):
        path = paths.run("demo", "no-text", fold, 0) / "predictions.parquet"
        kept = pq.read_table(path)
        kept = kept.filter([s != "best_val" for s in kept["selection"].to_pylist()])
        storage.write_table(path, "predictions", kept, {})
    part = build(params, "demo")
    assert "3 runs" not in row(part, "components", "without text").notes[0]
    assert "has no selection best_val" in row(part, "components", "without text").notes[0]
    assert part.results["last"]["no-text"].measured
    assert "best epoch on an inner validation split" in table(part, "components").caption


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda run: (run / "predictions.parquet").write_bytes(b"PAR1 no"), "unreadable"),
        (lambda run: (run / "metrics.json").write_text("{"), "not valid JSON"),
        (lambda run: (run / "predictions.parquet").unlink(), "unreadable"),
    ],
)
def test_a_broken_run_file_stops_nothing(damage: Any, words: str) -> None:
    params = project().write()
    damage(paths.run("demo", "no-text", 1, 0))
    part = build(params, "demo")
    assert any(words in note for note in row(part, "components", "without text").notes)
    assert part.results["last"]["tgdfer"].measured


def test_metrics_that_do_not_fit_the_predictions_are_not_printed() -> None:
    params = project().write()
    path = paths.run("demo", "no-text", 1, 0) / "metrics.json"
    changed = json.loads(path.read_text())
    changed["selections"]["last"]["war"] += 0.1
    path.write_text(json.dumps(changed))
    part = build(params, "demo")
    assert any("metrics.json says" in note for note in row(part, "components", "without text").notes)


def test_runs_from_other_inputs_are_said() -> None:
    params = project().write()
    path = paths.run("demo", "no-text", 1, 0) / "run.json"
    changed = json.loads(path.read_text())
    changed["inputs"]["features"] = "9" * 64
    path.write_text(json.dumps(changed))
    assert "2 different versions" in build(params, "demo").experiment.problems[0]


def test_a_variant_without_the_text_encoder_is_no_other_version_of_the_data() -> None:
    params = project().write()
    for fold in (1, 2, 3):
        path = paths.run("demo", "linear-probe", fold, 0) / "run.json"
        changed = json.loads(path.read_text())
        changed["inputs"]["encoder"] = "none"
        path.write_text(json.dumps(changed))
    assert build(params, "demo").experiment.problems == []


def test_published_rows_stand_beside_ours_on_dfew_and_nowhere_else() -> None:
    part = build(project(datasets={"mine": "dfew"}, selection="best_test").write(), "mine")
    main = table(part, "main")
    origins = [row.origin for row in main.rows]
    assert origins.count("published") == 33
    assert origins.count("measured") == 2
    audio = next(row for row in main.rows if row.label == "MMA-DFER")
    assert audio.cells["war"].mark == ""
    assert "not comparable" in audio.notes[0]
    best = next(row for row in main.rows if row.label == "UniLearn")
    assert best.cells["war"].mark == "best"
    assert "optimistic" in main.caption
    assert "on mine, published and measured here with" in main.caption
    below = render.to_latex(main).splitlines()
    assert below[below.index(r"\multicolumn{11}{l}{\emph{measured here}} \\") + 1].startswith("TG-DFER (full)")
    assert any("not the numbers of any paper" in remark for remark in main.remarks)
    assert "UniLearn" in render.to_csv(main)
    assert [c.text for c in (row(part, "main", "mean-pool linear probe").cells["modality"],)] == ["video"]
    demo = build(project().write(), "demo")
    assert {row.origin for row in table(demo, "main").rows} == {"measured"}
    assert "on demo, measured here with" in table(demo, "main").caption
    assert "emph{measured here}" not in render.to_latex(table(demo, "main"))


def test_only_what_sees_text_is_said_to() -> None:
    models = {"tgdfer": {}, "cls": {"architecture": "transformer-cls"}, "mil": {"architecture": "attention-mil"}}
    models["free"] = {"architecture": "transformer-cls", "text": "none"}
    variants = {name: {"label": name, "tables": ["main"], "set": {"model": model}} for name, model in models.items()}
    part = build(
        project(datasets={"mine": "dfew"}, variants=variants, accuracy=dict.fromkeys(variants, 0.6)).write(), "mine"
    )
    said = {name: row(part, "main", name).cells["modality"].text for name in variants}
    assert said == {"tgdfer": "video+text", "cls": "video+text", "mil": "video", "free": "video"}


def test_mafw_has_its_classes_and_says_that_nothing_published_is_at_hand() -> None:
    part = build(project(datasets={"mafw": "mafw"}, classes=ELEVEN).write(), "mafw")
    assert [column.key for column in table(part, "main").columns][2:-2] == list(ELEVEN)
    assert any("No published results for MAFW" in remark for remark in table(part, "main").remarks)


def test_best_is_bold_and_second_underlined_at_the_precision_of_print() -> None:
    part = build(project(accuracy={**ACCURACY, "no-text": 0.3}).write(), "demo")
    markdown, latex = render.to_markdown(table(part, "main")), render.to_latex(table(part, "main"))
    best, second = row(part, "main", "TG-DFER (full)"), row(part, "main", "mean-pool linear probe")
    assert best.cells["war"].mark == "best"
    assert second.cells["war"].mark == "second"
    assert f"**{best.cells['war'].value:.2f} ± {best.cells['war'].sd:.2f}**" in markdown
    assert rf"\tgsecond{{\tgval{{{second.cells['war'].value:.2f}}}}}" in latex
    assert latex.count(r"\toprule") == 1
    interval = render.number(best.cells["uar"], Column("", "", "interval"))
    components = render.to_latex(table(part, "components")).splitlines()
    values = next(n for n, line in enumerate(components) if line.startswith("TG-DFER"))
    assert rf"\tgci{{{interval}}}" in components[values + 1]
    assert components[values].count("&") == components[values + 1].count("&") == components[values - 2].count("&")
    assert r"& \shortstack[l]{Temporal\\network} & Text &" in components[values - 2]
    assert latex.count("{") - latex.count(r"\{") == latex.count("}") - latex.count(r"\}")


def test_what_comes_from_data_is_escaped_in_every_format() -> None:
    variants = {**FEW, "no-text": {**FEW["no-text"], "label": "100 % | <b>x</b> & $a_1$ #~^\\"}}
    part = build(project(variants=variants).write(), "demo")
    components = table(part, "components")
    assert "100 % \\| &lt;b&gt;x&lt;/b&gt; &amp; $a\\_1$" in render.to_markdown(components)
    assert r"100 \% | $<$b$>$x$<$/b$>$ \& \$a\_1\$ \#\textasciitilde{}\textasciicircum{}\textbackslash{}" in (
        render.to_latex(components)
    )
    widths = {
        line.count("|") - line.count("\\|") for line in render.to_markdown(components).splitlines() if "|" in line
    }
    assert len(widths) == 1


def test_a_spreadsheet_runs_no_formula_from_a_label() -> None:
    variants = {**FEW, "no-text": {**FEW["no-text"], "label": '=HYPERLINK("x")'}}
    part = build(project(variants=variants).write(), "demo")
    assert {r["row"] for r in records(part, "components")} == {"TG-DFER (full)", '\'=HYPERLINK("x")'}


def test_the_components_table_shows_what_is_on() -> None:
    part = build(project().write(), "demo")
    full, without = row(part, "components", "TG-DFER (full)"), row(part, "components", "without text")
    keys = ("has_temporal", "has_text", "has_context", "has_visual_prompt", "has_coarse")
    assert [full.cells[key].text for key in keys] == ["✓"] * 5
    assert [without.cells[key].text for key in keys] == ["✓", "–", "–", "–", "✓"]


def test_costs_are_those_of_the_runs() -> None:
    part = build(project().write(), "demo")
    seconds = [json.loads((paths.run("demo", "tgdfer", f, 0) / "run.json").read_text())["seconds"] for f in (1, 2, 3)]
    cells = row(part, "costs", "TG-DFER (full)").cells
    assert cells["seconds"].value == pytest.approx(np.mean(seconds))
    assert cells["parameters"].value == 12345
    assert "x86_64, 2 CPUs, no GPU" in table(part, "costs").caption


def test_macros_are_letters_alone() -> None:
    assert numbers.macro("uar", "crema-d", "window_16") == "UarCremaDWindowOneSix"
    params = project().write()
    text = numbers.to_latex(params, {"demo": build(params, "demo").results})
    value = row(build(params, "demo"), "main", "mean-pool linear probe").cells["uar"].value
    assert f"\\newcommand{{\\UarDemoLinearProbe}}{{{value:.2f}}}" in text


def test_a_variant_outside_the_grid_is_shown_once_it_was_run(monkeypatch) -> None:
    import tgdfer.reporting as reporting

    made = project()
    params = made.write().model_copy(update={"grid": ["tgdfer"]})
    paths.variant("demo", "no-text").unlink()
    shown = reporting._with_others(params)
    assert shown.grid == list(shown.variants) == [name for name in made.variants if name != "no-text"]


def test_a_run_of_what_a_variant_used_to_be_is_not_shown_under_its_name() -> None:
    params = project().write()
    for fold, temporal in ((1, "both"), (2, "none")):
        about = paths.run("demo", "tgdfer", fold, 0) / "run.json"
        asked = stages.run_settings(params, "demo", "tgdfer", fold, 0)
        asked["model"]["temporal"] = temporal
        about.write_text(json.dumps({**json.loads(about.read_text()), "parameters": asked}))
    problems = {run.name: run.problem for run in build(params, "demo").experiment.of("tgdfer")}
    assert problems == {
        "fold 1, seed 0": None,
        "fold 2, seed 0": "was made with other parameters (model); train it again",
        "fold 3, seed 0": None,
    }
