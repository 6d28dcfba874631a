"""The sources of a data set's frames: which they are, and which have changed since the frames were made.

As git does for its working tree, sizes and times are compared with recorded ones first. Only where one differs is the
content read.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pyarrow as pa

from tgdfer.config.params import Params
from tgdfer.core import checksums, paths, storage
from tgdfer.core.errors import UserError
from tgdfer.media.shards import ClipSource, is_current, plan_shards, source_fingerprint

LIMIT = 50_000
"""The most clips of a data set whose sources are looked at without being asked for."""

Stats = Mapping[str, tuple[int, int]]
"""By clip_id, the size of a source and when it was changed, in ns; (-1, -1) where there is none."""


def read_clips(params: Params, dataset: str) -> list[ClipSource]:
    """The sources of the clips table of ``dataset``."""
    section = params.dataset(dataset)
    rows = storage.read_table(paths.clips(dataset), "clips").select(["clip_id", "source", "kind"]).to_pylist()
    recorded, confined = checksums.read_sums(Path(section.root)), section.links == "inside"
    return [ClipSource(**row, confined=confined, sha256=recorded.get(row["source"])) for row in rows]


def look(root: Path, clips: Iterable[ClipSource]) -> dict[str, tuple[int, int]]:
    """The ``Stats`` of the sources of ``clips``: of a video, or of a folder of images without the images in it."""
    return {clip.clip_id: _stat(root, clip) for clip in clips}


def record(dataset: str, stats: Stats) -> None:
    """Write the sizes and times that the sources of ``dataset`` had before their frames were read."""
    rows = [{"clip_id": clip_id, "size": size, "mtime_ns": time} for clip_id, (size, time) in sorted(stats.items())]
    table = pa.Table.from_pylist(rows, storage.SCHEMAS["sources"])
    storage.write_table(paths.sources(dataset), "sources", table, {})


def changed(params: Params, dataset: str, every: bool = False) -> list[Path]:
    """The sources that are not those that the frames of ``dataset`` were made from.

    Empty where frames or clips are missing or damaged and, unless ``every``, for more than ``LIMIT`` clips.
    """
    path, root = paths.sources(dataset), Path(params.dataset(dataset).root)
    if not paths.frames(dataset).is_file() or not path.is_file():
        return []
    try:
        table = storage.read_table(path, "sources")
        if len(table) > LIMIT and not every:
            return []
        clip_ids, *stats = table.to_pydict().values()
        recorded = dict(zip(clip_ids, zip(*stats, strict=True), strict=True))
        clips = read_clips(params, dataset)
        others = {clip.clip_id for clip in clips if recorded.get(clip.clip_id) not in (None, _stat(root, clip))}
        return _replaced(params, dataset, clips, others) if others else []
    except (UserError, OSError):  # a damaged table, which others notice
        return []


def _replaced(params: Params, dataset: str, clips: list[ClipSource], others: set[str]) -> list[Path]:
    """The sources of ``others``, clips of another size or time, whose shard has other content."""
    root, folder, frames = Path(params.dataset(dataset).root), paths.frames(dataset).parent, params.frames_of(dataset)
    clips = [replace(clip, sha256=None) for clip in clips]  # a checksum that differs would be an error
    if params.dataset(dataset).features == "files":
        tables = [storage.read_table(shard, "feature_files") for shard in folder.glob("shard-*.parquet")]
        listed = {row["clip_id"]: row["sha256"] for table in tables for row in table.to_pylist()}
        looked = [clip for clip in clips if clip.clip_id in others]
        found = [clip for clip in looked if source_fingerprint(root, clip, frames) != listed.get(clip.clip_id)]
    else:
        plans = [
            plan for plan in plan_shards(folder, clips, frames) if any(clip.clip_id in others for clip in plan.clips)
        ]
        outdated = [plan.clips for plan in plans if not is_current(plan, root, frames)]
        found = [clip for clip in chain.from_iterable(outdated) if clip.clip_id in others]
    return sorted(root / clip.source for clip in found)


def _stat(root: Path, clip: ClipSource) -> tuple[int, int]:
    try:
        found = os.stat(f"{root}/{clip.source}")  # noqa: PTH116 (twice as fast)
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns
