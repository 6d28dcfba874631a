"""Videos: the frames of the rule at their true times, whatever the container; damaged files are refused."""

import time
from pathlib import Path

import pytest
from media import convert, cut_off, images, number_in, numbered, run_ffmpeg, video
from PIL import Image

from tgdfer.config.data import FramesParams
from tgdfer.core.errors import UserError
from tgdfer.media import ffmpeg, videos
from tgdfer.media.frame import UnusableError
from tgdfer.media.images import read_images
from tgdfer.media.sampling import choose
from tgdfer.media.videos import duration, read_video, span, stream_video

ALL = FramesParams(sampling="all")


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"sampling": "all"}, list(range(12))),
        ({"sampling": "uniform", "max_frames": 4}, [1, 4, 7, 10]),
        ({"sampling": "uniform", "max_frames": 99}, list(range(12))),
        ({"sampling": "every", "every": 5}, [0, 5, 10]),
        ({"sampling": "fps", "fps": 2.5}, [0, 4, 8]),
    ],
)
def test_the_frames_of_a_video_are_those_of_the_rule(tmp_path: Path, rule: dict, expected: list[int]) -> None:
    taken = read_video(video(tmp_path / "a.mp4", 12, fps=10), FramesParams(**rule))
    assert [frame.index for frame in taken] == expected
    assert [number_in(frame.jpeg) for frame in taken] == expected
    assert [frame.time_s for frame in taken] == pytest.approx([index / 10 for index in expected])
    assert {(frame.width, frame.height) for frame in taken} == {(48, 32)}


RULES = [
    *({"sampling": "fps", "fps": fps} for fps in (0.7, 3.3, 7.5, 12)),
    {"sampling": "every", "every": 4},
    {"sampling": "all", "resize": 24},
    *({"sampling": "uniform", "max_frames": count} for count in (1, 7, 29)),
]


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize(
    ("before", "options", "start"),
    [
        ((), ("-c", "copy"), 0),
        ((), ("-vf", "select='not(eq(mod(n,5),2))'", "-fps_mode", "passthrough"), 0),
        # the sound begins at time 0, the pictures later
        (("-itsoffset", "1.37"), ("-f", "lavfi", "-i", "sine=d=4", "-map", "0:v", "-map", "1:a", "-c:v", "copy"), 1.37),
    ],
    ids=["even", "uneven", "late"],
)
def test_ffmpeg_selects_the_frames_that_python_chooses(
    tmp_path: Path, before: tuple[str, ...], options: tuple[str, ...], start: float, rule: dict
) -> None:
    path = convert(video(tmp_path / "a.mp4", 37, 12), tmp_path / "b.mkv", *options, before=before)
    every, params = read_video(path, ALL), FramesParams(**rule)
    assert every[0].time_s == pytest.approx(start, abs=0.01)
    taken = read_video(path, params)
    assert [frame.index for frame in taken] == choose([frame.time_s for frame in every], params)
    assert [frame.time_s for frame in taken] == [every[frame.index].time_s for frame in taken]
    assert [number_in(frame.jpeg) for frame in taken] == [number_in(every[frame.index].jpeg) for frame in taken]
    if rule["sampling"] != "uniform":
        assert list(stream_video(path, params)) == taken


@pytest.mark.parametrize(
    "rule",
    [
        {"sampling": "fps", "fps": 8},
        {"sampling": "uniform", "max_frames": 5000},
        {"sampling": "uniform", "max_frames": 9999},
    ],
)
def test_thousands_of_frames_are_selected(tmp_path: Path, rule: dict) -> None:
    path = tmp_path / "long.mp4"
    run_ffmpeg("-f", "lavfi", "-i", "color=s=16x16:r=16:d=600", "-preset", "ultrafast", path)
    taken = read_video(path, FramesParams(**rule))
    assert [frame.index for frame in taken] == choose([index / 16 for index in range(9600)], FramesParams(**rule))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mov", ("-c:v", "mpeg4", "-q:v", "2")),
        ("a.webm", ("-c:v", "libvpx-vp9", "-b:v", "200k", "-cpu-used", "8")),
        ("a.avi", ("-c:v", "mjpeg", "-q:v", "2")),
        ("a.flv", ("-c:v", "flv", "-q:v", "2")),
        ("a.wmv", ("-c:v", "wmv2", "-q:v", "2")),
        ("a.mts", ("-c:v", "libx264", "-f", "mpegts", "-mpegts_m2ts_mode", "1")),
        ("b-frames.avi", ("-c:v", "libx264", "-bf", "3")),
        ("grey.mkv", ("-c:v", "ffv1", "-pix_fmt", "gray")),
        ("alpha.mov", ("-c:v", "png", "-pix_fmt", "rgba")),
    ],
)
def test_other_codecs_and_containers(tmp_path: Path, name: str, options: tuple[str, ...]) -> None:
    source = convert(video(tmp_path / "source.mp4", 12), tmp_path / name, *options)
    taken = read_video(source, FramesParams(sampling="every", every=3))
    assert [number_in(frame.jpeg) for frame in taken] == [0, 3, 6, 9]


def test_a_trimmed_video_has_the_frames_that_a_player_shows(tmp_path: Path) -> None:
    # trimmed without encoding: all frames since the last key frame are in it, and an edit list says where to begin
    trimmed = convert(video(tmp_path / "a.mp4", 36), tmp_path / "b.mp4", "-c", "copy", before=("-ss", "2.05"))
    taken = read_video(trimmed, FramesParams(sampling="every", every=5))
    assert [number_in(frame.jpeg) for frame in taken] == [21, 26, 31]
    assert [frame.index for frame in taken] == [0, 5, 10]
    taken = read_video(trimmed, FramesParams(sampling="uniform", max_frames=3))
    assert [number_in(frame.jpeg) for frame in taken] == [23, 28, 33]


def test_a_whole_video_may_be_called_truncated(tmp_path: Path) -> None:
    named = video(tmp_path / "truncated" / "a.mp4", 3)
    titled = convert(named, tmp_path / "b.mp4", "-c", "copy", "-metadata", "title=Truncated, a partial file")
    assert len(read_video(named, FramesParams())) == len(read_video(titled, FramesParams())) == 3


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.flv", ("-c:v", "flv")), ("a.mkv", ("-c", "copy")), ("a.mov", ("-c", "copy", "-movflags", "faststart"))],
)
def test_a_video_that_is_cut_off_is_refused_in_every_container(
    tmp_path: Path, name: str, options: tuple[str, ...]
) -> None:
    source = cut_off(convert(video(tmp_path / "source.mp4", 36), tmp_path / name, *options))
    with pytest.raises(UnusableError, match="file is cut off"):
        read_video(source, FramesParams())


@pytest.mark.parametrize(("lost", "refused"), [(10, False), (11, True)])
def test_a_tenth_of_the_frames_may_be_lost(lost: int, refused: bool) -> None:
    log = f"[error] a frame\n[verbose] 100 packets read (9 bytes); {100 - lost} frames decoded; 0 decode errors"
    expected = f"only {100 - lost} of 100 frames can be decoded: a frame"
    assert videos.damage(log) == (expected if refused else None)
    assert videos.damage(log.replace("[error]", "[warning]")) is None


def test_a_stream_can_be_left_and_says_what_is_wrong(tmp_path: Path) -> None:
    path = video(tmp_path / "a.mp4", 30)
    frames = stream_video(path, ALL)
    assert next(frames).index == 0
    frames.close()
    with pytest.raises(UnusableError, match="cut off"):
        list(stream_video(cut_off(path, 0.5), ALL))
    path.write_bytes(b"text")
    with pytest.raises(UnusableError, match="text file"):
        list(stream_video(path, ALL))


@pytest.mark.parametrize(
    ("script", "timeout", "error", "said"),
    [
        ("exec sleep 60", 0.2, ffmpeg.FFmpegError, r"did not end within 0\.2 s"),
        ("kill -KILL $$", 20, UserError, "ffmpeg was killed"),  # not the clip's fault
        ("echo '[mp4 @ 0x1] [error] no room left' >&2; exit 1", 20, ffmpeg.FFmpegError, r"^no room left$"),
    ],
    ids=["late", "killed", "failed"],
)
def test_why_a_program_did_not_end_well_is_said(
    tmp_path: Path, script: str, timeout: float, error: type[Exception], said: str
) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    started = time.monotonic()
    with pytest.raises(error, match=said):
        ffmpeg.run([str(program)], timeout)
    with pytest.raises(error, match=said):
        ffmpeg.feed([str(program)], iter(lambda: bytes(1 << 20), None), timeout)
    assert time.monotonic() - started < 20


SOUND = ("-f", "lavfi", "-i", "sine=d=4", "-map", "0:v", "-map", "1:a")
"""Sound that begins before the pictures and ends after them."""


@pytest.mark.parametrize(
    ("name", "options", "before", "start", "length"),
    [
        ("plain.mp4", (), (), 0, 2),
        # as recorders write it, without a duration
        ("live.mkv", ("-live", "1"), (), 0, 2),
        # a container that begins late may give the time of its end as its duration
        *(("late" + suffix, ("-copyts",), ("-itsoffset", "3600"), 0, 2) for suffix in (".mkv", ".flv", ".ts", ".mp4")),
        # raw streams: no times of frames that are shown in another order than they are decoded
        ("b-frames.h264", ("-c:v", "libx264", "-bf", "3", "-x264-params", "b-adapt=0"), (), 0, 2),
        ("raw.mjpeg", ("-c:v", "mjpeg", "-r", "25"), (), 0, 2),
        ("one.mp4", ("-c:v", "libx264", "-frames:v", "1"), (), 0, 1 / 15),
        *((f"sound.{suffix}", SOUND, ("-itsoffset", "1.2"), 1.2, 2) for suffix in ("mp4", "mkv")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_when_the_pictures_of_a_video_begin_and_end(
    tmp_path: Path, name: str, options: tuple[str, ...], before: tuple[str, ...], start: float, length: float
) -> None:
    copy = () if "-c:v" in options else ("-c:v", "copy")
    path = convert(video(tmp_path / "a.mp4", 30, 15), tmp_path / name, *options, *copy, before=before)
    assert span(path) == pytest.approx((start, start + length), abs=0.01)
    assert duration(path) == pytest.approx(4 if options is SOUND else length, abs=0.07)
    frames = read_video(path, ALL)
    assert frames[0].time_s == pytest.approx(start, abs=0.01)
    assert frames[-1].time_s == pytest.approx(start + length - 1 / (25 if name == "raw.mjpeg" else 15), abs=0.01)


def test_a_broadcast_begins_with_its_first_stream_that_is_read(tmp_path: Path) -> None:
    path = convert(video(tmp_path / "a.mp4", 30, 15), tmp_path / "b.ts", *SOUND, before=("-itsoffset", "1.2"))
    assert span(path)[0] == read_video(path, ALL)[0].time_s == 0
    assert span(path, with_sound=True)[0] == pytest.approx(1.2, abs=0.03)


def test_what_is_not_a_video_has_no_duration(tmp_path: Path) -> None:
    (tmp_path / "b.mp4").write_text("no video")
    assert duration(tmp_path / "b.mp4") is None
    assert duration(tmp_path / "none.mp4") is None


def test_a_frame_every_few_seconds(tmp_path: Path) -> None:
    slow = convert(video(tmp_path / "a.mp4", 9), tmp_path / "slow.mp4", "-r", "0.3", before=("-r", "0.3"))
    taken = read_video(slow, ALL)
    assert [number_in(frame.jpeg) for frame in taken] == list(range(9))
    assert [frame.time_s for frame in taken] == pytest.approx([number / 0.3 for number in range(9)], abs=0.01)


def test_variable_frame_rate_keeps_every_frame_and_its_time(tmp_path: Path) -> None:
    source = convert(
        video(tmp_path / "a.mp4", 10, fps=20),
        tmp_path / "vfr.mp4",
        *("-vf", "setpts='if(lt(N,5),N,5+(N-5)*4)/20/TB'", "-fps_mode", "passthrough", "-enc_time_base", "1/1000"),
    )
    taken = read_video(source, ALL)
    assert [number_in(frame.jpeg) for frame in taken] == list(range(10))
    expected = [(index if index < 5 else 5 + (index - 5) * 4) / 20 for index in range(10)]
    assert [frame.time_s for frame in taken] == pytest.approx(expected, abs=0.002)


@pytest.mark.parametrize(
    ("name", "options", "before", "size"),
    [
        ("turned.mp4", ("-c", "copy"), ("-display_rotation", "90"), (32, 48)),
        ("wide-pixels.mkv", ("-vf", "setsar=2/1", "-c:v", "ffv1"), (), (96, 32)),
        ("odd.mkv", ("-vf", "scale=33:17", "-c:v", "ffv1", "-pix_fmt", "yuv444p"), (), (33, 17)),
    ],
)
def test_rotation_pixel_shapes_and_odd_sizes(
    tmp_path: Path, name: str, options: tuple[str, ...], before: tuple[str, ...], size: tuple[int, int]
) -> None:
    source = convert(video(tmp_path / "a.mp4", 2), tmp_path / name, *options, before=before)
    assert [(frame.width, frame.height) for frame in read_video(source, FramesParams())] == [size, size]


@pytest.mark.parametrize(("resize", "size"), [(16, (24, 16)), (500, (48, 32))])
def test_resize_bounds_the_shorter_side_and_never_enlarges(tmp_path: Path, resize: int, size: tuple[int, int]) -> None:
    params = FramesParams(resize=resize)
    path = images(tmp_path / "folder", 1)
    Image.fromarray(numbered(1)[0]).save(path / "00001.jpg")
    for frame in (read_video(video(tmp_path / "a.mp4", 2), params)[0], read_images(path, params)[0][0]):
        assert (frame.width, frame.height) == size
