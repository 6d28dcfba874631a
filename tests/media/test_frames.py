"""The frames stage: shards of the right clips, kept while they are right, and rejects with a true reason."""

import errno
import json
import os
from pathlib import Path

import pytest
from media import clip_project, convert, cut_off, frame_files, images, rejected, run_ffmpeg, video

from tgdfer.config.data import FramesParams
from tgdfer.core import checksums, paths, storage
from tgdfer.core.errors import UserError
from tgdfer.core.paths import shard_number
from tgdfer.media import shards, videos
from tgdfer.media.shards import ClipSource, extract_clip, source_fingerprint
from tgdfer.stages import frames
from tgdfer.stages.clips import run as make_tables

pytestmark = pytest.mark.usefixtures("new_folder")


def usable_and_unusable(root: Path) -> dict[str, str | None]:
    """Clips of all bad kinds below ``root``: path -> what the reason must say, None for those that can be used."""
    whole = video(root / "whole.mp4", 30, width=160, height=120)
    (root / "truncated.mp4").write_bytes(whole.read_bytes())
    cut_off(root / "truncated.mp4")
    cut_off(convert(whole, root / "tail.mp4", "-c", "copy", "-movflags", "0"), 0.5)
    (root / "empty.mp4").write_bytes(b"")
    (root / "text.mp4").write_text("these are words, not a film\n" * 100)
    run_ffmpeg("-f", "lavfi", "-i", "sine=d=1", root / "audio.mp4")
    video(root / "one.mp4", 1)
    video(root / "ünï códé 'q' 笑.mp4", 5)
    video(root / "huge.mp4", 3, width=3840, height=2160)
    cut_off(images(root / "pair", 2) / "00002.jpg", 0.2)
    images(root / "good", 2)
    (root / "void").mkdir()
    return {
        "whole.mp4": None,
        "truncated.mp4": "cut off",
        "tail.mp4": "moov atom not found",
        "empty.mp4": "0 bytes",
        "text.mp4": "a text file, not a video",
        "audio.mp4": "no video stream",
        "one.mp4": None,
        "ünï códé 'q' 笑.mp4": None,
        "huge.mp4": None,
        "pair": "image 2 of 2 (00002.jpg)",
        "good": None,
        "void": "no images",
    }


@pytest.mark.parametrize("sampling", ["uniform", "fps"])
def test_unusable_clips_are_rejected_with_their_true_reason(tmp_path: Path, sampling: str) -> None:
    expected = usable_and_unusable(tmp_path / "raw")
    params = clip_project(tmp_path / "raw", list(expected), sampling=sampling, fps=25)
    frames.run(params, "mine")
    found = rejected()
    wanted = {f"c{number:02d}": reason for number, reason in enumerate(expected.values()) if reason}
    assert sorted(found) == sorted(wanted)
    for clip_id, reason in found.items():
        assert wanted[clip_id] in reason
        assert "\n" not in reason
        assert str(tmp_path) not in reason
    manifest = storage.read_json(paths.frames("mine"))
    assert (manifest["clips"], manifest["rejects"], manifest["frames"]) == (5, 7, 30 + 1 + 5 + 3 + 2)
    keys = []
    for shard in manifest["shards"]:
        path = paths.frames("mine").parent / shard["file"]
        table = storage.read_table(path, "frames")
        rows = list(zip(table["clip_id"].to_pylist(), table["frame_index"].to_pylist(), strict=True))
        assert rows == sorted(rows)
        assert (shard["sha256"], shard["rows"]) == (storage.file_fingerprint(path), len(rows))
        assert {f"shard-{shard_number(clip_id, 3):05d}.parquet" for clip_id, _ in rows} <= {shard["file"]}
        keys += rows
    assert len(set(keys)) == len(keys) == manifest["frames"]


def test_too_many_rejects_stop_the_run_but_leave_their_list(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for number in range(4):
        video(raw / f"{number}.mp4", 2)
    (raw / "3.mp4").write_bytes(b"")
    names = [f"{number}.mp4" for number in range(4)]
    with pytest.raises(UserError, match=r"1 of 4 clips cannot be used.*allows 0\.2.*file is empty"):
        frames.run(clip_project(raw, names, max_reject_fraction=0.2), "mine")
    assert not paths.frames("mine").exists()
    assert rejected() == {"c03": "file is empty (0 bytes)"}
    frames.run(clip_project(raw, names, max_reject_fraction=0.25), "mine")
    (raw / "0.mp4").write_bytes(b"")
    with pytest.raises(UserError, match="2 of 4 clips"):
        frames.run(clip_project(raw, names, max_reject_fraction=0.25), "mine")
    assert not paths.frames("mine").exists(), "it would describe shards that are gone"


def test_only_what_changed_is_made_again_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tmp_path / "raw"
    names = [f"{number}.mp4" for number in range(8)]
    for name in names:
        video(raw / name, 4)
    params = clip_project(raw, names)
    frames.run(params, "mine")
    first = frame_files()
    calls: list[str] = []

    def counted(root, clip, section):
        calls.append(clip.source)
        return extract_clip(root, clip, section)

    monkeypatch.setattr(shards, "extract_clip", counted)
    paths.frames("mine").unlink()
    (raw / "0.mp4").touch()
    frames.run(params, "mine")
    assert calls == []
    assert frame_files() == first

    # a lost shard, a broken shard and a half-written one
    folder = paths.frames("mine").parent
    (folder / "shard-00000.parquet").unlink()
    (folder / "shard-00001.parquet").write_bytes(b"PAR1 broken")
    (folder / ".shard-00002.parquet.x.part").write_bytes(b"half")
    frames.run(params, "mine")
    in_two = [f"{number}.mp4" for number in range(8) if shard_number(f"c{number:02d}", 3) == 2]
    assert sorted(calls) == sorted(set(names) - set(in_two))
    assert frame_files() == first

    # a flipped bit of a frame, which leaves a readable table and the time of the file
    calls.clear()
    path = folder / "shard-00002.parquet"
    content, times = path.read_bytes(), path.stat()
    place = content.index(b"\xff\xd8\xff") + 100
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    checksums.forget()
    frames.run(params, "mine")
    assert sorted(calls) == in_two
    assert frame_files() == first

    # a changed source
    calls.clear()
    video(raw / "3.mp4", 5)
    frames.run(params, "mine")
    same = [name for step, name in enumerate(names) if shard_number(f"c{step:02d}", 3) == shard_number("c03", 3)]
    assert sorted(calls) == same
    assert storage.read_json(paths.frames("mine"))["frames"] == 8 * 4 + 1

    # parameters that change no frame; others; and another number of shards
    calls.clear()
    frames.run(clip_project(raw, names, max_reject_fraction=0.5), "mine")
    assert calls == []
    frames.run(clip_project(raw, names, sampling="every", every=2), "mine")
    assert len(calls) == 8
    frames.run(clip_project(raw, names, shards=2), "mine")
    assert [name for name in frame_files() if "shard" in name] == ["shard-00000.parquet", "shard-00001.parquet"]


def test_a_data_set_may_have_its_own_frame_settings(tmp_path: Path) -> None:
    for name in ("a", "b"):
        images(tmp_path / "raw" / name, 6)
    params = clip_project(tmp_path / "raw", ["a", "b"])
    own = params.datasets["mine"].model_copy(update={"frames": {"sampling": "every", "every": 3}})
    params = params.model_copy(update={"datasets": {"mine": params.datasets["mine"], "own": own}})
    tables = []
    for name in params.datasets:
        make_tables(params, name)
        frames.run(params, name)
        tables.append(paths.clips(name).read_bytes())
    mine, own = (storage.read_json(paths.frames(name)) for name in params.datasets)
    assert (mine["frames"], own["frames"]) == (12, 4)
    assert own["made_by"]["parameters"]["frames"]["every"] == 3, "predict takes its frames as training did"
    # the graphs see it by the clips table, which is made from the data set's whole section
    assert tables[0] != tables[1]


def test_a_shard_records_neither_time_nor_place(tmp_path: Path) -> None:
    made = []
    for place in ("one", "two"):
        for name in ("a", "b"):
            images(tmp_path / place / name, 3)
        frames.run(clip_project(tmp_path / place, ["a", "b"]), "mine")
        made.append({name: data for name, data in frame_files().items() if name.startswith("shard")})
    assert made[0] == made[1]
    assert json.loads(paths.frames("mine").read_text())["made_by"]["parameters"]["datasets.mine.root"].endswith("two")


def test_row_groups_are_bounded_by_rows_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def groups() -> list[int]:
        frames.run(clip_project(tmp_path / "raw", ["a", "b"], shards=1, sampling="all"), "mine")
        about = shards.pq.read_metadata(paths.frames("mine").with_name("shard-00000.parquet"))
        return [about.row_group(number).num_rows for number in range(about.num_row_groups)]

    images(tmp_path / "raw" / "a", 4)
    size = (images(tmp_path / "raw" / "b", 1) / "00001.jpg").stat().st_size
    monkeypatch.setattr(shards, "ROWS_PER_GROUP", 2)
    assert groups() == [2, 2, 1]
    paths.frames("mine").with_name("shard-00000.parquet").unlink()
    monkeypatch.setattr(shards, "ROWS_PER_GROUP", 1000)
    monkeypatch.setattr(shards, "BYTES_PER_GROUP", int(2.5 * size))
    assert groups() == [3, 2]


def test_the_manifest_says_how_long_clips_are_and_how_many_show_a_face(tmp_path: Path) -> None:
    for number, count in enumerate((5, 10, 20)):
        images(tmp_path / "raw" / f"{number}", count, size=64)
    names = ["0", "1", "2"]
    frames.run(clip_project(tmp_path / "raw", names, max_frames=5), "mine")
    manifest = storage.read_json(paths.frames("mine"))
    assert manifest["clip_seconds"] == pytest.approx(10 / 25)
    assert "with_face" not in manifest
    frames.run(clip_project(tmp_path / "raw", names, max_frames=5, crop="face", no_face="centre"), "mine")
    manifest = storage.read_json(paths.frames("mine"))
    assert [manifest[key] for key in ("searched", "with_face", "face_side", "doubtful_faces")] == [15, 0, None, 0]
    counts = storage.read_json(paths.frames("mine").with_name("faces.json"))
    assert counts == {f"c0{number}": {"with_face": 0, "frames": 5, "side": None, "score": None} for number in range(3)}


def test_an_error_of_the_machine_is_not_a_fault_of_the_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = ClipSource("c", "a.mp4", "video")
    video(tmp_path / "a.mp4", 2)

    def fail(number: int):
        def read(*_):
            raise OSError(number, os.strerror(number))

        return read

    monkeypatch.setattr(videos, "read_video", fail(errno.EMFILE))
    with pytest.raises(UserError, match=r"a\.mp4: Too many open files; finished shards are kept"):
        extract_clip(tmp_path, clip, FramesParams())
    # what could not be read is tried again by a later call: the shard's sources differ from the readable file's
    monkeypatch.setattr(videos, "read_video", fail(errno.EIO))
    extracted = extract_clip(tmp_path, clip, FramesParams())
    assert extracted.reason == "cannot be read: Input/output error"
    assert extracted.source != source_fingerprint(tmp_path, clip, FramesParams())
