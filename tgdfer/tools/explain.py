"""``tgdfer explain``: how a number of the tables came to be, and whether the runs behind it are current."""

import math
import re
import shlex
from dataclasses import dataclass
from typing import Any

from tgdfer.config.params import Params
from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.evaluation.protocol import SELECTIONS
from tgdfer.evaluation.statistics import mean_and_deviation
from tgdfer.runs.files import Key
from tgdfer.runs.outputs import verify
from tgdfer.runs.state import Expected, State, on_disk

TARGET = re.compile(r"(?:.*/)?runs/(.+)|([^/]+/.+)")
RUN = re.compile(r"([^/]+)/([^/]+)(?:/fold(\d+)/seed(\d+))?")


@dataclass(frozen=True)
class Explained:
    """A run, its state, and its metrics.json, which is empty where the run is missing or damaged."""

    key: Key
    state: State
    metrics: dict[str, Any]


def explain(params: Params, target: str) -> tuple[str, bool]:
    """Explain a run (``runs/demo/tgdfer/fold1/seed0``) or a row of the tables (``demo/tgdfer``, all its runs).

    Returns:
        The text, and whether every run is current: made from the parameters, code and data on disk, and undamaged.

    Raises:
        UserError: ``target`` does not name a run, or no run of it is finished.
    """
    every, unchecked = _find(params, target)
    runs = [run for run in every if run.state.record]
    if not runs:
        raise UserError(f"explain {target}: no finished run there: {'; '.join(_problems(every))}")
    dataset, variant = every[0].key.dataset, every[0].key.variant
    problems = [*_problems(every), *unchecked]
    lines = [f"{dataset}/{variant}: {params.variants[variant].label}", "", *_numbers(runs)]
    lines += ["", "from", *(f"  {run.key.folder}{_where(run)}" for run in runs)]
    lines += ["", "made by", *_made_by(params, variant, runs)]
    lines += ["", "are the runs current?", *(f"  {problem}" for problem in problems)]
    if not problems:
        lines.append(
            "  yes: parameters, words, code, clips, folds, features and encoder are the same, no file is damaged"
        )
    lines += ["", "to make them again", *(f"  {command}" for command in _again(dataset, variant, runs))]
    return "\n".join(lines), not problems


def _find(params: Params, target: str) -> tuple[list[Explained], list[str]]:
    """The runs that ``target`` names, and what is wrong with the inputs that they are compared with."""
    place = TARGET.fullmatch(target.rstrip("/"))
    named = RUN.fullmatch((place.group(1) or place.group(2)).removesuffix("/summary.json")) if place else None
    if not named:
        raise UserError(f"explain {target}: expected runs/<data set>/<variant>/fold<k>/seed<s> or <data set>/<variant>")
    dataset, variant, fold, seed = named.groups()
    params.dataset(dataset)
    params.run(variant)
    expected = Expected(params, dataset)
    folds, seeds = ([int(fold)], [int(seed)]) if fold else (_folds(params, dataset, variant), params.seeds)
    unchecked = [f"{why}, so no run was compared with it" for why in expected.unchecked()]
    unchecked += [damage for damages in verify(expected.files.values()).values() for damage in damages]
    return [_explained(expected, Key(dataset, variant, k, s)) for k in folds for s in seeds], unchecked


def _folds(params: Params, dataset: str, variant: str) -> list[int]:
    """The folds that the tables have: those of the folds table, or where that is missing those that have runs."""
    table = paths.folds(dataset)
    if table.is_file():
        return sorted(set(storage.read_table(table, "folds").column("fold").to_pylist()))
    return sorted({key.fold for key in on_disk(params, dataset) if key.variant == variant})


def _explained(expected: Expected, key: Key) -> Explained:
    state = expected.state(key)
    whole = state.name in ("done", "outdated")
    return Explained(key, state, storage.read_json(key.folder / "metrics.json") if whole else {})


def _problems(runs: list[Explained]) -> list[str]:
    """Why each run that is not current is not."""
    return [
        f"fold{run.key.fold}/seed{run.key.seed}: {run.state.name}{': ' * bool(reason)}{reason}"
        for run in runs
        if not run.state.done
        for reason in run.state.reasons or ("",)
    ]


def _numbers(runs: list[Explained]) -> list[str]:
    """UAR and WAR under each selection as in the tables: the mean over folds of the mean over seeds."""
    lines = []
    for selection, about in SELECTIONS.items():
        parts = []
        for metric in ("uar", "war"):
            per_fold: dict[int, list[float]] = {}
            for run in runs:
                if selection in run.metrics.get("selections", {}):
                    per_fold.setdefault(run.key.fold, []).append(run.metrics["selections"][selection][metric])
            mean, deviation = mean_and_deviation([sum(values) / len(values) for values in per_fold.values()])
            if not math.isnan(mean):
                spread = "" if math.isnan(deviation) else f" ± {100 * deviation:.2f}"
                parts.append(f"{metric.upper()} {100 * mean:.2f}{spread}")
        if parts:
            lines.append(f"  {selection:10} {'   '.join(parts)}   ({about})")
    runs = [run for run in runs if run.metrics]
    folds, seeds = {run.key.fold for run in runs}, {run.key.seed for run in runs}
    unit = f"percent; mean ± standard deviation over {len(folds)} folds" if len(folds) > 1 else "percent; one fold"
    return [f"{unit}, {len(seeds)} seed{'s' * (len(seeds) > 1)}", *lines]


def _where(run: Explained) -> str:
    """Seconds, device and SLURM job of a run."""
    hardware, job = run.state.record.get("hardware", {}), run.state.record.get("slurm")
    device = ", ".join(dict.fromkeys(hardware.get("gpus", []))) or f"CPU ({hardware.get('machine')})"
    slurm = f", SLURM job {job.get('SLURM_JOB_ID')} on {job.get('SLURM_JOB_NODELIST')}" if job else ""
    seconds = f"{run.state.record.get('seconds', 0):.0f} s on {device}{slurm}"
    return f"   UAR {100 * run.metrics['selections']['last']['uar']:.2f}, {seconds}" if run.metrics else f"   {seconds}"


def _made_by(params: Params, variant: str, runs: list[Explained]) -> list[str]:
    """What the runs have in common in one line each; where they differ, every value."""

    def values(pick: Any) -> str:
        return "; ".join(dict.fromkeys(str(pick(run.state.record)) for run in runs))

    run_name = "{dataset}/{variant}/fold{fold}/seed{seed}".format_map
    changed = params.variants[variant].set
    overrides = [
        f"{section}.{key}: {value}" for section, keys in changed.model_dump().items() for key, value in keys.items()
    ]
    lines = [
        ("command", values(lambda record: record.get("command"))),
        ("code", values(_revision)),
        ("variant changes", ", ".join(overrides) or "nothing: params.yaml unchanged"),
    ]
    for section in ("bags", "model", "training"):
        chosen = runs[0].state.record.get("parameters", {}).get(section, {})
        lines.append((section, ", ".join(f"{key}: {value}" for key, value in chosen.items())))
    for name in sorted({name for run in runs for name in run.state.record.get("inputs", {})}):
        lines.append((name, values(lambda record, name=name: record.get("inputs", {}).get(name))))
    lines += [
        ("encoder's name", values(lambda record: record.get("encoder"))),
        ("versions", values(lambda record: ", ".join(f"{k} {v}" for k, v in record.get("versions", {}).items()))),
        ("MLflow", f"tag tgdfer.run = {values(run_name)}"),
    ]
    return [f"  {name:16} {text}" for name, text in lines]


def _revision(record: dict[str, Any]) -> str:
    git = record.get("git") or {}
    if not git.get("commit"):
        return "no git repository"
    return f"{git['commit']}{', with changes that were not committed' if git.get('dirty') else ''}"


def _again(dataset: str, variant: str, runs: list[Explained]) -> list[str]:
    """The commands that make the runs from nothing."""
    commits = dict.fromkeys((run.state.record.get("git") or {}).get("commit") for run in runs)
    lines = [f"git checkout {commit}" for commit in commits if commit]
    target = shlex.quote(str(paths.variant(dataset, variant)))
    lines.append(f"{paths.SNAKEMAKE} {target}   # with everything before it that is missing")
    if len(runs) == 1:
        options = f"--dataset {dataset} --variant {variant} --fold {runs[0].key.fold} --seed {runs[0].key.seed}"
        study = f"--study {paths.STUDY} " if paths.STUDY else ""
        lines.append(f"python -m tgdfer {study}train {options}   # only this run, from the features on disk")
    return lines
