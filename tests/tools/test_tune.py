"""tgdfer tune: the ranking by the inner validation splits, and what it leaves out."""

from pathlib import Path

import pytest
from report_project import VARIANTS, Project

from tgdfer.core.errors import UserError
from tgdfer.runs.files import Key
from tgdfer.tools.tune import tune


@pytest.fixture
def made(new_folder: Path) -> Project:
    names = ("tgdfer", "no-text", "no-temporal")
    return Project(folds=2, clips=60, variants={name: VARIANTS[name] for name in names}, truth=False)


def validated(made: Project, uars: dict[str, list[float]]) -> None:
    """The UAR of each fold after the last epoch; by any other epoch the order would be the other way round."""
    for variant, values in uars.items():
        for fold, value in enumerate(values, start=1):
            made.validated[Key("demo", variant, fold, 0)] = lambda e, value=value: value if e == 30 else 1 - value


def test_the_last_epoch_s_validation_counts_and_unfinished_variants_do_not(made: Project) -> None:
    validated(made, {"tgdfer": [0.50, 0.52], "no-text": [0.60, 0.58], "no-temporal": [0.9]})  # which lacks a fold
    lines = tune(made.write(), "demo").splitlines()
    assert lines[1:] == [
        "  59.0  no-text",
        "  51.0  tgdfer  -8.0 ± 2.0",
        "best: no-text ({'model': {'text': 'none', 'visual_prompt': 'none'}})",
    ]


def test_ties_are_named(made: Project) -> None:
    validated(made, {"tgdfer": [0.5, 0.6], "no-text": [0.6, 0.52]})
    lines = tune(made.write(), "demo").splitlines()
    assert lines[-1] == "within one standard error of it: tgdfer"


def test_runs_without_an_inner_split_are_refused(made: Project) -> None:
    with pytest.raises(UserError, match=r"runs/demo: 0 variants have all their runs with an inner validation split"):
        tune(made.write(), "demo")
