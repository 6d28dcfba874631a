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


def test_the_last_epoch_s_validation_counts_and_unfinished_variants_do_not(made: Project) -> None:
    # by any other epoch the order would be the other way round; without-temporal lacks a fold
    for variant, fold, value in (
        ("tgdfer", 1, 0.50), ("tgdfer", 2, 0.52), ("no-text", 1, 0.60), ("no-text", 2, 0.58), ("no-temporal", 1, 0.9),
    ):  # fmt: skip
        made.validated[Key("demo", variant, fold, 0)] = lambda e, value=value: value if e == 30 else 1 - value
    lines = tune(made.write(), "demo").splitlines()
    assert lines[1:] == [
        "  59.0  no-text",
        "  51.0  tgdfer  -8.0 ± 2.0",
        "best: no-text ({'model': {'text': 'none', 'visual_prompt': 'none'}})",
    ]


def test_ties_are_named(made: Project) -> None:
    for variant, fold, value in (
        ("tgdfer", 1, 0.5), ("tgdfer", 2, 0.6), ("no-text", 1, 0.6), ("no-text", 2, 0.52),
    ):  # fmt: skip
        made.validated[Key("demo", variant, fold, 0)] = lambda e, value=value: value
    lines = tune(made.write(), "demo").splitlines()
    assert lines[-1] == "within one standard error of it: tgdfer"


def test_runs_without_an_inner_split_are_refused(made: Project) -> None:
    with pytest.raises(UserError, match=r"runs/demo: 0 variants have all their runs with an inner validation split"):
        tune(made.write(), "demo")
