"""The report: tables, figures, numbers and the page, made from run files only."""

import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from tgdfer.config import dependencies
from tgdfer.config.params import Params
from tgdfer.core import checksums, paths, storage
from tgdfer.core.locks import writes
from tgdfer.core.progress import log
from tgdfer.core.provenance import cores
from tgdfer.core.record import recorded
from tgdfer.reporting import numbers, render
from tgdfer.reporting.compared import PLOTS, write_compared
from tgdfer.reporting.gallery import make_figures
from tgdfer.reporting.page import write_page
from tgdfer.reporting.part import Part
from tgdfer.reporting.report import build
from tgdfer.runs import outputs

TABLES, FIGURES, NUMBERS = paths.REPORTS / "tables", paths.REPORTS / "figures", paths.REPORTS / "numbers.tex"


@writes(lambda params: [paths.REPORTS])
def run(params: Params) -> None:
    """Make everything in reports/ from ``runs/`` and ``data/``; the page comes last.

    Runs without usable results are left out and named; no number is guessed.

    Raises:
        UserError: a manifest or a truth table is not a readable file of its kind.
    """
    shown = with_others(params, params.datasets)
    summaries = [paths.variant(dataset, variant) for dataset in shown.datasets for variant in shown.variants]
    inputs = {str(path.parent): storage.file_fingerprint(path) for path in summaries if path.exists()}
    settings = dependencies.settings(shown, "report")
    with recorded(dependencies.made_by("report", settings, {"runs": storage.fingerprint(inputs)})) as record:
        made = list(_parts(params))
        parts = [part for part, _ in made]
        storage.write_text(NUMBERS, numbers.to_latex(shown, parts))
        _remove_others({file for _, files in made for file in files})
        write_compared(parts)
        write_page(shown, parts, paths.REPORT_PAGE, outputs.stamp(params, "report"))
        _write_sums()
        log.info("report: %s", paths.REPORT_PAGE)
        record |= {name: sum(len(getattr(part, name)) for part in parts) for name in ("tables", "pictures")}
        record["runs"] = sum(one.problem is None for part in parts for one in part.experiment.runs)


def with_others(params: Params, datasets: Iterable[str]) -> Params:
    """The grid, and every other variant of params.yaml that was run on one of ``datasets``."""
    others = {v for v in params.variants for dataset in datasets if paths.variant(dataset, v).exists()}
    return params.only({*params.grid, *others})


def _parts(params: Params) -> Iterator[tuple[Part, set[Path]]]:
    """The part of every data set, in order; several data sets share the processors."""
    workers = min(len(params.datasets), cores())
    if workers == 1:
        for dataset in params.datasets:
            yield make_part(params, dataset)
        return
    # spawn: a fork of a process with threads of Arrow and BLAS may hang
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(make_part, [params] * len(params.datasets), params.datasets)


def make_part(params: Params, dataset: str) -> tuple[Part, set[Path]]:
    """Tables and figures of one data set, and the files they were written to.

    A variant that is not in the grid is a row only where it was run.
    """
    part = build(with_others(params, [dataset]), dataset)
    files: set[Path] = set()
    for table in part.tables:
        for suffix, write in (("csv", render.to_csv), ("md", render.to_markdown), ("tex", render.to_latex)):
            files.add(TABLES / f"{table.file}.{suffix}")
            storage.write_text(TABLES / f"{table.file}.{suffix}", write(table))
    part.pictures = make_figures(part, FIGURES)
    files |= {FIGURES / f"{picture.file}.{suffix}" for picture in part.pictures for suffix in ("png", "pdf")}
    part.truth = None  # large, and no longer needed
    log.info("report: %s: %d tables, %d figures", dataset, len(part.tables), len(part.pictures))
    return part, files


def _write_sums() -> None:
    """List the report's files with their checksums; a user's files at the top of the folder are not of them."""
    own = [paths.REPORT_PAGE, paths.REPORT_METRICS, NUMBERS]
    own += [path for folder in (TABLES, FIGURES, PLOTS) for path in folder.rglob("*.*")]
    listed = {path.relative_to(paths.REPORTS).as_posix(): storage.file_fingerprint(path) for path in own}
    storage.write_text(paths.REPORTS / checksums.SUMS, checksums.sums(listed))


def _remove_others(kept: set[Path]) -> None:
    """Remove tables and figures of what is no longer asked for: they would look like current results."""
    for folder in (TABLES, FIGURES):
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if path not in kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
