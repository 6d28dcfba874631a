"""What the tables share: rows with their gaps, comparisons as cells, and full-precision records for the CSV."""

from typing import Any

from tgdfer.evaluation.protocol import METRICS, SELECTIONS
from tgdfer.reporting.analysis import Comparison, Estimate
from tgdfer.reporting.layout import Cell, Column, Row
from tgdfer.reporting.part import Part
from tgdfer.reporting.wording import missing_notes


def with_interval(part: Part, column: Column) -> list[Column]:
    """A column and the column of its interval."""
    kind = "interval-points" if column.kind == "points" else "interval"
    return [column, Column(column.key, f"{part.level} interval", kind)]


def measured_row(part: Part, variant: str, cells: dict[str, Cell]) -> Row:
    """A row of what was measured here: what it lacks becomes notes, and it is ranked only if it lacks nothing."""
    result = part.shown[variant]
    notes = missing_notes(result)
    if result.measured and result.missing:
        # a fold may have some of its seeds
        absent = {run.key.fold for run in result.missing} - set(result.folds)
        over = f"only folds {', '.join(map(str, result.folds))}" if absent else "some folds have fewer seeds"
        notes.insert(0, f"incomplete, {over}; not ranked")
    whole = result.measured and not result.missing
    return Row(part.label(variant), "measured", cells, notes, whole, variant, variant == part.reference)


def compared_cells(found: Comparison | None, reference: bool) -> dict[str, Cell]:
    """Difference to the reference with its interval, p and the share won."""
    if found is None:
        return {"delta": "reference"} if reference else {}
    return {
        "delta": found.estimate,
        "p": Estimate(found.p_holm),
        "wins": Estimate(found.win_share),
    }


def rate_record(name: str, estimate: Estimate) -> dict[str, Any]:
    """An estimate in full precision, as columns of a CSV."""
    return {name: estimate.mean, **{f"{name}_{key}": getattr(estimate, key) for key in ("sd", "low", "high")}}


def compared_record(name: str, found: Comparison | None) -> dict[str, Any]:
    """A comparison in full precision, as columns of a CSV."""
    keys = ("difference", "low", "high", "p", "p_holm", "win_share", "detectable")
    return {f"{name}_vs_reference_{key}": getattr(found, key, None) for key in keys}


def records_of(part: Part, variants: list[str]) -> list[dict[str, Any]]:
    """Everything known of ``variants`` under every selection, as fractions in full precision."""
    records = []
    for variant in variants:
        for selection in SELECTIONS:
            result = part.results[selection][variant]
            record: dict[str, Any] = {
                "dataset": part.dataset,
                "row": part.label(variant),
                "variant": variant,
                "origin": "measured",
                "selection": selection,
                "encoder": part.params.dataset(part.dataset).encoder,
                "folds": len(result.folds),
                "seeds": len(result.seeds),
                "clips": result.clips,
            }
            for metric in METRICS:
                estimate, found = getattr(result, metric), result.comparisons.get(metric)
                record |= rate_record(metric, estimate)
                record[f"{metric}_seed_sd"] = result.seed_sd.get(metric)
                record |= {f"{metric}_fold{fold}": estimate.per_fold.get(fold) for fold in part.experiment.folds}
                record |= compared_record(metric, found)
                by_seed = found.by_seed if found else {}
                record |= {f"{metric}_vs_reference_seed{seed}": by_seed.get(seed) for seed in part.params.seeds}
            for name in part.tested:
                record |= rate_record(name, result.recall.get(name, Estimate()))
            records.append(record | {"note": "; ".join(missing_notes(result))})
    return records
