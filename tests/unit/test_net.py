"""Who may send, and where we may listen."""

from __future__ import annotations

import pytest

from bridge.clock import NS
from bridge.config import LanConfig
from bridge.errors import ConfigError, ControlError
from bridge.net import AllowList, check_reach, numeric, parse_endpoint
from bridge.subscribers import MAX_PEERS, Subscribers

STAGE = LanConfig(enabled=True, allow=("192.168.1.0/24", "fd00::/64"))


def test_this_machine_alone_by_default() -> None:
    allows = AllowList(LanConfig(allow=("192.168.1.0/24",))).allows
    assert allows("127.0.0.1")
    assert allows("127.8.8.8")
    assert allows("::1")
    assert not allows("192.168.1.7")
    assert not allows("::ffff:192.168.1.7")


def test_with_lan_the_named_networks_too() -> None:
    allows = AllowList(STAGE).allows
    assert allows("192.168.1.7")
    assert allows("::ffff:192.168.1.7")
    assert allows("fd00::1")
    assert allows("127.0.0.1")
    assert not allows("192.168.2.7")
    assert not allows("fd00:0:0:1::1")
    assert not allows("not an address")


def test_what_is_no_network_is_said() -> None:
    with pytest.raises(ConfigError, match=r"lan\.allow"):
        AllowList(LanConfig(enabled=True, allow=("192.168.1.7/24",)))


def test_endpoints() -> None:
    assert parse_endpoint("127.0.0.1:9001", "osc.reply") == ("127.0.0.1", 9001)
    assert parse_endpoint("localhost:9001", "osc.reply") == ("127.0.0.1", 9001)
    assert parse_endpoint("[::1]:9001", "osc.reply") == ("::1", 9001)
    for text in ("", "9001", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:²", "stage.local:9001"):
        with pytest.raises(ConfigError, match=r"osc\.reply"):
            parse_endpoint(text, "osc.reply")


def test_names_are_not_looked_up() -> None:
    assert numeric("localhost", "osc.host") == "127.0.0.1"
    with pytest.raises(ConfigError, match="not an IP address"):
        numeric("example.org", "osc.host")


def test_nothing_beyond_this_machine_without_lan() -> None:
    check_reach("127.0.0.1", LanConfig(), "osc.host")
    check_reach("0.0.0.0", STAGE, "osc.host")
    for host in ("0.0.0.0", "192.168.1.7", "::"):
        with pytest.raises(ConfigError, match="--lan"):
            check_reach(host, LanConfig(), "osc.host")


# Who is told

A, B, C = ("10.0.0.1", 1), ("10.0.0.2", 2), ("10.0.0.3", 3)


def test_subscriptions_end_unless_renewed_and_those_of_the_config_never() -> None:
    peers = Subscribers((A,))
    assert peers.add(B, C, NS)
    assert not peers.add(B, C, 2 * NS)
    peers.expire(NS)
    assert peers.targets() == [A, B]
    peers.expire(2 * NS)
    assert peers.targets() == [A]
    assert not peers.add(A, A, NS)
    peers.expire(9 * NS)
    peers.remove(A)
    assert peers.targets() == [A]


def test_nobody_gets_its_own_change_back() -> None:
    peers = Subscribers((A,))
    peers.add(B, C, NS)
    assert peers.targets(but=A) == [B]
    assert peers.targets(but=B) == [A]
    assert peers.targets(but=C) == [A]
    assert peers.targets(but="the page") == [A, B]


def test_there_is_room_for_so_many() -> None:
    peers = Subscribers((A,))
    for port in range(MAX_PEERS):
        peers.add(("10.0.0.9", port + 1), B, NS)
    with pytest.raises(ControlError, match="listening already"):
        peers.add(("10.0.0.9", 9999), B, NS)
    peers.remove(("10.0.0.9", 1))
    assert peers.add(("10.0.0.9", 9999), B, NS)
    assert len(peers) == MAX_PEERS + 1
