"""Ports for programs that are told a number before they listen."""

from __future__ import annotations

import itertools
import os
import random
import socket

FIRST, LAST = 12_000, 32_000
"""Below what systems hand out by themselves: any connection that another test makes would get one of those, between
our look and the program's."""
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 2
_half = (LAST - FIRST) // 2
_numbers = itertools.count(random.randrange(_half))


def free_port() -> int:
    """One of loopback, TCP and UDP, that nobody listens on, that no other test of this run was told, and that the tests
    running beside these are not told either."""
    for number in _numbers:
        port = FIRST + _worker * _half + number % _half
        with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("unreachable")
