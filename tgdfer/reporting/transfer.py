"""The table across data sets: what a variant that was trained on one data set is worth on another."""

from typing import Any

import numpy as np
import pandas as pd

from tgdfer.config.params import Params
from tgdfer.core import checksums, paths, storage
from tgdfer.evaluation import statistics
from tgdfer.reporting.analysis import Estimate, Paired, compare, generator
from tgdfer.reporting.layout import Cell, Column, Row, Table
from tgdfer.reporting.rows import compared_record, rate_record

TITLE = "Across data sets"
Trained = tuple[str, str]
"""A variant, and the data set that it was trained on."""


def transfer_table(params: Params) -> Table:
    """A row for each variant of ``transfer`` and data set that it was trained on; columns are tested data sets."""
    trained = [(variant, source) for variant in params.transfer for source in params.datasets]
    right = {target: _right(params, target, trained) for target in params.datasets}
    uar: dict[tuple[str, Trained], Estimate] = {}
    pairs: dict[tuple[str, Trained], Paired] = {}
    for target, frame in right.items():
        _evaluate(params, target, frame, uar, pairs)
    compared = compare(pairs, params.report, "transfer")
    level = f"{100 * params.report.confidence:g} % interval"
    columns = [Column("label", "Variant"), Column("source", "Trained on")]
    for target in params.datasets:
        columns += [Column(f"uar_{target}", f"UAR on {target}", "percent"), Column(f"uar_{target}", level, "interval")]
        columns += [Column(f"delta_{target}", "Δ", "points"), Column(f"delta_{target}", level, "interval-points")]
        columns += [Column(f"p_{target}", "p (Holm)", "p")]
    rows, records = [], []
    for variant, source in trained:
        cells: dict[str, Cell] = {"source": source}
        for target in params.datasets:
            key = target, (variant, source)
            cells[f"uar_{target}"] = uar.get(key, Estimate())
            cells[f"delta_{target}"] = "its own" if source == target else Estimate()
            found = compared.get(key)
            if found:
                cells |= {f"delta_{target}": found.estimate, f"p_{target}": Estimate(found.p_holm)}
            record: dict[str, Any] = {"variant": variant, "trained_on": source, "tested_on": target}
            record |= {"clips": len(right[target]), **rate_record("uar", uar.get(key, Estimate()))}
            records.append(record | compared_record("uar", found))
        notes = _notes(params, variant, source)
        rows.append(Row(params.variants[variant].label, "measured", cells, notes, False, variant))
    text = (
        "Rows: what a variant was trained on; columns: what it is tested on. A data set's own clips are tested by the "
        "runs of their fold, those of another by the runs of all folds and seeds, whose share of right answers counts; "
        f"last epoch. Classes: {', '.join(params.shared_classes)}. Δ: minus the same variant trained on the tested "
        "data set, on the same clips."
    )
    caption = (
        f"{TITLE}: UAR in percent, mean ± standard deviation over the folds of the tested data set; in brackets: "
        f"bootstrap intervals over its clips. {text} p: paired sign-flip test over clips, corrected after Holm for the "
        "whole table."
    )
    return Table("transfer", "all", TITLE, caption, text, columns, rows, records)


def _right(params: Params, target: str, trained: list[Trained]) -> pd.DataFrame:
    """The share of runs that are right, by fold, clip and label (the index) and by what was trained (the columns)."""
    shared, found = np.array(params.shared_classes), {}
    for variant, source in trained:
        path = paths.transfer(source, target, variant)
        if path.exists() and checksums.intact(path):
            table = storage.read_table(path, "transfer")
            probabilities = table["probabilities"].combine_chunks().flatten().to_numpy().reshape(-1, len(shared))
            frame = table.drop_columns("probabilities").to_pandas()
            frame["right"] = shared[probabilities.argmax(axis=1)] == frame["label"]
            found[variant, source] = frame.groupby(["fold", "clip_id", "label"])["right"].mean()
    return pd.concat(found, axis=1, join="inner") if found else pd.DataFrame()


def _evaluate(
    params: Params,
    target: str,
    right: pd.DataFrame,
    uar: dict[tuple[str, Trained], Estimate],
    pairs: dict[tuple[str, Trained], Paired],
) -> None:
    """Add the rates on ``target``, and the pairs of each variant with itself trained on ``target``."""
    shared, report = params.shared_classes, params.report
    columns: list[Any] = list(right.columns)
    if not columns:
        return
    folds, draws = [], []
    observed: dict[Any, list[float]] = {}
    for fold, part in right.groupby(level="fold"):
        label = np.array([shared.index(name) for name in part.index.get_level_values("label")])
        folds.append(statistics.FoldResults(label, part.to_numpy(), len(shared)))
        observed[fold] = statistics.rates(folds[-1]).uar.tolist()
        random = generator(report.seed, target, f"fold {fold}")
        draws.append(statistics.resample(folds[-1], report.bootstrap, random).uar)
    correct, drawn = right.to_numpy(), np.stack(draws)
    weights = np.concatenate(statistics.clip_weights([fold.label for fold in folds], "uar"))
    for k, (variant, source) in enumerate(columns):
        per_fold = {fold: rates[k] for fold, rates in observed.items()}
        uar[target, (variant, source)] = Estimate.of(per_fold, drawn[..., k].mean(axis=0), report.confidence)
        if source != target and (variant, target) in columns:
            own = columns.index((variant, target))
            change, drawn_change = correct[:, k] - correct[:, own], drawn[..., k] - drawn[..., own]
            pairs[target, (variant, source)] = Paired(change, weights, drawn_change.mean(axis=0), len(folds))


def _notes(params: Params, variant: str, source: str) -> list[str]:
    """What is missing or damaged, and what was made from earlier runs."""
    notes, summary = [], paths.variant(source, variant)
    for target in params.datasets:
        path = paths.transfer(source, target, variant)
        if not path.exists():
            notes.append(f"not tested on {target}")
        elif not checksums.intact(path):
            notes.append(str(storage.damaged(path)))
        elif summary.exists() and storage.made_by(path)["inputs"]["runs"] != storage.file_fingerprint(summary):
            notes.append(f"tested on {target} with earlier runs; {paths.SNAKEMAKE} {path}")
    return notes
