"""What the numbers were made from: the data card, and the provenance at the end of the page."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tgdfer.core import paths
from tgdfer.core.errors import UserError
from tgdfer.core.storage import read_sealed, read_table
from tgdfer.datasets.folds import protection
from tgdfer.reporting.part import Part
from tgdfer.runs.results import RunResult

T = TypeVar("T")


def data_card(part: Part) -> dict[str, Any]:
    """Clips per class, frames, rejected clips and the encoder, as far as their files exist and are undamaged."""
    chosen, dataset = part.params.dataset(part.dataset), part.dataset
    card: dict[str, Any] = {"layout": chosen.layout, "encoder": chosen.encoder, "truth": chosen.truth is not None}
    table = _read(part, read_table, paths.clips(dataset), "clips")
    folds = _read(part, read_table, paths.folds(dataset), "folds")
    if table is not None:
        clips = table.to_pandas()
        counts = clips["label"].value_counts()
        card |= {"clips": len(clips), "subjects": clips["subject"].nunique()}
        card["per_class"] = {name: int(counts.get(name, 0)) for name in chosen.classes}
        card["absent"] = [name for name, count in card["per_class"].items() if not count]
        if folds is not None:
            subjects = {clip: name or None for clip, name in zip(clips["clip_id"], clips["subject"], strict=True)}
            rows = folds.select(["clip_id", "fold", "split"]).to_pydict()
            card["protection"] = protection(subjects, zip(*rows.values(), strict=True))
    if stored := _read(part, read_sealed, paths.frames(dataset)):
        card |= {"frames": stored.get("frames"), "kept": stored.get("clips")}
        if stored.get("searched"):
            card["faces"] = {name: stored[name] for name in ("searched", "with_face", "face_side", "doubtful_faces")}
    rejects = _read(part, read_table, paths.frames(dataset).with_name("rejects.parquet"), "rejects")
    if rejects is not None:
        card["rejects"] = rejects.to_pylist()
    if described := _read(part, read_sealed, paths.encoder(chosen.encoder)):
        card |= {"encoder_fingerprint": described.get("fingerprint"), "dim": described.get("dim")}
    return card


def _read(part: Part, read: Callable[..., T], path: Path, *kind: str) -> T | None:
    """The content of a file; None if it is missing or damaged. A damaged one is added to the part's problems."""
    try:
        return read(path, *kind) if path.exists() else None
    except UserError as error:
        part.experiment.problems.append(str(error))
        return None


def revision(run: RunResult, digits: int, changed: str) -> str:
    """The beginning of the commit that a run was made with, and ``changed`` if files differed from it."""
    git = run.info.get("git") or {}
    commit = (git.get("commit") or "")[:digits]
    return commit + (changed if commit and git.get("dirty") else "")


def hardware_of(info: Mapping[str, Any]) -> str:
    """The machine that a run was made on."""
    hardware = info.get("hardware") or {}
    gpus = ", ".join(hardware.get("gpus") or []) or "no GPU"
    return f"{hardware.get('machine')}, {hardware.get('cpus')} CPUs, {gpus}"


def provenance(parts: list[Part], cards: list[dict[str, Any]]) -> dict[str, list[str]]:
    """What the runs were made from: the distinct answers, most often one each."""
    names = ("Code revision", "Python and libraries", "Hardware", "Encoder")
    made: dict[str, dict[str, None]] = {name: {} for name in names}
    for part, card in zip(parts, cards, strict=True):
        for run in part.experiment.runs:
            if run.problem is not None:
                continue
            commit = revision(run, 40, " with uncommitted changes") or "unknown (not in a git repository)"
            made["Code revision"][commit] = None
            versions = sorted((run.info.get("versions") or {}).items())
            made["Python and libraries"][", ".join(f"{name} {value}" for name, value in versions)] = None
            made["Hardware"][hardware_of(run.info)] = None
            for what, value in sorted(run.info.get("inputs", {}).items()):
                if value and value != "none":  # a variant that does not use it
                    made.setdefault(f"{part.dataset}: fingerprint of {what}", {})[str(value)] = None
        fingerprint = str(card.get("encoder_fingerprint") or "")[:16]
        made["Encoder"][card["encoder"] + (f" ({fingerprint}…)" if fingerprint else "")] = None
    return {name: list(values) for name, values in made.items() if values}
