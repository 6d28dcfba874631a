"""Features from elsewhere: the files of clips, what is refused of them, and the way to a training."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from training_project import SMALL

from tgdfer.config.params import Params
from tgdfer.core import paths, storage
from tgdfer.core.classes import SEVEN
from tgdfer.core.errors import UserError
from tgdfer.core.parts import Part
from tgdfer.datasets.validate import check_dataset
from tgdfer.features.cache import load_features
from tgdfer.features.elsewhere import read_file
from tgdfer.media import sources
from tgdfer.stages import clips, features, frames, import_encoder, train

DIM = 12


def params(variants: dict | None = None, **encoder) -> Params:
    chosen = variants or {"probe": {"model": {"architecture": "linear-probe"}}}
    return Params.model_validate(
        {
            "datasets": {
                "given": {
                    "layout": "folder",
                    "root": "raw",
                    "annotations": "raw/clips.csv",
                    "encoder": "other",
                    "features": "files",
                }
            },
            "encoders": {"other": encoder or {"dim": DIM}},
            **{key: {} for key in ("demo", "model", "tracking", "features")},
            "frames": {"shards": 3},
            "bags": {"frames": 4},
            "training": SMALL,
            "seeds": [0],
            "variants": {name: {"label": name, "tables": [], "set": value} for name, value in chosen.items()},
            "report": {"reference": next(iter(chosen))},
        }
    )


def make_clips(count: int = 28, dim: int = DIM) -> dict[str, np.ndarray]:
    """Files of the three kinds in turn, and their list; returns the features by clip."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(len(SEVEN), dim))
    lines, made = ["clip_id,path,label,fold"], {}
    Path("raw").mkdir()
    for i in range(count):
        x = (signal[i % 7] + rng.normal(size=(2 + i % 5, dim))).astype(np.float32) * 3
        suffix = (".npy", ".npz", ".parquet")[i % 3]
        path = Path("raw") / f"{i:03d}{suffix}"
        if suffix == ".npy":
            np.save(path, x.astype(np.float16) if i % 2 else x)
        elif suffix == ".npz":
            np.savez(path, **({"features": x, "other": np.zeros(3)} if i % 2 else {"any": x}))
        else:
            pq.write_table(pa.table({"feature": list(x)}), path)
        made[f"clip{i:03d}"] = x
        lines.append(f"clip{i:03d},{path.name},{SEVEN[i % 7]},{1 + i // 7 % 2}")
    Path("raw/clips.csv").write_text("\n".join(lines) + "\n")
    return made


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def prepare(params: Params) -> None:
    import_encoder.run(params, "other")
    clips.run(params, "given")
    frames.run(params, "given")
    features.run(params, "given")


def test_files_become_the_feature_cache_and_are_trained_on() -> None:
    made, chosen = make_clips(140), params()
    assert check_dataset(chosen, "given").ok
    prepare(chosen)
    cache = load_features(paths.features("given", "other"))
    assert cache.dim == DIM and cache.clip_ids.to_pylist() == sorted(made)
    for number, x in enumerate(made.values()):
        found, index = cache.clip(number)
        np.testing.assert_allclose(found, x / np.linalg.norm(x, axis=1, keepdims=True), atol=2e-3)
        assert index.tolist() == list(range(len(x)))
    assert train.run(chosen, "given", "probe") == 0
    assert storage.read_json(Path("runs/given/probe/fold1/seed0/metrics.json"))["selections"]["last"]["uar"] > 0.5


def test_parts_make_the_same_files_and_a_changed_file_remakes_its_shard_only() -> None:
    make_clips()
    chosen = params()
    prepare(chosen)
    manifest = paths.features("given", "other")
    whole = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in manifest.parent.rglob("*.*")}
    parts = [Part(number, 2) for number in (1, 2)]
    for stage, target in ((frames, paths.frames("given")), (features, manifest)):
        for part in parts:
            stage.run(chosen, "given", part)
        lists = [part.list_of(target) for part in parts]
        frames.run(chosen, "given", lists=lists) if stage is frames else features.join(chosen, "given", lists)
    assert {path: path.read_bytes() for path in whole} == {path: data for path, (data, _) in whole.items()}

    Path("raw/001.npz").touch()
    assert sources.changed(chosen, "given") == []
    np.save("raw/000.npy", np.ones((3, DIM), np.float32))
    assert sources.changed(chosen, "given") == [Path("raw/000.npy")]
    with pytest.raises(UserError, match=r"raw/000\.npy: has changed since the frames stage listed it; run: tgdfer fr"):
        manifest.unlink()
        (manifest.parent / storage.read_json(manifest.parent / "part-1-of-2.json")["folder"]).rename("gone")
        features.run(chosen, "given")
    Path("gone").rename(manifest.parent / storage.read_json(manifest.parent / "part-1-of-2.json")["folder"])
    frames.run(chosen, "given")
    features.run(chosen, "given")
    assert load_features(manifest).clip(0)[0].shape == (3, DIM)


BROKEN = {
    "nan.npy": (
        lambda path: np.save(path, np.full((2, DIM), np.nan, np.float32)),
        "the feature of frame 0 is not finite",
    ),
    "inf.npy": (
        lambda path: np.save(path, np.full((2, DIM), np.inf, np.float16)),
        "the feature of frame 0 is not finite",
    ),
    "zero.npy": (lambda path: np.save(path, np.zeros((2, DIM), np.float32)), "the feature of frame 0 is all zeros"),
    "wide.npy": (lambda path: np.save(path, np.ones((2, DIM + 1), np.float32)), r"has 13 dimensions, expected 12"),
    "none.npy": (lambda path: np.save(path, np.ones((0, DIM), np.float32)), r"has no frames"),
    "flat.npy": (lambda path: np.save(path, np.ones(DIM, np.float32)), r"has the shape \[12\], expected \[frames, dim"),
    "whole.npy": (lambda path: np.save(path, np.ones((2, DIM), np.int64)), "holds int64, expected floating point"),
    "object.npy": (lambda path: np.save(path, np.array([{}, 1], object)), "cannot be read as .npy .*allow_pickle"),
    "cut.npy": (lambda path: path.write_bytes(b"\x93NUMPY\x01"), "cannot be read as .npy"),
    "empty.npy": (lambda path: path.write_bytes(b""), "cannot be read as .npy"),
    "cut.npz": (lambda path: path.write_bytes(b"PK\x03\x04"), "cannot be read as .npz"),
    "two.npz": (lambda path: np.savez(path, a=np.ones(3), b=np.ones(3)), "has the arrays a, b; expected one, or one c"),
    "cut.parquet": (lambda path: path.write_bytes(b"PAR1"), "cannot be read as .parquet"),
    "other.parquet": (
        lambda path: pq.write_table(pa.table({"x": [1]}), path),
        "has the columns x; expected one called",
    ),
    "number.parquet": (lambda path: pq.write_table(pa.table({"feature": [1.0]}), path), "is double, expected a list"),
    "ragged.parquet": (
        lambda path: pq.write_table(pa.table({"feature": [[1.0], [1.0, 2.0]]}), path),
        "its frames have different numbers of dimensions",
    ),
    "holes.parquet": (
        lambda path: pq.write_table(pa.table({"feature": [[1.0, None]]}), path),
        "column 'feature' has empty cells",
    ),
    "text.txt": (lambda path: path.write_text("1 2 3"), r"not a file of features; expected .npy, .npz, .parquet"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_every_kind_of_broken_file_is_refused_by_name(name: str) -> None:
    write, expected = BROKEN[name]
    write(Path(name))
    with pytest.raises(UserError, match=f"^{re.escape(name)}: .*{expected}"):
        read_file(Path(name), DIM)


def test_validate_and_the_frames_stage_name_every_broken_file(caplog: pytest.LogCaptureFixture) -> None:
    make_clips()
    chosen = params()
    import_encoder.run(chosen, "other")
    clips.run(chosen, "given")
    np.save("raw/003.npy", np.full((2, DIM), np.nan, np.float32))
    Path("raw/004.npz").unlink()
    np.save("raw/006.npy", np.ones((2, 5), np.float32))
    broken = ["raw/003.npy", "raw/004.npz", "raw/006.npy"]
    with pytest.raises(
        UserError, match=r"given: 3 of 28 feature files are broken, the first: raw/003\.npy: the feature"
    ):
        frames.run(chosen, "given")
    assert [line.message.split(": ")[1] for line in caplog.records if line.levelname == "ERROR"] == broken
    assert not paths.frames("given").exists()
    Path("raw/004.npz").touch()  # a missing one is a fault of the list
    verdict = check_dataset(chosen, "given")
    assert [fault.split(": ")[0] for fault in verdict.file_faults] == broken


def test_what_does_not_fit_together_is_refused_early() -> None:
    make_clips()
    with pytest.raises(
        UserError, match=r"encoder other: only the size .* the variant text .*no text tower.*linear-probe"
    ):
        clips.run(params({"text": {"model": {}}}), "given")
    for change, expected in (
        ({"encoders": {"other": {}}}, r"encoders.other\s.*expected either model, or dim"),
        (
            {"encoders": {"other": {"model": "ViT-B-32", "dim": 512}}},
            r"encoders.other\s.*expected either model, or dim",
        ),
        ({"datasets": {"given": {"features": "frames"}}}, "has no model to encode frames with"),
        ({"datasets": {"given": {"layout": "dfew"}}}, "files need `layout: folder`"),
    ):
        raw = params().model_dump()
        for section, entries in change.items():
            for name, keys in entries.items():
                raw[section][name] = {**raw[section][name], **keys} if section == "datasets" else keys
        with pytest.raises(ValueError, match=expected):
            Params.model_validate(raw)
    chosen = params(model="ViT-B-32", pretrained="openai")  # 512 dimensions
    assert all("expected 512" in fault for fault in check_dataset(chosen, "given").file_faults)
    assert len(check_dataset(chosen, "given").file_faults) == 28
