"""The LaTeX tables and macros in a paper that compiles."""

import shutil
import subprocess
from pathlib import Path

import pytest
from report_project import VARIANTS, Project

from tgdfer.reporting import numbers, render
from tgdfer.reporting.report import build
from tgdfer.stages.report import make_part

PAPER = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage{booktabs,amssymb,graphicx,siunitx}
\input{numbers}
\begin{document}
On demo, TG-DFER reaches \UarDemo\,\% UAR ($\pm$\UarDemoSd; interval \UarDemoLow{} to \UarDemoHigh)
on \ClipsDemo{} clips;
a linear probe reaches \UarDemoLinearProbe\,\%.
%TABLES
\end{document}
"""


ROOT = Path(__file__).parents[2]
needs_latex = pytest.mark.skipif(
    shutil.which("pdflatex") is None,
    reason="needs pdflatex: apt-get install texlive-latex-recommended texlive-science",
)


def compile_(paper: Path) -> str:
    """The log of a run of pdflatex that must succeed."""
    made = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", paper.name],
        capture_output=True, text=True, errors="replace", timeout=120, cwd=paper.parent,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout[-3000:]
    return made.stdout


@needs_latex
def test_a_paper_with_every_table_compiles(new_folder: Path) -> None:
    variants = {**VARIANTS, "no-text": {**VARIANTS["no-text"], "label": r"100 % of $a_1$ & {b} #~^\ <c>"}}
    params = Project(datasets={"demo": "folder", "dfew": "dfew"}, variants=variants, folds=2, clips=60).write()
    parts = [build(params, name) for name in params.datasets]
    (new_folder / "numbers.tex").write_text(numbers.to_latex(params, parts))
    names = []
    for part in parts:
        for table in part.tables:
            (new_folder / f"{table.file}.tex").write_text(render.to_latex(table), encoding="utf-8")
            names.append(table.file)
    assert len(names) == 14
    paper = PAPER.replace("%TABLES", "\\clearpage\n".join(f"\\input{{{name}}}\n" for name in names))
    (new_folder / "paper.tex").write_text(paper)
    assert "undefined" not in compile_(new_folder / "paper.tex")
    assert (new_folder / "paper.pdf").stat().st_size > 20000


@needs_latex
def test_the_example_paper_compiles_and_says_the_numbers_of_the_report(new_folder: Path) -> None:
    params = Project(folds=2, clips=60, bootstrap=40, truth=False).write()
    part, _ = make_part(params, "demo")
    Path("reports/numbers.tex").write_text(numbers.to_latex(params, [part]))
    paper = new_folder / "docs/paper/main.tex"
    paper.parent.mkdir(parents=True)
    shutil.copy(ROOT / "docs/paper/main.tex", paper)
    compile_(paper)
    log = compile_(paper)  # the second time, references are known
    assert "undefined" not in log
    assert "Output written on main.pdf" in log
    if shutil.which("pdftotext"):
        text = subprocess.run(["pdftotext", "main.pdf", "-"], capture_output=True, text=True, cwd=paper.parent).stdout
        for variant in ("tgdfer", "linear-probe"):
            assert f"{100 * (part.results['last'][variant].uar.mean or 0):.2f}" in text
        assert "??" not in text
