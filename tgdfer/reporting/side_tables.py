"""The tables beside the rates: frame relevance against the truth, and costs."""

from __future__ import annotations

from typing import Any

from tgdfer.config.params import Params
from tgdfer.reporting.layout import Cell, Column, Results, Row, Table, compared_cells, compared_record, percent, spread
from tgdfer.reporting.relevance import MEASURES, Relevance
from tgdfer.reporting.wording import TITLES, label_of, missing_notes, selection_of
from tgdfer.runs.results import Experiment


def relevance_table(params: Params, experiment: Experiment, relevance: dict[str, dict[str, Relevance | None]]) -> Table:
    """How well each variant's relevance, and rankings that look at no frame, find the expressive frames."""
    level = f"{100 * params.report.confidence:g} %"
    columns = [
        Column("label", "Ranking of the frames"),
        Column("auroc", "AUROC", "percent", 1),
        Column("auroc_ci", f"{level} interval", "interval"),
        Column("ap", "AP", "percent", 1),
        Column("hit", "Top frame hits", "percent", 1),
        Column("delta", "Δ AUROC", "points"),
        Column("delta_ci", f"{level} interval", "interval-points"),
        Column("p", "p (Holm)", "p"),
        Column("right", "AUROC, right clips", "percent"),
        Column("wrong", "AUROC, wrong clips", "percent"),
    ]
    rows, records = [], []
    for name, found in relevance[params.report.selection].items():
        trained = name in params.variants
        runs = experiment.of(name if trained else params.report.reference)
        done = [run for run in runs if params.report.selection in run.outcomes]
        origin = "measured" if trained else "ranking"
        notes = [] if trained else ["no training: a ranking to compare with"]
        if found is None:
            notes.append("gives no relevance" if done else "not run")
            rows.append(Row(label_of(params, name), origin, {}, notes, False))
            continue
        cells = {measure: percent(getattr(found, measure)) for measure in MEASURES}
        cells["auroc_ci"] = Cell(None, None, cells["auroc"].low, cells["auroc"].high)
        cells |= compared_cells(found.comparison, name == params.report.reference)
        for key, value in (("right", found.auroc_right), ("wrong", found.auroc_wrong)):
            cells[key] = Cell(None if value is None else 100 * value)
        whole = len(done) == len(runs)
        notes += [] if whole else ["incomplete: see the other tables"]
        rows.append(Row(label_of(params, name), origin, cells, notes, whole, name == params.report.reference))
    for selection, by_name in relevance.items():
        for name, found in by_name.items():
            if found is not None:
                record: dict[str, Any] = {"dataset": experiment.dataset, "row": label_of(params, name), "variant": name}
                record |= {"selection": selection, "clips": found.clips, "clips_left_out": found.left_out}
                for measure in MEASURES:
                    record |= spread(measure, getattr(found, measure))
                record |= compared_record("auroc", found.comparison)
                records.append(record | {"auroc_right": found.auroc_right, "auroc_wrong": found.auroc_wrong})
    reference = params.variants[params.report.reference].label
    shown = [found for found in relevance[params.report.selection].values() if found]
    clips, left_out = (max((getattr(found, key) for found in shown), default=0) for key in ("clips", "left_out"))
    counted = f"{clips} clips count; {left_out} without both kinds of frame in the bag are left out."
    return Table(
        "relevance",
        experiment.dataset,
        TITLES["relevance"],
        f"{TITLES['relevance']} on {experiment.dataset}, in percent; {selection_of(params.report)}. A frame is a "
        f"positive from half the largest intensity of its clip; {counted} Mean ± standard deviation over folds of the "
        f"mean over clips; in brackets: {level} bootstrap intervals over clips; Δ AUROC: minus {reference}, in points, "
        "with p as in the other tables, corrected for all rows. The true intensity is never seen in training.",
        f"In percent; Δ AUROC is against {reference}, in points. A frame is a positive from half the largest intensity "
        f"of its clip; {counted}",
        columns,
        rows,
        records,
    )


def costs_table(params: Params, experiment: Experiment, results: Results) -> Table:
    """Trained parameters, seconds and memory of a run, and what they were measured on."""
    columns = [
        Column("label", "Variant"),
        Column("parameters", "Trained parameters", "count", -1),
        Column("seconds", "Seconds per run", "number", -1),
        Column("memory", "Peak memory (MB)", "number", -1),
        Column("runs", "Runs", "count"),
    ]
    rows, records = [], []
    hardware: dict[str, None] = {}
    for variant, chosen in params.variants.items():
        runs = experiment.finished(variant)
        record: dict[str, Any] = {
            "dataset": experiment.dataset,
            "row": chosen.label,
            "variant": variant,
            "runs": len(runs),
        }
        cells = {"runs": Cell(len(runs))}
        if runs:
            cells["parameters"] = Cell(runs[0].metrics.get("parameters_trainable"))
            for key, source in (("seconds", "seconds"), ("memory", "peak_memory_mb")):
                values = [run.info[source] for run in runs if run.info.get(source) is not None]
                cells[key] = Cell(sum(values) / len(values)) if values else Cell()
            for run in runs:
                described = run.info.get("hardware") or {}
                if described:
                    gpus = ", ".join(described.get("gpus") or []) or "no GPU"
                    hardware[f"{described.get('machine')}, {described.get('cpus')} CPUs, {gpus}"] = None
        record |= {key: cell.value for key, cell in cells.items()}
        records.append(record)
        result = results[params.report.selection][variant]
        rows.append(Row(chosen.label, "measured", cells, [] if runs else missing_notes(result), bool(runs)))
        rows[-1].reference = variant == params.report.reference
    where = f" Measured on: {'; '.join(hardware)}." if hardware else ""
    return Table(
        "costs",
        experiment.dataset,
        TITLES["costs"],
        f"Costs on {experiment.dataset}: training and evaluation of one fold and seed on cached features, mean over "
        f"runs.{where}",
        f"Training and evaluation of one fold and seed on cached features, mean over runs.{where}",
        columns,
        rows,
        records,
    )
