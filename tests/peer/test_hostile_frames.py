"""A sender that changes size at every frame and sends rubbish in between; the whole program in the middle."""

from __future__ import annotations

import itertools
import struct
import time
from pathlib import Path

import msgpack
import numpy as np
import pytest
import zmq

from bridge.app import App
from bridge.clock import now_ns
from bridge.config import Config, OscConfig, WebConfig, WorkerConfig
from bridge.errors import WireError
from bridge.frame import Frame, Stamps
from bridge.wire import decode, encode

pytestmark = pytest.mark.usefixtures("nothing_left")

SIZES = [(1, 1), (1550, 288), (4096, 2160), (3, 900), (640, 480), (4096, 4097), (1, 4000)]
"""(4096, 4097) is over the 16 Mpx that we take."""


def socket(kind: int, address: str, bind: bool = False) -> zmq.Socket[bytes]:
    made = zmq.Context.instance().socket(kind)
    made.setsockopt(zmq.LINGER, 0)
    if kind == zmq.SUB:
        made.setsockopt(zmq.RCVHWM, 2)
        made.setsockopt(zmq.SUBSCRIBE, b"")
    (made.bind if bind else made.connect)(address)
    return made


def test_every_size_is_painted_and_rubbish_is_passed_over(free_port: int, tmp_path: Path) -> None:
    into, out = f"tcp://127.0.0.1:{free_port}", f"ipc://{tmp_path}/out"
    config = Config(
        source=f"zmq:{into}",
        sinks=(f"zmq:{out}",),
        params={"width": 128, "height": 64},
        worker=WorkerConfig(engine="fake", stall_s=30.0),
        osc=OscConfig(port=0),
        web=WebConfig(enabled=False),
    )
    app, sizes = App(config), itertools.cycle(SIZES)
    sender, receiver = socket(zmq.PUB, into), socket(zmq.SUB, out)
    rng, painted = np.random.default_rng(1), set()
    try:
        app.start()
        deadline = time.monotonic() + 100
        while len(painted) < 30:
            assert time.monotonic() < deadline, app.metrics.snapshot()
            width, height = next(sizes)
            channels = int(rng.choice([1, 3, 4]))
            pixels = np.full((height, width, channels), rng.integers(256), np.uint8)
            try:
                message = bytes(encode(Frame(pixels, 0, Stamps(captured=now_ns()))))
            except WireError:
                header = msgpack.packb({"seq": 0, "w": width, "h": height, "format": "rgb8"})
                message = b"LLF\1" + struct.pack("<I", len(header)) + header + bytes(1000)
            sender.send(message)
            sender.send(rng.integers(0, 256, int(rng.integers(0, 3000)), np.uint8).tobytes())
            sender.send(message[: len(message) // 2])
            sender.send(message)
            if receiver.poll(500):
                picture = decode(receiver.recv())
                assert (picture.width, picture.height) == (128, 64)
                painted.add(picture.seq)
        assert app.metrics.get("source.rejected") > 0
        assert app.metrics.get("worker.restarts") == 0
    finally:
        app.close()
        sender.close()
        receiver.close()
