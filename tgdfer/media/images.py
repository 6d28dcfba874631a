"""Image folders: the frames of a clip as files. JPEG bytes are passed through wherever that loses nothing."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from tgdfer.config.params import FramesParams
from tgdfer.media.ffmpeg import MOST_PIXELS
from tgdfer.media.sampling import Frame, UnusableError, choose

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"))
FPS = 25.0
"""Files carry no times: image folders are taken to hold 25 frames a second."""
QUALITY = 95
TOO_LARGE = f"more than {MOST_PIXELS >> 20} million pixels in a picture"
LEADS_OUT = "a link that leads out of the root folder"
# a pipe among the images must not keep the reader waiting for ever
_OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
_UNLINKED = getattr(os, "O_NOFOLLOW", 0)
_ONE_DIGIT = str.maketrans("123456789", "0" * 9)
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True)
class Jpeg:
    """What the headers of a JPEG say."""

    width: int
    height: int
    components: int
    exif: bool


def jpeg_header(data: bytes) -> Jpeg | None:
    """Read the headers of a JPEG without decoding it; None where it is no whole JPEG (cut off, or something else)."""
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
                return Jpeg(width, height, components, exif) if width and height else None
            if marker == 0xE1 and data[at + 4 : at + 8] == b"Exif":
                exif = True
            if marker == 0xDA or length < 2:
                return None
            at += 2 + length
    except (IndexError, struct.error):
        return None


def split_jpegs(data: bytes) -> list[bytes]:
    """The JPEGs of a stream of one after the other, as ffmpeg writes them to a pipe."""
    found = []
    start = 0
    while start < len(data):
        at = start + 2
        while data[at + 1] != 0xDA:  # segments carry their length; what follows the scan's header does not
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
        end = data.index(b"\xff\xd9", at) + 2  # in the scan itself 0xFF is always followed by 0x00
        found.append(data[start:end])
        start = end
    return found


def upright(image: Image.Image) -> Image.Image:
    """``image`` as 8-bit grey or RGB, turned as its Exif data says, transparency over black."""
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "I;16", "I;16B", "I;16L", "F"):
        return image.point(lambda value: value / 256).convert("L") if image.mode != "F" else image.convert("L")
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("RGB")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def shrink(image: Image.Image, shorter: int | None) -> Image.Image:
    """``image`` with its shorter side of at most ``shorter`` pixels, its shape kept; never enlarged."""
    if shorter is None or min(image.size) <= shorter:
        return image
    scale = shorter / min(image.size)
    size = [max(1, round(side * scale)) for side in image.size]
    return image.resize((size[0], size[1]), Image.Resampling.BICUBIC)


def encode(image: Image.Image) -> bytes:
    """``image`` as JPEG, without chroma subsampling."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY, subsampling=0)
    return out.getvalue()


def list_images(folder: Path) -> list[str]:
    """The image files of ``folder`` in natural order (2 before 10); hidden files and other things are passed over.

    Raises:
        UnusableError: no such folder, or no image in it.
    """
    try:
        names = [name for name in os.listdir(folder) if _is_image(name)]  # noqa: PTH208 (names are all that is needed)
    except FileNotFoundError:
        raise UnusableError("no such folder") from None
    except NotADirectoryError:
        raise UnusableError("is a file, expected a folder of images") from None
    if not names:
        raise UnusableError("folder holds no images")
    # names that differ in their digits alone are in order as they stand, and few folders hold others
    alike = len({name.translate(_ONE_DIGIT) for name in names}) == 1
    return sorted(names) if alike else sorted(names, key=_natural)


def _is_image(name: str) -> bool:
    return name[0] != "." and "." + name.rpartition(".")[2].lower() in SUFFIXES


def _natural(name: str) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(1, int(part), part) if step % 2 else (0, 0, part) for step, part in enumerate(parts)]


def open_image(data: bytes) -> Image.Image:
    """Decode an image file whole, upright; any failure is a ValueError that says why."""
    try:
        image = Image.open(io.BytesIO(data))
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(TOO_LARGE)
        image.load()
        return upright(image)
    except Exception as error:  # Pillow's decoders raise whatever they like
        why = re.sub(r"<_io\.BytesIO[^>]*>", "it", str(error)) or type(error).__name__
        raise ValueError(" ".join(why.split())[:120]) from None


def leads_out(path: Path | str, root: Path) -> bool:
    """Whether links lead from ``path``, which is below ``root`` by its name, to a place that is not."""
    part, top = os.fspath(path), os.fspath(root)
    while len(part) > len(top) and not os.path.islink(part):  # noqa: PTH114 (most data sets hold no link: see it fast)
        part = os.path.dirname(part)  # noqa: PTH120
    if len(part) <= len(top):
        return False
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def read_images(folder: Path, params: FramesParams, root: Path | None = None) -> tuple[list[Frame], str]:
    """The chosen frames of an image folder, and the fingerprint of what they come from.

    Raises:
        UnusableError: there is no frame, or a chosen one cannot be read, or is a link that leads out of ``root``.
    """
    names = list_images(folder)
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape"))
    frames = []
    base = os.fspath(folder)
    for index in choose([number / FPS for number in range(len(names))], params):
        data = _read(f"{base}/{names[index]}", root)
        digest.update(data)
        try:
            jpeg, width, height = _as_jpeg(data, params)
        except ValueError as error:
            what = "is empty" if not data else f"cannot be decoded ({error})"
            raise UnusableError(f"image {index + 1} of {len(names)} ({names[index]}) {what}") from None
        frames.append(Frame(index, index / FPS, jpeg, width, height))
    return frames, digest.hexdigest()


def fingerprint(folder: Path, params: FramesParams, root: Path | None = None) -> str:
    """The fingerprint of a folder's chosen images, read but not decoded."""
    names = list_images(folder)
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape"))
    for index in choose([number / FPS for number in range(len(names))], params):
        digest.update(_read(f"{folder}/{names[index]}", root))
    return digest.hexdigest()


def _read(path: str, root: Path | None) -> bytes:
    """All bytes of a file, with as few system calls as can be: this is called for every frame of a data set."""
    try:
        handle = os.open(path, _OPEN | _UNLINKED)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        if root is not None and leads_out(path, root):
            raise UnusableError(f"image {os.path.basename(path)} is {LEADS_OUT}") from None  # noqa: PTH119
        handle = os.open(path, _OPEN)
    try:
        size = os.fstat(handle).st_size
        data = os.read(handle, size)
        while len(data) < size and (more := os.read(handle, size - len(data))):
            data += more
        return data
    finally:
        os.close(handle)


def _as_jpeg(data: bytes, params: FramesParams) -> tuple[bytes, int, int]:
    header = jpeg_header(data)
    # four components are CMYK, and Exif data may ask for a turn, which readers of the frames would not do
    if header and header.components in (1, 3) and not header.exif:
        small = params.resize is None or min(header.width, header.height) <= params.resize
        if small and header.width * header.height <= MOST_PIXELS:
            return data, header.width, header.height
    image = shrink(open_image(data), params.resize)
    return encode(image), image.width, image.height
