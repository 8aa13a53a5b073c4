"""Real peers at one bridge, all at once: whoever changes a parameter, everybody else sees it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import py2tosc
import pytest
from support.browser import chromium
from support.fake_touchosc import App
from support.stage import Stage

from bridge.config import Config, OscConfig, WebConfig
from bridge.control import Control
from bridge.layouts import tosc, touchosc
from bridge.layouts.cli import everything_shipped
from bridge.web.oscquery import OscQuery
from bridge.web.server import WebServer
from tests.support.peers import DEADLINE_S, Peer, Person, Query, Terminal

MODELS = {kind: lambda: ("none",) for kind in ("models", "controlnets", "loras", "ipadapters")}


class Bridge(Stage):
    """The page, OSC and OSCQuery before one store."""

    def _serve(self) -> WebServer:
        self.control = Control(
            OscConfig(port=0), self.config.lan, self.store, self.metrics, self.acts.commands, self.acts
        )
        self.control.start()
        query = OscQuery("/ll", lambda: self.control.port, self.store, self.metrics, MODELS)
        return WebServer(self.config, self.store, self.metrics, self.hub, self.commands, self.acts, query)


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    osc = OscConfig(port=0, query_port=0, announce=False)
    made = Bridge(Config(osc=osc, web=WebConfig(port=0, open_browser=False)))
    try:
        made.start()
        yield made
    finally:
        made.control.stop()
        made.stop()


class Surface:
    """TouchOSC with our layout."""

    def __init__(self, bridge: Bridge, listener: socket.socket) -> None:
        self._app = App(listener, ("127.0.0.1", bridge.control.port))
        root = touchosc.layout(everything_shipped("/ll"), "/ll", listener.getsockname()[1])
        self._app.open(py2tosc.loads(tosc.xml(root)))
        self._row = self._app.row("/ll/strength")

    def arrive(self) -> None:
        """The layout asks by itself."""

    def change(self, value: float) -> None:
        self._app.slide(self._row.child("fader"), value)

    def seen(self) -> float | None:
        self._app.frame()
        return float(self._row.child("value").values["text"])

    def close(self) -> None:
        self._app.close()


def everyone_sees(value: float, peers: dict[str, Peer], whose: str) -> None:
    """Wait until all of them have it, the one that moved it too."""
    deadline = time.monotonic() + DEADLINE_S
    while (seen := {name: peer.seen() for name, peer in peers.items()}) != pytest.approx(
        dict.fromkeys(peers, value), abs=1e-6
    ):
        assert time.monotonic() < deadline, (whose, value, seen)
        time.sleep(0.01)


@pytest.mark.browser
@pytest.mark.skipif(bool(Terminal.missing()), reason="needs oscsend and oscdump: apt-get install liblo-tools")
def test_each_changes_a_parameter_and_sees_the_others_changes(bridge: Bridge, free_port: int) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener,
        chromium() as browser,
        ExitStack() as leaving,
    ):
        listener.bind(("127.0.0.1", 0))
        peers: dict[str, Peer] = {}
        for name, arrive in {
            "oscsend and oscdump": lambda: Terminal(bridge.control.port, free_port),
            "an OSCQuery client": lambda: Query(bridge.server.query_port),
            "the page": lambda: Person(browser.page(), bridge.server.url),
            "TouchOSC's layout": lambda: Surface(bridge, listener),
        }.items():
            peers[name] = arrive()
            leaving.callback(peers[name].close)
        deadline = time.monotonic() + DEADLINE_S
        for name, peer in peers.items():
            while peer.seen() is None:
                assert time.monotonic() < deadline, name
                peer.arrive()
                time.sleep(0.1)
        value = 0.0
        for _ in range(2):
            for name, peer in peers.items():
                value += 0.125  # as exact in the figures of a fader as in 32 bits
                peer.change(value)
                everyone_sees(value, peers, name)
                assert bridge.store.values()["strength"] == pytest.approx(value)
        assert peers["an OSCQuery client"].asked()["VALUE"] == [pytest.approx(value)]
        assert bridge.metrics.get("osc.rejected") == 0
