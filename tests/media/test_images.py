"""Image folders: JPEG bytes unchanged in natural order, everything else converted, damage reported by name."""

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from media import images, number_in, numbered
from PIL import Image

from tgdfer.config.data import FramesParams
from tgdfer.media.frame import UnusableError
from tgdfer.media.images import fingerprint, open_image, read_images, shrink, upright
from tgdfer.media.jpeg import jpeg_header, split_jpegs

ALL = FramesParams(sampling="all")


def encoded(mode: str, size: tuple[int, int] = (30, 20), **options: object) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size).save(out, "JPEG", **options)
    return out.getvalue()


def test_image_folders_pass_jpeg_bytes_through_in_natural_order(tmp_path: Path) -> None:
    folder = images(tmp_path / "clip", 12, names="{}.jpg")
    for name in ("Thumbs.db", "._3.jpg"):
        (folder / name).write_bytes(b"x")
    taken, _ = read_images(folder, ALL)
    assert [frame.index for frame in taken] == list(range(12))
    assert [frame.jpeg for frame in taken] == [(folder / f"{number}.jpg").read_bytes() for number in range(1, 13)]
    assert taken[10].time_s == pytest.approx(0.4)
    assert {(frame.width, frame.height) for frame in taken} == {(16, 16)}


def test_names_of_several_patterns_are_in_natural_order(tmp_path: Path) -> None:
    for name, picture in zip(["a2.jpg", "a10.jpg", "b1.jpg", "b1c.jpg"], numbered(4), strict=True):
        Image.fromarray(picture).save(tmp_path / name)
    assert [number_in(frame.jpeg) for frame in read_images(tmp_path, ALL)[0]] == [0, 1, 2, 3]


def test_the_fingerprint_covers_names_and_chosen_files(tmp_path: Path) -> None:
    params = FramesParams(sampling="every", every=2)
    first = read_images(images(tmp_path, 3), params)[1]
    assert fingerprint(tmp_path, params) == first
    (tmp_path / "00002.jpg").write_bytes(b"not chosen")
    assert fingerprint(tmp_path, params) == first
    (tmp_path / "00002.jpg").rename(tmp_path / "00002.jpeg")
    assert fingerprint(tmp_path, params) != first
    images(tmp_path, 2, size=8)
    assert fingerprint(tmp_path, params) != first


def test_images_that_jpeg_readers_would_show_differently_are_converted(tmp_path: Path) -> None:
    grey16 = upright(Image.fromarray(np.full((4, 4), 128 << 8, np.uint16)))
    assert (grey16.mode, np.asarray(grey16).max()) == ("L", 128)
    clear = Image.new("RGBA", (4, 4), (255, 255, 255, 0))
    assert np.asarray(upright(clear)).max() == 0
    assert upright(Image.new("P", (4, 4))).mode == "RGB"
    exif = Image.Exif()
    exif[0x0112] = 6
    for number, data in enumerate((encoded("RGB", exif=exif), encoded("CMYK"), encoded("L"))):
        (tmp_path / f"{number}.jpg").write_bytes(data)
    turned, cmyk, grey = read_images(tmp_path, ALL)[0]
    assert (turned.width, turned.height) == (20, 30)
    assert jpeg_header(cmyk.jpeg).components == 3
    assert grey.jpeg == (tmp_path / "2.jpg").read_bytes()


@pytest.mark.parametrize(("size", "expected"), [((40, 20), (20, 10)), ((20, 41), (10, 20)), ((10, 900), (10, 900))])
def test_shrink_bounds_the_shorter_side(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert shrink(Image.new("L", size), 10).size == expected
    assert shrink(Image.new("L", size), None).size == size


def test_jpeg_headers_are_read_without_decoding() -> None:
    data = [encoded("RGB"), encoded("L", progressive=True), encoded("CMYK")]
    headers = [jpeg_header(one) for one in data]
    assert [(header.width, header.height, header.components) for header in headers if header] == [
        *((30, 20, 3), (30, 20, 1), (30, 20, 4)),
    ]
    assert jpeg_header(data[0][:2] + b"\xff" + data[0][2:]) == headers[0], "padding before a marker"
    for spoilt in (data[0][:-40], b"not a jpeg", data[0].replace(b"\x00\x14\x00\x1e", bytes(4))):
        assert jpeg_header(spoilt) is None


@pytest.mark.parametrize("chunk", [1, 7, 1 << 16])
def test_a_stream_of_jpegs_is_split_wherever_its_chunks_end(chunk: int) -> None:
    # a comment with the marker of an end, and a picture whose data needs escapes
    noise = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "JPEG", comment=b"\xff\xd9", quality=100)
    data = [out.getvalue(), encoded("RGB"), encoded("CMYK")]

    class Pipe(io.BytesIO):
        def read1(self, size: int = -1) -> bytes:
            return self.read(chunk)

    assert list(split_jpegs(Pipe(b"".join(data)))) == data
    assert list(split_jpegs(Pipe(data[0] + data[1][:-1]))) == data[:1]


def test_missing_empty_and_wrong_folders(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for name, reason in (("none", "no such folder"), ("empty", "holds no images"), ("file", "is a file")):
        with pytest.raises(UnusableError, match=reason):
            read_images(tmp_path / name, ALL)


def test_pictures_of_absurd_size_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    # the header says 9000 x 9000, and hardly anything follows
    whole = bytearray((images(tmp_path, 2) / "00001.jpg").read_bytes())
    struct.pack_into(">HH", whole, whole.index(b"\xff\xc0") + 5, 9000, 9000)
    (tmp_path / "00002.jpg").write_bytes(whole)
    with pytest.raises(UnusableError, match=r"image 2 of 2 \(00002.jpg\) cannot be decoded \(more than 64 million"):
        read_images(tmp_path, ALL)
    with pytest.raises(ValueError, match="more than 64 million"):
        open_image(bytes(whole))


def test_a_pipe_among_the_images_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(images(tmp_path, 2) / "00003.jpg")
    with pytest.raises(UnusableError, match=r"image 3 of 3 \(00003.jpg\) is empty"):
        read_images(tmp_path, ALL)
