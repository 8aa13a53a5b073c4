"""One frame as one ZMQ message and back, without I/O: `LLF`, version, header length, msgpack header, pixels.

The bytes are specified in docs/wire.md, with the measurements that chose them. The pixels stand behind the msgpack
header rather than inside it: a receiver in any language then looks at them in place, and the header is decoded against
a type and a size cap before anything large is touched.
"""

from __future__ import annotations

import struct
from typing import Annotated, Literal

import msgspec
import numpy as np
import simplejpeg
from msgspec import Meta

from bridge.errors import WireError
from bridge.frame import CHANNELS, FORMATS, MAX_PIXELS, MAX_SIDE, Frame, Pixels, Stamps, check_size

MAGIC = b"LLF"
PROTOCOL = 1
MAX_HEADER = 4096
MAX_MESSAGE = 8 + MAX_HEADER + MAX_PIXELS * 4

Codec = Literal["raw", "jpeg"]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Side = Annotated[int, Meta(ge=1, le=MAX_SIDE)]

_PREFIX = struct.Struct("<3sBI")
_COLORSPACES = {1: "GRAY", 3: "RGB", 4: "RGBA"}
_MAX_SCANS = 8
_NOT_BASELINE = {*range(0xC2, 0xD0), 0xDA} - {0xC4, 0xC8, 0xCC}
"""Frame headers of other JPEG processes, and the start of a scan that none came before."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The msgpack map. Unknown keys are ignored, so that later versions may add some; absent ones default."""

    seq: Count = 0
    w: Side
    h: Side
    format: Literal["gray8", "rgb8", "rgba8"]
    codec: Codec = "raw"
    stamps: tuple[Count, Count, Count, Count] = (0, 0, 0, 0)
    """Nanoseconds of the sender's monotonic clock: captured, fed, taken, done."""
    media_ns: Annotated[int, Meta(ge=-1, le=2**63 - 1)] = -1
    version: Count = 0
    """Of the parameters that made the picture; 0 for one that no worker has seen."""


_encode_header = msgspec.msgpack.Encoder().encode
_header_decoder = msgspec.msgpack.Decoder(Header)


def encode(frame: Frame, codec: Codec = "raw", quality: int = 85) -> memoryview:
    """One message. JPEG drops alpha. Raises WireError for a frame that the protocol has no place for."""
    pixels = frame.pixels
    if pixels.dtype != np.uint8 or pixels.ndim != 3:
        raise WireError(f"a frame is uint8 (height, width, channels), not {pixels.dtype} {pixels.shape}")
    problem = check_size(frame.width, frame.height, frame.channels)
    if problem:
        raise WireError(problem)
    if codec == "jpeg":
        data = _to_jpeg(pixels, quality)
        return _message(frame, "gray8" if frame.channels == 1 else "rgb8", codec, np.frombuffer(data, np.uint8))
    return _message(frame, frame.format, codec, pixels)


def _message(frame: Frame, format_: str, codec: Codec, body: Pixels) -> memoryview:
    try:
        header = _encode_header(
            {"seq": frame.seq, "w": frame.width, "h": frame.height, "format": format_, "codec": codec}
            | {"stamps": frame.stamps, "media_ns": frame.media_ns, "version": frame.version}
        )
    except OverflowError as error:
        raise WireError(f"a number of this frame does not fit 64 bits: {error}") from error
    head = _PREFIX.pack(MAGIC, PROTOCOL, len(header)) + header
    message = np.empty(len(head) + body.size, np.uint8)
    message[: len(head)] = np.frombuffer(head, np.uint8)
    # Whatever strides the picture has, this is its one copy.
    np.copyto(message[len(head) :].reshape(body.shape), body)
    return message.data


def decode(message: bytes | memoryview) -> Frame:
    """The frame of one message; raw pixels are a read-only view of it. Raises WireError for anything else."""
    view = memoryview(message)
    header, start = _decode_header(view)
    channels = CHANNELS[header.format]
    problem = check_size(header.w, header.h, channels)
    if problem:
        raise WireError(problem)
    body = view[start:]
    if header.codec == "jpeg":
        pixels = _from_jpeg(bytes(body), header.w, header.h, channels)
    else:
        pixels = _from_raw(body, header.w, header.h, channels)
    return Frame(pixels, header.seq, Stamps(*header.stamps), header.media_ns, header.version)


def _decode_header(view: memoryview) -> tuple[Header, int]:
    if len(view) < _PREFIX.size:
        raise WireError(f"a message of {len(view)} bytes is no frame")
    magic, protocol, length = _PREFIX.unpack_from(view)
    if magic != MAGIC:
        raise WireError("the message is no livelatent frame")
    if protocol != PROTOCOL:
        raise WireError(f"the message speaks protocol {protocol}, this is {PROTOCOL}")
    start = _PREFIX.size + length
    if length > MAX_HEADER or start > len(view):
        raise WireError(f"a header of {length} bytes in a message of {len(view)}")
    try:
        return _header_decoder.decode(view[_PREFIX.size : start]), start
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise WireError(f"the frame's header is wrong: {error}") from error


def _from_raw(body: memoryview, width: int, height: int, channels: int) -> Pixels:
    expected = width * height * channels
    if len(body) != expected:
        raise WireError(f"{len(body)} bytes of pixels where {width}x{height} {FORMATS[channels]} has {expected}")
    pixels: Pixels = np.frombuffer(body, np.uint8).reshape(height, width, channels)
    pixels.flags.writeable = False
    return pixels


def _to_jpeg(pixels: Pixels, quality: int) -> bytes:
    channels = pixels.shape[2]
    data: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels),
        quality=quality,
        colorspace=_COLORSPACES[channels],
        colorsubsampling="Gray" if channels == 1 else "420",
        fastdct=True,
    )
    return data


def _from_jpeg(data: bytes, width: int, height: int, channels: int) -> Pixels:
    if channels == 4:
        raise WireError("JPEG has no alpha: its format is rgb8 or gray8")
    if jpeg_size(data) != (width, height, channels):
        raise WireError(f"the JPEG inside is not {width}x{height} {FORMATS[channels]}")
    # Each scan may go over the whole picture: thousands of them in one file would take minutes.
    if data.count(b"\xff\xda") > _MAX_SCANS:
        raise WireError("the JPEG inside has too many scans")
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, _COLORSPACES[channels], fastdct=True, fastupsample=True)
    except ValueError as error:
        raise WireError(f"the JPEG inside is broken: {error}") from error
    if pixels.shape != (height, width, channels):
        raise WireError(f"the JPEG inside decodes to {pixels.shape}")
    return pixels


def jpeg_size(data: bytes) -> tuple[int, int, int]:
    """(width, height, components) of a baseline JPEG, from its header alone. Raises WireError for any other."""
    at = 2
    if data[:2] != b"\xff\xd8":
        raise WireError("the JPEG inside does not begin like one")
    while at + 9 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in (0xC0, 0xC1):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height, data[at + 9]
        if marker in _NOT_BASELINE or length < 2:
            break
        at += 2 + length
    raise WireError("the JPEG inside is not a baseline one")
