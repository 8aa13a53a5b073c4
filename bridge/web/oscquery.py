"""OSCQuery: programs such as Chataigne, ossia score, VDMX and TouchDesigner find our addresses by themselves.

It is OSC's sibling and has OSC's reach: who may send OSC may ask what there is, and listen. No such program can send
the page's token, so the port is one of its own. A browser is turned away, whatever page it shows: a request with an
Origin, or under a name that is not this machine's, gets nothing.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Mapping

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from bridge.metrics import Metrics
from bridge.net import AllowList
from bridge.osc import build, message
from bridge.store import ParamStore, Setting
from bridge.telemetry import readings
from bridge.web.access import host_name
from bridge.web.namespace import ATTRIBUTES, Node, Value, find, host_info, rows
from pipelines.params import table

PERIOD_S = 0.05
MAX_LISTENED = 1024
MAX_LISTENERS = 16


class Order(msgspec.Struct):
    """What a listener says."""

    COMMAND: str
    DATA: str = ""


class OscQuery:
    """The application. `open` and `close` on the loop that serves it."""

    def __init__(
        self,
        prefix: str,
        osc_port: Callable[[], int],
        store: ParamStore,
        metrics: Metrics,
        ids: Mapping[str, Callable[[], Collection[str]]],
    ) -> None:
        """`osc_port`: where OSC is heard, once that has started. `ids`: as the store's."""
        self._prefix, self.osc_port = prefix, osc_port
        self._store, self._metrics, self._ids = store, metrics, ids
        self._names = {f"{prefix}/{spec.address}": name for name, spec in table().items()}
        self._listeners: dict[WebSocket, set[str]] = {}
        self._told: dict[str, float | str] = {}
        self._lock = threading.Lock()
        self._news: dict[str, Value] = {}

    def app(self, allow: AllowList, hosts: Collection[str]) -> ASGIApp:
        """Behind its guard."""
        routes = [WebSocketRoute("/{path:path}", self._listen), Route("/{path:path}", self._answer, methods=["GET"])]
        return _Guard(Starlette(routes=routes), allow, hosts)

    async def open(self) -> None:
        self._unwatch = self._store.watch(self._heard)
        self._teller = asyncio.create_task(self._tell(), name="ll-oscquery")

    async def close(self) -> None:
        self._unwatch()
        self._teller.cancel()
        await asyncio.gather(self._teller, return_exceptions=True)

    def nodes(self) -> dict[str, Node]:
        seen = readings(self._metrics.snapshot())
        ids = {kind: sorted(known()) for kind, known in self._ids.items()}
        return rows(self._prefix, self._store.values(), seen, ids)

    async def _answer(self, request: Request) -> Response:
        asked = request.url.query.split("&")[0].split("=")[0].upper()
        if asked == "HOST_INFO":
            host, port = request.scope["server"]
            # Where they found us is where they find OSC.
            return _json(host_info(host, self.osc_port(), host, port))
        node = find(await asyncio.to_thread(self.nodes), request.url.path)
        if node is None:
            return PlainTextResponse("There is no such address.\n", 404)
        if not asked:
            return _json(node)
        if asked not in ATTRIBUTES:
            return PlainTextResponse("There is no such attribute.\n", 400)
        return _json({asked: node[asked]}) if asked in node else Response(status_code=204)

    # Listening

    async def _listen(self, socket: WebSocket) -> None:
        if len(self._listeners) >= MAX_LISTENERS:
            await socket.close(1013)
            return
        await socket.accept()
        wanted = self._listeners.setdefault(socket, set())
        try:
            while (said := await socket.receive())["type"] != "websocket.disconnect":
                self._obey(wanted, said.get("text") or "")
        finally:
            del self._listeners[socket]

    def _obey(self, wanted: set[str], text: str) -> None:
        try:
            order = msgspec.json.decode(text, type=Order)
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            return
        path = order.DATA
        if order.COMMAND == "IGNORE":
            wanted.discard(path)
        elif order.COMMAND == "LISTEN" and len(wanted) < MAX_LISTENED and path.startswith(f"{self._prefix}/"):
            wanted.add(path[:256])

    def _heard(self, setting: Setting) -> None:
        """The store's listener, on any thread."""
        with self._lock:
            self._news[setting.name] = setting.value

    async def _tell(self) -> None:
        """What has changed, to those who listen: twenty times a second, the newest value alone."""
        while True:
            await asyncio.sleep(PERIOD_S)
            if not self._listeners:
                continue
            for address, value in self._changes().items():
                packet = build(message(address, value))
                for socket, wanted in list(self._listeners.items()):
                    if address in wanted:
                        await self._send(socket, packet)

    def _changes(self) -> dict[str, Value]:
        with self._lock:
            news, self._news = self._news, {}
        out: dict[str, Value] = {f"{self._prefix}/{table()[name].address}": value for name, value in news.items()}
        seen = {self._prefix + address: value for address, value in readings(self._metrics.snapshot()).items()}
        told, self._told = self._told or seen, seen
        out |= {address: value for address, value in seen.items() if told.get(address) != value}
        return out

    async def _send(self, socket: WebSocket, packet: bytes) -> None:
        try:
            await asyncio.wait_for(socket.send_bytes(packet), 1.0)
        except (TimeoutError, RuntimeError, OSError):
            self._listeners.get(socket, set()).clear()  # it is gone, or as good as that; its reader ends it


class _Guard:
    def __init__(self, app: ASGIApp, allow: AllowList, hosts: Collection[str]) -> None:
        self._app, self._allow, self._hosts = app, allow, frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        host, client = headers.get(b"host", b"").decode("latin-1"), scope.get("client")
        if b"origin" not in headers and host_name(host) in self._hosts and client and self._allow.allows(client[0]):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await PlainTextResponse("livelatent answers OSCQuery to programs that may send it OSC.\n", 403)(
                scope, receive, send
            )


def _json(node: Node) -> Response:
    return Response(msgspec.json.encode(node), media_type="application/json", headers={"Cache-Control": "no-store"})
