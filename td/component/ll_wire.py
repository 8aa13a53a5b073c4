"""One frame as one ZMQ message and back, as docs/wire.md specifies it; no I/O.

The header is a small msgpack map: the few types in it are written and read here, so that no msgpack is installed.
"""

import struct

import numpy as np

PREFIX = struct.Struct("<3sBI")
CHANNELS = {"gray8": 1, "rgb8": 3, "rgba8": 4}
MAX_HEADER, MAX_MESSAGE = 4096, 8 + 4096 + 16 * 2**20 * 4
MAX_SCANS = 8


class WireError(Exception):
    """The message is no frame."""


def pack(value):
    """msgpack of a str or bytes (up to 255 of them), an int of 64 bits, or a list or dict of such (up to 15 items)."""
    if isinstance(value, dict):
        return bytes([0x80 | len(value)]) + b"".join(pack(k) + pack(v) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return bytes([0x90 | len(value)]) + b"".join(map(pack, value))
    if isinstance(value, str):
        return (bytes([0xA0 | len(value)]) if len(value) < 32 else bytes([0xD9, len(value)])) + value.encode("ascii")
    if isinstance(value, bytes):
        return bytes([0xC4, len(value)]) + value
    return b"\xd3" + struct.pack(">q", value)


_SIZED = {0xC4: "B", 0xC5: ">H", 0xD9: "B", 0xDA: ">H", 0xDC: ">H", 0xDE: ">H"}
_NUMBER = {0xCA: ">f", 0xCB: ">d", 0xCC: "B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: "b", 0xD1: ">h", 0xD2: ">i"}
_NUMBER[0xD3] = ">q"


def unpack(data, at=0, depth=0):
    """(value, position after it) of msgpack as headers have it. WireError."""
    if depth > 4 or at >= len(data):
        raise WireError("the header is no msgpack map")
    tag, at = data[at], at + 1
    if tag < 0x80 or tag >= 0xE0:
        return tag if tag < 0x80 else tag - 256, at
    if tag in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[tag], at
    form = _NUMBER.get(tag) or _SIZED.get(tag)
    size = 0
    if form is not None:
        if at + struct.calcsize(form) > len(data):
            raise WireError("the header ends too soon")
        (size,) = struct.unpack_from(form, data, at)
        at += struct.calcsize(form)
        if tag in _NUMBER:
            return size, at
    elif tag < 0xC0:
        size = tag & (0x0F if tag < 0xA0 else 0x1F)
    if 0xA0 <= tag < 0xC0 or tag in (0xD9, 0xDA, 0xC4, 0xC5):
        if at + size > len(data):
            raise WireError("the header ends too soon")
        found = bytes(data[at : at + size])
        return found if tag in (0xC4, 0xC5) else found.decode("utf-8", "replace"), at + size
    if 0x90 <= tag < 0xA0 or tag == 0xDC:
        out = []
        for _ in range(size):
            value, at = unpack(data, at, depth + 1)
            out.append(value)
        return out, at
    if tag < 0x90 or tag == 0xDE:
        out = {}
        for _ in range(size):
            key, at = unpack(data, at, depth + 1)
            out[str(key)], at = unpack(data, at, depth + 1)
        return out, at
    raise WireError("the header has a type that headers have not")


def decode(message):
    """(picture (h, w, c) uint8, top row first, captured, media_ns, version) of one message. WireError."""
    if len(message) < 8:
        raise WireError("the message is too short for a frame")
    magic, protocol, length = PREFIX.unpack_from(message)
    if magic != b"LLF" or protocol != 1:
        raise WireError(f"it speaks protocol {protocol}, this component 1: run `livelatent td install`")
    if length > MAX_HEADER or 8 + length > len(message):
        raise WireError("the header is too long")
    header, _ = unpack(bytes(message[8 : 8 + length]))
    if not isinstance(header, dict):
        raise WireError("the header is no msgpack map")
    width, height, channels = header.get("w"), header.get("h"), CHANNELS.get(str(header.get("format")))
    if not (type(width) is type(height) is int and channels and 0 < width <= 16384 and 0 < height <= 16384):
        raise WireError("the header's size makes no sense")
    body, stamps = message[8 + length :], header.get("stamps")
    if header.get("codec", "raw") == "jpeg":
        pixels = from_jpeg(body, width, height, channels)
    elif len(body) != width * height * channels:
        raise WireError("the picture has another size than its header says")
    else:
        pixels = np.frombuffer(body, np.uint8).reshape(height, width, channels)
    media, version = header.get("media_ns", -1), header.get("version", 0)
    captured = stamps[0] if isinstance(stamps, list) and stamps else 0
    return pixels, *(value if type(value) is int else 0 for value in (captured, media, version))


def from_jpeg(body, width, height, channels):
    """OpenCV comes with TouchDesigner. Size and process are read from the JPEG's own header before it is decoded."""
    import cv2

    data, at = bytes(body), 2
    while data[at : at + 1] == b"\xff" and at + 9 < len(data) and data[at + 1] != 0xC0:
        if 0xC1 <= data[at + 1] <= 0xCF and data[at + 1] not in (0xC1, 0xC4, 0xC8, 0xCC):
            break
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    if data[at : at + 2] not in (b"\xff\xc0", b"\xff\xc1") or data.count(b"\xff\xda") > MAX_SCANS:
        raise WireError("the JPEG inside is not a baseline one")
    if struct.unpack_from(">HH", data, at + 5) != (height, width):
        raise WireError("the JPEG inside has another size")
    flag = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    if pixels is None or pixels.shape[:2] != (height, width):
        raise WireError("the JPEG inside is broken")
    return pixels[..., None] if channels == 1 else pixels[..., ::-1]


def header(width, height, form, codec, seq, captured, media_ns):
    """Prefix and msgpack map; for one size always of the same length."""
    stamps = (captured, 0, 0, 0)
    words = {"seq": seq, "w": width, "h": height, "format": form, "codec": codec, "stamps": stamps}
    packed = pack({**words, "media_ns": media_ns})
    return PREFIX.pack(b"LLF", 1, len(packed)) + packed
