"""Still pictures from files, safely: format and size are read from the header before any decoder sees the bytes.

PNG, JPEG, WebP and BMP, told apart by content, never by name. What is too large, truncated or something else is refused
with a sentence, within milliseconds and without allocating the picture.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from bridge.errors import SourceError
from bridge.frame import MAX_PIXELS, Pixels, check_size

MAX_FILE_BYTES = MAX_PIXELS * 8 + 2**20
"""An uncompressed 16-bit RGBA picture of the largest size, and a little."""
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says about itself."""

    format: str
    width: int
    height: int
    orientation: int = 1
    """EXIF, 1 to 8."""


def load(path: Path) -> Pixels:
    """The picture in `path`, upright: uint8 (height, width, 1 | 3 | 4), gray, RGB or RGBA, read-only.

    Raises SourceError when there is none, or none that we accept.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error
    if len(data) > MAX_FILE_BYTES:
        raise SourceError(f"{path.name} is larger than {MAX_FILE_BYTES >> 20} MiB")
    try:
        return decode(data)
    except ValueError as error:
        raise SourceError(f"{path.name}: {error}") from error


def decode(data: bytes) -> Pixels:
    """As `load`, from bytes. Raises ValueError with the reason."""
    header = read_header(data)
    wrong = check_size(header.width, header.height, 3)
    if wrong:
        raise ValueError(wrong)
    _check_end(header.format, data)
    flags = (
        cv2.IMREAD_UNCHANGED if header.format in ("PNG", "WebP") else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    )
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ValueError(f"the {header.format} data is broken") from error
    if image is None or image.shape[:2] != (header.height, header.width):
        raise ValueError(f"the {header.format} data is broken")
    pixels = _upright(_to_rgb8(image), header.orientation)
    pixels.setflags(write=False)
    return pixels


def read_header(data: bytes) -> Header:
    """Format, size and orientation, from the first bytes only. ValueError if it is none of our formats."""
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
            width, height = struct.unpack_from(">II", data, 16)
            return Header("PNG", width, height, _orientation(_png_exif(data)))
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp(data)
        if data.startswith(b"BM"):
            width, height = struct.unpack_from("<ii", data, 18)
            return Header("BMP", abs(width), abs(height))
    except (struct.error, IndexError) as error:
        raise ValueError("the file ends within its header") from error
    raise ValueError("not a PNG, JPEG, WebP or BMP picture" if data else "the file is empty")


def _jpeg(data: bytes) -> Header:
    at, orientation = 2, 1
    while True:
        if data[at] != 0xFF:
            raise ValueError("the JPEG data is broken")
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker in _SIZE_MARKERS:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return Header("JPEG", width, height, orientation)
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = _orientation(data[at + 10 : at + 2 + length])
        if marker == 0xDA or length < 2:
            raise ValueError("the JPEG data is broken")
        at += 2 + length


def _webp(data: bytes) -> Header:
    kind = data[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
        at = data.find(b"EXIF", 30) if data[20] & 8 else -1
        exif = data[at + 8 :].removeprefix(b"Exif\0\0") if at > 0 else b""
        return Header("WebP", width, height, _orientation(exif))
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header("WebP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("WebP", width & 0x3FFF, height & 0x3FFF)
    raise ValueError("the WebP data is broken")


def _png_exif(data: bytes) -> bytes:
    at = 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"eXIf":
            return data[at + 8 : at + 8 + length]
        if kind == b"IDAT":
            break
        at += 12 + length
    return b""


def _orientation(tiff: bytes) -> int:
    """Tag 0x0112 of the first directory; 1 when it is not there or makes no sense."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (first,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, first)
        for i in range(min(entries, 256)):
            tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, first + 2 + 12 * i)
            if tag == 0x0112:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def _check_end(kind: str, data: bytes) -> None:
    """Refuse what was cut short (a file still being copied): the decoders would fill up with gray."""
    complete = True
    if kind == "PNG":
        complete = data.rfind(b"IEND") > 0
    elif kind == "JPEG":
        complete = data.rfind(b"\xff\xd9") > data.find(b"\xff\xda")
    elif kind == "WebP":
        complete = len(data) >= 8 + int.from_bytes(data[4:8], "little")
    if not complete:
        raise ValueError(f"the {kind} data is cut short")


def _to_rgb8(image: Pixels) -> Pixels:
    if image.dtype == np.uint16:
        image = cv2.convertScaleAbs(image, alpha=1 / 257)
    if image.dtype != np.uint8:
        raise ValueError(f"{image.dtype} samples; a picture has 8 or 16 bits")
    if image.ndim == 2:
        return np.ascontiguousarray(image[..., None])
    swap = {1: None, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}[image.shape[2]]
    return image if swap is None else np.asarray(cv2.cvtColor(image, swap))


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
