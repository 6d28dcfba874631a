"""One source for every table: cells with values, deviations and notes, which :mod:`render` prints in three formats."""

from __future__ import annotations

import csv
from pathlib import Path

from tgdfer.config.params import Params
from tgdfer.evaluation.protocol import METRICS
from tgdfer.reporting import parts
from tgdfer.reporting.analysis import Estimate
from tgdfer.reporting.layout import Cell, Column, Results, Row, Table, compared_cells, mark, percent
from tgdfer.reporting.relevance import Relevance
from tgdfer.reporting.side_tables import costs_table, relevance_table
from tgdfer.reporting.wording import TITLES, caption_of, measured_row, power_line, records_of, variants_of
from tgdfer.runs.results import Experiment

PUBLISHED = Path(__file__).parent / "published_results.csv"


BENCHMARKS = {"dfew": "DFEW", "ferv39k": "FERV39k", "mafw": "MAFW"}
"""The layouts whose numbers may stand beside published ones, by their name in published_results.csv."""


def make_tables(
    params: Params,
    experiment: Experiment,
    results: Results,
    relevance: dict[str, dict[str, Relevance | None]] | None,
) -> list[Table]:
    """Every table of a data set that has a row."""
    made = [_main(params, experiment, results)]
    for name in params.report.tables:
        made.append(_ablation(params, experiment, results, name))
    if relevance is not None:
        made.append(relevance_table(params, experiment, relevance))
    made.append(costs_table(params, experiment, results))
    tables = [table for table in made if table.rows]
    for table in tables:
        mark(table)
    return tables


def published(benchmark: str) -> list[dict[str, str]]:
    """The published rows of a benchmark."""
    with PUBLISHED.open(newline="", encoding="utf-8") as stream:
        return [row for row in csv.DictReader(stream) if row["dataset"] == benchmark]


def _main(params: Params, experiment: Experiment, results: Results) -> Table:
    chosen = params.dataset(experiment.dataset)
    benchmark = BENCHMARKS.get(chosen.layout)
    columns = [Column("label", "Method"), Column("modality", "Input")] if benchmark else [Column("label", "Method")]
    columns += [Column(name, name.capitalize(), "percent", 1) for name in experiment.classes]
    columns += [Column("uar", "UAR", "percent", 1), Column("war", "WAR", "percent", 1)]
    rows, records = [], []
    for entry in published(benchmark) if benchmark else []:
        cells = {
            column.key: Cell(float(entry[column.key]) if entry.get(column.key) else None)
            for column in columns
            if column.kind == "percent"
        }
        cells["modality"] = Cell(text=entry["modality"])
        notes = [f"{entry['source']}{'; ' if entry['note'] else ''}{entry['note']}"]
        rows.append(Row(entry["method"], "published", cells, notes, "audio" not in entry["modality"]))
        records.append(
            {"dataset": experiment.dataset, "row": entry["method"], "origin": "published", "note": notes[0]}
            | {
                key: None if cell.value is None else cell.value / 100
                for key, cell in cells.items()
                if key != "modality"
            }
        )
    measured = variants_of(params, "main")
    for variant in measured:
        result = results[params.report.selection][variant]
        cells = {name: percent(result.recall.get(name, Estimate())) for name in experiment.classes}
        cells |= {"uar": percent(result.uar), "war": percent(result.war), "modality": Cell(text="video+text")}
        if not params.run(variant).model.uses_text:
            cells["modality"] = Cell(text="video")
        row = measured_row(params, variant, result, cells)
        absent = [name for name in experiment.classes if result.measured and result.recall[name].mean is None]
        if absent:
            row.notes.append(f"no test clip of {', '.join(absent)}: left out of UAR")
        rows.append(row)
    records += records_of(params, experiment, results, measured)
    remarks = []
    mixed = any(row.origin == "published" for row in rows)
    if benchmark:
        remarks.append(
            "Published rows are quoted from the sources in their notes; their epoch is usually the best on the test "
            f"fold, and none carries a spread. Rows measured here use {chosen.encoder} features and are not the "
            "numbers of any paper."
        )
        if not mixed:
            remarks.append(f"No published results for {benchmark} are at hand.")
    return Table(
        "main",
        experiment.dataset,
        TITLES["main"],
        caption_of(params, experiment, results, TITLES["main"], "Recall, UAR and WAR", "in the CSV", mixed),
        "Recall of every class, UAR and WAR in percent.",
        columns,
        rows if measured else [],
        records,
        remarks,
    )


def _ablation(params: Params, experiment: Experiment, results: Results, name: str) -> Table:
    variants = variants_of(params, name)
    if variants == [params.report.reference]:
        variants = []  # nothing to compare it with
    about = params.report.tables[name]
    level = f"{100 * params.report.confidence:g} %"
    columns = [Column("label", "Variant"), *(Column(key, head) for key, head in about.columns.items())]
    columns += [
        Column("uar", "UAR", "percent", 1),
        Column("uar_ci", f"{level} interval", "interval"),
        *([Column("seed_sd", "SD over seeds", "percent")] if len(params.seeds) > 1 else []),
        Column("war", "WAR", "percent", 1),
        Column("war_ci", f"{level} interval", "interval"),
        Column("delta", "Δ UAR", "points"),
        Column("delta_ci", f"{level} interval", "interval-points"),
        Column("p", "p (Holm)", "p"),
        Column("wins", "Won", "share"),
    ]
    rows = []
    for variant in variants:
        result = results[params.report.selection][variant]
        cells = {key: Cell(text=parts.setting(params, variant, key, about.ticks)) for key in about.columns}
        for metric in METRICS:
            cells[metric] = cells[f"{metric}_ci"] = percent(getattr(result, metric))
            cells[f"{metric}_ci"] = Cell(None, None, cells[metric].low, cells[metric].high)
        seed_sd = result.seed_sd.get("uar")
        cells["seed_sd"] = Cell(None if seed_sd is None else 100 * seed_sd)
        cells |= compared_cells(result.comparisons.get("uar"), variant == params.report.reference)
        rows.append(measured_row(params, variant, result, cells))
    remarks = [power_line(params, results)] if any("delta" in row.cells and not row.reference for row in rows) else []
    return Table(
        name,
        experiment.dataset,
        about.title,
        caption_of(params, experiment, results, about.title, "UAR and WAR", "in brackets")
        + (" SD over seeds: of the UAR's mean over folds." if len(params.seeds) > 1 else "")
        + f" Δ UAR: minus {params.variants[params.report.reference].label}, in points, on the same clips; p: paired "
        "sign-flip test over clips, corrected after Holm for all variants and both metrics; won: of the clips on "
        "which the two disagree, the share that the variant gets right.",
        f"Δ UAR is against {params.variants[params.report.reference].label}, in points.",
        columns,
        rows,
        records_of(params, experiment, results, variants),
        remarks,
    )
