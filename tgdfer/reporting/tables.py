"""The tables of a data set, as cells with spreads and notes, which ``render`` prints in three formats."""

import csv
from pathlib import Path

from tgdfer.reporting.analysis import Estimate
from tgdfer.reporting.choice import inner_choice
from tgdfer.reporting.layout import Cell, Column, Row, Table, mark_best
from tgdfer.reporting.low_shot import low_shot_table
from tgdfer.reporting.part import Part
from tgdfer.reporting.rows import compared_cells, measured_row, records_of, with_interval
from tgdfer.reporting.settings import setting
from tgdfer.reporting.side_tables import costs_table, relevance_table
from tgdfer.reporting.wording import caption_of, power_line, stale_line

PUBLISHED = Path(__file__).parent / "published_results.csv"
BENCHMARKS = {"dfew": "DFEW", "ferv39k": "FERV39k", "mafw": "MAFW"}
"""The layouts whose numbers may be printed next to published ones, with their name in published_results.csv."""
MAIN = "Recall per class, UAR and WAR"


def make_tables(part: Part) -> list[Table]:
    """Every table of a data set that has a row."""
    made = [main_table(part), *(ablation_table(part, name) for name in part.params.report.tables)]
    made.append(low_shot_table(part))
    made += [relevance_table(part)] if part.relevance else []
    made.append(costs_table(part))
    tables = [table for table in made if table.rows]
    for table in tables:
        mark_best(table)
        if line := stale_line(part, [row.variant for row in table.rows]):
            table.remarks.append(line)
    return tables


def main_table(part: Part) -> Table:
    """Every class, UAR and WAR, next to published results where the data set is a benchmark."""
    chosen = part.params.dataset(part.dataset)
    benchmark = BENCHMARKS.get(chosen.layout)
    columns = [Column("label", "Method"), *([Column("modality", "Input")] if benchmark else [])]
    columns += [Column(name, name.capitalize(), "percent", 1) for name in part.tested]
    columns += [Column("uar", "UAR", "percent", 1), Column("war", "WAR", "percent", 1)]
    rows, records = [], []
    for entry in published(benchmark) if benchmark else []:
        rates = {
            column.key: float(entry[column.key]) / 100 if entry.get(column.key) else None
            for column in columns
            if column.kind == "percent"
        }
        cells: dict[str, Cell] = {key: Estimate(rate) for key, rate in rates.items() if rate is not None}
        cells["modality"] = entry["modality"]
        note = "; ".join(filter(None, (entry["source"], entry["note"])))
        rows.append(Row(entry["method"], "published", cells, [note], ranked="audio" not in entry["modality"]))
        about = {"dataset": part.dataset, "row": entry["method"], "origin": "published", "note": note}
        records.append(about | rates)
    remarks = []
    if benchmark:
        remarks.append(
            "Published rows are quoted from the sources in their notes. Their epoch is usually the best on the test "
            f"fold, and none has a spread. Rows measured here use {chosen.encoder} features and are not the numbers "
            "of any paper."
        )
    measured = part.rows("main")
    for variant in measured:
        result = part.shown[variant]
        cells = {**result.recall, "uar": result.uar, "war": result.war}
        cells["modality"] = "video+text" if part.params.run(variant).model.uses_text else "video"
        row = measured_row(part, variant, cells)
        absent = [name for name, recall in result.recall.items() if not recall.known]
        if absent:
            row.notes.append(f"no test clip of {', '.join(absent)}: left out of UAR")
        rows.append(row)
    return Table(
        "main",
        part.dataset,
        MAIN,
        caption_of(part, MAIN, "Recall, UAR and WAR", "in the CSV", published=len(rows) > len(measured)),
        "Recall of every class, UAR and WAR in percent.",
        columns,
        rows if measured else [],
        records + records_of(part, measured),
        remarks,
    )


def published(benchmark: str) -> list[dict[str, str]]:
    """The published rows of a benchmark; those that also use sound, with which nothing here compares, are the last."""
    with PUBLISHED.open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["dataset"] == benchmark]
    return sorted(rows, key=lambda row: "audio" in row["modality"])


def ablation_table(part: Part, name: str) -> Table:
    """The variants of one table of ``report.tables``: their settings, rates, and differences to the reference."""
    about, label = part.params.report.tables[name], part.label(part.reference)
    variants = part.rows(name)
    if variants == [part.reference]:
        variants = []  # nothing to compare it with
    several = len(part.params.seeds) > 1
    columns = [Column("label", "Variant"), *(Column(key, head) for key, head in about.columns.items())]
    columns += with_interval(part, Column("uar", "UAR", "percent", 1))
    columns += [Column("seed_sd", "SD over seeds", "percent")] if several else []
    columns += with_interval(part, Column("war", "WAR", "percent", 1))
    columns += with_interval(part, Column("delta", "Δ UAR", "points"))
    columns += [Column("p", "p (Holm)", "p"), Column("wins", "Won", "share")]
    rows = []
    for variant in variants:
        result = part.shown[variant]
        cells: dict[str, Cell] = {key: setting(part.params, variant, key, about.ticks) for key in about.columns}
        cells |= {"uar": result.uar, "war": result.war}
        cells["seed_sd"] = Estimate(result.seed_sd.get("uar", float("nan")))
        found = result.comparisons.get("uar")
        row = measured_row(part, variant, cells | compared_cells(found, variant == part.reference))
        if found and found.significant and not found.signs_agree:
            each = ", ".join(f"{100 * value:+.1f}" for value in found.by_seed.values())
            row.notes.append(f"the seeds disagree about the sign of Δ UAR: {each}")
        rows.append(row)
    remarks = [power_line(part)] if any("delta" in row.cells and not row.reference for row in rows) else []
    if choice := inner_choice(part, name):
        remarks.append(choice)
    return Table(
        name,
        part.dataset,
        about.title,
        caption_of(part, about.title, "UAR and WAR", "in brackets")
        + (" SD over seeds: of the UAR's mean over folds." if several else "")
        + f" Δ UAR: minus {label}, in points, on the same clips; p: paired sign-flip test over clips, corrected after "
        "Holm for all variants and both metrics; won: of the clips on which the two disagree, the share that the "
        "variant gets right.",
        f"Δ UAR is against {label}, in points.",
        columns,
        rows,
        records_of(part, variants),
        remarks,
    )
