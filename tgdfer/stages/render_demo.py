"""Renders the embedded data set: H.264 clips, labels and folds as a ``folder`` data set, and the truth per frame.

Clips are seeded one by one and rendered by all cores, so their bytes depend neither on the number of workers nor on
their order. A journal beside the videos says what each was made from; a run that was cut short keeps what fits.
"""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from tgdfer.config import dependencies
from tgdfer.config.params import Params
from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.core.progress import log, track
from tgdfer.core.provenance import cores
from tgdfer.core.record import recorded
from tgdfer.demo.faces import Image, draw
from tgdfer.demo.script import ClipPlan, Script, plan, write_script
from tgdfer.media import ffmpeg

VIDEOS = paths.DEMO_ROOT / "videos"
JOURNAL = paths.DEMO_ROOT / "rendered.jsonl"
COLUMNS = ("clip_id", "path", "label", "fold", "subject", "sha256")

Job = tuple[ClipPlan, int, int]


def video(clip_id: str) -> Path:
    """Where a clip's video lies."""
    return VIDEOS / f"{clip_id}.mp4"


def draw_frames(script: Script, size: int) -> Iterator[Image]:
    """The frames of a clip, uint8 RGB [size, size, 3]."""
    rng = np.random.default_rng(script.noise_seed)
    for pose, units in zip(script.poses, script.units, strict=True):
        yield draw(script.person, units, pose, script.scene, size, rng)


def _render_one(job: Job) -> tuple[str, str]:
    """Render one clip; returns its name and the SHA-256 of the video."""
    clip, seed, size = job
    cv2.setNumThreads(0)
    script = write_script(clip, seed)
    path = video(clip.clip_id)
    try:
        ffmpeg.encode_h264(path, draw_frames(script, size), script.fps, (size, size), script.crf, "veryfast")
    except ffmpeg.FFmpegError as error:
        raise UserError(f"{path}: cannot be written ({error}); run the same again, finished videos are kept") from None
    return clip.clip_id, storage.file_fingerprint(path)


def _rendered(jobs: list[Job], workers: int) -> Iterator[tuple[str, str]]:
    if workers < 2 or len(jobs) < 2:
        yield from map(_render_one, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(min(workers, len(jobs))) as pool:
        yield from pool.imap(_render_one, jobs, chunksize=max(1, min(8, len(jobs) // workers)))


def _read_journal() -> dict[str, tuple[str, str]]:
    """What was rendered: clip_id -> (fingerprint of what it was made from, SHA-256 of the video)."""
    known: dict[str, tuple[str, str]] = {}
    if JOURNAL.is_file():
        for line in JOURNAL.read_text(encoding="utf-8").splitlines():
            try:
                clip_id, made_from, sha256 = json.loads(line)
            except ValueError:  # a line that a killed run could not finish
                continue
            known[clip_id] = (made_from, sha256)
    return known


def render(params: Params, workers: int | None = None) -> None:
    """Render the embedded data set into data/raw/demo: videos, then truth.parquet, then clips.csv.

    Args:
        params: sections ``demo``.
        workers: processes; None for all cores that this process may use.
    """
    demo = params.demo
    clips = plan(demo.clips, demo.folds, demo.seed)
    program = ffmpeg.version(ffmpeg.executable())
    common = {
        "seed": demo.seed,
        "size": demo.size,
        "code": dependencies.code_fingerprint("render-demo"),
        "ffmpeg": program,
    }
    made_from = {clip.clip_id: storage.fingerprint({**common, "plan": asdict(clip)}) for clip in clips}
    known = _read_journal()
    done: dict[str, str] = {}
    for clip in clips:
        fingerprint, sha256 = known.get(clip.clip_id, ("", ""))
        path = video(clip.clip_id)
        if fingerprint == made_from[clip.clip_id] and path.is_file() and storage.file_fingerprint(path) == sha256:
            done[clip.clip_id] = sha256
    if done:
        log.info("render-demo: %d of %d videos are there and fit", len(done), len(clips))
    VIDEOS.mkdir(parents=True, exist_ok=True)
    jobs: list[Job] = [(clip, demo.seed, demo.size) for clip in clips if clip.clip_id not in done]
    made_by = dependencies.made_by("render-demo", dependencies.settings(params, "render-demo"), {})
    with recorded(made_by) as numbers, JOURNAL.open("a", encoding="utf-8") as journal:
        rendered = _rendered(jobs, workers or cores())
        for clip_id, sha256 in track(rendered, "render-demo", len(jobs), "clips"):
            done[clip_id] = sha256
            journal.write(json.dumps([clip_id, made_from[clip_id], sha256]) + "\n")
            journal.flush()
        if jobs:
            numbers["clips"] = len(jobs)
    lines = [json.dumps([clip.clip_id, made_from[clip.clip_id], done[clip.clip_id]]) for clip in clips]
    storage.write_text(JOURNAL, "\n".join(lines) + "\n")
    for path in VIDEOS.glob("*.mp4"):
        if path.stem not in done:
            path.unlink()
    _write_truth(params, clips)
    _write_csv(clips, done)
    counts = Counter(clip.label for clip in clips)
    log.info("render-demo: %s", ", ".join(f"{count} {label}" for label, count in counts.most_common()))


def _write_truth(params: Params, clips: list[ClipPlan]) -> None:
    ids: list[str] = []
    frames: list[np.ndarray] = []
    intensities: list[np.ndarray] = []
    for clip in clips:
        intensity = write_script(clip, params.demo.seed).intensity
        ids += [clip.clip_id] * len(intensity)
        frames.append(np.arange(len(intensity), dtype=np.int32))
        intensities.append(intensity)
    columns = {"clip_id": ids, "frame_index": np.concatenate(frames), "intensity": np.concatenate(intensities)}
    made_by = dependencies.made_by("render-demo", dependencies.settings(params, "render-demo"), {})
    storage.write_table(paths.DEMO_TRUTH, "truth", columns, made_by)


def _write_csv(clips: list[ClipPlan], sha256: dict[str, str]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for clip in clips:
        path = video(clip.clip_id).relative_to(paths.DEMO_ROOT).as_posix()
        row = (clip.clip_id, path, clip.label, clip.fold, f"person-{clip.subject:03d}", sha256[clip.clip_id])
        writer.writerow(row)
    storage.write_text(paths.DEMO_CLIPS, text.getvalue())
