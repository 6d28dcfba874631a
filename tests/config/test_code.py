"""Fingerprints of code: an edit changes those of the stages and variants that run the edited file, and no others."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tgdfer.config import code, dependencies
from tgdfer.config.architectures import ARCHITECTURES


@pytest.fixture
def edited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, str], set[str]]:
    """A function that appends text to a copy of one file; it returns the architectures whose training changes."""

    def edit(name: str, text: str) -> set[str]:
        meaning = code._meaning.__wrapped__
        copy = tmp_path / Path(name).name
        copy.write_text((code.PACKAGE / name).read_text() + text)
        before = trainings()
        with monkeypatch.context() as patch:
            changed = code.PACKAGE / name
            patch.setattr(code, "_meaning", lambda path: meaning(copy if path == changed else path))
            code.fingerprint.cache_clear()
            after = trainings()
        code.fingerprint.cache_clear()
        return {architecture for architecture in ARCHITECTURES if before[architecture] != after[architecture]}

    return edit


def trainings() -> dict[str, str]:
    return {architecture: dependencies.code_fingerprint("train", architecture) for architecture in ARCHITECTURES}


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name != "tgdfer"])
def test_a_baseline_changes_only_its_own_trainings(edited: Callable[[str, str], set[str]], architecture: str) -> None:
    module = ARCHITECTURES[architecture].made_by.partition(".")[0]
    assert edited(f"model/{module}.py", "\nCHANGED = True\n") == {architecture}


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("\nCHANGED = True\n", set(ARCHITECTURES)),
        ("\n# a comment\n", set()),
        ("\n\n", set()),
        ('\n"""A docstring."""\n', set()),
    ],
)
def test_the_engine_changes_all_trainings_unless_only_its_words_change(
    edited: Callable[[str, str], set[str]], text: str, changed: set[str]
) -> None:
    assert edited("training/engine.py", text) == changed


def test_a_file_that_decides_only_messages_changes_no_training(edited: Callable[[str, str], set[str]]) -> None:
    assert edited("core/progress.py", "\nCHANGED = True\n") == set()


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("demo/expressions.yaml", {"render", "render-demo", "train-demo-encoder"}),
        ("demo/phrases.yaml", {"train-demo-encoder"}),
        ("datasets/published.yaml", {"clips"}),
    ],
)
def test_data_in_the_package_counts_as_code_of_the_stages_that_read_it(name: str, stages: set[str]) -> None:
    assert {stage for stage in dependencies.STAGES if code.PACKAGE / name in dependencies.code_files(stage)} == stages
