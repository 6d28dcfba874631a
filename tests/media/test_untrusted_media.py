"""Media from a stranger: a file is one picture or one video of a sane size, and leads to no other file."""

import os
from pathlib import Path

import pytest
from media import clip_project, convert, images, rejected, run_ffmpeg, video
from typer.testing import CliRunner

from tgdfer.cli import app
from tgdfer.config.data import FramesParams
from tgdfer.config.params import load_params
from tgdfer.core.errors import UserError
from tgdfer.media.frame import UnusableError
from tgdfer.media.videos import duration, read_video, stream_video
from tgdfer.stages import frames

ALL = FramesParams(sampling="all")
DASH = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" type="static"
 mediaPresentationDuration="PT2S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">
<BaseURL>secret.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>"""
PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2.0,\nsecret.ts\n#EXT-X-ENDLIST\n"


pytestmark = pytest.mark.usefixtures("new_folder")


def leads_elsewhere() -> list[Path]:
    """Files that look like videos and are lists of other files."""
    whole = video(Path("secret.mp4"), 10)
    convert(whole, Path("secret.ts"), "-c", "copy")
    texts = {
        "concat.mp4": "ffconcat version 1.0\nfile secret.mp4\n",
        "comment.mp4": "ffconcat version 1.0\n# \u2028\nfile secret.mp4\n",
        "dash.mp4": DASH,
        "hls.m3u8": PLAYLIST,
        "hls.mp4": PLAYLIST,
        "session.sdp": "v=0\nc=IN IP4 127.0.0.1\nm=video 9999 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    }
    for name, text in texts.items():
        Path(name).write_text(text, encoding="utf-8")
    for number in (1, 2):
        convert(whole, Path(f"p{number}.jpg"), "-frames:v", "1")
    Path("p%d.jpg").write_bytes(Path("p1.jpg").read_bytes())
    return [Path(name) for name in (*texts, "p%d.jpg")]


def test_a_list_of_other_files_is_refused_as_a_video() -> None:
    for path in leads_elsewhere():
        with pytest.raises(UnusableError, match=r"not a video|not one of the video formats") as caught:
            read_video(path, ALL)
        assert "secret" not in str(caught.value), path
        assert duration(path) is None, path
        with pytest.raises(UnusableError):
            list(stream_video(path, ALL))


@pytest.mark.parametrize(
    "name", ["-i.mp4", "a%03d.mp4", "a'b\"c.mp4", "a\nb.mp4", "http:a.mp4", "a|b;c,[0].mp4", "*.mp4"]
)
def test_any_file_name_is_read_as_a_name(name: str) -> None:
    video(Path("plain.mp4"), 4).rename(name)
    assert len(read_video(Path(name), ALL)) == 4
    assert len(list(stream_video(Path(name), ALL))) == 4
    assert duration(Path(name)) == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize("sampling", ["uniform", "all"])
def test_a_name_that_ffmpeg_cannot_be_given_is_reported(sampling: str) -> None:
    path = Path(os.fsdecode(b"m\xfcller.mp4"))
    video(Path("plain.mp4"), 4).rename(path)
    with pytest.raises(UnusableError, match="name is not in UTF-8"):
        read_video(path, FramesParams(sampling=sampling))
    assert duration(path) is None


def test_videos_of_absurd_size_are_refused() -> None:
    source = ("-f", "lavfi", "-i", "color=s=8256x8192:r=1:d=1", "-frames:v", "1")
    run_ffmpeg(*source, "-c:v", "mjpeg", "-threads", "1", "large.avi")
    with pytest.raises(UnusableError, match="more than 64 million pixels"):
        read_video(Path("large.avi"), ALL)


def clips_and_links() -> list[str]:
    """A root with plain clips, links inside it, and links out of it: a video, a folder, an image in a folder."""
    elsewhere = images(Path("elsewhere/clip"), 3)
    video(Path("elsewhere/v.mp4"), 2)
    root = Path("real/raw")
    video(Path("elsewhere/w.mp4"), 2)
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
    return ["a.mp4", "b", "inside.mp4", "inside", "same", "video.mp4", "folder", "mixed", "up/elsewhere/w.mp4"]


OUTSIDE = ["c05", "c06", "c07", "c08"]
"""The ids of the clips behind links that lead out."""


def test_links_out_of_the_root_are_refused_by_row_and_again_where_they_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = clips_and_links()
    with pytest.raises(UserError, match=r"clips\.csv, line 7: path 'video.mp4' is a link that leads out of the root"):
        clip_project(Path("raw"), names)
    result = CliRunner().invoke(app, ["validate"])
    output = result.stdout + str(result.exception)
    for name in ("'video.mp4'", "'folder'", "'up/elsewhere/w.mp4'"):
        assert f"path {name} is a link that leads out" in output
    assert "mixed: image 00002.jpg is a link that leads out" in output
    # a layout that checks no file, or a link that was made later
    monkeypatch.setattr("tgdfer.datasets.folder.leads_out", lambda path, root: False)
    frames.run(clip_project(Path("raw"), names), "mine")
    assert sorted(rejected()) == OUTSIDE
    assert all("a link that leads out of the root folder" in reason for reason in rejected().values())
    assert not any("elsewhere" in reason for reason in rejected().values())


def test_links_are_followed_anywhere_if_the_parameters_say_so() -> None:
    frames.run(clip_project(Path("raw"), clips_and_links(), links="anywhere"), "mine")
    assert rejected() == {}
    # what was read through the links goes as soon as the parameters no longer allow it
    raw = Path("params.yaml").read_text()
    Path("params.yaml").write_text(raw.replace("links: anywhere", "links: inside"))
    frames.run(load_params(), "mine")
    assert sorted(rejected()) == OUTSIDE
