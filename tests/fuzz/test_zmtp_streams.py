"""Whatever bytes a TCP peer sends, our process lives, stays small, and goes on serving the proper one.

A libzmq assertion ends the process without an exception, so the driver runs in a child.
"""

import os
import random
import socket as sockets
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import zmq
from support.ports import free_port

from bridge.frame import Frame
from bridge.wire import encode

HERE = Path(__file__).parent
GOOD = encode(Frame(np.zeros((8, 8, 3), np.uint8), 1))
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + bytes(32)


def frames(rng, subscriber):
    """ZMTP 2 and 3 frames: any flags (MORE, LONG, COMMAND), true and false lengths."""
    out = b""
    for _ in range(rng.randrange(1, 30)):
        body = rng.randbytes(rng.choice([0, 1, 2, 5, 100, 300]))
        if subscriber and rng.random() < 0.7:
            body = bytes([rng.choice([0, 1])]) + body
        flags = rng.choice([0, 0, 1, 1, 2, 3, 4, 5, 6, 7, rng.randrange(256)])
        lie = rng.random() < 0.1
        if flags & 2:
            out += bytes([flags]) + struct.pack(">Q", rng.choice([2**31, 2**63 - 1, 2**64 - 1]) if lie else len(body))
        else:
            out += bytes([flags, 255 if lie else min(255, len(body))])
        out += body
    return out


def stream(rng, peer):
    subscriber = peer == b"SUB"
    kind = rng.randrange(7)
    if kind == 0:
        return rng.randbytes(rng.choice([1, 10, 100, 1000]))
    if kind == 1:
        return b"GET / HTTP/1.1\r\n\r\n"
    if kind == 2:
        parts = [rng.randbytes(rng.choice([0, 1, 5, 100])) for _ in range(rng.randrange(1, 20))]
        return b"\x01\x00" + b"".join(bytes([len(p) + 1, rng.choice([0, 1])]) + p for p in parts)
    if kind == 3:
        return b"\xff" + bytes(8) + b"\x7f\x01" + bytes([2 if subscriber else 1]) + bytes(2) + frames(rng, subscriber)
    ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 3) + peer
    if kind == 4:
        ready = bytes(b ^ (rng.random() < 0.05) * rng.randrange(256) for b in ready)
    return GREETING + b"\x04" + bytes([len(ready)]) + ready + frames(rng, subscriber)


def attack(rng, port, peer, seconds):
    end = time.monotonic() + seconds
    held = []
    while time.monotonic() < end:
        data = stream(rng, peer)
        try:
            one = sockets.create_connection(("127.0.0.1", port), timeout=60)
            held.append(one)
            one.sendall(data if rng.random() < 0.7 else data[: rng.randrange(len(data) + 1)])
        except OSError:
            pass
        if held and (len(held) > 30 or rng.random() < 0.5):
            held.pop(rng.randrange(len(held))).close()
    for one in held:
        one.close()


@pytest.fixture
def child():
    children = []

    def start(kind):
        port = free_port()
        env = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, HERE / "zmtp_child.py", kind, f"tcp://127.0.0.1:{port}"]
        one = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        children.append(one)
        assert one.stdout.readline() == b"open\n"
        return one, port

    yield start
    for one in children:
        one.kill()
        one.communicate(timeout=60)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_source_survives(child, seed):
    source, port = child("source")
    attack(random.Random(seed), port, b"PUB", 2)
    assert source.poll() is None, source.stderr.read().decode()
    assert psutil.Process(source.pid).memory_info().rss < 150 * 2**20
    context = zmq.Context()
    sender = context.socket(zmq.PUB)
    sender.linger = 0
    sender.connect(f"tcp://127.0.0.1:{port}")
    os.set_blocking(source.stdout.fileno(), False)
    deadline = time.monotonic() + 60
    while source.stdout.readline() != b"frame\n":
        assert time.monotonic() < deadline
        sender.send(GOOD)
        time.sleep(0.02)
    context.destroy(linger=0)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_sink_survives(child, seed):
    sink, port = child("sink")
    attack(random.Random(seed), port, b"SUB", 2)
    assert sink.poll() is None, sink.stderr.read().decode()
    assert psutil.Process(sink.pid).memory_info().rss < 150 * 2**20
    context = zmq.Context()
    receiver = context.socket(zmq.SUB)
    receiver.linger = 0
    receiver.subscribe(b"")
    receiver.connect(f"tcp://127.0.0.1:{port}")
    assert receiver.poll(60_000)
    context.destroy(linger=0)
