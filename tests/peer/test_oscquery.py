"""OSCQuery over real HTTP and WebSockets, asked by an independent client and by hand."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from pythonosc.udp_client import SimpleUDPClient
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from bridge.config import Config, LanConfig, OscConfig, WebConfig
from bridge.control import Control
from bridge.dispatch import COMMANDS
from bridge.metrics import Metrics
from bridge.net import AllowList
from bridge.osc import message, parse
from bridge.preview import PreviewHub
from bridge.store import ParamStore
from bridge.telemetry import READINGS, SHOW
from bridge.web.announce import Announcement
from bridge.web.namespace import find, rows
from bridge.web.oscquery import OscQuery
from bridge.web.server import WebServer
from pipelines.params import Params, table
from tests.support.peers import Query

IDS = {
    "models": lambda: ("pocket", "sd-turbo"),
    "controlnets": lambda: ("none", "pocket-edge"),
    "loras": lambda: ("none",),
}
DEADLINE_S = 60.0


class House:
    """A store with OSC in front of it and OSCQuery beside it."""

    def __init__(self) -> None:
        self.store, self.metrics = ParamStore(Params(), IDS), Metrics()
        config = Config(osc=OscConfig(port=0, query_port=0, announce=False), web=WebConfig(port=0, open_browser=False))
        self.control = Control(config.osc, config.lan, self.store, self.metrics, {})
        self.control.start()
        query = OscQuery("/ll", lambda: self.control.port, self.store, self.metrics, IDS)
        self.web = WebServer(config, self.store, self.metrics, PreviewHub(), {}, None, query)
        self.web.start()
        self.base = f"http://127.0.0.1:{self.web.query_port}"

    def close(self) -> None:
        self.web.stop()
        self.control.stop()

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(self.base + path, headers=headers, timeout=DEADLINE_S)

    def listen(self, **headers: str) -> ClientConnection:
        return connect(self.base.replace("http", "ws"), additional_headers=headers, open_timeout=DEADLINE_S)


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.close()


def test_host_info_says_where_osc_is_heard(house: House) -> None:
    told = house.get("/?HOST_INFO").json()
    assert (told["OSC_IP"], told["OSC_PORT"], told["OSC_TRANSPORT"]) == ("127.0.0.1", house.control.port, "UDP")
    assert (told["WS_IP"], told["WS_PORT"]) == ("127.0.0.1", house.web.query_port)
    assert told["EXTENSIONS"]["LISTEN"] is True


def test_every_row_is_in_the_tree_once_with_type_range_and_value(house: House) -> None:
    house.store.set("strength", 0.25)
    leaves: dict[str, dict[str, Any]] = {}

    def walk(node: dict[str, Any]) -> None:
        for name, inner in node.get("CONTENTS", {}).items():
            assert inner["FULL_PATH"].endswith(f"/{name}")
            walk(inner)
        if "TYPE" in node:
            assert "CONTENTS" not in node  # some clients take a node for a folder or a value, and never for both
            leaves[node["FULL_PATH"]] = node

    walk(house.get("/").json())
    wanted = [spec.address for spec in table().values()]
    wanted += [row.address[1:] for row in (*READINGS, *SHOW)]
    assert sorted(leaves) == sorted(f"/ll/{address}" for address in (*wanted, *COMMANDS))
    strength, sampler = leaves["/ll/strength"], leaves["/ll/sampler"]
    assert (strength["TYPE"], strength["ACCESS"], strength["VALUE"]) == ("f", 3, [0.25])
    assert strength["RANGE"] == [{"MIN": 0.0, "MAX": 1.0}]
    assert strength["DESCRIPTION"].startswith(table()["strength"].doc)
    assert sampler["RANGE"] == [{"VALS": ["auto", "lcm", "turbo", "tcd", "ddim"]}]
    assert leaves["/ll/model"]["RANGE"] == [{"VALS": ["pocket", "sd-turbo"]}]
    assert (leaves["/ll/fps"]["ACCESS"], leaves["/ll/cue/go"]["ACCESS"], leaves["/ll/cue/go"]["TYPE"]) == (1, 2, "I")


def test_one_node_one_attribute_and_what_there_is_not(house: House) -> None:
    assert house.get("/ll/control/1/weight").json()["FULL_PATH"] == "/ll/control/1/weight"
    assert {"1", "4", "state"} <= set(house.get("/ll/control/").json()["CONTENTS"])
    assert house.get("/ll/strength?VALUE").json() == {"VALUE": [0.6]}
    assert house.get("/ll/prompt?RANGE").status_code == 204
    assert house.get("/ll/strength?NONSENSE").status_code == 400
    for path in ("/ll/nope", "/nope", "/ll/strength/x", "/../etc/passwd", "/ll/strengt"):
        assert house.get(path).status_code == 404
    assert httpx.post(house.base + "/ll/strength", timeout=DEADLINE_S).status_code == 405


def test_listeners_get_osc_when_somebody_else_moves_something(house: House) -> None:
    with house.listen() as page, house.listen() as other:
        for text in ('{"COMMAND": "LISTEN", "DATA": "/ll/strength"}', "not json", '{"COMMAND": 7}'):
            page.send(text)
        other.send(json.dumps({"COMMAND": "LISTEN", "DATA": "/ll/restarts"}))
        udp = SimpleUDPClient("127.0.0.1", house.control.port)
        udp.send_message("/ll/mix", 0.5)
        heard, value = None, 0.0
        deadline = time.monotonic() + DEADLINE_S
        while heard is None and time.monotonic() < deadline:
            value += 1 / 1024  # the listener may not be known yet when the first ones are sent
            udp.send_message("/ll/strength", value)
            try:
                heard = page.recv(timeout=0.2)
            except TimeoutError:
                continue
        udp._sock.close()
        assert isinstance(heard, bytes)
        assert parse(heard).address == "/ll/strength"  # type: ignore[union-attr]
        other.ping().wait(DEADLINE_S)  # what it asked for has come
        house.metrics.count("worker.restarts")
        told = other.recv(timeout=DEADLINE_S)
        assert isinstance(told, bytes)
        assert parse(told) == message("/ll/restarts", 1)


def test_ignore_ends_it(house: House) -> None:
    with house.listen() as page:
        for path in ("/ll/strength", "/ll/mix"):
            page.send(json.dumps({"COMMAND": "LISTEN", "DATA": path}))
        page.send(json.dumps({"COMMAND": "IGNORE", "DATA": "/ll/strength"}))
        page.ping().wait(DEADLINE_S)
        heard: list[str] = []
        deadline = time.monotonic() + DEADLINE_S
        value = 0.0
        while "/ll/mix" not in heard and time.monotonic() < deadline:
            value += 1 / 1024
            house.store.set_many({"strength": value, "mix": value})
            try:
                heard.append(parse(bytes(page.recv(timeout=0.2))).address)  # type: ignore[union-attr,arg-type]
            except TimeoutError:
                continue
        assert set(heard) == {"/ll/mix"}


def test_a_browser_and_a_foreign_name_get_nothing(house: House) -> None:
    for headers in ({"Origin": house.base}, {"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        assert house.get("/", **headers).status_code == 403
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        with pytest.raises((InvalidStatus, ConnectionClosed)):
            house.listen(**headers).recv(timeout=DEADLINE_S)


def test_an_independent_client_changes_a_parameter_and_sees_what_others_change(house: House) -> None:
    client = Query(house.web.query_port)

    def until(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, (client.seen(), house.store.values()["strength"])
            time.sleep(0.01)

    try:
        while client.seen() is None:
            client.arrive()
            time.sleep(0.1)
        client.change(0.75)
        until(lambda: house.store.values()["strength"] == client.seen() == 0.75)
        udp = SimpleUDPClient("127.0.0.1", house.control.port)
        udp.send_message("/ll/strength", 0.125)
        udp._sock.close()
        until(lambda: client.seen() == 0.125)
        assert client.asked()["VALUE"] == [0.125]
        assert client.client.query_node("/ll/control/1") is not None
        assert client.client.query_node("/ll/nope") is None
    finally:
        client.close()


def test_it_is_found_by_itself_on_this_machine() -> None:
    zeroconf = pytest.importorskip("zeroconf")
    announcement = Announcement("127.0.0.1", 40123, 40124)
    announcement.start()
    try:
        with zeroconf.Zeroconf(interfaces=["127.0.0.1"]) as seeker:
            found: list[int] = []

            class Listener(zeroconf.ServiceListener):  # type: ignore[misc]
                def add_service(self, finder: Any, kind: str, name: str) -> None:
                    info = finder.get_service_info(kind, name)
                    if info is not None:
                        found.append(info.port)

                update_service = remove_service = add_service

            zeroconf.ServiceBrowser(seeker, "_oscjson._tcp.local.", Listener())
            deadline = time.monotonic() + DEADLINE_S
            while 40123 not in found:
                if announcement.failed.is_set():
                    pytest.skip("this system has no multicast on loopback")
                assert time.monotonic() < deadline
                time.sleep(0.02)
    finally:
        announcement.stop()


def test_lan_lets_in_the_networks_that_may_send_osc() -> None:
    store, metrics = ParamStore(Params(), IDS), Metrics()
    query = OscQuery("/ll", lambda: 9, store, metrics, IDS)
    guard = query.app(AllowList(LanConfig(enabled=True, allow=("10.1.0.0/16",))), {"show.local"})
    for client, status in (("10.1.2.3", 200), ("10.2.0.1", 403), ("127.0.0.1", 200)):
        transport = httpx.ASGITransport(guard, client=(client, 5))

        async def ask(transport: httpx.ASGITransport = transport) -> int:
            async with httpx.AsyncClient(transport=transport, base_url="http://show.local") as visitor:
                return (await visitor.get("/ll/strength")).status_code

        assert asyncio.run(ask()) == status


def test_the_tree_has_folders_only_where_something_is_below() -> None:
    leaves = rows("/x", ParamStore(Params(), IDS).values(), {}, {})
    root = find(leaves, "/")
    assert root is not None
    assert list(root["CONTENTS"]) == ["x"]
    assert find(leaves, "/x/control/1") is not None
    assert find(leaves, "/x/cont") is None
