"""The tables: the CSVs recomputed from the predictions, and what is in which row and format."""

from pathlib import Path

import numpy as np
import pytest
from report_project import ACCURACY
from report_tables import FEW, predictions, project, records, row, table
from sklearn.metrics import balanced_accuracy_score, recall_score

from tgdfer.config.params import load_params
from tgdfer.config.report import ReportParams
from tgdfer.core.classes import ELEVEN, SEVEN
from tgdfer.evaluation.protocol import SELECTIONS
from tgdfer.reporting import render
from tgdfer.reporting.analysis import Estimate, Paired, compare
from tgdfer.reporting.layout import Cell
from tgdfer.reporting.report import build
from tgdfer.reporting.settings import setting

pytestmark = pytest.mark.usefixtures("new_folder")


def test_every_value_is_that_of_scikit_learn_on_the_predictions() -> None:
    part = build(project(seeds=(0, 3)).write(), "demo")
    checked = 0
    for name in ("main", "components", "baselines"):
        for record in records(part, name):
            variant, selection = record["variant"], record["selection"]
            uar, war = np.zeros((3, 2)), np.zeros((3, 2))
            recall = np.zeros((3, 2, 7))
            for f in range(3):
                for s, seed in enumerate((0, 3)):
                    run = predictions(variant, f + 1, seed, selection)
                    label, prediction = run["label"], run["prediction"]
                    uar[f, s] = balanced_accuracy_score(label, prediction)
                    war[f, s] = (label == prediction).mean()
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
    assert checked == 3 * (2 + 2 + 2)


def test_another_variant_changes_no_number_of_the_others() -> None:
    small = build(project(variants={name: FEW[name] for name in ("tgdfer", "no-text")}).write(), "demo")
    large = build(project().write(), "demo")
    for name in ("tgdfer", "no-text"):
        assert small.results["last"][name].uar == large.results["last"][name].uar
    first, second = (part.results["last"]["no-text"].comparisons["uar"] for part in (small, large))
    assert (first.p, first.low, first.high) == (second.p, second.low, second.high)
    assert second.p_holm >= first.p_holm


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
        ((0,), "over 3 folds, one seed", "one seed shows nothing"),
        ((0, 1), "mean of 2 seeds", "2 seeds, the standard deviation"),
    ):
        part = build(project(seeds=seeds).write(), "demo")
        components = table(part, "components")
        assert over in components.caption
        assert spread in components.remarks[0]
        assert ("seed_sd" in [column.key for column in components.columns]) == (len(seeds) > 1)


def test_published_rows_are_printed_above_ours_only_on_dfew() -> None:
    part = build(project(datasets={"mine": "dfew"}, selection="best_test").write(), "mine")
    main = table(part, "main")
    origins = [row.origin for row in main.rows]
    assert origins.count("published") == 35
    assert origins.count("measured") == 2
    audio = next(row for row in main.rows if row.label == "MMA-DFER")
    assert audio.marks == {}
    assert "not comparable" in audio.notes[0]
    best = next(row for row in main.rows if row.label == "UniLearn")
    assert best.marks["war"] == "best"
    assert "optimistic" in main.caption
    assert "on mine, published and measured here with" in main.caption
    below = render.to_latex(main).splitlines()
    assert below[below.index(r"\multicolumn{11}{l}{\emph{measured here}} \\") + 1].startswith("TG-DFER (full)")
    assert any("not the numbers of any paper" in remark for remark in main.remarks)
    assert "UniLearn" in render.to_csv(main)
    assert row(part, "main", "mean-pool linear probe").cells["modality"] == "video"
    demo = build(project().write(), "demo")
    assert {row.origin for row in table(demo, "main").rows} == {"measured"}
    assert "on demo, measured here with" in table(demo, "main").caption
    assert "emph{measured here}" not in render.to_latex(table(demo, "main"))


def test_only_variants_that_read_text_are_called_video_and_text() -> None:
    models = {"tgdfer": {}, "cls": {"architecture": "transformer-cls"}, "mil": {"architecture": "attention-mil"}}
    models["free"] = {"architecture": "transformer-cls", "text": "none"}
    variants = {name: {"label": name, "tables": ["main"], "set": {"model": model}} for name, model in models.items()}
    part = build(
        project(datasets={"mine": "dfew"}, variants=variants, accuracy=dict.fromkeys(variants, 0.6)).write(), "mine"
    )
    said = {name: row(part, "main", name).cells["modality"] for name in variants}
    assert said == {"tgdfer": "video+text", "cls": "video+text", "mil": "video", "free": "video"}


def test_mafw_has_its_classes_and_published_rows_with_sound_behind_the_others() -> None:
    part = build(project(datasets={"mafw": "mafw"}, classes=ELEVEN).write(), "mafw")
    main = table(part, "main")
    assert [column.key for column in main.columns][2:-2] == list(ELEVEN)
    quoted = [row for row in main.rows if row.origin == "published"]
    assert [row.label for row in quoted] == ["S2D", "UniLearn", "CLAIP-Emo"]
    assert [row.ranked for row in quoted] == [True, True, False]
    assert all(row.notes[0] for row in quoted)


def test_best_is_bold_and_second_underlined_at_the_precision_of_print() -> None:
    part = build(project(accuracy={**ACCURACY, "no-text": 0.3}).write(), "demo")
    markdown, latex = render.to_markdown(table(part, "main")), render.to_latex(table(part, "main"))
    best, second = row(part, "main", "TG-DFER (full)"), row(part, "main", "mean-pool linear probe")
    assert best.marks["war"] == "best"
    assert second.marks["war"] == "second"
    assert f"**{100 * best.cells['war'].mean:.2f} ± {100 * best.cells['war'].sd:.2f}**" in markdown
    assert rf"\tgsecond{{\tgval{{{100 * second.cells['war'].mean:.2f}}}}}" in latex
    assert latex.count(r"\toprule") == 1
    interval = render.text_of(best.cells["uar"], "interval")
    components = render.to_latex(table(part, "components")).splitlines()
    values = next(n for n, line in enumerate(components) if line.startswith("TG-DFER"))
    assert rf"\tgci{{{interval}}}" in components[values + 1]
    assert components[values].count("&") == components[values + 1].count("&") == components[values - 2].count("&")
    assert r"& \shortstack[l]{Temporal\\network} & Text &" in components[values - 2]
    assert latex.count("{") - latex.count(r"\{") == latex.count("}") - latex.count(r"\}")


def test_what_comes_from_data_is_escaped_in_every_format() -> None:
    labels = {"no-text": "100 % | <b>x</b> & $a_1$ #~^\\", "linear-probe": '=HYPERLINK("x")'}
    variants = {**FEW, **{name: {**FEW[name], "label": label} for name, label in labels.items()}}
    part = build(project(variants=variants).write(), "demo")
    assert {r["row"] for r in records(part, "baselines")} == {"TG-DFER (full)", '\'=HYPERLINK("x")'}, "no formula"
    components = table(part, "components")
    assert "100 % \\| &lt;b&gt;x&lt;/b&gt; &amp; $a\\_1$" in render.to_markdown(components)
    assert r"100 \% | $<$b$>$x$<$/b$>$ \& \$a\_1\$ \#\textasciitilde{}\textasciicircum{}\textbackslash{}" in (
        render.to_latex(components)
    )
    widths = {
        line.count("|") - line.count("\\|") for line in render.to_markdown(components).splitlines() if "|" in line
    }
    assert len(widths) == 1


def test_the_settings_of_a_variant_are_those_that_mean_something() -> None:
    part = build(project().write(), "demo")
    shown = {
        name: [[cell for key, cell in row.cells.items() if "." in key] for row in table(part, name).rows]
        for name in ("components", "text", "baselines")
    }
    assert shown["components"] == [["✓"] * 5, ["✓", "–", "–", "–", "✓"]]
    assert shown["text"] == [["descriptions", "8", "shared"], ["none", "–", "–"]]
    assert shown["baselines"] == [["tgdfer"], ["linear-probe"]]


def test_a_table_is_added_in_params_yaml() -> None:
    made = project()
    text = Path("params.yaml").read_text()
    added = "tables: {steps: {title: Step sizes, columns: {training.learning_rate: Step, model.dropout: Dropout}}}"
    text = text.replace("report:\n", f"report:\n  {added}\n").replace("- text\n", "- text\n    - steps\n")
    Path("params.yaml").write_text(text)
    made.write()
    steps = table(build(load_params(), "demo"), "steps")
    assert steps.title == "Step sizes"
    assert [column.head for column in steps.columns][:4] == ["Variant", "Step", "Dropout", "UAR"]
    assert [row.cells["training.learning_rate"] for row in steps.rows] == ["0.001"] * 2


@pytest.mark.parametrize(
    ("cell", "kind", "text"),
    [
        (Estimate(-0.00004), "points", "0.00"),
        (Estimate(0.00004), "points", "0.00"),
        (Estimate(-0.0123), "points", "−1.23"),
        (Estimate(0.0123), "points", "+1.23"),
        (Estimate(0.01, low=-0.0004, high=0.021), "interval-points", "[0.0, +2.1]"),
        (Estimate(0.5, low=0.4, high=0.6), "interval", "[40.0, 60.0]"),
        (Estimate(0.0009), "p", "<0.001"),
        (Estimate(0.0012), "p", "0.001"),
        (Estimate(0.666), "share", "67 %"),
        (Estimate(), "percent", "–"),
        ("reference", "points", "reference"),
        ("reference", "interval-points", "–"),
    ],
)
def test_a_cell_in_print(cell: Cell, kind: str, text: str) -> None:
    assert render.text_of(cell, kind) == text


@pytest.mark.parametrize("selection", ["last", "best_val", "best_test"])
def test_tables_print_the_selection_that_is_asked_for(selection: str) -> None:
    part = build(project(selection=selection).write(), "demo")
    for name in ("main", "components"):
        found = {r["selection"]: float(r["uar"]) for r in records(part, name) if r["variant"] == "tgdfer"}
        assert len(set(found.values())) == 3, "the selections differ"
        assert row(part, name, "TG-DFER (full)").cells["uar"].mean == pytest.approx(found[selection])  # type: ignore[union-attr]
        assert SELECTIONS[selection] in table(part, name).caption


def test_a_weight_of_zero_switches_a_part_off() -> None:
    variants = {**FEW, "no-text": {**FEW["no-text"], "set": {"model": {"coarse_weight": 0.0}}}}
    params = project(variants=variants).params
    assert [setting(params, name, "model.coarse_weight", tick=True) for name in ("tgdfer", "no-text")] == ["✓", "–"]
