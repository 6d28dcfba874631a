"""Render the embedded data set: H.264 clips, labels and folds as a ``folder`` data set, and the truth per frame.

Every clip has a seed, so its bytes depend neither on the number of processes nor on the order. A journal next to the
videos records what each was made from, so that a run after an interrupted one keeps what is finished.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

import cv2

from tgdfer.config import dependencies
from tgdfer.config.params import Params
from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.core.processes import spread
from tgdfer.core.progress import log, track
from tgdfer.core.provenance import cores
from tgdfer.core.record import recorded
from tgdfer.demo.rendering import JOURNAL, VIDEOS, clips_csv, draw_frames, finished, journal_line, truth, video
from tgdfer.demo.script import ClipPlan, plan, write_script
from tgdfer.media import ffmpeg


def run(params: Params, workers: int | None = None) -> None:
    """Render the embedded data set into data/raw/demo: videos, then truth.parquet, then clips.csv.

    Args:
        params: all parameters.
        workers: processes; None for all cores that this process may use.
    """
    demo = params.demo
    clips = plan(demo.clips, demo.folds, demo.seed)
    made_by = dependencies.made_by("render-demo", dependencies.settings(params, "render-demo"), {})
    common = {
        "seed": demo.seed,
        "size": demo.size,
        "code": made_by["code"],
        "ffmpeg": ffmpeg.version(ffmpeg.executable()),
    }
    made_from = {clip.clip_id: storage.fingerprint({**common, "plan": asdict(clip)}) for clip in clips}
    VIDEOS.mkdir(parents=True, exist_ok=True)

    done = finished(made_from)
    if done:
        log.info("render-demo: %d of %d videos are finished", len(done), len(clips))
    jobs = [(clip, demo.seed, demo.size) for clip in clips if clip.clip_id not in done]
    with recorded(made_by) as numbers, JOURNAL.open("a", encoding="utf-8") as journal:
        rendered = spread(_render_clip, jobs, workers or cores())
        for clip_id, sha256 in track(rendered, "render-demo", len(jobs), "clips"):
            done[clip_id] = sha256
            journal.write(journal_line(clip_id, made_from[clip_id], sha256))
            journal.flush()
        if jobs:
            numbers["clips"] = len(jobs)

    lines = [journal_line(clip_id, source, done[clip_id]) for clip_id, source in made_from.items()]
    storage.write_text(JOURNAL, "".join(lines))
    for path in VIDEOS.glob("*.mp4"):
        if path.stem not in done:
            path.unlink()
    storage.write_table(paths.DEMO_TRUTH, "truth", truth(clips, demo.seed), made_by)
    storage.write_text(paths.DEMO_CLIPS, clips_csv(clips, done))
    counts = Counter(clip.label for clip in clips)
    log.info("render-demo: %s", ", ".join(f"{count} {label}" for label, count in counts.most_common()))


def _render_clip(job: tuple[ClipPlan, int, int]) -> tuple[str, str]:
    """Render one clip of the job (plan, seed, size); returns its name and the SHA-256 of the video."""
    clip, seed, size = job
    cv2.setNumThreads(0)
    script = write_script(clip, seed)
    path = video(clip.clip_id)
    try:
        ffmpeg.encode_h264(path, draw_frames(script, size), script.fps, (size, size), script.crf, "veryfast")
    except ffmpeg.FFmpegError as error:
        raise UserError(f"{path}: cannot be written ({error}); run the same again, finished videos are kept") from None
    return clip.clip_id, storage.file_fingerprint(path)
