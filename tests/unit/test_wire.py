"""Frames to messages and back."""

import io
import struct

import msgpack
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from bridge.errors import WireError
from bridge.frame import Frame, Stamps
from bridge.wire import MAX_HEADER, MAX_MESSAGE, decode, encode, jpeg_size


def noise(height, width, channels):
    return np.random.default_rng(height * width).integers(0, 256, (height, width, channels), np.uint8)


def smooth(height, width, channels):
    y, x = np.mgrid[:height, :width]
    return np.stack([60 + x + y + 5 * c for c in range(channels)], axis=2).astype(np.uint8)


def message(header, body=b"", magic=b"LLF\1", length=None):
    packed = header if isinstance(header, bytes) else msgpack.packb(header)
    return magic + struct.pack("<I", len(packed) if length is None else length) + packed + body


SMALL = {"w": 2, "h": 1, "format": "rgb8"}


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 3), (288, 1550, 4), (3, 5, 1), (2160, 4096, 4)])
def test_raw_frames_come_back_as_they_were(shape):
    frame = Frame(noise(*shape), 7, Stamps(1, 2, 3, 4), media_ns=99, version=5)
    got = decode(encode(frame))
    assert (got.seq, got.stamps, got.media_ns, got.version, got.format) == (7, (1, 2, 3, 4), 99, 5, frame.format)
    assert np.array_equal(got.pixels, frame.pixels)
    assert not got.pixels.flags.writeable
    assert len(encode(frame)) <= MAX_MESSAGE


@pytest.mark.parametrize("view", [np.s_[::-1], np.s_[:, ::-1], np.s_[:, :, :3], np.s_[::2, ::3]])
@pytest.mark.parametrize("codec", ["raw", "jpeg"])
def test_any_strides(view, codec):
    pixels = smooth(32, 48, 4)[view]
    got = decode(encode(Frame(pixels, 0), codec, quality=95)).pixels
    assert np.abs(got.astype(int) - pixels[:, :, : got.shape[2]]).max() <= (0 if codec == "raw" else 24)


@pytest.mark.parametrize(("channels", "format_"), [(1, "gray8"), (3, "rgb8"), (4, "rgb8")])
def test_jpeg_keeps_the_picture_and_drops_alpha(channels, format_):
    frame = Frame(smooth(64, 48, channels), 3)
    got = decode(encode(frame, "jpeg", quality=95))
    assert got.format == format_
    assert np.abs(got.pixels.astype(int) - frame.pixels[:, :, : got.channels]).mean() < 3


def test_a_sender_with_plain_msgpack_needs_three_keys():
    got = decode(message(SMALL, bytes(range(6))))
    assert got.pixels.tolist() == [[[0, 1, 2], [3, 4, 5]]]
    assert (got.seq, got.stamps, got.media_ns, got.version) == (0, (0, 0, 0, 0), -1, 0)


def test_keys_of_a_later_version_are_ignored():
    assert decode(message({**SMALL, "colour": "srgb", "tags": {"a": [1, 2]}}, bytes(6))).seq == 0


def test_our_header_is_read_by_plain_msgpack():
    data = bytes(encode(Frame(noise(2, 3, 4), 8, Stamps(5), -1, 6)))
    (length,) = struct.unpack_from("<I", data, 4)
    assert data[:4] == b"LLF\1"
    assert msgpack.unpackb(data[8 : 8 + length]) == {
        "seq": 8,
        "w": 3,
        "h": 2,
        "format": "rgba8",
        "codec": "raw",
        "stamps": [5, 0, 0, 0],
        "media_ns": -1,
        "version": 6,
    }


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "0 bytes"),
        (b"LLF\1\0\0\0", "7 bytes"),
        (message(SMALL, bytes(6), magic=b"LLG\1"), "no livelatent frame"),
        (message(SMALL, bytes(6), magic=b"LLF\2"), "protocol 2"),
        (message(SMALL, length=2**32 - 1), "4294967295"),
        (message(b"\xc1" * 10), "header is wrong"),
        (message(b"\x81\xa1x" + b"\x91" * 4000), "header is wrong"),
        (message(b"\x83\xa1\xff\x01"), "header is wrong"),
        (message([1, 2, 3]), "header is wrong"),
        (message({"w": 2, "h": 1}, bytes(6)), "format"),
        (message({**SMALL, "w": "2"}, bytes(6)), "header is wrong"),
        (message({**SMALL, "w": 0}), "header is wrong"),
        (message({**SMALL, "w": -2}, bytes(6)), "header is wrong"),
        (message({**SMALL, "w": 2**63}, bytes(6)), "header is wrong"),
        (message({**SMALL, "w": 2.0}, bytes(6)), "header is wrong"),
        (message({**SMALL, "w": 16_000, "h": 16_000}), "16 Mpx"),
        (message({**SMALL, "format": "rgb16"}, bytes(6)), "header is wrong"),
        (message({**SMALL, "codec": "png"}, bytes(6)), "header is wrong"),
        (message({**SMALL, "stamps": [1, 2, 3]}, bytes(6)), "header is wrong"),
        (message({**SMALL, "media_ns": -2}, bytes(6)), "header is wrong"),
        (message(SMALL, bytes(5)), "5 bytes of pixels where 2x1 rgb8 has 6"),
        (message(SMALL, bytes(7)), "7 bytes of pixels"),
        (message({**SMALL, "pad": "x" * MAX_HEADER}, bytes(6)), "a header of"),
    ],
)
def test_what_is_no_frame_is_a_wire_error(data, said):
    with pytest.raises(WireError, match=said):
        decode(data)


def jpeg(**save):
    out = io.BytesIO()
    Image.fromarray(smooth(8, 16, 3)).save(out, "JPEG", **save)
    return out.getvalue()


def jpeg_message(data, **header):
    return message({"w": 16, "h": 8, "format": "rgb8", "codec": "jpeg", **header}, data)


def test_jpegs_of_others_are_read():
    assert decode(jpeg_message(jpeg())).pixels.shape == (8, 16, 3)
    assert decode(jpeg_message(jpeg(optimize=True, subsampling=0))).pixels.shape == (8, 16, 3)
    assert jpeg_size(jpeg(exif=b"Exif\0\0" + b"x" * 500)) == (16, 8, 3)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (jpeg_message(jpeg(), w=17), "not 17x8"),
        (jpeg_message(jpeg(), format="gray8"), "not 16x8 gray8"),
        (jpeg_message(jpeg(), format="rgba8"), "alpha"),
        (jpeg_message(jpeg(progressive=True)), "not a baseline"),
        (jpeg_message(b""), "begin like one"),
        (jpeg_message(b"\x89PNG\r\n"), "begin like one"),
        (jpeg_message(jpeg()[:20]), "not a baseline"),
        (jpeg_message(jpeg()[:-60]), "broken"),
        (jpeg_message(jpeg() + b"\xff\xda" * 9), "too many scans"),
        (jpeg_message(b"\xff\xd8\xff\xe0\0\0" + bytes(50)), "not a baseline"),
    ],
)
def test_jpegs_that_lie_or_bomb_are_refused_before_they_are_decoded(data, said, monkeypatch):
    if said != "broken":
        monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *a, **k: pytest.fail("was decoded"))
    with pytest.raises(WireError, match=said):
        decode(data)


def test_frames_that_the_protocol_has_no_place_for():
    for pixels, said in [
        (np.zeros((4, 4), np.uint8), "height, width, channels"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((4, 4, 2), np.uint8), "2 channels"),
        (np.broadcast_to(np.uint8(0), (8192, 8192, 1)), "16 Mpx"),
    ]:
        with pytest.raises(WireError, match=said):
            encode(Frame(pixels, 0))
    with pytest.raises(WireError, match="64 bits"):
        encode(Frame(noise(1, 1, 3), 2**64))
