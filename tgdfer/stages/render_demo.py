"""Render the embedded data set: H.264 clips, labels and folds as a ``folder`` data set, and the truth per frame.

Every clip has a seed, so its bytes depend neither on the number of processes nor on the order. A journal next to the
videos records what each was made from, so that a run after an interrupted one keeps what is finished.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2

from tgdfer.config import dependencies
from tgdfer.config.data import RenderParams
from tgdfer.config.params import Params
from tgdfer.core import checksums, paths, storage
from tgdfer.core.errors import UserError
from tgdfer.core.locks import writes
from tgdfer.core.processes import spread
from tgdfer.core.progress import log, track
from tgdfer.core.provenance import cores
from tgdfer.core.record import recorded
from tgdfer.demo.rendering import JOURNAL, VIDEOS, clips_csv, draw_frames, finished, journal_line, truth, video
from tgdfer.demo.script import ClipPlan, plan, write_script
from tgdfer.media import ffmpeg


@writes(lambda params, workers=None: [paths.DEMO_ROOT])
def run(params: Params, workers: int | None = None) -> None:
    """Render the embedded data set into data/raw/demo: videos, then truth.parquet, then clips.csv.

    Args:
        params: all parameters.
        workers: processes; None for all cores that this process may use.
    """
    made_by = dependencies.made_by("render-demo", dependencies.settings(params, "render-demo"), {})
    about = RenderParams(**params.demo.model_dump(include=set(RenderParams.model_fields)))
    render(paths.DEMO_ROOT, about, made_by, workers)


def render(root: Path, about: RenderParams, made_by: Mapping[str, Any], workers: int | None = None) -> None:
    """Render the data set ``about`` into ``root``."""
    name = made_by["stage"]
    clips = plan(about.clips, about.folds, about.seed, about.shares)
    common = {
        **about.model_dump(include={"seed", "size", "light", "roughness"}),
        "code": made_by["code"],
        "ffmpeg": ffmpeg.version(ffmpeg.executable()),
    }
    made_from = {clip.clip_id: storage.fingerprint({**common, "plan": asdict(clip)}) for clip in clips}
    (root / VIDEOS).mkdir(parents=True, exist_ok=True)

    done = finished(root, made_from)
    if done:
        log.info("%s: %d of %d videos are finished", name, len(done), len(clips))
    jobs = [(root, clip, about) for clip in clips if clip.clip_id not in done]
    with (
        recorded(made_by, None if root == paths.DEMO_ROOT else root.name) as numbers,
        (root / JOURNAL).open("a", encoding="utf-8") as journal,
    ):
        rendered = spread(_render_clip, jobs, workers or cores())
        for clip_id, sha256 in track(rendered, name, len(jobs), "clips"):
            done[clip_id] = sha256
            journal.write(journal_line(clip_id, made_from[clip_id], sha256))
            journal.flush()
        if jobs:
            numbers["clips"] = len(jobs)

    lines = [journal_line(clip_id, source, done[clip_id]) for clip_id, source in made_from.items()]
    storage.write_text(root / JOURNAL, "".join(lines))
    for path in (root / VIDEOS).glob("*.mp4"):
        if path.stem not in done:
            path.unlink()
    listed, intensities = root / paths.DEMO_CLIPS.name, root / paths.DEMO_TRUTH.name
    storage.write_table(intensities, "truth", truth(clips, about.seed), made_by)
    storage.write_text(listed, clips_csv(clips, done))
    made = {path.name: storage.file_fingerprint(path) for path in (intensities, listed)}
    made |= {video(root, clip_id).relative_to(root).as_posix(): sha256 for clip_id, sha256 in done.items()}
    storage.write_text(root / checksums.SUMS, checksums.sums(made))
    counts = Counter(clip.label for clip in clips)
    log.info("%s: %s", name, ", ".join(f"{count} {label}" for label, count in counts.most_common()))


def _render_clip(job: tuple[Path, ClipPlan, RenderParams]) -> tuple[str, str]:
    """Render one clip of the job; returns its name and the SHA-256 of the video."""
    root, clip, about = job
    cv2.setNumThreads(0)
    script = write_script(clip, about.seed, about.light, about.roughness)
    path, size = video(root, clip.clip_id), about.size
    try:
        ffmpeg.encode_h264(path, draw_frames(script, size), script.fps, (size, size), script.crf, "veryfast")
    except ffmpeg.FFmpegError as error:
        raise UserError(f"{path}: cannot be written ({error}); run the same again, finished videos are kept") from None
    return clip.clip_id, storage.file_fingerprint(path)
