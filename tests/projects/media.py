"""Small videos and images for tests, whose frames carry their own number as brightness."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from tgdfer.config.params import Params, load_params
from tgdfer.core import paths, storage
from tgdfer.media import ffmpeg
from tgdfer.stages.clips import run as make_tables

ROOT = Path(__file__).parents[2]
STEP = 6


def numbered(count: int, width: int = 48, height: int = 32) -> list[np.ndarray]:
    """Grey frames; frame i has brightness 20 + 6 i (i below 38)."""
    return [np.full((height, width, 3), min(20 + STEP * index, 255), np.uint8) for index in range(count)]


def number_in(jpeg: bytes) -> int:
    """The number that a frame carries."""
    return round((np.asarray(Image.open(io.BytesIO(jpeg)).convert("L")).mean() - 20) / STEP)


def video(path: Path, count: int = 12, fps: float = 10, width: int = 48, height: int = 32) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ffmpeg.encode_h264(path, numbered(count, width, height), fps, (width, height), preset="ultrafast")
    name = path.name.encode()
    with path.open("ab") as stream:  # a box that readers skip: two clips of a data set never have the same bytes
        stream.write((8 + len(name)).to_bytes(4, "big") + b"free" + name)
    return path


def run_ffmpeg(*arguments: object) -> None:
    ffmpeg.run([ffmpeg.executable(), "-nostdin", "-loglevel", "error", *map(str, arguments)])


def convert(source: Path, target: Path, *options: str, before: tuple[str, ...] = ()) -> Path:
    """``source`` converted by ffmpeg, with ``options`` for the output and ``before`` for the input."""
    run_ffmpeg(*before, "-i", source, *options, target)
    return target


def cut_off(path: Path, share: float = 0.6) -> Path:
    """Keep only the first part of a file."""
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def images(folder: Path, count: int = 3, size: int = 16, names: str = "{:05d}.jpg") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, frame in enumerate(numbered(count, size, size)):
        path = folder / names.format(index + 1)
        # two clips of a data set never have the same bytes
        Image.fromarray(frame).save(path, comment="/".join(path.parts[-2:]))
    return folder


def parameters(folder: Path, datasets: dict, **sections: dict) -> Params:
    """The shipped parameters with other data sets and changed keys, written to ``folder`` and read back."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["datasets"] = {name: {"encoder": "demo-clip", **section} for name, section in datasets.items()}
    for name, keys in sections.items():
        raw[name] = {**raw[name], **keys}
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return load_params(path)


def listed(rows: Sequence[str], header: str = "clip_id,path,label,fold", **keys: object) -> Params:
    """A data set ``mine`` of the clips below ``raw`` that ``rows`` list; ``keys`` are more of its entry."""
    table = write_csv(Path("raw/clips.csv"), header, rows)
    return parameters(Path(), {"mine": {"layout": "folder", "root": "raw", "annotations": str(table), **keys}})


def clip_project(root: Path, sources: Sequence[str], links: str = "inside", **frames: object) -> Params:
    """A data set ``mine`` of the clips ``sources`` below ``root``, with ids c00, c01, and so on, and its clips table.

    ``frames`` are keys of the section of that name; the working directory is the project.
    """
    rows = [f'c{number:02d},"{name}",happy,{number % 2 + 1}' for number, name in enumerate(sources)]
    table = write_csv(Path("clips.csv"), "clip_id,path,label,fold", rows)
    section = {"layout": "folder", "root": str(root), "annotations": str(table), "links": links}
    params = parameters(Path(), {"mine": section}, frames={"shards": 3, "max_reject_fraction": 0.9, **frames})
    make_tables(params, "mine")
    return params


def frame_files() -> dict[str, bytes]:
    """All that the frames stage wrote."""
    return {path.name: path.read_bytes() for path in sorted(paths.frames("mine").parent.iterdir())}


def rejected() -> dict[str, str]:
    """The reasons of the rejected clips by clip id."""
    table = storage.read_table(paths.frames("mine").with_name("rejects.parquet"), "rejects")
    return dict(zip(table["clip_id"].to_pylist(), table["reason"].to_pylist(), strict=True))


def write_csv(path: Path, header: str, rows: Sequence[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path
