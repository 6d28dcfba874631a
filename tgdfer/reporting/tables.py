"""One source for every table: cells with values, deviations and notes, which :mod:`render` prints in three formats."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from tgdfer.params import Params, ReportParams
from tgdfer.reporting import parts
from tgdfer.reporting.analysis import METRICS, Estimate, Result
from tgdfer.reporting.collect import SELECTIONS, Experiment
from tgdfer.reporting.layout import SELECTION_NAMES, Cell, Column, Results, Row, Table, mark, percent, spread
from tgdfer.reporting.relevance import MEASURES, Relevance

PUBLISHED = Path(__file__).parent / "published_results.csv"
BENCHMARKS = {"dfew": "DFEW", "ferv39k": "FERV39k", "mafw": "MAFW"}
"""The layouts whose numbers may stand beside published ones, by their name in published_results.csv."""

POWER = "What these data can tell"
TITLES = {
    "main": "Recall per class, UAR and WAR",
    "baselines": "Against baselines on the same features",
    "components": "Components",
    "temporal": "Temporal network",
    "text": "Text",
    "visual-prompt": "Visual prompt",
    "aggregation": "MIL aggregation",
    "relevance": "Frame relevance against the true intensity",
    "costs": "Costs",
}


def make_tables(
    params: Params,
    experiment: Experiment,
    results: Results,
    relevance: dict[str, dict[str, Relevance | None]] | None,
) -> list[Table]:
    """Every table of a data set that has a row."""
    made = [_main(params, experiment, results)]
    for name in ("baselines", "components", "temporal", "text", "visual-prompt", "aggregation"):
        made.append(_ablation(params, experiment, results, name))
    if relevance is not None:
        made.append(_relevance(params, experiment, relevance))
    made.append(_costs(params, experiment, results))
    tables = [table for table in made if table.rows]
    for table in tables:
        mark(table)
    return tables


def published(benchmark: str) -> list[dict[str, str]]:
    """The published rows of a benchmark."""
    with PUBLISHED.open(newline="", encoding="utf-8") as stream:
        return [row for row in csv.DictReader(stream) if row["dataset"] == benchmark]


def variants_of(params: Params, name: str) -> list[str]:
    """The variants that are rows of table ``name``."""
    return [variant for variant, chosen in params.variants.items() if name in chosen.tables]


def missing_notes(result: Result) -> list[str]:
    """What was expected and is not there, in words; runs with the same reason together."""
    by_reason: dict[str, list[str]] = {}
    for run in result.missing:
        reason = run.problem or f"has no selection {result.selection}"
        by_reason.setdefault(reason, []).append(run.name)
    return [
        f"{'; '.join(names) if len(names) <= 6 else f'{len(names)} runs'}: {reason}"
        for reason, names in by_reason.items()
    ]


def _row(params: Params, variant: str, result: Result, cells: dict[str, Cell]) -> Row:
    reference = variant == params.report.reference
    label = params.variants[variant].label
    notes = missing_notes(result)
    if result.measured and result.missing:
        notes.insert(0, f"incomplete, over folds {', '.join(map(str, result.folds))} alone; not ranked")
    return Row(label, "measured", cells, notes, result.measured and not result.missing, reference)


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
        if params.run(variant).model.text == "none" or params.run(variant).model.architecture in parts.WITHOUT_TEXT:
            cells["modality"] = Cell(text="video")
        row = _row(params, variant, result, cells)
        absent = [name for name in experiment.classes if result.measured and result.recall[name].mean is None]
        if absent:
            row.notes.append(f"no test clip of {', '.join(absent)}: left out of UAR")
        rows.append(row)
    records += _records(params, experiment, results, measured)
    remarks = []
    if benchmark:
        remarks.append(
            "Published rows are quoted from the sources in their notes; their epoch is usually the best on the test "
            f"fold, and none carries a spread. Rows measured here use {chosen.encoder} features and are not the "
            "numbers of any paper."
        )
        if not any(row.origin == "published" for row in rows):
            remarks.append(f"No published results for {benchmark} are at hand.")
    return Table(
        "main",
        experiment.dataset,
        TITLES["main"],
        _caption(params, experiment, results, TITLES["main"], "Recall, UAR and WAR"),
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
    settings = parts.COLUMNS[name]
    level = f"{100 * params.report.confidence:g} %"
    columns = [Column("label", "Variant"), *(Column(key, head) for key, head in settings)]
    columns += [
        Column("uar", "UAR", "percent", 1),
        Column("uar_ci", f"{level} interval", "interval"),
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
        cells = {key: Cell(text=parts.describe(params, variant, key)) for key, _ in settings}
        for metric in METRICS:
            cells[metric] = cells[f"{metric}_ci"] = percent(getattr(result, metric))
            cells[f"{metric}_ci"] = Cell(None, None, cells[metric].low, cells[metric].high)
        comparison = result.comparisons.get("uar")
        if comparison:
            low, high = (None if value is None else 100 * value for value in (comparison.low, comparison.high))
            cells |= {
                "delta": Cell(100 * comparison.difference),
                "delta_ci": Cell(None, None, low, high),
                "p": Cell(comparison.p_holm),
                "wins": Cell(None if comparison.win_share is None else 100 * comparison.win_share),
            }
        elif variant == params.report.reference:
            cells["delta"] = Cell(text="reference")
        rows.append(_row(params, variant, result, cells))
    remarks = [power_line(params, results)] if any("delta" in row.cells and not row.reference for row in rows) else []
    return Table(
        name,
        experiment.dataset,
        TITLES[name],
        _caption(params, experiment, results, TITLES[name], "UAR and WAR")
        + f" Δ UAR: minus {params.variants[params.report.reference].label}, in points, on the same clips; p: paired "
        "sign-flip test over clips, corrected after Holm for all variants and both metrics; won: of the clips on "
        "which the two disagree, the share that the variant gets right.",
        f"Δ UAR is against {params.variants[params.report.reference].label}, in points.",
        columns,
        rows,
        _records(params, experiment, results, variants),
        remarks,
    )


def power_line(params: Params, results: Results) -> str:
    """What the data can and cannot tell."""
    found = [
        comparison
        for result in results[params.report.selection].values()
        for metric, comparison in result.comparisons.items()
        if metric == "uar"
    ]
    if not found:
        return "There is nothing to compare with the reference yet."
    sizes = sorted(100 * comparison.detectable for comparison in found)
    low, high = f"{sizes[0]:.1f}", f"{sizes[-1]:.1f}"
    size = low if low == high else f"{low} to {high}"
    return (
        f"{POWER}: over {max(comparison.clips for comparison in found)} paired test clips, a true difference in UAR "
        f"of {size} points is found with 80 % probability by a single test at the 5 % level, before the correction; "
        "smaller ones often go unnoticed, and 'not significant' does not mean 'equal'. Intervals and tests are "
        "about the clips: they do not cover the chance of another training run."
    )


def _relevance(params: Params, experiment: Experiment, relevance: dict[str, dict[str, Relevance | None]]) -> Table:
    level = f"{100 * params.report.confidence:g} %"
    columns = [
        Column("label", "Ranking of the frames"),
        Column("auroc", "AUROC", "percent", 1),
        Column("auroc_ci", f"{level} interval", "interval"),
        Column("ap", "AP", "percent", 1),
        Column("hit", "Top frame hits", "percent", 1),
        Column("right", "AUROC, right clips", "percent"),
        Column("wrong", "AUROC, wrong clips", "percent"),
        Column("clips", "Clips", "count"),
    ]
    names = {
        "chance": "chance (all frames alike)",
        "middle": "middle of the clip",
        **{variant: chosen.label for variant, chosen in params.variants.items()},
    }
    rows, records = [], []
    for variant, found in relevance[params.report.selection].items():
        if found is None:
            done = any(params.report.selection in run.outcomes for run in experiment.finished(variant))
            rows.append(Row(names[variant], "measured", {}, ["gives no relevance" if done else "not run"], False))
            continue
        cells = {measure: percent(getattr(found, measure)) for measure in MEASURES}
        cells["auroc_ci"] = Cell(None, None, cells["auroc"].low, cells["auroc"].high)
        for key, value in (("right", found.auroc_right), ("wrong", found.auroc_wrong)):
            cells[key] = Cell(None if value is None else 100 * value)
        cells["clips"] = Cell(found.clips)
        partial = variant in params.variants and any(
            params.report.selection not in run.outcomes for run in experiment.of(variant)
        )
        origin = "measured" if variant in params.variants else "ranking"
        row = Row(names[variant], origin, cells, ["incomplete: see the other tables"] if partial else [], not partial)
        row.reference = variant == params.report.reference
        rows.append(row)
    for selection, by_name in relevance.items():
        for variant, found in by_name.items():
            if found is not None:
                record: dict[str, Any] = {"dataset": experiment.dataset, "row": names[variant], "variant": variant}
                record |= {"selection": selection, "clips": found.clips, "clips_left_out": found.left_out}
                for measure in MEASURES:
                    record |= spread(measure, getattr(found, measure))
                records.append(record | {"auroc_right": found.auroc_right, "auroc_wrong": found.auroc_wrong})
    left_out = max((found.left_out for found in relevance[params.report.selection].values() if found), default=0)
    return Table(
        "relevance",
        experiment.dataset,
        TITLES["relevance"],
        f"{TITLES['relevance']} on {experiment.dataset}, in percent; {_selection(params.report)}. A frame is a "
        f"positive from half the largest intensity of its clip; {left_out} clips without both kinds of frame in the "
        "bag are left out. Mean ± standard deviation over folds of the mean over clips. The true intensity is never "
        "seen in training.",
        "In percent. A frame is a positive from half the largest intensity of its clip; "
        f"{left_out} clips without both kinds of frame in the bag are left out.",
        columns,
        rows,
        records,
    )


def _costs(params: Params, experiment: Experiment, results: Results) -> Table:
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


def _selection(report: ReportParams) -> str:
    return f"selection: {SELECTION_NAMES[report.selection]}"


def _caption(params: Params, experiment: Experiment, results: Results, title: str, what: str) -> str:
    chosen = params.dataset(experiment.dataset)
    clips = max((result.clips for result in results[params.report.selection].values()), default=0)
    seeds = len(params.seeds)
    over = f"{len(experiment.folds)} folds" if len(experiment.folds) != 1 else "one fold, so without a deviation"
    seed_text = f", each the mean of {seeds} seeds" if seeds > 1 else ", one seed"
    level = f"{100 * params.report.confidence:g} %"
    return (
        f"{title} on {experiment.dataset}, measured here with {chosen.encoder} features; {_selection(params.report)}. "
        f"{what} in percent: mean ± standard deviation over {over}{seed_text}; intervals: {level} bootstrap over "
        f"{clips} test clips, "
        "stratified by fold."
    )


def _records(params: Params, experiment: Experiment, results: Results, variants: list[str]) -> list[dict[str, Any]]:
    """Everything known of ``variants`` under every selection, as fractions in full precision."""
    records = []
    for variant in variants:
        for selection in SELECTIONS:
            result = results[selection][variant]
            record: dict[str, Any] = {
                "dataset": experiment.dataset,
                "row": params.variants[variant].label,
                "variant": variant,
                "origin": "measured",
                "selection": selection,
                "encoder": params.dataset(experiment.dataset).encoder,
                "folds": len(result.folds),
                "seeds": len(result.seeds),
                "clips": result.clips,
            }
            for metric in METRICS:
                estimate = getattr(result, metric)
                record |= spread(metric, estimate)
                record[f"{metric}_seed_sd"] = result.seed_sd.get(metric)
                record |= {f"{metric}_fold{fold}": estimate.per_fold.get(fold) for fold in experiment.folds}
                comparison = result.comparisons.get(metric)
                for key in ("difference", "low", "high", "p", "p_holm", "win_share", "detectable"):
                    record[f"{metric}_vs_reference_{key}"] = getattr(comparison, key) if comparison else None
            for name in experiment.classes:
                record |= spread(name, result.recall.get(name, Estimate()))
            records.append(record | {"note": "; ".join(missing_notes(result))})
    return records
