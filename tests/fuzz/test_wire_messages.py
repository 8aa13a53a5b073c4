"""Whatever a message says, `decode` gives a frame or WireError, and never reads or makes more than its caps."""

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import WireError
from bridge.frame import Frame, check_size
from bridge.wire import MAGIC, MAX_HEADER, decode, encode


def check(data):
    try:
        frame = decode(data)
    except WireError:
        return False
    assert check_size(frame.width, frame.height, frame.channels) is None
    assert frame.pixels.dtype == np.uint8
    frame.pixels.sum()
    return True


@given(st.binary(max_size=2 * MAX_HEADER))
@settings(max_examples=300, deadline=None)
def test_random_bytes(data):
    check(data)
    check(MAGIC + b"\1" + data)
    check(MAGIC + b"\1" + min(len(data), MAX_HEADER).to_bytes(4, "little") + data)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["seq", "w", "h", "format", "codec", "stamps", "media_ns", "version", "other"])


@given(st.dictionaries(KEYS, VALUES), st.binary(max_size=64))
@settings(max_examples=500, deadline=None)
def test_typed_nonsense(changes, body):
    header = msgpack.packb({"w": 2, "h": 2, "format": "rgb8"} | changes)
    check(MAGIC + b"\1" + len(header).to_bytes(4, "little") + header + body)


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
@pytest.mark.parametrize("seed", [1, 2])
def test_mutated_messages(codec, seed):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:24, :40]
    clean = np.frombuffer(encode(Frame(np.stack([x * 6, y * 9, x ^ y], 2).astype(np.uint8), 5), codec), np.uint8)
    taken = 0
    for _ in range(5_000):
        data = clean.copy()
        if rng.random() < 0.7:
            at = rng.integers(0, len(data) if rng.random() < 0.5 else 120, rng.integers(1, 5))
            data[at] = rng.integers(0, 256, len(at))
        if rng.random() < 0.3:
            data = data[: rng.integers(0, len(data))]
        taken += check(data.tobytes())
    assert 0 < taken < 5_000
