"""Other people's programs that steer the same bridge: each changes `strength`, and sees it, in its own way."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
from contextlib import ExitStack, suppress
from typing import Any, Protocol

import zeroconf
from pythonosc.osc_message import OscMessage
from pythonosc.udp_client import SimpleUDPClient
from pythonoscquery.osc_query_client import OSCQueryClient
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.browser import Page

ADDRESS = "/ll/strength"
DEADLINE_S = 60.0
LIBLO = ("oscsend", "oscdump", "stdbuf")


class Peer(Protocol):
    def arrive(self) -> None:
        """Ask to be told, once more: what it asks while nobody is listening yet is lost."""

    def change(self, value: float) -> None: ...

    def seen(self) -> float | None:
        """What it has as the present value; None while it knows of none."""

    def close(self) -> None: ...


class Terminal:
    """liblo's `oscsend`, and its `oscdump` in the next window."""

    def __init__(self, port: int, listen_port: int) -> None:
        self._port, self._last = port, None
        words = ["stdbuf", "-oL", "oscdump", str(listen_port)]
        self._dump = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._listen_port = listen_port

    @staticmethod
    def missing() -> list[str]:
        return [name for name in LIBLO if not shutil.which(name)]

    def arrive(self) -> None:
        self._send("/ll/subscribe", "i", str(self._listen_port))

    def change(self, value: float) -> None:
        self._send(ADDRESS, "f", f"{value}")

    def seen(self) -> float | None:
        return self._last

    def close(self) -> None:
        self._dump.kill()
        self._dump.wait()
        self._reader.join(DEADLINE_S)
        assert self._dump.stdout is not None
        self._dump.stdout.close()

    def _send(self, *words: str) -> None:
        subprocess.run(["oscsend", "127.0.0.1", str(self._port), *words], check=True, timeout=DEADLINE_S)

    def _read(self) -> None:
        assert self._dump.stdout is not None
        for line in self._dump.stdout:
            words = line.split()  # a time tag may come first
            if ADDRESS in words:
                self._last = float(words[-1])


class Query:
    """An OSCQuery program: learns by HTTP where OSC is heard, sends there, and listens by WebSocket."""

    def __init__(self, query_port: int) -> None:
        kind = "_oscjson._tcp.local."
        found = zeroconf.ServiceInfo(kind, f"x.{kind}", query_port, addresses=[socket.inet_aton("127.0.0.1")])
        self.client = OSCQueryClient(found)
        host: Any = self.client.get_host_info()
        self._udp = SimpleUDPClient(host.osc_ip, host.osc_port)
        self._open = ExitStack()
        self._socket = self._open.enter_context(
            connect(f"ws://127.0.0.1:{query_port}/", open_timeout=DEADLINE_S, proxy=None)
        )
        self._last: float | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def arrive(self) -> None:
        self._socket.send(json.dumps({"COMMAND": "LISTEN", "DATA": ADDRESS}))
        self.change(self.asked()["VALUE"][0] + 1 / 1024)  # who listens is told of changes alone

    def change(self, value: float) -> None:
        self._udp.send_message(ADDRESS, value)

    def seen(self) -> float | None:
        return self._last

    def asked(self, path: str = ADDRESS) -> dict[str, Any]:
        """The node's attributes, by HTTP."""
        node: Any = self.client.query_node(path)
        return {key.name: value for key, value in node.attributes.items()}

    def close(self) -> None:
        self._udp._sock.close()
        self._open.close()
        self._reader.join(DEADLINE_S)

    def _read(self) -> None:
        with suppress(ConnectionClosed):
            for data in self._socket:
                assert isinstance(data, bytes)
                message = OscMessage(data)
                if message.address == ADDRESS:
                    self._last = message.params[0]


class Person:
    """Somebody at the page, in a real browser."""

    BOX = "[data-name=strength] input[type=number]"

    def __init__(self, page: Page, url: str) -> None:
        self._page = page
        page.viewport(1440, 900)
        page.goto(url)
        page.wait("document.querySelector('[data-name=strength]')")

    def arrive(self) -> None:
        """The page asks by itself."""

    def change(self, value: float) -> None:
        self._page.click(self.BOX)
        self._page.eval(f"document.querySelector('{self.BOX}').select()")
        self._page.type(f"{value}")
        self._page.press("Enter")
        self._page.eval("document.activeElement.blur()")  # nothing is overwritten under a hand

    def seen(self) -> float | None:
        return float(self._page.eval(f"Number(document.querySelector('{self.BOX}').value)"))

    def close(self) -> None:
        errors = list(self._page.errors)
        self._page.close()
        assert not errors
