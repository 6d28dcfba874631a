"""Videos: the frames of the rule at their true times, whatever the container; what is cut off is refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media import convert, number_in, numbered, video
from PIL import Image

from tgdfer.config.params import FramesParams
from tgdfer.media import ffmpeg, sampling
from tgdfer.media.images import read_images
from tgdfer.media.sampling import UnusableError
from tgdfer.media.videos import read_video


@given(st.integers(0, 2000), st.integers(1, 64))
def test_uniform_sampling_is_ascending_inside_and_even(total: int, at_most: int) -> None:
    chosen = sampling.uniform(total, at_most)
    assert len(chosen) == min(total, at_most)
    assert chosen == sorted(set(chosen))
    assert all(0 <= index < total for index in chosen)
    gaps = np.diff([-1, *chosen, total])
    assert len(chosen) < 2 or max(gaps[1:-1]) - min(gaps[1:-1]) <= 1


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=60), st.floats(0.5, 60))
def test_fps_sampling_never_exceeds_its_rate_and_keeps_the_first_frame(steps: list[float], fps: float) -> None:
    times = list(np.cumsum(steps))
    chosen = sampling.choose(times, FramesParams(sampling="fps", fps=fps))
    assert chosen[0] == 0
    assert len(chosen) <= (times[-1] - times[0]) * fps + 2


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


def test_a_trimmed_video_holds_the_frames_that_a_player_shows(tmp_path: Path) -> None:
    # cut without encoding: all frames from the last key frame on are there, an edit list says where to begin
    source = video(tmp_path / "a.mp4", 36)
    trimmed = tmp_path / "trimmed.mp4"
    command = ["-nostdin", "-loglevel", "error", "-ss", "2.05", "-i", str(source), "-c", "copy", str(trimmed)]
    ffmpeg.run([ffmpeg.executable(), *command])
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
    source = convert(video(tmp_path / "source.mp4", 36), tmp_path / name, *options)
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 6 // 10])
    with pytest.raises(UnusableError, match="file is cut off"):
        read_video(source, FramesParams())


def test_variable_frame_rate_keeps_every_frame_and_its_time(tmp_path: Path) -> None:
    source = convert(
        video(tmp_path / "a.mp4", 10, fps=20),
        tmp_path / "vfr.mp4",
        *("-vf", "setpts='if(lt(N,5),N,5+(N-5)*4)/20/TB'", "-fps_mode", "passthrough", "-enc_time_base", "1/1000"),
    )
    taken = read_video(source, FramesParams(sampling="all"))
    assert [number_in(frame.jpeg) for frame in taken] == list(range(10))
    expected = [(index if index < 5 else 5 + (index - 5) * 4) / 20 for index in range(10)]
    assert [frame.time_s for frame in taken] == pytest.approx(expected, abs=0.002)


def test_rotation_metadata_is_applied(tmp_path: Path) -> None:
    source = video(tmp_path / "a.mp4", 2)
    turned = tmp_path / "turned.mp4"
    command = [
        "-nostdin",
        "-loglevel",
        "error",
        "-display_rotation",
        "90",
        "-i",
        str(source),
        "-c",
        "copy",
        str(turned),
    ]
    ffmpeg.run([ffmpeg.executable(), *command])
    assert {(frame.width, frame.height) for frame in read_video(turned, FramesParams())} == {(32, 48)}


def test_square_pixels_and_odd_sizes(tmp_path: Path) -> None:
    source = video(tmp_path / "a.mp4", 2)
    wide = convert(source, tmp_path / "wide.mkv", "-vf", "setsar=2/1", "-c:v", "ffv1")
    odd = convert(source, tmp_path / "odd.mkv", "-vf", "scale=33:17", "-c:v", "ffv1", "-pix_fmt", "yuv444p")
    assert (read_video(wide, FramesParams())[0].width, read_video(wide, FramesParams())[0].height) == (96, 32)
    assert (read_video(odd, FramesParams())[0].width, read_video(odd, FramesParams())[0].height) == (33, 17)


@pytest.mark.parametrize(("resize", "size"), [(16, (24, 16)), (500, (48, 32))])
def test_resize_bounds_the_shorter_side_and_never_enlarges(tmp_path: Path, resize: int, size: tuple[int, int]) -> None:
    params = FramesParams(resize=resize)
    frame = read_video(video(tmp_path / "a.mp4", 2), params)[0]
    assert (frame.width, frame.height) == size
    folder = tmp_path / "folder"
    folder.mkdir()
    Image.fromarray(numbered(1)[0]).save(folder / "1.jpg")
    (frame,), _ = read_images(folder, params)
    assert (frame.width, frame.height) == size
