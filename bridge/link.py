"""One ZMQ socket with its context: newest wins, bounded in size and time, loopback or CURVE, closed in seconds."""

from __future__ import annotations

import errno
import ipaddress
import re
import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

import zmq
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils.monitor import recv_monitor_message

from bridge import keys
from bridge.clock import MS, now_ns
from bridge.config import LanConfig
from bridge.errors import ConfigError, DriverError
from bridge.wire import MAX_MESSAGE

_TERM_S = 2.0
_DRAIN_NS = 20 * MS
_SUBSCRIPTION = 1024
_CAME = zmq.EVENT_ACCEPTED | zmq.EVENT_CONNECTED
_LEFT = zmq.EVENT_DISCONNECTED
_REFUSED = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a link binds or connects, and whether it speaks CURVE."""

    address: str
    bind: bool = True
    curve: bool = False
    server: str = ""
    """Name of the server's key, for a link that connects with CURVE."""

    @classmethod
    def of(cls, address: str, lan: LanConfig, bind: bool = True, curve: bool = False, server: str = "") -> Endpoint:
        """Raises ConfigError for what is no address, and for one beyond this machine unless `lan` is enabled."""
        address = address.replace("//localhost:", "//127.0.0.1:")
        if not _is_local(address):
            if not lan.enabled:
                raise ConfigError(f"{address} reaches beyond this machine: run with --lan to allow that")
            curve = True
        if curve and not bind and not server:
            raise ConfigError(f"{address}: name the key of the other machine with server=NAME (see docs/wire.md)")
        return cls(address, bind, curve, server)


def _is_local(address: str) -> bool:
    if re.fullmatch(r"(ipc|inproc)://.+", address):
        return True
    match = re.fullmatch(r"tcp://(\[[0-9a-fA-F:.]+\]|[^\[\]:/]+):(\d{1,5})", address)
    if match is None or int(match[2]) > 65535:
        raise ConfigError(f"{address!r} is no address: tcp://127.0.0.1:5571 is one, ipc:///tmp/frames another")
    try:
        return ipaddress.ip_address(match[1].strip("[]")).is_loopback
    except ValueError:
        return False


class Link:
    """Owned by one thread; `peers` and `refused` may be read from any. `refused` counts handshakes that failed."""

    def __init__(self, kind: int, endpoint: Endpoint, error: type[DriverError]) -> None:
        self._kind = kind
        self._endpoint = endpoint
        self._error = error
        self._context: zmq.Context[Any] | None = None
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._guard: ThreadAuthenticator | None = None
        self._connections: set[int] = set()
        self.refused = 0

    def open(self) -> None:
        """Raises the driver's error with a sentence when the address can't be had."""
        self.close()
        self._context = zmq.Context()
        try:
            self._start(self._context)
        except (zmq.ZMQError, ConfigError) as error:
            self.close()
            raise self._error(self._sentence(error)) from error

    def _start(self, context: zmq.Context[Any]) -> None:
        self._socket = socket = context.socket(self._kind)
        self._monitor = socket.get_monitor_socket(_CAME | _LEFT | _REFUSED)
        # One frame is on its way, the newest; the default queues hold seconds of old ones. CONFLATE only where we send:
        # a receiving socket that has it aborts the whole process (fq.cpp: !_more) when a peer sends several parts.
        if self._kind == zmq.PUB:
            socket.setsockopt(zmq.CONFLATE, 1)
        else:
            socket.setsockopt(zmq.RCVHWM, 2)
        socket.setsockopt(zmq.LINGER, 0)
        # A subscriber has nothing to say but its subscription.
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE if self._kind == zmq.SUB else _SUBSCRIPTION)
        socket.setsockopt(zmq.IPV6, int("[" in self._endpoint.address))
        # A peer whose cable was pulled is gone after three seconds, and one that comes back is there within a half.
        socket.setsockopt(zmq.HEARTBEAT_IVL, 1000)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3000)
        socket.setsockopt(zmq.HANDSHAKE_IVL, 3000)
        socket.setsockopt(zmq.RECONNECT_IVL, 50)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        if self._endpoint.curve:
            self._encrypt(context, socket)
        if self._kind == zmq.SUB:
            socket.setsockopt(zmq.SUBSCRIBE, b"")
        if self._endpoint.bind:
            socket.bind(self._endpoint.address)
        else:
            socket.connect(self._endpoint.address)

    def _encrypt(self, context: zmq.Context[Any], socket: zmq.Socket[bytes]) -> None:
        socket.curve_publickey, socket.curve_secretkey = keys.machine()
        if not self._endpoint.bind:
            socket.curve_serverkey = keys.server(self._endpoint.server)
            return
        clients = keys.allowed()
        self._guard = ThreadAuthenticator(context)
        self._guard.start()
        self._guard.configure_curve(domain="*", location=clients)
        socket.curve_server = True

    def _sentence(self, error: Exception) -> str:
        address = self._endpoint.address
        if isinstance(error, zmq.ZMQError) and error.errno == errno.EADDRINUSE:
            return f"{address} is in use by another program: end it, or choose another port"
        return f"{address}: {error}"

    def send(self, message: memoryview) -> None:
        """Hand over one message without copying it; it must not change any more. Never blocks."""
        self._note_peers()
        if self._socket is None:
            raise self._error("the ZMQ socket is not open")
        try:
            self._socket.send(message, zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return
        except zmq.ZMQError as error:
            raise self._error(self._sentence(error)) from error

    def receive(self, timeout_s: float) -> list[memoryview]:
        """The newest messages, oldest first, at most four; none after `timeout_s`. Older ones are dropped.

        A message of several parts is handed out as an empty one, which is no frame either.
        """
        self._note_peers()
        if self._socket is None:
            raise self._error("the ZMQ socket is not open")
        try:
            return self._drain(self._socket, timeout_s)
        except zmq.ZMQError as error:
            raise self._error(self._sentence(error)) from error

    def _drain(self, socket: zmq.Socket[bytes], timeout_s: float) -> list[memoryview]:
        newest: deque[memoryview] = deque(maxlen=4)
        count = 0
        wait_ms = max(0, round(timeout_s * 1000))
        deadline = 0
        while socket.poll(wait_ms):
            parts = socket.recv_multipart(zmq.NOBLOCK, copy=False)
            newest.append(parts[0].buffer if len(parts) == 1 else memoryview(b""))
            count += 1
            # A second one is a backlog, from while nobody read: the rest of it sits in the network's buffers.
            wait_ms = 3 * (count > 1)
            deadline = deadline or now_ns() + _DRAIN_NS
            if now_ns() > deadline:
                break
        return list(newest)

    def _note_peers(self) -> None:
        monitor = self._monitor
        while monitor is not None and monitor.poll(0):
            message = recv_monitor_message(monitor, zmq.NOBLOCK)
            event, connection = int(message["event"]), int(message["value"])
            if event & _CAME:
                self._connections.add(connection)
            elif event & _LEFT:
                self._connections.discard(connection)
            elif event & _REFUSED:
                self.refused += 1

    @property
    def peers(self) -> str:
        """How many are connected, in words. (Who has not said a proper hello after three seconds is not any more.)"""
        count = len(self._connections)
        return f"{count} connection{'s' * (count != 1)}"

    def close(self) -> None:
        """Idempotent, and done within two seconds whatever libzmq waits for."""
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.stop()
        monitor, self._monitor = self._monitor, None
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.disable_monitor()
            socket.close(0)
        if monitor is not None:
            monitor.close(0)
        context, self._context = self._context, None
        if context is not None:
            _terminate(context)
        self._connections.clear()


def _terminate(context: zmq.Context[Any]) -> None:
    # term() waits for ever when a socket was forgotten; better a stranded thread than a bridge that can't stop.
    thread = threading.Thread(target=context.term, name="zmq-term", daemon=True)
    thread.start()
    thread.join(_TERM_S)
