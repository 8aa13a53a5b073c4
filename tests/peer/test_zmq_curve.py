"""CURVE on real sockets: who has a key that we allow gets in, everyone else gets nothing."""

import argparse
import os
import stat
import time

import numpy as np
import pytest
import zmq
import zmq.auth
from support.ports import free_port

from bridge import keys
from bridge.config import Config, LanConfig
from bridge.context import Context
from bridge.drivers import make_sink, make_source
from bridge.errors import ConfigError, SinkError
from bridge.frame import Frame
from bridge.link import Endpoint
from bridge.wire import decode, encode


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LIVELATENT_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def address():
    return f"tcp://127.0.0.1:{free_port()}"


@pytest.fixture
def receiver():
    context = zmq.Context()
    made = []

    def make(address, certificate=None, server_key=None):
        socket = context.socket(zmq.SUB)
        made.append(socket)
        socket.linger = 0
        socket.conflate = 1
        socket.subscribe(b"")
        if certificate is not None:
            socket.curve_publickey, socket.curve_secretkey = certificate
        if server_key is not None:
            socket.curve_serverkey = server_key
        socket.connect(address)
        return socket

    yield make
    context.destroy(linger=0)


FRAME = Frame(np.full((8, 8, 3), 9, np.uint8), 4)


def gets(sink, socket, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        sink.write(FRAME)
        if socket.poll(20):
            return decode(socket.recv()).seq == 4
    return False


def test_the_key_that_we_exported_gets_frames_and_no_other_does(address, receiver):
    path, server_key = keys.new_client("stage")
    sink = make_sink(f"zmq:{address}?curve=1", Context())
    sink.open()
    try:
        allowed = receiver(address, zmq.auth.load_certificate(path), server_key)
        assert gets(sink, allowed, 60)
        stranger = receiver(address, zmq.curve_keypair(), server_key)
        wrong_server = receiver(address, zmq.auth.load_certificate(path), zmq.curve_keypair()[0])
        unkeyed = receiver(address)
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            sink.write(FRAME)
            assert not any(s.poll(5) for s in (stranger, wrong_server, unkeyed))
        assert gets(sink, allowed, 60), "the others disturbed the one who may"
    finally:
        sink.close()


def test_a_source_takes_frames_from_known_senders_only(address):
    context = Context()
    path, server_key = keys.new_client("sender")
    source = make_source(f"zmq:{address}?curve=1", context)
    source.open()
    zmq_context = zmq.Context()
    try:
        stranger = zmq_context.socket(zmq.PUB)
        stranger.linger = 0
        stranger.connect(address)
        for _ in range(30):
            stranger.send(encode(FRAME))
            assert source.read(0.02) is None
        known = zmq_context.socket(zmq.PUB)
        known.linger = 0
        known.curve_publickey, known.curve_secretkey = zmq.auth.load_certificate(path)
        known.curve_serverkey = server_key
        known.connect(address)
        deadline = time.monotonic() + 60
        frame = None
        while frame is None and time.monotonic() < deadline:
            known.send(encode(FRAME))
            frame = source.read(0.05)
        assert frame is not None
        assert "1 connection:" in source.describe()
        assert context.metrics.get("source.rejected") > 0, "the turned-away peer is not counted"
    finally:
        source.close()
        zmq_context.destroy(linger=0)


def test_two_machines_of_ours(address, home, monkeypatch):
    """One binds, the other connects with the first one's key, each with a home of its own."""
    near, far = home / "near", home / "far"
    monkeypatch.setenv("LIVELATENT_HOME", str(far))
    theirs = keys.machine()
    monkeypatch.setenv("LIVELATENT_HOME", str(near))
    (keys.folder("clients") / "far.key").write_text((far / "keys" / "server.key").read_text())
    sink = make_sink(f"zmq:{address}?curve=1", Context())
    sink.open()
    monkeypatch.setenv("LIVELATENT_HOME", str(far))
    assert keys.machine() == theirs
    with pytest.raises(ConfigError, match="no key of the server 'near'"):
        keys.server("near")
    (keys.folder("servers") / "near.key").write_text((near / "keys" / "server.key").read_text())
    source = make_source(f"zmq:{address}?bind=0&curve=1&server=near", Context())
    source.open()
    try:
        deadline = time.monotonic() + 60
        got = None
        while got is None and time.monotonic() < deadline:
            sink.write(FRAME)
            got = source.read(0.05)
        assert got is not None
    finally:
        source.close()
        sink.close()


def test_beyond_this_machine_there_is_no_link_without_keys():
    lan = LanConfig(enabled=True)
    assert Endpoint.of("tcp://0.0.0.0:5571", lan).curve
    assert Endpoint.of("tcp://192.168.1.5:5571", lan, bind=False, server="stage").curve
    assert Endpoint.of("tcp://0.0.0.0:5571", lan, curve=False).curve
    assert not Endpoint.of("tcp://127.0.0.1:5571", lan).curve
    with pytest.raises(ConfigError, match="server=NAME"):
        make_source("zmq:tcp://192.168.1.5:5571?bind=0", Context(Config(lan=lan)))


@pytest.mark.skipif(os.name != "posix", reason="modes")
def test_secrets_are_for_their_user_alone(home):
    path, _ = keys.new_client("stage")
    for secret in (path, home / "keys" / "server.key_secret"):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    for folder in (home / "keys", home / "keys" / "clients", home / "keys" / "export"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not list(home.rglob(".*.key*")), "a temporary file was left"


def test_broken_key_files_are_sentences(address):
    keys.folder("clients")
    (keys.folder("clients") / "odd.key").write_text("nonsense")
    sink = make_sink(f"zmq:{address}?curve=1", Context())
    with pytest.raises(SinkError, match=r"odd\.key is no key"):
        sink.open()
    (keys.folder() / "server.key_secret").write_text('    public-key = "' + "x" * 40 + '"\n')
    with pytest.raises(ConfigError, match="no secret key"):
        keys.machine()
    for name in ("../x", "", "a/b", "x" * 65):
        with pytest.raises(ValueError, match="a key's name"):
            keys.new_client(name)


def act(*arguments):
    parser = argparse.ArgumentParser()
    keys.configure(parser)
    return keys.main(parser.parse_args(arguments))


def test_the_command(capsys):
    assert act("client", "stage") == 0
    assert "Carry" in capsys.readouterr().out
    assert act("show") == 0
    out = capsys.readouterr().out
    assert keys.machine().public.decode() in out
    assert "may connect stage" in out
    with pytest.raises(ConfigError, match="a key's name"):
        act("client", "../x")
