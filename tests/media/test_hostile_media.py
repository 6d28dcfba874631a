"""Media from a stranger: a file is one picture or one video of a sane size, and leads to no other file."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from media import convert, images, parameters, video, write_csv
from typer.testing import CliRunner

from tgdfer.cli import app
from tgdfer.config.params import FramesParams, Params
from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.media import ffmpeg
from tgdfer.media.images import open_image, read_images
from tgdfer.media.sampling import UnusableError
from tgdfer.media.videos import read_video
from tgdfer.prediction import stream
from tgdfer.stages import frames
from tgdfer.stages.clips import run as make_tables

ALL = FramesParams(sampling="all")
DASH = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" type="static"
 mediaPresentationDuration="PT2S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">
<BaseURL>secret.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>"""
PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2.0,\nsecret.ts\n#EXT-X-ENDLIST\n"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def leads_elsewhere() -> list[Path]:
    """Files that look like videos and are lists of other files."""
    whole = video(Path("secret.mp4"), 10)
    convert(whole, Path("secret.ts"), "-c", "copy")
    for name, text in (
        ("concat.mp4", "ffconcat version 1.0\nfile secret.mp4\n"),
        ("comment.mp4", "ffconcat version 1.0\n# \u2028\nfile secret.mp4\n"),
        ("dash.mp4", DASH),
        ("hls.m3u8", PLAYLIST),
        ("hls.mp4", PLAYLIST),
        ("session.sdp", "v=0\nc=IN IP4 127.0.0.1\nm=video 9999 RTP/AVP 96\na=rtpmap:96 H264/90000\n"),
    ):
        Path(name).write_text(text, encoding="utf-8")
    for number in (1, 2):
        convert(whole, Path(f"p{number}.jpg"), "-frames:v", "1")
    Path("p%d.jpg").write_bytes(Path("p1.jpg").read_bytes())
    return [
        Path(name)
        for name in ("concat.mp4", "comment.mp4", "dash.mp4", "hls.m3u8", "hls.mp4", "session.sdp", "p%d.jpg")
    ]


def test_a_list_of_other_files_is_no_video() -> None:
    for path in leads_elsewhere():
        with pytest.raises(UnusableError, match=r"no video|none of the video formats") as caught:
            read_video(path, ALL)
        assert "secret" not in str(caught.value), path
        assert stream.duration(path) is None, path
        with pytest.raises(UnusableError):
            list(stream.frames(path, ALL))


@pytest.mark.parametrize(
    "name", ["-i.mp4", "a%03d.mp4", "a'b\"c.mp4", "a\nb.mp4", "http:a.mp4", "a|b;c,[0].mp4", "*.mp4"]
)
def test_a_name_is_a_name(name: str) -> None:
    video(Path("plain.mp4"), 4).rename(name)
    assert len(read_video(Path(name), ALL)) == 4
    assert len(list(stream.frames(Path(name), ALL))) == 4
    assert stream.duration(Path(name)) == pytest.approx(0.4, abs=0.01)


def test_pictures_of_absurd_size_are_refused_before_they_are_decoded() -> None:
    command = ["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "color=s=8256x8192:r=1:d=1", "-frames:v", "1"]
    ffmpeg.run([ffmpeg.executable(), *command, "-c:v", "mjpeg", "-threads", "1", "large.avi"])
    with pytest.raises(UnusableError, match="more than 64 million pixels"):
        read_video(Path("large.avi"), ALL)
    # the header says 9000 x 9000, and hardly anything follows
    whole = bytearray((images(Path("clip"), 2) / "00001.jpg").read_bytes())
    at = whole.index(b"\xff\xc0")
    struct.pack_into(">HH", whole, at + 5, 9000, 9000)
    Path("clip/00002.jpg").write_bytes(whole)
    with pytest.raises(UnusableError, match=r"image 2 of 2 \(00002.jpg\) cannot be decoded \(more than 64 million"):
        read_images(Path("clip"), ALL)
    with pytest.raises(ValueError, match="more than 64 million"):
        open_image(bytes(whole))


def test_a_pipe_among_the_images_keeps_nobody_waiting() -> None:
    images(Path("clip"), 2)
    os.mkfifo("clip/00003.jpg")
    with pytest.raises(UnusableError, match=r"image 3 of 3 \(00003.jpg\) is empty"):
        read_images(Path("clip"), ALL)


def project(links: str | None) -> Params:
    """A root with plain clips, links inside it, and links out of it: a video, a folder, an image in a folder."""
    elsewhere = images(Path("elsewhere/clip"), 3)
    video(Path("elsewhere/v.mp4"), 2)
    root = Path("real/raw")
    video(root / "a.mp4", 2)
    images(root / "b", 3)
    (root / "inside.mp4").symlink_to("a.mp4")
    (root / "inside").symlink_to("b")
    (images(root / "same", 1) / "00002.jpg").symlink_to("../b/00001.jpg")
    (root / "video.mp4").symlink_to(Path("elsewhere/v.mp4").resolve())
    (root / "folder").symlink_to(elsewhere.resolve())
    (images(root / "mixed", 1) / "00002.jpg").symlink_to(elsewhere.resolve() / "00001.jpg")
    (root / "up").symlink_to("../..")
    Path("raw").symlink_to("real/raw")  # the root itself may be one
    names = ["a.mp4", "b", "inside.mp4", "inside", "same", "video.mp4", "folder", "mixed", "up/elsewhere/v.mp4"]
    rows = [f"{name},{name},happy,{number % 2 + 1}" for number, name in enumerate(names)]
    table = write_csv(Path("clips.csv"), "clip_id,path,label,fold", rows)
    section = {"layout": "folder", "root": "raw", "annotations": str(table)}
    section |= {"links": links} if links else {}
    return parameters(Path(), {"mine": section}, frames={"shards": 2, "max_reject_fraction": 0.9})


def rejected() -> dict[str, str]:
    table = storage.read_table(paths.frames("mine").with_name("rejects.parquet"), "rejects")
    return dict(zip(table["clip_id"].to_pylist(), table["reason"].to_pylist(), strict=True))


def test_links_out_of_the_root_are_refused_by_row_and_again_where_they_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    params = project(None)
    with pytest.raises(UserError, match=r"clips\.csv, line 7: path 'video.mp4' is a link that leads out of the root"):
        make_tables(params, "mine")
    result = CliRunner().invoke(app, ["validate"])
    said = result.stdout + str(result.exception)
    for name in ("'video.mp4'", "'folder'", "'up/elsewhere/v.mp4'"):
        assert f"path {name} is a link that leads out" in said
    assert "mixed: image 00002.jpg is a link that leads out" in said
    # a layout that looks at no file, or a link that came later
    monkeypatch.setattr("tgdfer.datasets.folder.leads_out", lambda path, root: False)
    make_tables(params, "mine")
    frames.extract(params, "mine")
    found = rejected()
    assert sorted(found) == ["folder", "mixed", "up/elsewhere/v.mp4", "video.mp4"]
    assert all("a link that leads out of the root folder" in reason for reason in found.values())
    assert not any("elsewhere" in reason for reason in found.values())


def test_links_are_followed_anywhere_where_the_parameters_say_so() -> None:
    params = project("anywhere")
    make_tables(params, "mine")
    frames.extract(params, "mine")
    assert rejected() == {}
    # and no longer, once they do not: what was read through them goes
    raw = Path("params.yaml").read_text()
    Path("params.yaml").write_text(raw.replace("links: anywhere", "links: inside"))
    from tgdfer.config.params import load_params

    frames.extract(load_params(), "mine")
    assert sorted(rejected()) == ["folder", "mixed", "up/elsewhere/v.mp4", "video.mp4"]
