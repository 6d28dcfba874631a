"""The LaTeX tables and macros in a paper that compiles."""

import shutil
import subprocess
from pathlib import Path

import pytest
from report_project import VARIANTS, Project

from tgdfer.reporting import numbers, render
from tgdfer.reporting.report import build

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


def test_a_paper_with_every_table_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("needs pdflatex: apt-get install texlive-latex-recommended texlive-science")
    monkeypatch.chdir(tmp_path)
    variants = {**VARIANTS, "no-text": {**VARIANTS["no-text"], "label": r"100 % of $a_1$ & {b} #~^\ <c>"}}
    params = Project(datasets={"demo": "folder", "dfew": "dfew"}, variants=variants, folds=2, clips=60).write()
    parts = [build(params, name) for name in params.datasets]
    (tmp_path / "numbers.tex").write_text(numbers.to_latex(params, {p.experiment.dataset: p.results for p in parts}))
    names = []
    for part in parts:
        for table in part.tables:
            (tmp_path / f"{table.file}.tex").write_text(render.to_latex(table), encoding="utf-8")
            names.append(table.file)
    assert len(names) == 14
    paper = PAPER.replace("%TABLES", "\\clearpage\n".join(f"\\input{{{name}}}\n" for name in names))
    (tmp_path / "paper.tex").write_text(paper)
    made = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout[-3000:]
    assert "undefined" not in made.stdout
    assert (tmp_path / "paper.pdf").stat().st_size > 20000
