"""``tgdfer explain``: how a number of the tables came to be, from the files of its runs, and whether they still fit."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tgdfer.config import dependencies
from tgdfer.config.params import Params
from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.evaluation.protocol import SELECTIONS
from tgdfer.evaluation.statistics import mean_and_deviation

TARGET = re.compile(r"(?:.*/)?runs/(.+)|([^/]+/.+)")
RUN = re.compile(r"([^/]+)/([^/]+)(?:/fold(\d+)/seed(\d+))?")


@dataclass(frozen=True)
class Run:
    """A run's place, its run.json and its metrics.json."""

    fold: int
    seed: int
    folder: Path
    record: dict[str, Any]
    metrics: dict[str, Any]


def explain(params: Params, target: str) -> tuple[str, bool]:
    """Explain a run (``runs/demo/tgdfer/fold1/seed0``) or a row of the tables (``demo/tgdfer``, all its runs).

    Returns:
        The text, and whether the runs still fit the parameters, the code and the data on disk.

    Raises:
        UserError: ``target`` names no run, or none that is finished.
    """
    dataset, variant, runs = _find(params, target)
    problems = {f"fold{run.fold}/seed{run.seed}": _check(params, dataset, variant, run) for run in runs}
    lines = [f"{dataset}/{variant}: {params.variants[variant].label}", "", *_numbers(runs)]
    lines += ["", "from", *(f"  {run.folder}{_where(run)}" for run in runs)]
    lines += ["", "made by", *_made_by(params, variant, runs)]
    lines += ["", "do the files still fit?"]
    found = [f"  {name}: {problem}" for name, several in problems.items() for problem in several]
    lines += found or ["  yes: results, parameters, code, clips, folds, features and encoder are those of then"]
    lines += ["", "to make it again", *(f"  {command}" for command in _again(dataset, variant, runs))]
    return "\n".join(lines), not found


def _find(params: Params, target: str) -> tuple[str, str, list[Run]]:
    place = TARGET.fullmatch(target.rstrip("/"))
    named = RUN.fullmatch((place.group(1) or place.group(2)).removesuffix("/summary.json")) if place else None
    if not named:
        raise UserError(f"explain {target}: expected runs/<data set>/<variant>/fold<k>/seed<s> or <data set>/<variant>")
    dataset, variant, fold, seed = named.groups()
    params.dataset(dataset)
    params.run(variant)
    if fold:
        return dataset, variant, [_read(paths.run(dataset, variant, int(fold), int(seed)), int(fold), int(seed))]
    table = paths.folds(dataset)
    folds = set(storage.read_table(table, "folds").column("fold").to_pylist()) if table.is_file() else None
    runs = []
    for path in paths.variant(dataset, variant).parent.glob("fold*/seed*/run.json"):
        k, s = int(path.parts[-3].removeprefix("fold")), int(path.parts[-2].removeprefix("seed"))
        # as the tables: what is left of folds and seeds that are no longer asked for does not count
        if s in params.seeds and (folds is None or k in folds):
            runs.append(_read(path.parent, k, s))
    if not runs:
        raise UserError(f"explain {target}: no finished run below {paths.variant(dataset, variant).parent}")
    return dataset, variant, sorted(runs, key=lambda run: (run.fold, run.seed))


def _read(folder: Path, fold: int, seed: int) -> Run:
    if not (folder / "run.json").is_file():
        raise UserError(f"{folder}: no finished run there (run.json is written last)")
    return Run(fold, seed, folder, storage.read_json(folder / "run.json"), storage.read_json(folder / "metrics.json"))


def _numbers(runs: list[Run]) -> list[str]:
    """Under each selection: UAR and WAR as the tables have them, the mean of folds of which each is a mean of seeds."""
    lines = []
    for selection, about in SELECTIONS.items():
        parts = []
        for metric in ("uar", "war"):
            per_fold: dict[int, list[float]] = {}
            for run in runs:
                if selection in run.metrics["selections"]:
                    per_fold.setdefault(run.fold, []).append(run.metrics["selections"][selection][metric])
            mean, deviation = mean_and_deviation([sum(values) / len(values) for values in per_fold.values()])
            if mean is not None:
                spread = "" if deviation is None else f" ± {100 * deviation:.2f}"
                parts.append(f"{metric.upper()} {100 * mean:.2f}{spread}")
        if parts:
            lines.append(f"  {selection:10} {'   '.join(parts)}   ({about})")
    folds, seeds = {run.fold for run in runs}, {run.seed for run in runs}
    unit = f"percent; mean ± standard deviation over {len(folds)} folds" if len(folds) > 1 else "percent; one fold"
    return [f"{unit}, {len(seeds)} seed{'s' * (len(seeds) > 1)}", *lines]


def _where(run: Run) -> str:
    """Seconds, device and SLURM job of a run."""
    hardware, job = run.record.get("hardware", {}), run.record.get("slurm")
    device = ", ".join(dict.fromkeys(hardware.get("gpus", []))) or f"CPU ({hardware.get('machine')})"
    slurm = f", SLURM job {job.get('SLURM_JOB_ID')} on {job.get('SLURM_JOB_NODELIST')}" if job else ""
    chosen = run.metrics["selections"].get("last", {})
    return (
        f"   UAR {100 * chosen.get('uar', float('nan')):.2f}, {run.record.get('seconds', 0):.0f} s on {device}{slurm}"
    )


def _made_by(params: Params, variant: str, runs: list[Run]) -> list[str]:
    """What the runs have in common in one line each; where they differ, every value."""

    def values(pick: Any) -> str:
        return "; ".join(dict.fromkeys(str(pick(run.record)) for run in runs))

    changed = params.variants[variant].set
    overrides = [
        f"{section}.{key}: {value}" for section, keys in changed.model_dump().items() for key, value in keys.items()
    ]
    lines = [
        ("command", values(lambda record: record.get("command"))),
        ("code", values(_revision)),
        ("variant changes", ", ".join(overrides) or "nothing: params.yaml as it stands"),
    ]
    for section in ("bags", "model", "training"):
        chosen = runs[0].record.get("parameters", {}).get(section, {})
        lines.append((section, ", ".join(f"{key}: {value}" for key, value in chosen.items())))
    for name in sorted({name for run in runs for name in run.record.get("inputs", {})}):
        lines.append((name, values(lambda record, name=name: record.get("inputs", {}).get(name))))
    lines += [
        ("encoder's name", values(lambda record: record.get("encoder"))),
        ("versions", values(lambda record: ", ".join(f"{k} {v}" for k, v in record.get("versions", {}).items()))),
        ("MLflow", f"tag tgdfer.run = {values(_mlflow_name)}"),
    ]
    return [f"  {name:16} {text}" for name, text in lines]


def _mlflow_name(record: dict[str, Any]) -> str:
    return "{dataset}/{variant}/fold{fold}/seed{seed}".format_map(record)


def _revision(record: dict[str, Any]) -> str:
    git = record.get("git") or {}
    if not git.get("commit"):
        return "no git repository"
    return f"{git['commit']}{', with changes that were not committed' if git.get('dirty') else ''}"


def _check(params: Params, dataset: str, variant: str, run: Run) -> list[str]:
    """What is no longer as it was when the run was made."""
    problems = []
    for name, expected in run.record.get("outputs", {}).items():
        path = run.folder / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif storage.file_fingerprint(path) != expected:
            problems.append(f"{name} is not the file that the run wrote")
    if run.record.get("parameters") != dependencies.run_settings(params, dataset, variant, run.fold, run.seed):
        problems.append("params.yaml says other parameters now")
    if run.record.get("code") != dependencies.code_fingerprint("train", params.run(variant).model.architecture):
        problems.append("the code of the training is another now")
    inputs = _inputs(params, dataset)
    for name, then in run.record.get("inputs", {}).items():
        now = inputs.get(name)
        if now is None:
            problems.append(f"{name}: no longer on disk")
        elif now != then:
            problems.append(f"{name}: another fingerprint now, {now[:12]}…, then {then[:12]}…")
    return problems


def _inputs(params: Params, dataset: str) -> dict[str, str | None]:
    """The fingerprints of a training's inputs as they are on disk."""
    encoder = params.dataset(dataset).encoder
    tables = {"clips": paths.clips(dataset), "folds": paths.folds(dataset)}
    manifests = {"features": paths.features(dataset, encoder), "encoder": paths.encoder(encoder)}
    return {
        **{name: storage.file_fingerprint(path) if path.is_file() else None for name, path in tables.items()},
        **{
            name: storage.read_json(path)["fingerprint"] if path.is_file() else None for name, path in manifests.items()
        },
    }


def _again(dataset: str, variant: str, runs: list[Run]) -> list[str]:
    """The commands that make the runs from nothing."""
    commits = dict.fromkeys((run.record.get("git") or {}).get("commit") for run in runs)
    lines = [f"git checkout {commit}" for commit in commits if commit]
    target = shlex.quote(str(paths.variant(dataset, variant)))
    lines.append(f"snakemake --profile local {target}   # with everything before it that is missing")
    if len(runs) == 1:
        options = f"--dataset {dataset} --variant {variant} --fold {runs[0].fold} --seed {runs[0].seed}"
        lines.append(f"python -m tgdfer train {options}   # this run alone, where the features are there")
    return lines
