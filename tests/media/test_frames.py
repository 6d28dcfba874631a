"""Frames: the right ones, at their true times, with the bytes that were there; resumed, and rejected with a reason."""

import errno
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from media import convert, images, number_in, parameters, video, write_csv
from PIL import Image

from tgdfer.config.params import FramesParams
from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.media import ffmpeg, videos
from tgdfer.media import shards as shards_of_frames
from tgdfer.media.images import jpeg_header, read_images, split_jpegs, upright
from tgdfer.media.sampling import UnusableError
from tgdfer.media.videos import read_video
from tgdfer.stages import frames
from tgdfer.stages.clips import run as make_tables


def test_image_folders_pass_jpeg_bytes_through_in_natural_order(tmp_path: Path) -> None:
    folder = images(tmp_path / "clip", 12, names="{}.jpg")
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "._3.jpg").write_bytes(b"x")
    taken, _ = read_images(folder, FramesParams(sampling="all"))
    assert [number_in(frame.jpeg) for frame in taken] == list(range(12))
    assert taken[9].jpeg == (folder / "10.jpg").read_bytes()
    assert taken[10].time_s == pytest.approx(0.4)


def test_images_that_no_jpeg_reader_would_show_alike_are_converted() -> None:
    grey16 = Image.fromarray(np.full((4, 4), 128 << 8, np.uint16))
    assert upright(grey16).mode == "L"
    assert np.asarray(upright(grey16)).max() == 128
    clear = Image.new("RGBA", (4, 4), (255, 255, 255, 0))
    assert np.asarray(upright(clear)).max() == 0
    assert upright(Image.new("P", (4, 4))).mode == "RGB"
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(out, "JPEG", exif=exif)
    assert upright(Image.open(io.BytesIO(out.getvalue()))).size == (4, 8)


def test_jpeg_headers_are_read_without_decoding() -> None:
    data = []
    for mode, progressive in (("RGB", False), ("L", True), ("CMYK", False)):
        out = io.BytesIO()
        Image.new(mode, (30, 20)).save(out, "JPEG", progressive=progressive)
        data.append(out.getvalue())
    headers = [jpeg_header(one) for one in data]
    assert [(header.width, header.height, header.components) for header in headers if header] == [
        (30, 20, 3),
        (30, 20, 1),
        (30, 20, 4),
    ]
    assert jpeg_header(data[0][:-40]) is None
    assert jpeg_header(b"not a jpeg") is None
    assert split_jpegs(data[0] + data[2]) == [data[0], data[2]]


def hostile(root: Path) -> dict[str, str | None]:
    """Files of all bad kinds below ``root``; clip path -> what its reason must say, None for the usable ones."""
    whole = video(root / "whole.mp4", 30, width=160, height=120)
    (root / "truncated.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    tail = convert(whole, root / "tail.mp4", "-c", "copy", "-movflags", "0")
    tail.write_bytes(tail.read_bytes()[: tail.stat().st_size // 2])
    (root / "empty.mp4").write_bytes(b"")
    (root / "text.mp4").write_text("these are words, no film\n" * 100)
    command = ["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "sine=d=1", str(root / "audio.mp4")]
    ffmpeg.run([ffmpeg.executable(), *command])
    video(root / "one.mp4", 1)
    video(root / "ünï códé 'q' 笑.mp4", 5)
    video(root / "huge.mp4", 3, width=3840, height=2160)
    images(root / "pair", 2)
    (root / "pair" / "00002.jpg").write_bytes((root / "pair" / "00002.jpg").read_bytes()[:100])
    images(root / "good", 2)
    (root / "void").mkdir()
    return {
        "whole.mp4": None,
        "truncated.mp4": "cut off",
        "tail.mp4": "moov atom not found",
        "empty.mp4": "0 bytes",
        "text.mp4": "a text file, no video",
        "audio.mp4": "no video stream",
        "one.mp4": None,
        "ünï códé 'q' 笑.mp4": None,
        "huge.mp4": None,
        "pair": "image 2 of 2 (00002.jpg)",
        "good": None,
        "void": "no images",
    }


def project(root: Path, sources: list[str], **keys: object):
    rows = [f'c{number:02d},"{name}",happy,{number % 2 + 1}' for number, name in enumerate(sources)]
    table = write_csv(root / "clips.csv", "clip_id,path,label,fold", rows)
    section = {"layout": "folder", "root": str(root), "annotations": str(table)}
    Path("work").mkdir(exist_ok=True)
    return parameters(Path("work"), {"mine": section}, frames={"shards": 3, "max_reject_fraction": 0.9, **keys})


def shards() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(paths.frames("mine").parent.iterdir())}


def test_unusable_clips_are_rejected_with_their_true_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    expected = hostile(tmp_path / "raw")
    params = project(tmp_path / "raw", list(expected))
    make_tables(params, "mine")
    frames.extract(params, "mine")
    table = storage.read_table(paths.frames("mine").with_name("rejects.parquet"), "rejects")
    rejects = dict(zip(table["clip_id"].to_pylist(), table["reason"].to_pylist(), strict=True))
    for number, (name, reason) in enumerate(expected.items()):
        if reason is None:
            assert f"c{number:02d}" not in rejects, name
        else:
            assert reason in rejects[f"c{number:02d}"], name
            assert "\n" not in rejects[f"c{number:02d}"]
            assert str(tmp_path) not in rejects[f"c{number:02d}"]
    manifest = storage.read_json(paths.frames("mine"))
    assert manifest["clips"] == 5
    assert manifest["rejects"] == 7
    assert manifest["frames"] == 30 + 1 + 5 + 3 + 2
    rows = [
        row
        for shard in manifest["shards"]
        for row in storage.read_table(paths.frames("mine").parent / shard["file"], "frames").to_pylist()
    ]
    keys = [(row["clip_id"], row["frame_index"]) for row in rows]
    assert len(set(keys)) == len(keys) == manifest["frames"]
    for shard in manifest["shards"]:
        table = storage.read_table(paths.frames("mine").parent / shard["file"], "frames")
        keys = list(zip(table["clip_id"].to_pylist(), table["frame_index"].to_pylist(), strict=True))
        assert keys == sorted(keys)
        assert shard["sha256"] == storage.file_fingerprint(paths.frames("mine").parent / shard["file"])
        for clip_id, _ in keys:
            assert shard["file"] == f"shard-{frames.shard_of(clip_id, 3):05d}.parquet"


def test_too_many_rejects_stop_the_run_but_leave_their_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    raw = tmp_path / "raw"
    for number in range(4):
        video(raw / f"{number}.mp4", 2)
    (raw / "3.mp4").write_bytes(b"")
    params = project(raw, [f"{number}.mp4" for number in range(4)], max_reject_fraction=0.2)
    make_tables(params, "mine")
    with pytest.raises(UserError, match=r"1 of 4 clips cannot be used.*allows 0\.2.*file is empty"):
        frames.extract(params, "mine")
    assert not paths.frames("mine").exists()
    assert storage.read_table(paths.frames("mine").with_name("rejects.parquet"), "rejects").num_rows == 1


def test_only_what_changed_is_remade_and_the_bytes_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    raw = tmp_path / "raw"
    names = [f"{number}.mp4" for number in range(8)]
    for name in names:
        video(raw / name, 4)
    params = project(raw, names)
    make_tables(params, "mine")
    frames.extract(params, "mine")
    first = shards()
    calls: list[str] = []
    take = shards_of_frames.take

    def counted(root, clip, section):
        calls.append(clip.source)
        return take(root, clip, section)

    monkeypatch.setattr(shards_of_frames, "take", counted)
    paths.frames("mine").unlink()
    (raw / "0.mp4").touch()
    frames.extract(params, "mine")
    assert calls == []
    assert shards() == first

    # a lost shard, a broken shard and a half-written one: those alone are remade
    folder = paths.frames("mine").parent
    (folder / "shard-00000.parquet").unlink()
    (folder / "shard-00001.parquet").write_bytes(b"PAR1 broken")
    (folder / ".shard-00002.parquet.x.part").write_bytes(b"half")
    frames.extract(params, "mine")
    in_two = [f"{number}.mp4" for number in range(8) if frames.shard_of(f"c{number:02d}", 3) == 2]
    assert sorted(calls) == sorted(set(names) - set(in_two))
    assert shards() == first

    # a source that changed remakes its shard alone
    calls.clear()
    video(raw / "3.mp4", 5)
    frames.extract(params, "mine")
    number = frames.shard_of("c03", 3)
    assert sorted(calls) == [name for step, name in enumerate(names) if frames.shard_of(f"c{step:02d}", 3) == number]
    assert storage.read_json(paths.frames("mine"))["frames"] == 8 * 4 + 1

    # parameters that change no frame change no shard; those that do, remake all
    calls.clear()
    frames.extract(project(raw, names, max_reject_fraction=0.5), "mine")
    assert calls == []
    frames.extract(project(raw, names, sampling="every", every=2), "mine")
    assert len(calls) == 8


def test_a_data_set_may_have_frames_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    raw = tmp_path / "raw"
    for name in ("a", "b"):
        images(raw / name, 6)
    params = project(raw, ["a", "b"])
    own = params.datasets["mine"].model_copy(update={"frames": {"sampling": "every", "every": 3}})
    params = params.model_copy(update={"datasets": {"mine": params.datasets["mine"], "own": own}})
    tables = []
    for name in params.datasets:
        make_tables(params, name)
        frames.extract(params, name)
        tables.append(paths.clips(name).read_bytes())
    mine, own = (storage.read_json(paths.frames(name)) for name in params.datasets)
    assert (mine["frames"], own["frames"]) == (12, 4)
    assert own["made_by"]["parameters"]["frames"]["every"] == 3, "predict takes its frames as training did"
    # the graphs see it by the clips table, which is made from the data set's whole section
    assert tables[0] != tables[1]


def test_the_metadata_of_a_shard_names_no_time_and_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = []
    for place in ("one", "two"):
        raw = tmp_path / place
        images(raw / "a", 3)
        images(raw / "b", 3)
        params = project(raw, ["a", "b"])
        make_tables(params, "mine")
        frames.extract(params, "mine")
        made.append({name: data for name, data in shards().items() if name.startswith("shard")})
    assert made[0] == made[1]
    assert json.loads(paths.frames("mine").read_text())["made_by"]["parameters"]["datasets.mine.root"].endswith("two")


def test_a_fault_of_the_machine_is_no_fault_of_a_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = tmp_path / "ffmpeg"
    killed.write_text("#!/bin/sh\nkill -KILL $$\n")
    killed.chmod(0o755)
    clip = shards_of_frames.Clip("c", "a.mp4", "video")
    video(tmp_path / "a.mp4", 2)
    with pytest.raises(UserError, match="ffmpeg was killed"):
        ffmpeg.run([str(killed)])

    def fail(number: int):
        def read(*_):
            raise OSError(number, os.strerror(number))

        return read

    monkeypatch.setattr(videos, "read_video", fail(errno.EMFILE))
    with pytest.raises(UserError, match=r"a\.mp4: Too many open files; finished shards are kept"):
        shards_of_frames.take(tmp_path, clip, FramesParams())
    # what could not be read once is looked at again: its shard does not pass for one of the file as it is
    monkeypatch.setattr(videos, "read_video", fail(errno.EIO))
    taken = shards_of_frames.take(tmp_path, clip, FramesParams())
    assert taken.reason == "cannot be read: Input/output error"
    assert taken.source != shards_of_frames.fingerprint(tmp_path, clip, FramesParams())


def test_a_missing_folder_is_unusable(tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match="no such folder"):
        read_images(tmp_path / "none", FramesParams())
    with pytest.raises(UnusableError, match="no such file"):
        read_video(tmp_path / "none.mp4", FramesParams())
