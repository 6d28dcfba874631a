"""The tables that hold no rates: frame relevance against the truth, and costs."""

from typing import Any

import pandas as pd

from tgdfer.reporting.analysis import Estimate
from tgdfer.reporting.layout import Cell, Column, Row, Table
from tgdfer.reporting.part import Part
from tgdfer.reporting.relevance import MEASURES, Relevance
from tgdfer.reporting.rows import compared_cells, compared_record, rate_record, with_interval
from tgdfer.reporting.sources import hardware_of
from tgdfer.reporting.wording import missing_notes, selection_of

RELEVANCE = "Frame relevance against the true intensity"


def relevance_table(part: Part) -> Table:
    """How well each variant's relevance, and rankings without training, find the expressive frames."""
    assert part.relevance is not None
    columns = [
        Column("label", "Ranking of the frames"),
        *with_interval(part, Column("auroc", "AUROC", "percent", 1)),
        Column("ap", "AP", "percent", 1),
        Column("hit", "Top frame hits", "percent", 1),
        *with_interval(part, Column("delta", "Δ AUROC", "points")),
        Column("p", "p (Holm)", "p"),
        Column("right", "AUROC, right clips", "percent"),
        Column("wrong", "AUROC, wrong clips", "percent"),
    ]
    shown = part.relevance[part.selection]
    known = [found for found in shown.values() if found]
    clips = max((found.clips for found in known), default=0)
    left_out = max((found.left_out for found in known), default=0)
    counted = f"{clips} clips count; {left_out} without both kinds of frame in the bag are left out."
    return Table(
        "relevance",
        part.dataset,
        RELEVANCE,
        f"{RELEVANCE} on {part.dataset}, in percent; {selection_of(part)}. A frame is a positive from half the largest "
        f"intensity of its clip; {counted} Mean ± standard deviation over folds of the mean over clips; in brackets: "
        f"{part.level} bootstrap intervals over clips; Δ AUROC: minus {part.label(part.reference)}, in points, with p "
        "as in the other tables, corrected for all rows. The true intensity is never seen in training.",
        f"In percent; Δ AUROC is against {part.label(part.reference)}, in points. A frame is a positive from half the "
        f"largest intensity of its clip; {counted}",
        columns,
        [_relevance_row(part, name, found) for name, found in shown.items()],
        [
            _relevance_record(part, selection, name, found)
            for selection, by_name in part.relevance.items()
            for name, found in by_name.items()
            if found
        ],
    )


def _relevance_row(part: Part, name: str, found: Relevance | None) -> Row:
    trained, reference = name in part.params.variants, name == part.reference
    runs = part.experiment.of(name if trained else part.reference)
    done = [run for run in runs if part.selection in run.outcomes]
    row = Row(part.label(name), "measured" if trained else "ranking", {}, variant=name if trained else None)
    if not trained:
        row.notes.append("no training: a ranking to compare with")
    if found is None:
        row.notes.append("gives no relevance" if done else "not run")
        row.ranked = False
        return row
    row.cells = {measure: getattr(found, measure) for measure in MEASURES}
    row.cells |= {"right": Estimate(found.auroc_right), "wrong": Estimate(found.auroc_wrong)}
    row.cells |= compared_cells(found.comparison, reference)
    row.ranked, row.reference = len(done) == len(runs), reference
    if not row.ranked:
        row.notes.append("incomplete: see the other tables")
    return row


def _relevance_record(part: Part, selection: str, name: str, found: Relevance) -> dict[str, Any]:
    record: dict[str, Any] = {"dataset": part.dataset, "row": part.label(name), "variant": name}
    record |= {"selection": selection, "clips": found.clips, "clips_left_out": found.left_out}
    for measure in MEASURES:
        record |= rate_record(measure, getattr(found, measure))
    record |= compared_record("auroc", found.comparison)
    return record | {"auroc_right": found.auroc_right, "auroc_wrong": found.auroc_wrong}


def costs_table(part: Part) -> Table:
    """Trained parameters, seconds and memory of a run, and what they were measured on."""
    columns = [
        Column("label", "Variant"),
        Column("parameters", "Trained parameters", "count", -1),
        Column("seconds", "Seconds per run", "number", -1),
        Column("memory", "Peak memory (MB)", "number", -1),
        Column("runs", "Runs", "count"),
    ]
    rows, records = [], []
    for variant, result in part.shown.items():
        runs = part.experiment.finished(variant)
        costs: dict[str, float] = {"runs": len(runs)}
        if runs:
            costs["parameters"] = runs[0].metrics["parameters_trainable"]
            for key, source in (("seconds", "seconds"), ("memory", "peak_memory_mb")):
                costs[key] = pd.Series([run.info.get(source) for run in runs], dtype=float).mean()
        cells: dict[str, Cell] = {key: Estimate(float(value)) for key, value in costs.items()}
        notes = [] if runs else missing_notes(result)
        rows.append(Row(part.label(variant), "measured", cells, notes, bool(runs), variant, variant == part.reference))
        records.append({"dataset": part.dataset, "row": part.label(variant), "variant": variant, **costs})
    done = [run.info for run in part.experiment.runs if run.problem is None]
    hardware = "; ".join(dict.fromkeys(hardware_of(info) for info in done if info.get("hardware")))
    brief = "Training and evaluation of one fold and seed on cached features, mean over runs."
    brief += f" Measured on: {hardware}." if hardware else ""
    caption = f"Costs on {part.dataset}: t{brief[1:]}"
    return Table("costs", part.dataset, "Costs", caption, brief, columns, rows, records)
