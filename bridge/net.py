"""Who may talk to us, and the UDP socket that hears them."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
import sys
from functools import lru_cache
from typing import TypeAlias

from bridge.config import LanConfig
from bridge.errors import ConfigError

Endpoint: TypeAlias = tuple[str, int]
"""Address and port. Addresses only: looking up a name can block for seconds."""

RECEIVE_BUFFERS = (4 << 20, 1 << 20, 256 << 10)
_SIO_UDP_CONNRESET = 0x9800000C
_SO_MEMINFO, _MEMINFO_DROPS = 55, 8


def loopback(host: str) -> bool:
    """Whether this address reaches this machine alone."""
    return host == "localhost" or ipaddress.ip_address(host).is_loopback


def numeric(host: str, key: str) -> str:
    """`host` as an address. ConfigError, naming `key`, if it is a name other than localhost."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        raise ConfigError(f"{key}: {host!r} is not an IP address") from None


def parse_endpoint(text: str, key: str) -> Endpoint:
    """`127.0.0.1:9001` or `[::1]:9001`. ConfigError, naming `key`, for anything else."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"{key}: {text!r} is not address:port, for example 127.0.0.1:9001")
    return numeric(host.removeprefix("[").removesuffix("]"), key), int(port)


def check_reach(host: str, lan: LanConfig, key: str) -> None:
    """ConfigError, naming `key`, if `host` is beyond this machine and nobody has said `--lan`."""
    if not lan.enabled and not loopback(host):
        raise ConfigError(f"{key}: {host} is beyond this machine: that takes --lan, or lan.enabled = true")


class AllowList:
    """The networks that may send: this machine always, and `lan.allow` once `lan.enabled` says so."""

    def __init__(self, lan: LanConfig) -> None:
        """Raises ConfigError for what is not a network."""
        try:
            self._networks = tuple(ipaddress.ip_network(text) for text in lan.allow if lan.enabled)
        except ValueError as error:
            raise ConfigError(f"lan.allow takes networks such as 192.168.1.0/24: {error}") from error
        self.allows = lru_cache(maxsize=1024)(self._allows)
        """Whether this address may send; remembered, as it is asked for every datagram."""

    def _allows(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return address.is_loopback or any(address in network for network in self._networks)


def open_udp(host: str, port: int, key: str) -> socket.socket:
    """A bound, non-blocking UDP socket with a large receive buffer. ConfigError, naming `key`, if it can't be had."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        _enlarge(sock)
        if sys.platform == "win32":
            # Without it another program could take our port over, unseen.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
            _ignore_unreachable(sock)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise ConfigError(_why_not(error, host, port, key)) from error
    return sock


def _enlarge(sock: socket.socket) -> None:
    """As large a receive buffer as the system gives: some cut a request down to their limit, some refuse it."""
    for size in RECEIVE_BUFFERS:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        except OSError:
            continue
        return


def _ignore_unreachable(sock: socket.socket) -> None:
    """On Windows, sending to a port that nobody has makes the next receive fail: turn that off where it can be."""
    if sys.platform == "win32":
        import ctypes

        off, done = ctypes.c_ulong(0), ctypes.c_ulong(0)
        call = ctypes.windll.ws2_32.WSAIoctl  # socket.ioctl refuses this code
        handle, code = ctypes.c_size_t(sock.fileno()), ctypes.c_ulong(_SIO_UDP_CONNRESET)
        call(handle, code, ctypes.byref(off), 4, None, 0, ctypes.byref(done), None, None)


def _why_not(error: OSError, host: str, port: int, key: str) -> str:
    if error.errno in (errno.EADDRINUSE, errno.EACCES):
        return f"{key}.port: UDP port {port} is taken by another program; choose another, or 0 for any free one"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{key}.host: this machine does not have the address {host}"
    return f"{key}: can't listen on {host} port {port}: {error.strerror or error}"


def overflowed(sock: socket.socket) -> int:
    """Datagrams that the system threw away because the buffer was full; 0 where it does not tell (it does on Linux)."""
    if not sys.platform.startswith("linux"):
        return 0
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4 * (_MEMINFO_DROPS + 1))
    except OSError:
        return 0
    words = struct.unpack(f"={len(raw) // 4}I", raw)
    return int(words[_MEMINFO_DROPS]) if len(words) > _MEMINFO_DROPS else 0
