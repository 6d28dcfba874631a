"""The report: tables, figures, numbers and the page, made from run files alone."""

from __future__ import annotations

import shutil
from pathlib import Path

from tgdfer import paths
from tgdfer.params import Params
from tgdfer.progress import log

__all__ = ["make_report"]


def make_report(params: Params) -> None:
    """Make everything in reports/ anew from ``runs/`` and ``data/``; the page comes last.

    What is missing or failed is said where it would stand; no number is guessed.
    """
    # here and not above: matplotlib and jinja take a second that the command line does not have to spend
    from tgdfer.reporting import numbers, render
    from tgdfer.reporting.gallery import make_figures
    from tgdfer.reporting.page import write_page
    from tgdfer.reporting.report import build
    from tgdfer.storage import write_text

    parts = [build(params, dataset) for dataset in params.datasets]
    tables, figures = paths.REPORTS / "tables", paths.REPORTS / "figures"
    kept: set[Path] = set()
    for part in parts:
        for table in part.tables:
            for suffix, text in (
                ("csv", render.to_csv(table)),
                ("md", render.to_markdown(table)),
                ("tex", render.to_latex(table)),
            ):
                write_text(tables / f"{table.file}.{suffix}", text)
                kept.add(tables / f"{table.file}.{suffix}")
        part.pictures = make_figures(params, part, figures)
        kept |= {figures / f"{picture.file}.{suffix}" for picture in part.pictures for suffix in ("png", "pdf")}
        log.info("report: %s: %d tables, %d figures", part.experiment.dataset, len(part.tables), len(part.pictures))
    write_text(
        paths.REPORTS / "numbers.tex", numbers.to_latex(params, {p.experiment.dataset: p.results for p in parts})
    )
    for folder in (tables, figures):
        folder.mkdir(parents=True, exist_ok=True)
        # a table of a variant or data set that is no longer asked for would look like a current result
        for path in folder.iterdir():
            if path not in kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_page(params, parts, paths.REPORT_PAGE)
    log.info("report: %s", paths.REPORT_PAGE)
