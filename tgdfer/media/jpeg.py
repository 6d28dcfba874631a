"""JPEG without decoding: what the headers say, and where each image ends in a stream of them."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

CHUNK = 1 << 16
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True)
class JpegHeader:
    """What the headers of a JPEG say; sizes in pixels."""

    width: int
    height: int
    components: int
    exif: bool


def jpeg_header(data: bytes) -> JpegHeader | None:
    """Read the headers of a JPEG; None for anything but a whole JPEG."""
    if data[:2] != b"\xff\xd8" or b"\xff\xd9" not in data[-64:]:
        return None
    at, exif = 2, False
    try:
        while True:
            if data[at] != 0xFF:
                return None
            marker = data[at + 1]
            if marker == 0xFF:  # padding before a marker
                at += 1
                continue
            (length,) = struct.unpack_from(">H", data, at + 2)
            if marker in _START_OF_FRAME:
                _, height, width, components = struct.unpack_from(">BHHB", data, at + 4)
                return JpegHeader(width, height, components, exif) if width and height else None
            if marker == 0xE1 and data[at + 4 : at + 8] == b"Exif":
                exif = True
            if marker == 0xDA or length < 2:
                return None
            at += 2 + length
    except (IndexError, struct.error):
        return None


def split_jpegs(stream: IO[bytes]) -> Iterator[bytes]:
    """The images of a stream of concatenated JPEGs, as ffmpeg writes them, each as soon as it is complete."""
    data = bytearray()
    at, in_scan = 2, False
    while True:
        if in_scan:  # image data escapes 0xFF, so this marker can only be the end
            end = data.find(b"\xff\xd9", at) + 2
            if end > 1:
                yield bytes(data[:end])
                del data[:end]
                at, in_scan = 2, False
                continue
            at = max(at, len(data) - 1)
        elif len(data) >= at + 4:  # a segment before the image data says its length
            in_scan = data[at + 1] == 0xDA
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
            continue
        more = stream.read1(CHUNK)  # type: ignore[attr-defined]
        if not more:
            return
        data += more
