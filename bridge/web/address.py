"""Where the page listens, and by which names this machine may be called."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket

from bridge.config import Config
from bridge.errors import ConfigError, DriverError

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
PORTS_TRIED = 10


def listen_host(config: Config) -> str:
    """The address to bind: loopback, or every one with `--lan`. Raises ConfigError for more without it."""
    host = config.web.host
    if config.lan.enabled:
        return "0.0.0.0" if _is_loopback(host) else host  # noqa: S104
    if not _is_loopback(host):
        raise ConfigError(f"web.host is {host}: other machines may see the page only with --lan")
    return host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """A listening socket on `port`, or on the next free one: a show must not fail for a page. Raises DriverError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    ports = [port, *range(port + 1, min(port + PORTS_TRIED, 65536)), 0] if port else [0]
    for candidate in ports:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, candidate))
            sock.listen(64)
        except OSError as error:
            sock.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise DriverError(f"the page can't listen on {host}: {error.strerror}") from error
            continue
        return sock
    raise DriverError(f"the page found no free port on {host}")


def lan_address() -> str:
    """The address by which others on the network reach this machine; loopback if there is no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: the system only picks the interface
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def host_names(lan: bool) -> frozenset[str]:
    """What a Host header may say: loopback's names, with `--lan` this machine's names and addresses as well."""
    names = set(LOOPBACK)
    if lan:
        own = socket.gethostname().lower()
        names |= {own, f"{own}.local", lan_address()}
        try:
            found = socket.getaddrinfo(own, None)
        except OSError:
            found = []
        for family, _, _, _, address in found:
            names.add(f"[{address[0]}]" if family == socket.AF_INET6 else str(address[0]))
    return frozenset(names)
