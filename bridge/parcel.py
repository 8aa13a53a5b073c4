"""What travels through a ring instead of pixels that stay on the graphics card: where they lie there."""

from __future__ import annotations

import msgspec
import numpy as np

from bridge.cuda import HANDLE_BYTES
from bridge.errors import WireError
from bridge.frame import Frame, Pixels, check_size

SLOTS = 4
"""Places for pictures in one allocation, taken in turn."""
SPARE = SLOTS - 2
"""So many newer pictures may have been published before the place of this one can have been written again."""
_SEAL = np.zeros((1, 1, 1), np.uint8)
_SIZE = 1 << 40


class Parcel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A picture on a card. `handle` opens the allocation, in which it begins at `at`, row after row, top row first."""

    card: str
    """UUID, 32 hex digits."""
    handle: bytes
    at: int
    width: int
    height: int
    channels: int

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
    if wrong or len(parcel.handle) != HANDLE_BYTES or not 0 <= parcel.at < _SIZE or len(parcel.card) != 32:
        raise WireError(wrong or "a picture of a graphics card with a broken address")
    return parcel


def blank(parcel: Parcel) -> Pixels:
    """Memory for it."""
    return np.empty(parcel.shape, np.uint8)
