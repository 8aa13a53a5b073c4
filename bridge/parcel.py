"""What travels through a ring instead of pixels that stay on the graphics card: where they lie there, and how."""

from __future__ import annotations

from typing import Literal

import cv2
import msgspec
import numpy as np

from bridge.cuda import HANDLE_BYTES
from bridge.errors import WireError
from bridge.frame import Frame, Pixels, check_size

SLOTS = 4
"""Places for pictures in one allocation: the picture of number n lies in place n % 4."""
SPARE = SLOTS - 2
"""So many newer pictures may have been published before the place of this one can have been written again."""
_SEAL = np.zeros((1, 1, 1), np.uint8)
_SIZE = 1 << 40
_TO_BGRA = {1: cv2.COLOR_GRAY2BGRA, 3: cv2.COLOR_RGB2BGRA, 4: cv2.COLOR_RGBA2BGRA}


class Parcel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A picture on a card. `handle` opens the allocation, in which it begins at `at`, row after row."""

    card: str
    """UUID, 32 hex digits."""
    handle: bytes
    at: int
    width: int
    height: int
    channels: int
    order: Literal["rgb", "bgr"] = "rgb"
    """Of the first three of its channels; textures of 8 bits have blue first."""
    rows: Literal["top", "bottom"] = "top"
    """Which row comes first; that of a texture is the bottom one."""
    event: bytes = b""
    """The handle of what happens when the picture is there; without one it is there."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.height, self.width, self.channels


_encoder, _decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Parcel)


def seal(frame: Frame, parcel: Parcel) -> tuple[Frame, bytes]:
    """The frame and the blob that the ring carries: one grey pixel, and the parcel."""
    return Frame(_SEAL, frame.seq, frame.stamps, frame.media_ns, frame.version), _encoder.encode(parcel)


def unseal(blob: bytes) -> Parcel:
    """WireError for what is no parcel, or describes no picture."""
    try:
        parcel = _decoder.decode(blob)
    except msgspec.MsgspecError as error:
        raise WireError(f"this ring carries no pictures of a graphics card: {error}") from error
    wrong = check_size(parcel.width, parcel.height, parcel.channels)
    broken = len(parcel.handle) != HANDLE_BYTES or not 0 <= parcel.at < _SIZE or len(parcel.card) != 32
    if wrong or broken or len(parcel.event) not in (0, HANDLE_BYTES):
        raise WireError(wrong or "a picture of a graphics card with a broken address")
    return parcel


def blank(parcel: Parcel) -> Pixels:
    """Memory for it."""
    return np.empty(parcel.shape, np.uint8)


def upright(pixels: Pixels, parcel: Parcel) -> Pixels:
    """What lay on the card as a frame has it: red first, top row first, C-contiguous. May be `pixels` itself."""
    if parcel.rows == "bottom":
        pixels = np.ascontiguousarray(pixels[::-1])
    if parcel.order == "bgr" and parcel.channels >= 3:
        code = cv2.COLOR_BGR2RGB if parcel.channels == 3 else cv2.COLOR_BGRA2RGBA
        cv2.cvtColor(pixels, code, dst=pixels)
    return pixels


def textured(pixels: Pixels) -> Pixels:
    """A frame's pixels as a texture of 8 bits has them: (h, w, 4), blue first, bottom row first, C-contiguous."""
    turned: Pixels = np.empty((*pixels.shape[:2], 4), np.uint8)
    cv2.cvtColor(np.ascontiguousarray(pixels[::-1]), _TO_BGRA[pixels.shape[2]], dst=turned)
    return turned
