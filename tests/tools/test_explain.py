"""tgdfer explain: the numbers as the tables have them, what made them, and whether the files still fit."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import training_project as project

from tgdfer.config.params import Params
from tgdfer.core import checksums, paths, storage
from tgdfer.core.errors import UserError
from tgdfer.stages import train as training
from tgdfer.tools import explain as module

RUN = Path("runs/tiny/mil/fold1/seed0")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two folds and two seeds of one variant."""
    folder = tmp_path_factory.mktemp("explain")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        project.make_project()
        training.run(parameters(), "tiny", "mil")
    return folder


def parameters(**settings: object) -> Params:
    return project.params({"mil": project.VARIANTS["mil"]}, seeds=(0, 1), epochs=2, **settings)


@pytest.fixture(autouse=True)
def _here(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)


@contextmanager
def restored(*files: Path) -> Iterator[None]:
    """Give ``files`` back their content after the block."""
    before = {file: file.read_bytes() for file in files}
    try:
        yield
    finally:
        for file, content in before.items():
            file.write_bytes(content)


def test_a_row_of_a_table_has_the_numbers_of_the_table() -> None:
    text, fits = module.explain(parameters(), "tiny/mil")
    assert fits
    assert "mean ± standard deviation over 2 folds, 2 seeds" in text
    for selection in ("last", "best_val", "best_test"):
        per_fold = [
            [storage.read_json(paths.run("tiny", "mil", fold, seed) / "metrics.json")["selections"][selection]["uar"]
             for seed in (0, 1)]
            for fold in (1, 2)
        ]  # fmt: skip
        (first, second) = (50 * sum(seeds) for seeds in per_fold)
        expected = f"UAR {(first + second) / 2:.2f} ± {abs(first - second) / 2**0.5:.2f}"
        assert re.search(rf"^  {selection} +{re.escape(expected)} ", text, re.MULTILINE), (expected, text)
    assert text.count("UAR") == 3 + 4, "every run with its own"


def test_seeds_and_folds_that_no_table_reads_do_not_count() -> None:
    text, _ = module.explain(parameters().model_copy(update={"seeds": [1]}), "tiny/mil")
    assert "over 2 folds, 1 seed\n" in text
    assert "seed0" not in text
    left = Path("runs/tiny/mil/fold3")
    shutil.copytree(RUN.parent, left)
    try:
        assert "over 2 folds, 2 seeds" in module.explain(parameters(), "tiny/mil")[0]
    finally:
        shutil.rmtree(left)


@pytest.mark.parametrize(
    "target", ["runs/tiny/mil/fold1/seed0/", "tiny/mil/fold1/seed0", "/some/runs/tiny/mil/fold1/seed0"]
)
def test_a_run_says_what_made_it(target: str) -> None:
    text, fits = module.explain(parameters(), target)
    record = storage.read_json(RUN / "run.json")
    assert fits
    assert "percent; one fold, 1 seed" in text
    name = "tgdfer.run = tiny/mil/fold1/seed0"
    for fact in (record["command"], record["inputs"]["features"], record["versions"]["torch"], name):
        assert fact in text
    assert "variant changes  model.architecture: attention-mil" in text
    assert "python -m tgdfer train --dataset tiny --variant mil --fold 1 --seed 0" in text
    assert "snakemake --profile local runs/tiny/mil/summary.json" in text


def test_what_no_longer_fits_is_named() -> None:
    text, fits = module.explain(parameters(batch_size=7), "tiny/mil")
    assert not fits
    assert text.count("outdated: parameter training.batch_size was") == 4

    encoder = paths.encoder("demo-clip")
    with restored(encoder):
        storage.write_sealed(encoder, {**storage.read_sealed(encoder), "fingerprint": "another"})
        text, fits = module.explain(parameters(), "tiny/mil/fold1/seed0")
    assert not fits
    assert text.split("current?\n")[1].startswith("  fold1/seed0: outdated: the encoder changed\n\n")


def test_a_damaged_run_is_named_and_not_in_the_means() -> None:
    metrics = RUN / "metrics.json"
    with restored(metrics):
        metrics.write_text(json.dumps({**storage.read_json(metrics), "n_test": 1}))
        text, fits = module.explain(parameters(), "tiny/mil/fold1/seed0")
        row, row_fits = module.explain(parameters(), "tiny/mil")
    assert not fits and not row_fits
    assert "fold1/seed0: damaged: metrics.json is not the file that the run wrote" in text
    assert row.count("UAR") == 3 + 3


def test_a_missing_feature_shard_is_named() -> None:
    (shard,) = paths.features("tiny", "demo-clip").parent.glob("*/shard-*.arrow")
    with restored(shard):
        shard.unlink()
        text, fits = module.explain(parameters(), "tiny/mil")
    assert not fits
    assert f"{shard} is missing" in text.split("current?\n")[1]


def test_a_flipped_byte_of_the_encoder_s_weights_is_named() -> None:
    encoder = paths.encoder("demo-clip")
    weights = encoder.with_name("weights.safetensors")
    weights.write_bytes(bytes(100))
    with restored(encoder):
        storage.write_sealed(encoder, {**storage.read_sealed(encoder), "files": [checksums.entry(weights)]})
        assert module.explain(parameters(), "tiny/mil")[1]
        weights.write_bytes(bytes(99) + b"\1")
        text, fits = module.explain(parameters(), "tiny/mil")
    assert not fits
    assert f"{weights} is not the file that its stage wrote" in text.split("current?\n")[1]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("tiny", "expected runs/<data set>/<variant>/fold<k>/seed<s>"),
        ("tiny/mil/fold1", "expected runs/<data set>/<variant>/fold<k>/seed<s>"),
        ("huge/mil", "no data set 'huge'"),
        ("tiny/ours", "no variant 'ours'"),
        ("tiny/mil/fold9/seed0", "fold9/seed0: no finished run there"),
    ],
)
def test_a_target_that_is_not_a_run_is_refused(target: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        module.explain(parameters(), target)
