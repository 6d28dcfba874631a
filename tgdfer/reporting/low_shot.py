"""The table and the figure of fractions of the training clips: what the reference gains over other variants."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tgdfer.core.plots import COLOURS, GREY
from tgdfer.reporting.analysis import Estimate
from tgdfer.reporting.figures import percent
from tgdfer.reporting.gains import Gain, rare_classes
from tgdfer.reporting.layout import Cell, Column, Row, Table
from tgdfer.reporting.part import Part
from tgdfer.reporting.rows import compared_record, rate_record, with_interval
from tgdfer.reporting.wording import caption_of, missing_notes

TITLE = "Fractions of the training clips"


def explained(part: Part) -> str:
    """What is compared, for captions."""
    rare = [part.experiment.classes[c] for c in rare_classes(part.experiment)]
    text = (
        f"Gain: {part.label(part.reference)} minus the other variant trained on the same fraction of each class's "
        "clips, in points, on the same test clips. Each seed draws its own training clips, and larger fractions "
        "contain the smaller ones; all trainings have the same number of steps."
    )
    if rare:
        text += (
            f" Rare classes: the mean recall of {', '.join(rare)}, which have fewer than two thirds of an equal share "
            "of the test clips."
        )
    return text


def low_shot_table(part: Part) -> Table:
    """A row for each fraction and variant that the reference is compared with."""
    shown, text = part.gains[part.selection], explained(part)
    columns = [Column("label", "Training clips"), Column("other", "Compared with")]
    heads = {"all": "UAR", "rare": "Rare classes"}
    for over in heads if rare_classes(part.experiment) else ["all"]:
        for which, head in (("reference", part.label(part.reference)), ("other", "other")):
            columns += with_interval(part, Column(f"{which}_{over}", f"{heads[over]}, {head}", "percent"))
        columns += with_interval(part, Column(f"gain_{over}", "Gain", "points"))
        columns.append(Column(f"p_{over}", "p (Holm)", "p"))
    return Table(
        "low-shot",
        part.dataset,
        TITLE,
        f"{caption_of(part, TITLE, 'UAR and recall', 'in brackets')} {text} p: paired sign-flip test over clips, "
        "corrected after Holm for all gains of the table.",
        text,
        columns,
        [_row(part, name, gain) for name, listed in shown.items() for gain in listed],
        [
            _record(part, selection, name, gain)
            for selection, by_name in part.gains.items()
            for name, listed in by_name.items()
            for gain in listed
        ],
    )


def _row(part: Part, name: str, gain: Gain) -> Row:
    cells: dict[str, Cell] = {"other": part.label(name)}
    for over, result in gain.reference.items():
        cells |= {f"reference_{over}": result.uar, f"other_{over}": gain.other[over].uar}
        if found := gain.difference.get(over):
            cells |= {f"gain_{over}": found.estimate, f"p_{over}": Estimate(found.p_holm)}
    both = gain.reference["all"], gain.other["all"]
    notes = [f"{part.label(result.variant)}: {note}" for result in both for note in missing_notes(result)]
    clips = "" if np.isnan(gain.clips) else f" ({gain.clips:.0f})"
    return Row(f"{100 * gain.fraction:g} %{clips}", "measured", cells, notes, False, gain.reference["all"].variant)


def _record(part: Part, selection: str, name: str, gain: Gain) -> dict[str, Any]:
    record: dict[str, Any] = {"dataset": part.dataset, "other": name, "selection": selection}
    record |= {"fraction": gain.fraction, "training_clips": gain.clips}
    for over, result in gain.reference.items():
        record |= rate_record(f"reference_{over}", result.uar) | rate_record(f"other_{over}", gain.other[over].uar)
        record |= compared_record(over, gain.difference.get(over))
    return record


def low_shot(part: Part) -> Figure | None:
    """UAR and recall of the rare classes by fraction, and below each what the reference gains; all with intervals."""
    shown = part.gains[part.selection] if part.gains else {}
    if not any(gain.difference for listed in shown.values() for gain in listed):
        return None
    heads = {"all": "UAR (%)", "rare": "Recall of rare classes (%)"}
    kinds = list(heads) if rare_classes(part.experiment) else ["all"]
    figure = Figure(figsize=(3.6 * len(kinds), 4.8), layout="constrained")
    panels = figure.subplots(2, len(kinds), sharex=True, sharey="row", squeeze=False, height_ratios=[3, 2])
    for k, over in enumerate(kinds):
        upper, lower = panels[:, k]
        first = next(iter(shown.values()))
        _line(upper, first, [gain.reference[over].uar for gain in first], 0, part.label(part.reference))
        for colour, (name, listed) in enumerate(shown.items(), 1):
            _line(upper, listed, [gain.other[over].uar for gain in listed], colour, part.label(name))
            differences = [c.estimate if (c := gain.difference.get(over)) else Estimate() for gain in listed]
            _line(lower, listed, differences, colour, "")
        upper.set_title(heads[over], loc="left")
        lower.set_title("Gain (points)", loc="left")
        lower.axhline(0, color=GREY, linewidth=0.8, linestyle="--")
        fractions = [100 * gain.fraction for gain in first]
        lower.set_xscale("log")
        lower.set_xticks(fractions, [f"{fraction:g}" for fraction in fractions])
        lower.minorticks_off()
        lower.set_xlabel("Training clips of each class (%)")
        for axis in (upper, lower):
            axis.grid(axis="y")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=7.5)
    return figure


def _line(axis: Axes, gains: Sequence[Gain], estimates: Sequence[Estimate], colour: int, label: str) -> None:
    """A line with intervals over the fractions; neighbouring curves are shifted a little, so that none is hidden."""
    x = 100 * np.array([gain.fraction for gain in gains]) * 1.03**colour
    mean, low, high = percent(estimates)
    axis.plot(x, mean, "o-", color=COLOURS[colour], markersize=4, linewidth=1.4, label=label)
    axis.vlines(x, low, high, colors=COLOURS[colour], linewidth=1.4)
