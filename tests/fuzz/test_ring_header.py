"""Whatever stands in the memory, a reader or a new writer ends in a frame, None, or WireError."""

import numpy as np
import pytest

from bridge.errors import WireError
from bridge.frame import Frame
from bridge.ring import RingReader, RingWriter
from bridge.ring_layout import PAGE, Geometry

INTERESTING = [
    0,
    1,
    2,
    3,
    4,
    128,
    255,
    4096,
    16_385,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**40,
    2**62,
    2**63,
    2**64 - 1,
]
SIDE = 32


@pytest.fixture
def ring():
    writer = RingWriter.create(SIDE * SIDE * 4)
    for seq in range(3):
        writer.write(Frame(np.full((SIDE, SIDE, 4), seq, np.uint8), seq), b"blob")
    yield writer
    writer.close()
    writer.unlink()


def spots(geometry: Geometry) -> list[int]:
    """Byte offsets of all words that mean something."""
    slots = [geometry.slot_at(i) + 8 * w for i in range(geometry.slots) for w in range(15)]
    return [8 * w for w in range(13)] + slots


def mutate(rng, words, at):
    word = at // 8
    choice = rng.integers(4)
    if choice == 0:
        words[word] = INTERESTING[rng.integers(len(INTERESTING))]
    elif choice == 1:
        words[word] = int(rng.integers(2**63)) * 2 + int(rng.integers(2))
    elif choice == 2:
        words[word] ^= 1 << int(rng.integers(64))
    else:
        words[word] = (words[word] + int(rng.integers(-5, 6))) % 2**64


def look(reader: RingReader) -> str:
    try:
        got = reader.read()
    except WireError:
        return "refused"
    if got is None:
        return "nothing"
    pixels = got.frame.pixels
    assert pixels.nbytes <= SIDE * SIDE * 4
    assert len(got.blob) <= 16 * 1024
    pixels.sum()
    return "frame"


@pytest.mark.parametrize("seed", [1, 2])
def test_random_headers_under_a_reader(ring, seed):
    rng = np.random.default_rng(seed)
    at = spots(ring._geometry)
    clean = bytes(ring._segment.buf)
    reader = RingReader(ring.name)
    seen = dict.fromkeys(("refused", "nothing", "frame"), 0)
    for _ in range(10_000):
        for spot in rng.choice(at, rng.integers(1, 4)):
            mutate(rng, ring._words, int(spot))
        reader._seen = 0
        seen[look(reader)] += 1
        ring._segment.buf[:PAGE] = clean[:PAGE]
        for i in range(3):
            start = ring._geometry.slot_at(i)
            ring._segment.buf[start : start + 128] = clean[start : start + 128]
    reader.close()
    assert all(seen.values()), seen


@pytest.mark.parametrize("end", [RingReader, RingWriter.attach])
def test_random_headers_at_attach(ring, end):
    rng = np.random.default_rng(3)
    clean = bytes(ring._segment.buf)
    refused = 0
    for _ in range(2_000):
        for spot in rng.choice(spots(ring._geometry), rng.integers(1, 4)):
            mutate(rng, ring._words, int(spot))
        other = None
        try:
            other = end(ring.name)
            other.write(Frame(np.zeros((SIDE, SIDE, 4), np.uint8), 1)) if end is not RingReader else other.read()
        except WireError:
            refused += 1
        if other is not None:
            other.close()
        ring._segment.buf[:] = clean
    assert refused > 100
