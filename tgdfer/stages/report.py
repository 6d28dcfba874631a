"""The report: tables, figures, numbers and the page, made from run files alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from tgdfer.config import dependencies
from tgdfer.config.params import Params
from tgdfer.core import paths, storage
from tgdfer.core.progress import log
from tgdfer.core.provenance import cores
from tgdfer.core.record import recorded

if TYPE_CHECKING:
    from tgdfer.reporting.report import Part

__all__ = ["make_report"]

TABLES, FIGURES = paths.REPORTS / "tables", paths.REPORTS / "figures"


def make_report(params: Params) -> None:
    """Make everything in reports/ anew from ``runs/`` and ``data/``; the page comes last.

    What is missing or failed is said where it would stand; no number is guessed.

    Raises:
        UserError: a manifest, a truth table or a summary is no readable file of its kind.
    """
    params = _with_others(params)
    summaries = [paths.variant(dataset, variant) for dataset in params.datasets for variant in params.variants]
    inputs = {str(path.parent): storage.file_fingerprint(path) for path in summaries if path.exists()}
    made_by = dependencies.made_by(
        "report", dependencies.settings(params, "report"), {"runs": storage.fingerprint(inputs)}
    )
    with recorded(made_by) as numbers:
        parts = _make(params)
        numbers |= {name: sum(len(getattr(part, name)) for part in parts) for name in ("tables", "pictures")}
        numbers["runs"] = sum(run.problem is None for part in parts for run in part.experiment.runs)


def _make(params: Params) -> list[Part]:
    # here and not above: matplotlib and jinja take a second that the command line does not have to spend
    from tgdfer.core.storage import write_text
    from tgdfer.reporting import numbers
    from tgdfer.reporting.compared import write_compared
    from tgdfer.reporting.page import write_page

    parts, kept = [], set()
    for part, files in _parts(params):
        log.info("report: %s: %d tables, %d figures", part.experiment.dataset, len(part.tables), len(part.pictures))
        parts.append(part)
        kept.update(files)
    write_text(
        paths.REPORTS / "numbers.tex", numbers.to_latex(params, {p.experiment.dataset: p.results for p in parts})
    )
    for folder in (TABLES, FIGURES):
        folder.mkdir(parents=True, exist_ok=True)
        # a table of a variant or data set that is no longer asked for would look like a current result
        for path in folder.iterdir():
            if path not in kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_compared(params, [part.experiment for part in parts])
    write_page(params, parts, paths.REPORT_PAGE)
    log.info("report: %s", paths.REPORT_PAGE)
    return parts


def _with_others(params: Params) -> Params:
    """The grid, and every other variant of params.yaml that was run on some data set."""
    others = {v for v in params.variants for dataset in params.datasets if paths.variant(dataset, v).exists()}
    return params.only({*params.grid, *others})


def _parts(params: Params) -> Iterator[tuple[Part, set[Path]]]:
    """Every data set's part, in order; several data sets share the processors."""
    workers = min(len(params.datasets), cores())
    if workers == 1:
        for dataset in params.datasets:
            yield make_part(params, dataset)
        return
    # spawn: a fork of a process with threads of Arrow and BLAS may hang
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(make_part, [params] * len(params.datasets), params.datasets)


def make_part(params: Params, dataset: str) -> tuple[Part, set[Path]]:
    """Tables and figures of one data set, and the files they were written to."""
    from tgdfer.core.storage import write_text
    from tgdfer.reporting import render
    from tgdfer.reporting.gallery import make_figures
    from tgdfer.reporting.report import build

    part = build(params, dataset)
    files: set[Path] = set()
    for table in part.tables:
        for suffix, text in (
            ("csv", render.to_csv(table)),
            ("md", render.to_markdown(table)),
            ("tex", render.to_latex(table)),
        ):
            files.add(TABLES / f"{table.file}.{suffix}")
            write_text(TABLES / f"{table.file}.{suffix}", text)
    part.pictures = make_figures(params, part, FIGURES)
    files |= {FIGURES / f"{picture.file}.{suffix}" for picture in part.pictures for suffix in ("png", "pdf")}
    part.truth = None  # large, and no longer needed
    return part, files
