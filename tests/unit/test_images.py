"""Still pictures: every format right, every bomb refused before it is unpacked."""

from __future__ import annotations

import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import SourceError
from bridge.frame import Pixels
from bridge.sources.images import MAX_FILE_BYTES, decode, load, read_header
from bridge.sources.scene import draw


def encoded(suffix: str, pixels: Pixels, *options: int) -> bytes:
    """`pixels` RGB or RGBA or gray, as a file of that format."""
    order = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}.get(pixels.shape[2] if pixels.ndim == 3 else 1)
    image = pixels if order is None else cv2.cvtColor(pixels, order)
    ok, data = cv2.imencode(suffix, image, options)
    assert ok
    return data.tobytes()


def picture(channels: int = 3) -> Pixels:
    rgb = draw(1.0, 96, 64, 1)
    if channels == 4:
        alpha = np.tile(np.arange(96, dtype=np.uint8) * 2, (64, 1))[..., None]
        return np.concatenate([rgb, alpha], axis=2)
    return np.ascontiguousarray(rgb[..., :channels])


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_claiming(width: int, height: int) -> bytes:
    """A small, well-formed PNG whose header promises a huge picture."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    )


def exif(orientation: int, order: str = "<") -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return mark + struct.pack(order + "IH", 8, 1) + entry + bytes(4)


def with_jpeg_exif(data: bytes, tiff: bytes) -> bytes:
    body = b"Exif\0\0" + tiff
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_lossless_formats_are_exact(suffix: str) -> None:
    assert np.array_equal(decode(encoded(suffix, picture())), picture())


def test_alpha_and_gray() -> None:
    assert np.array_equal(decode(encoded(".png", picture(4))), picture(4))
    assert np.array_equal(decode(encoded(".png", picture(1))), picture(1))
    lossless = decode(encoded(".webp", picture(4), cv2.IMWRITE_WEBP_QUALITY, 101))
    seen = picture(4)[..., 3] > 0
    assert np.array_equal(lossless[seen], picture(4)[seen])


@pytest.mark.parametrize(
    ("suffix", "quality"), [(".jpg", cv2.IMWRITE_JPEG_QUALITY), (".webp", cv2.IMWRITE_WEBP_QUALITY)]
)
def test_lossy_formats_are_close(suffix: str, quality: int) -> None:
    assert np.abs(decode(encoded(suffix, picture(), quality, 95)).astype(int) - picture()).mean() < 6


def test_sixteen_bits_become_eight() -> None:
    levels = (np.arange(256, dtype=np.uint16) * 257)[None].repeat(4, 0)
    ok, data = cv2.imencode(".png", levels)
    assert ok
    assert np.array_equal(decode(data.tobytes())[0, :, 0], np.arange(256))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int, order: str) -> None:
    """The tag says which edge of the stored picture is the real top (EXIF 2.3, 4.6.4): undo it."""
    upright = picture()
    undo = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p, 1),
        7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
        8: lambda p: np.rot90(p, -1),
    }
    stored = np.ascontiguousarray(undo[orientation](upright))
    data = with_jpeg_exif(encoded(".jpg", stored, cv2.IMWRITE_JPEG_QUALITY, 98), exif(orientation, order))
    got = decode(data)
    assert got.shape == upright.shape
    assert np.abs(got.astype(int) - upright).mean() < 6
    png = encoded(".png", stored)
    png = png[:33] + chunk(b"eXIf", exif(orientation, order)) + png[33:]
    assert np.array_equal(decode(png), upright)


@pytest.mark.parametrize("size", [(65535, 65535), (2**31 - 1, 1), (0, 10), (4097, 4097), (20000, 10)])
def test_a_png_that_claims_too_much_is_refused_at_once(size: tuple[int, int]) -> None:
    data = png_claiming(*size)
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(ValueError, match=r"Mpx|outside"):
        decode(data)
    took = time.process_time() - began
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert took < 1.0
    assert peak < 1 << 20


def test_other_formats_that_claim_too_much() -> None:
    bmp = bytearray(encoded(".bmp", picture()))
    bmp[18:26] = struct.pack("<ii", 60000, -60000)
    jpeg = bytearray(encoded(".jpg", picture()))
    at = jpeg.find(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65535, 65535)
    for data in (bmp, jpeg):
        with pytest.raises(ValueError, match=r"Mpx|outside"):
            decode(bytes(data))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
def test_cut_short_is_refused(suffix: str) -> None:
    data = encoded(suffix, picture())
    for part in (0, 1, 8, 20, 30, len(data) // 2, len(data) - 13):
        with pytest.raises(ValueError, match=r"\w"):
            decode(data[:part])


def test_what_is_not_a_picture(tmp_path: Path) -> None:
    for name, content in (
        ("a.png", b"GIF89a" + bytes(100)),
        ("b.jpg", b"\x80\x04\x95pickle"),
        ("c.webp", b"RIFF\0\0\0\0WEBPjunkjunk"),
        ("d.bmp", b""),
        ("e.png", b"<svg onload=x>"),
        ("f.tif", b"II*\0" + bytes(100)),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SourceError, match=name):
            load(tmp_path / name)
    for path in (tmp_path, tmp_path / "missing.png"):
        with pytest.raises(SourceError, match=r"\w"):
            load(path)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 2)
    with pytest.raises(SourceError, match="MiB"):
        load(tmp_path / "a.png")


def test_pixels_are_read_only(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(".png", picture()))
    pixels = load(tmp_path / "a.png")
    with pytest.raises(ValueError, match="read-only"):
        pixels[0, 0, 0] = 1


SEEDS = [encoded(s, picture()) for s in (".png", ".jpg", ".webp", ".bmp")] + [
    with_jpeg_exif(encoded(".jpg", picture()), exif(6))
]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=8),
    st.integers(0, 4000),
)
def test_headers_never_raise_anything_else(data: bytes, changes: list[tuple[int, int]], length: int) -> None:
    mutated = bytearray(data)
    for at, value in changes:
        mutated[at] = value
    try:
        header = read_header(bytes(mutated[: length or len(mutated)]))
    except ValueError:
        return
    assert header.orientation in range(1, 9)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_never_raise_anything_else(data: bytes) -> None:
    for prefix in (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"RIFF\0\0\0\0WEBP", b"BM"):
        try:
            read_header(prefix + data)
        except ValueError:
            pass
