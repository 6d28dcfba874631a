"""Image folders: the frames of a clip as files. JPEG bytes are passed through wherever that loses nothing."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageOps

from tgdfer.config.data import FramesParams
from tgdfer.media.ffmpeg import MAX_PIXELS
from tgdfer.media.frame import Frame, UnusableError
from tgdfer.media.jpeg import jpeg_header
from tgdfer.media.sampling import choose

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"))
FPS = 25.0
"""Image files carry no times: folders are taken to hold 25 frames a second."""
QUALITY = 95
TOO_LARGE = f"more than {MAX_PIXELS >> 20} million pixels in a picture"
LEADS_OUT = "a link that leads out of the root folder"
# without O_NONBLOCK a pipe among the images would keep the reader waiting forever
_OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_ONE_DIGIT = str.maketrans("123456789", "0" * 9)


def read_images(folder: Path, params: FramesParams, root: Path | None = None) -> tuple[list[Frame], str]:
    """The chosen frames of an image folder, and the fingerprint of the files they come from.

    Raises:
        UnusableError: there is no frame, or a chosen one cannot be read or is a link that leads out of ``root``.
    """
    names = list_images(folder)
    digest = _digest(names)
    frames = []
    for index, data in _chosen_files(folder, names, params, root):
        digest.update(data)
        try:
            jpeg, width, height = _as_jpeg(data, params)
        except ValueError as error:
            problem = f"cannot be decoded ({error})" if data else "is empty"
            raise UnusableError(f"image {index + 1} of {len(names)} ({names[index]}) {problem}") from None
        frames.append(Frame(index, index / FPS, jpeg, width, height))
    return frames, digest.hexdigest()


def fingerprint(folder: Path, params: FramesParams, root: Path | None = None) -> str:
    """The fingerprint that ``read_images`` returns, without decoding."""
    names = list_images(folder)
    digest = _digest(names)
    for _, data in _chosen_files(folder, names, params, root):
        digest.update(data)
    return digest.hexdigest()


def list_images(folder: Path) -> list[str]:
    """The image files of ``folder`` in natural order (2 before 10), without hidden files.

    Raises:
        UnusableError: there is no such folder, or no image in it.
    """
    try:
        names = [name for name in os.listdir(folder) if _is_image(name)]  # noqa: PTH208 (only names are needed)
    except FileNotFoundError:
        raise UnusableError("no such folder") from None
    except NotADirectoryError:
        raise UnusableError("is a file, expected a folder of images") from None
    if not names:
        raise UnusableError("folder holds no images")
    # most folders hold names that differ only in their digits, for which the fast order is the natural one
    alike = len({name.translate(_ONE_DIGIT) for name in names}) == 1
    return sorted(names) if alike else sorted(names, key=_natural)


def _is_image(name: str) -> bool:
    return name[0] != "." and "." + name.rpartition(".")[2].lower() in SUFFIXES


def _natural(name: str) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(1, int(part), part) if step % 2 else (0, 0, part) for step, part in enumerate(parts)]


def _digest(names: list[str]) -> hashlib._Hash:
    return hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape"))


def _chosen_files(
    folder: Path, names: list[str], params: FramesParams, root: Path | None
) -> Iterator[tuple[int, bytes]]:
    for index in choose([number / FPS for number in range(len(names))], params):
        yield index, _read(f"{folder}/{names[index]}", root)


def _read(path: str, root: Path | None) -> bytes:
    """All bytes of a file, with few system calls: this runs for every frame of a data set."""
    try:
        handle = os.open(path, _OPEN | _NO_LINK)
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


def leads_out(path: Path | str, root: Path) -> bool:
    """Whether ``path``, which begins with ``root``, leads through links to a place outside of ``root``."""
    part, top = os.fspath(path), os.fspath(root)
    while len(part) > len(top) and not os.path.islink(part):  # noqa: PTH114 (fast for data sets without links)
        part = os.path.dirname(part)  # noqa: PTH120
    if len(part) <= len(top):
        return False
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def _as_jpeg(data: bytes, params: FramesParams) -> tuple[bytes, int, int]:
    header = jpeg_header(data)
    # four components are CMYK, and Exif data may ask for a rotation: readers of the frames handle neither
    if header and header.components in (1, 3) and not header.exif:
        small = params.resize is None or min(header.width, header.height) <= params.resize
        if small and header.width * header.height <= MAX_PIXELS:
            return data, header.width, header.height
    image = shrink(open_image(data), params.resize)
    return encode(image), image.width, image.height


def open_image(data: bytes) -> Image.Image:
    """Decode a whole image file, upright.

    Raises:
        ValueError: it cannot be decoded; the message says why.
    """
    try:
        image = Image.open(io.BytesIO(data))
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(TOO_LARGE)
        image.load()
        return upright(image)
    except Exception as error:  # Pillow's decoders raise exceptions of any type
        reason = re.sub(r"<_io\.BytesIO[^>]*>", "it", str(error)) or type(error).__name__
        raise ValueError(" ".join(reason.split())[:120]) from None


def upright(image: Image.Image) -> Image.Image:
    """``image`` as 8-bit grey or RGB, rotated as its Exif data says, transparency over black."""
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        return image.convert("L")
    if image.mode.startswith("I"):
        return image.point(lambda value: value / 256).convert("L")
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("RGB")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def shrink(image: Image.Image, shorter: int | None) -> Image.Image:
    """``image`` with a shorter side of at most ``shorter`` pixels; its aspect ratio is kept, it is never enlarged."""
    if shorter is None or min(image.size) <= shorter:
        return image
    scale = shorter / min(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image) -> bytes:
    """``image`` as JPEG, without chroma subsampling."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY, subsampling=0)
    return out.getvalue()
