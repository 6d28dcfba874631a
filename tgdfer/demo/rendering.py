"""The files of a rendered data set in its folder ``root``: finished videos, the list of clips, the truth per frame."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tgdfer.core import storage
from tgdfer.demo.faces import Image, draw
from tgdfer.demo.script import ClipPlan, Script, write_script

VIDEOS = "videos"
JOURNAL = "rendered.jsonl"
COLUMNS = ("clip_id", "path", "label", "fold", "subject", "sha256")


def video(root: Path, clip_id: str) -> Path:
    """The path of a clip's video."""
    return root / VIDEOS / f"{clip_id}.mp4"


def draw_frames(script: Script, size: int) -> Iterator[Image]:
    """The frames of a clip, uint8 RGB [size, size, 3]."""
    rng = np.random.default_rng(script.noise_seed)
    for pose, units in zip(script.poses, script.units, strict=True):
        yield draw(script.person, units, pose, script.scene, size, rng)


def journal_line(clip_id: str, made_from: str, sha256: str) -> str:
    """A line of the journal: a finished clip, the fingerprint of what it was made from, and its video's SHA-256."""
    return json.dumps([clip_id, made_from, sha256]) + "\n"


def finished(root: Path, made_from: Mapping[str, str]) -> dict[str, str]:
    """The SHA-256 of each video that is whole and was made from what ``made_from`` says, by clip_id."""
    found, journal = {}, root / JOURNAL
    for line in journal.read_text(encoding="utf-8").splitlines() if journal.is_file() else ():
        try:
            clip_id, source, sha256 = json.loads(line)
        except ValueError:  # a killed run did not finish the line
            continue
        path = video(root, clip_id)
        if made_from.get(clip_id) == source and path.is_file() and storage.file_fingerprint(path) == sha256:
            found[clip_id] = sha256
    return found


def truth(clips: Sequence[ClipPlan], seed: int) -> dict[str, Any]:
    """The columns of the table ``truth``: the intensity of the label's expression in every frame."""
    intensities = [write_script(clip, seed).intensity for clip in clips]
    ids = [clip.clip_id for clip, values in zip(clips, intensities, strict=True) for _ in values]
    frames = np.concatenate([np.arange(len(values), dtype=np.int32) for values in intensities])
    return {"clip_id": ids, "frame_index": frames, "intensity": np.concatenate(intensities)}


def clips_csv(clips: Sequence[ClipPlan], sha256: Mapping[str, str]) -> str:
    """The list of clips as CSV, with the columns that the layout ``folder`` reads."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for clip in clips:
        path = f"{VIDEOS}/{clip.clip_id}.mp4"
        person = f"person-{clip.subject:03d}"
        writer.writerow((clip.clip_id, path, clip.label, clip.fold, person, sha256[clip.clip_id]))
    return text.getvalue()
