"""From a data set's own layout on disk to its table, stage by stage, with an encoder made by the demo's own stage."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from graphs import Project
from media import convert, numbered
from PIL import Image
from reader import Reader

from tgdfer.core.classes import SEVEN
from tgdfer.media import ffmpeg

pytestmark = pytest.mark.graph

TEST_CLIPS = 7
"""Of each fold, one of each class; DFEW has five folds."""


@pytest.fixture(scope="module")
def project(finished: Reader, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished project, for its tiny demo encoder."""
    project = Project(tmp_path_factory.mktemp("way") / "project")
    shutil.copytree(finished.clone, project.root, symlinks=True)
    return project


def with_datasets(project: Project, datasets: dict, variants: tuple[str, ...]) -> None:
    path = project.root / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    raw["datasets"] = {name: {"encoder": "demo-clip", **about} for name, about in datasets.items()}
    raw["grid"] = list(variants)
    raw["frames"] = {**raw["frames"], "max_reject_fraction": 0.0}
    path.write_text(yaml.safe_dump(raw, sort_keys=False))


def dfew_tree(root: Path) -> None:
    """DFEW as its authors ship it: unpadded ids, 1-based labels, five folds with disjoint test sets."""
    for number in range(1, 5 * TEST_CLIPS + 1):
        folder = root / "Clip" / "clip_224x224" / f"{number:05d}"
        folder.mkdir(parents=True)
        for step, frame in enumerate(numbered(4 + number % 3, 64, 64)):
            Image.fromarray(frame).save(folder / f"{number:05d}_{step + 1:05d}.jpg")
    for fold in range(1, 6):
        for split in ("train", "test"):
            file = root / "EmoLabel_DataSplit" / f"{split}(single-labeled)" / f"set_{fold}.csv"
            file.parent.mkdir(parents=True, exist_ok=True)
            rows = [
                f"{number},{(number - 1) % 7 + 1}"
                for number in range(1, 5 * TEST_CLIPS + 1)
                if ((number - 1) // TEST_CLIPS + 1 == fold) == (split == "test")
            ]
            file.write_text("video_name,label\n" + "\n".join(rows) + "\n")


def test_dfew_from_image_folders_to_its_table(project: Project, tmp_path: Path) -> None:
    root = tmp_path / "DFEW"
    dfew_tree(root)
    about = {"layout": "dfew", "root": str(root), "annotations": str(root / "EmoLabel_DataSplit")}
    with_datasets(project, {"dfew": about}, ("tgdfer", "linear-probe"))
    for produced in ("data/dfew", "runs", "reports/tables"):
        shutil.rmtree(project.root / produced, ignore_errors=True)
    project.run("python", "-m", "tgdfer", "validate", "--dataset", "dfew")
    project.snakemake("--profile", "local", "all")
    with (project.root / "reports/tables/main-dfew.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    text = (project.root / "reports/tables/main-dfew.md").read_text()
    assert "TG-DFER (full)" in text
    assert "M3DFEL" in text, "published results are next to ours"
    ours = [row for row in rows if "TG-DFER (full)" in row.values()]
    assert ours
    summary = (project.root / "runs/dfew/tgdfer/summary.json").read_text()
    assert summary.count('"fold":') == 5
    for name in SEVEN:
        assert name in rows[0], "a column for the recall of every class"


FORMS = {
    "happy.mp4": ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-r", "25"),
    "sad.mov": ("-c:v", "mpeg4", "-r", "12", "-vf", "scale=80:60"),
    "neutral.mov": ("-c:v", "mjpeg", "-r", "8", "-pix_fmt", "yuvj420p"),
    "angry.mp4": ("-c:v", "libx265", "-r", "15", "-vf", "scale=96:54", "-x265-params", "log-level=none"),
    "surprise.mov": ("-c:v", "prores_ks", "-r", "30"),
    "disgust.mp4": ("-c:v", "mpeg4", "-r", "24000/1001", "-vf", "scale=50:90"),
    "fear.mov": ("-c:v", "libx264", "-pix_fmt", "yuv444p", "-r", "10"),
}
"""Codecs, containers, sizes and frame rates as they come from phones, cameras and editors."""


def test_a_folder_of_any_videos_through_the_graph(project: Project, tmp_path: Path) -> None:
    root = tmp_path / "videos"
    root.mkdir()
    lines = ["clip_id,path,label,fold"]
    for fold in (1, 2):
        plain = tmp_path / f"plain-{fold}.mp4"
        ffmpeg.encode_h264(plain, numbered(13 + fold, 72, 64), 10, (72, 64), preset="ultrafast")
        (root / f"{fold}").mkdir()
        for name, options in FORMS.items():
            convert(plain, root / f"{fold}" / name, *options)
            label = Path(name).stem
            lines.append(f"{label}-{fold},{fold}/{name},{label},{fold}")
    (root / "clips.csv").write_text("\n".join(lines) + "\n")
    about = {"layout": "folder", "root": str(root), "annotations": str(root / "clips.csv")}
    with_datasets(project, {"mine": about}, ("tgdfer",))
    project.snakemake("--profile", "local", "all")
    assert '"clips": 14' in (project.root / "data/mine/frames/manifest.json").read_text()
    assert (project.root / "reports/tables/main-mine.csv").exists()
    assert "TG-DFER (full)" in (project.root / "reports/tables/main-mine.md").read_text()


def test_features_from_elsewhere_to_the_report(project: Project, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    rng = np.random.default_rng(0)
    signal, lines = rng.normal(size=(len(SEVEN), 768)), ["clip_id,path,label,fold"]
    for i in range(200):
        array = 0.3 * signal[i % 7] + rng.normal(size=(rng.integers(2, 30), 768))
        np.save(raw / f"{i}.npy", array.astype(np.float32))
        lines.append(f"clip{i},{i}.npy,{SEVEN[i % 7]},{1 + i // 7 % 2}")
    (raw / "clips.csv").write_text("\n".join(lines) + "\n")
    about = {"layout": "folder", "root": str(raw), "annotations": str(raw / "clips.csv"), "features": "files"}
    with_datasets(project, {"mine": {**about, "encoder": "other"}}, ("linear-probe", "no-text"))
    path = project.root / "params.yaml"
    changed = yaml.safe_load(path.read_text())
    report = {**changed["report"], "reference": "linear-probe"}
    path.write_text(yaml.safe_dump({**changed, "encoders": {"other": {"dim": 768}}, "report": report}, sort_keys=False))
    project.snakemake("--profile", "local", "all")
    assert "linear probe" in (project.root / "reports/tables/main-mine.md").read_text()
