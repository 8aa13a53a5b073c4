"""The ZMQ source and sink on real sockets: both codecs, peers that restart, peers that mean harm."""

import os
import secrets
import socket as sockets
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgpack
import numpy as np
import psutil
import pytest
import zmq
from support.ports import free_port

from bridge.context import Context
from bridge.drivers import make_sink, make_source
from bridge.errors import ConfigError, SinkError, SourceError
from bridge.frame import Frame, Stamps
from bridge.wire import MAX_MESSAGE, decode, encode

ROOT = Path(__file__).parents[2]
SENDER = ROOT / "docs" / "examples" / "zmq_send.py"


@pytest.fixture
def context():
    return Context()


@pytest.fixture
def address():
    return f"tcp://127.0.0.1:{free_port()}"


@pytest.fixture
def source(context, address):
    source = make_source(f"zmq:{address}", context)
    source.open()
    yield source
    source.close()


@pytest.fixture
def opened(context):
    """Opens drivers and closes them at the end."""
    drivers = []

    def open_(make, text, context=context):
        driver = make(text, context)
        drivers.append(driver)
        driver.open()
        return driver

    yield open_
    for driver in drivers:
        driver.close()


@pytest.fixture
def plain():
    """Plain pyzmq sockets, closed at the end."""
    context = zmq.Context()
    sockets_made = []

    def make(kind, **options):
        socket = context.socket(kind)
        sockets_made.append(socket)
        for key, value in {"linger": 0, **options}.items():
            setattr(socket, key, value)
        return socket

    yield make
    context.destroy(linger=0)


def picture(value, shape=(8, 8, 3)):
    return np.full(shape, value, np.uint8)


def until(condition, what, seconds=60.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        got = condition()
        if got:
            return got
    pytest.fail(f"no {what} within {seconds} s")


def pump(sink, source, frame):
    """Write until it arrives: the first frames fall before the subscription does."""

    def once():
        sink.write(frame)
        got = source.read(0.05)
        return got if got is not None and got.pixels.shape[:2] == frame.pixels.shape[:2] else None

    return until(once, "frame")


@pytest.mark.parametrize("scheme", ["tcp", "ipc"])
@pytest.mark.parametrize("codec", ["raw", "jpeg"])
def test_sink_to_source_any_size_at_any_frame(opened, address, tmp_path, scheme, codec):
    if scheme == "ipc":
        address = f"ipc://{tmp_path}/frames"
    source = opened(make_source, f"zmq:{address}")
    sink = opened(make_sink, f"zmq:{address}?bind=0&codec={codec}")
    for i, shape in enumerate([(1, 1, 3), (288, 1550, 4), (2160, 4096, 4), (3, 5, 1)]):
        frame = Frame(picture(40 * i, shape), 99, Stamps(1, 2, 3, 4), media_ns=i, version=3)
        got = pump(sink, source, frame)
        assert abs(int(got.pixels.mean()) - 40 * i) <= 2
        assert got.channels == (shape[2] if codec == "raw" or shape[2] == 1 else 3)
        assert (got.media_ns, got.version, got.stamps[1:]) == (i, 0, (0, 0, 0))
        while source.read(0.1) is not None:
            pass
    assert "1 connection" in source.describe()
    assert f"{codec}, 1 connection" in sink.describe()


def test_frames_are_numbered_by_the_source(context, source, address, plain):
    sender = plain(zmq.PUB, conflate=1)
    sender.connect(address)

    def receive():
        sender.send(encode(Frame(picture(1), 2**40)))
        return source.read(0.05)

    assert [until(receive, "frame").seq for _ in range(3)] == [0, 1, 2]


def test_a_capture_stamp_is_believed_only_if_it_can_be_ours(source, address, plain):
    sender = plain(zmq.PUB, conflate=1)
    sender.connect(address)
    recent = time.perf_counter_ns() - 5_000_000
    for stamp, believed in [(recent, True), (recent - 60_000_000_000, False), (recent + 3_600_000_000_000, False)]:

        def receive(stamp=stamp):
            sender.send(encode(Frame(picture(1), 0, Stamps(max(0, stamp)))))
            return source.read(0.05)

        until(receive, "frame")
        assert (until(receive, "frame").stamps.captured == stamp) == believed
        while source.read(0.1) is not None:
            pass


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
def test_either_side_may_restart(context, opened, address, codec):
    source = make_source(f"zmq:{address}", context)
    sink = make_sink(f"zmq:{address}?bind=0&codec={codec}", context)
    source.open()
    sink.open()
    try:
        pump(sink, source, Frame(picture(1), 1))
        for driver in (sink, source, sink, source):
            driver.close()
            driver.open()
            pump(sink, source, Frame(picture(2), 2))
    finally:
        sink.close()
        source.close()


def test_a_killed_sender_is_noticed_and_its_successor_followed(context, source, address):
    for _ in range(2):
        child = subprocess.Popen([sys.executable, SENDER, address, "32", "16", "50"])
        until(lambda: source.read(0.1), "frame")
        child.kill()
        child.wait(60)
        while source.read(0.2) is not None:
            pass
    said = "0 connections: 32x16 rgb8, silent for"
    until(lambda: not source.read(0.1) and said in source.describe(), "staleness")
    assert context.metrics.get("source.stale")


def test_a_slow_reader_gets_the_newest_frame_and_no_backlog(source, address, plain):
    """Two hundred 1 MiB frames while the source looks away."""
    sender = plain(zmq.PUB, conflate=1)
    sender.connect(address)
    pixels = np.zeros((512, 512, 4), np.uint8)

    def receive():
        sender.send(encode(Frame(pixels, 0, media_ns=0)))
        return source.read(0.05)

    until(receive, "frame")
    before = psutil.Process().memory_info().rss
    for i in range(1, 201):
        sender.send(encode(Frame(pixels, i, media_ns=i)))
        time.sleep(0.001)
    until(lambda: (got := source.read(0.2)) is not None and got.media_ns == 200, "newest frame")
    assert psutil.Process().memory_info().rss - before < 32 * 2**20


def test_of_two_waiting_frames_the_newer_is_read(source, address, plain):
    sender = plain(zmq.PUB)
    sender.connect(address)
    until(lambda: (sender.send(encode(Frame(picture(5), 1))), source.read(0.05))[1], "frame")
    while source.read(0.2) is not None:
        pass

    def newer():
        """Both have to be there when we read, which nothing but a little patience can bring about."""
        for i in (1, 2):
            sender.send(encode(Frame(picture(5), i, media_ns=i)))
        time.sleep(0.1)
        got = [frame.media_ns for frame in iter(lambda: source.read(0.2), None)]
        return got == [2]

    until(newer, "newer one alone")


def test_good_frames_come_through_between_garbage(context, source, address, plain):
    good, bad = plain(zmq.PUB), plain(zmq.PUB)
    for sender in (good, bad):
        sender.connect(address)

    def both():
        good.send(encode(Frame(picture(5), 1)))
        bad.send(b"LLF\1garbage")
        time.sleep(0.05)
        return source.read(0.05)

    until(lambda: both() and context.metrics.get("source.rejected"), "frame and reject")
    for _ in range(10):
        until(both, "frame")


def test_several_receivers_come_and_go_and_each_gets_the_newest(opened, address, plain):
    """CONFLATE on PUB: each subscriber has a pipe of its own."""
    sink = opened(make_sink, f"zmq:{address}")
    receivers = []
    for n in range(3):
        receiver = plain(zmq.SUB, conflate=1, rcvtimeo=100)
        receiver.subscribe(b"")
        receiver.connect(address)
        receivers.append(receiver)

        def all_get(value, receivers=tuple(receivers)):
            def once():
                sink.write(Frame(picture(value), value))
                try:
                    return all(decode(r.recv()).seq == value for r in receivers)
                except zmq.Again:
                    return False

            until(once, f"frame {value} at all of {len(receivers)}")

        all_get(10 + n)
        all_get(20 + n)
    receivers[0].close()
    until(lambda: (sink.write(Frame(picture(1), 1)), "2 connections" in sink.describe())[1], "departure")
    del receivers[0]
    all_get(99, tuple(receivers))


def test_garbage_is_counted_and_skipped(context, source, address, plain):
    sender = plain(zmq.PUB, conflate=1)
    sender.connect(address)
    good = bytes(encode(Frame(picture(5), 1)))
    header = msgpack.packb({"w": 4000, "h": 4000, "format": "rgb8"})
    hostile = [
        b"",
        b"hello",
        good[:-1],
        good + b"x",
        good[:20],
        b"LLF\1" + struct.pack("<I", 2**32 - 1),
        b"LLF\1" + struct.pack("<I", len(header)) + header,
        os.urandom(5000),
    ]

    def receive():
        sender.send(good)
        return source.read(0.05)

    until(receive, "frame")
    for message in hostile:
        before = context.metrics.get("source.rejected")

        def rejected(message=message, before=before):
            sender.send(message)
            source.read(0.05)
            return context.metrics.get("source.rejected") > before

        until(rejected, "reject")
    assert "no livelatent frame" in source.describe()
    assert until(receive, "frame").pixels[0, 0, 0] == 5


def greet(port):
    """A raw TCP peer that has done the ZMTP 3.0 NULL handshake as a PUB."""
    raw = sockets.create_connection(("127.0.0.1", port), timeout=60)
    raw.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + bytes(32))
    ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 3) + b"PUB"
    raw.sendall(b"\x04" + bytes([len(ready)]) + ready)
    time.sleep(0.1)
    return raw


def hung_up(raw):
    """Whether the other side ends the connection, within its timeout."""
    try:
        while raw.recv(4096):
            pass
    except ConnectionError:
        pass
    except TimeoutError:
        return False
    return True


def test_an_announced_four_gigabytes_costs_nothing_and_ends_that_peer_alone(context, source, address, plain):
    sender = plain(zmq.PUB, conflate=1)
    sender.connect(address)

    def receive():
        sender.send(encode(Frame(picture(5), 1)))
        return source.read(0.05)

    until(receive, "frame")
    port = int(address.rsplit(":", 1)[1])
    before = psutil.Process().memory_info().rss
    for announced in (2**32, 2**63 - 1, MAX_MESSAGE + 1):
        with greet(port) as raw:
            raw.sendall(b"\x02" + struct.pack(">Q", announced) + bytes(1000))
            raw.settimeout(60)
            assert hung_up(raw)
        until(receive, "frame")
    assert psutil.Process().memory_info().rss - before < 20 * 2**20


def test_several_parts_are_a_reject_and_not_an_abort(context, source, address, plain):
    """A receiving CONFLATE socket ends its process here (libzmq 4.3.5, fq.cpp: !_more)."""
    sender = plain(zmq.PUB)
    sender.connect(address)

    def rejected():
        sender.send_multipart([b"header", bytes(100), b""])
        source.read(0.02)
        return context.metrics.get("source.rejected") > 3

    until(rejected, "reject")
    with greet(int(address.rsplit(":", 1)[1])) as raw:
        raw.sendall(b"\x01\x05first" * 50)
        source.read(0.2)
    until(lambda: (sender.send(encode(Frame(picture(5), 1))), source.read(0.05))[1], "frame")


def test_a_crowd_of_half_open_peers_disturbs_nobody(context, source, address, plain):
    sender = plain(zmq.PUB, conflate=1)
    sender.connect(address)
    port = int(address.rsplit(":", 1)[1])
    crowd = [sockets.create_connection(("127.0.0.1", port), timeout=60) for _ in range(200)]
    for i, peer in enumerate(crowd):
        peer.sendall((b"", b"\xff", os.urandom(100), b"GET / HTTP/1.1\r\n\r\n")[i % 4])

    def receive():
        sender.send(encode(Frame(picture(5), 1)))
        return source.read(0.05)

    until(receive, "frame")
    for peer in crowd:
        peer.close()
    until(receive, "frame")
    until(lambda: (source.read(0.05), "1 connection:" in source.describe())[1], f"departure: {source.describe()}")


class Outage:
    """A TCP relay that can hold everything back, as a pulled cable does."""

    def __init__(self, target_port):
        self.listener = sockets.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.flowing = threading.Event()
        self.flowing.set()
        self._target = target_port
        self._open = True
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self):
        self.listener.settimeout(0.1)
        while self._open:
            try:
                near, _ = self.listener.accept()
            except TimeoutError:
                continue
            far = sockets.create_connection(("127.0.0.1", self._target))
            for a, b in ((near, far), (far, near)):
                a.settimeout(0.1)
                self._threads.append(threading.Thread(target=self._copy, args=(a, b)))
                self._threads[-1].start()

    def _copy(self, a, b):
        with a:
            while self._open:
                self.flowing.wait(0.1)
                if not self.flowing.is_set():
                    continue
                try:
                    data = a.recv(65536)
                    b.settimeout(5)
                    b.sendall(data)
                    b.settimeout(0.1)
                except TimeoutError:
                    continue
                except OSError:
                    return
                if not data:
                    return

    def close(self):
        self._open = False
        for thread in self._threads:
            thread.join(10)
        self.listener.close()


def test_an_outage_of_the_network_leaves_no_backlog(context, source, address, plain):
    relay = Outage(int(address.rsplit(":", 1)[1]))
    try:
        sender = plain(zmq.PUB, conflate=1)
        sender.connect(f"tcp://127.0.0.1:{relay.port}")
        pixels = np.zeros((256, 256, 4), np.uint8)

        def send(i):
            sender.send(encode(Frame(pixels, i, media_ns=i)))

        until(lambda: (send(0), source.read(0.05))[1], "frame")
        relay.flowing.clear()
        for i in range(1, 101):
            send(i)
            source.read(0.01)
        relay.flowing.set()
        began = time.monotonic()
        last = 0
        while last < 100 and time.monotonic() - began < 60:
            got = source.read(0.05)
            last = got.media_ns if got is not None else last
        assert last == 100
    finally:
        relay.close()


def test_a_held_frame_is_encoded_once(opened, address, monkeypatch):
    calls = []
    monkeypatch.setattr("bridge.sinks.zmq.encode", lambda *a: calls.append(a) or encode(*a))
    sink = opened(make_sink, f"zmq:{address}?codec=jpeg")
    frame = Frame(picture(1), 1)
    for _ in range(5):
        sink.write(frame)
    sink.write(Frame(picture(1), 2))
    assert len(calls) == 2


@pytest.mark.parametrize(("make", "error"), [(make_source, SourceError), (make_sink, SinkError)])
def test_a_port_in_use_is_a_sentence(context, opened, address, make, error):
    opened(make, f"zmq:{address}")
    second = make(f"zmq:{address}", context)
    with pytest.raises(error, match="in use by another program: end it, or choose another port"):
        second.open()
    second.close()
    second.close()


def test_an_address_that_is_not_here_is_a_sentence(context):
    sink = make_sink("zmq:ipc:///no/such/folder/socket", context)
    with pytest.raises(SinkError, match="No such file"):
        sink.open()
    sink.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("zmq:tcp://0.0.0.0:5571", "run with --lan"),
        ("zmq:tcp://*:5571", "run with --lan"),
        ("zmq:tcp://192.168.1.4:5571?bind=0", "run with --lan"),
        ("zmq:tcp://[::]:5571", "run with --lan"),
        ("zmq:tcp://example:5571", "run with --lan"),
        ("zmq:tcp://127.0.0.1.evil:5571", "run with --lan"),
        ("zmq:udp://127.0.0.1:5571", "no address"),
        ("zmq:tcp://127.0.0.1:70000", "no address"),
        ("zmq:tcp://127.0.0.1", "no address"),
        ("zmq:tcp://127.0.0.1:1;tcp://0.0.0.0:2", "no address"),
        ("zmq?bind=0&curve=1", "server=NAME"),
        ("zmq?server=../x", "letters"),
        ("zmq?colour=1", "unknown option"),
    ],
)
def test_addresses_and_options_are_checked(context, text, said):
    for make in (make_source, make_sink):
        with pytest.raises(ConfigError, match=said):
            make(text, context)


@pytest.mark.parametrize("text", ["zmq?codec=png", "zmq?quality=0", "zmq?quality=high"])
def test_codings_are_checked(context, text):
    with pytest.raises(ConfigError):
        make_sink(text, context)


def test_local_addresses_need_no_lan(context):
    for local in (
        "tcp://localhost:5999",
        "tcp://127.9.9.9:5999",
        "tcp://[::1]:5999",
        f"ipc:///tmp/{secrets.token_hex(4)}",
    ):
        assert make_source(f"zmq:{local}", context).describe()
        assert make_sink(f"zmq:{local}?bind=0", context).describe()


def test_reading_what_is_not_open_is_our_error(context):
    with pytest.raises(SourceError, match="not open"):
        make_source("zmq", context).read(0.01)
    with pytest.raises(SinkError, match="not open"):
        make_sink("zmq", context).write(Frame(picture(1), 1))


def test_opening_and_closing_leaves_no_thread_and_no_descriptor(context, address):
    me = psutil.Process()

    def counts():
        return me.num_fds() if hasattr(me, "num_fds") else 0, threading.active_count()

    def once():
        source = make_source(f"zmq:{address}", context)
        source.open()
        source.read(0.01)
        source.close()

    once()
    before = counts()
    for _ in range(10):
        once()
    # What was closed last, libzmq's own thread puts away a moment later.
    until(lambda: all(now <= then for now, then in zip(counts(), before, strict=True)), "end of what was opened")
