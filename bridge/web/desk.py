"""What all open pages share: the store they move, the changes and figures they are told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping

from starlette.websockets import WebSocket

from bridge.errors import ControlError, LiveLatentError
from bridge.metrics import Metrics
from bridge.preview import PreviewHub
from bridge.show.acts import Acts
from bridge.store import ParamStore, Setting
from bridge.telemetry import READINGS, SHOW, readings
from bridge.version import __version__
from bridge.web.catalogue import rows
from bridge.web.client import Client
from bridge.web.messages import PROTOCOL, Change, Command, Figure, Hello, Said, Say, Set, Stats, ToPage
from bridge.web.pictures import Pictures

FIGURES = tuple(Figure(row.address, row.unit, row.doc) for row in (*READINGS, *SHOW))
STATS_PERIOD_S = 0.15
CHANGES_PERIOD_S = 0.02
"""Changes are told this often at most: a flood of OSC must not become a flood of messages."""


class Desk:
    """Lives on the event loop; only `_heard` is called from elsewhere."""

    def __init__(
        self,
        store: ParamStore,
        metrics: Metrics,
        preview: PreviewHub,
        commands: Mapping[str, Callable[[], None]],
        acts: Acts | None = None,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._preview = preview
        self._commands = commands
        self._acts = acts
        self._clients: set[Client] = set()
        self._lock = threading.Lock()
        self._news: dict[str, Setting] = {}

    async def open(self) -> None:
        """Start listening. Call on the loop that all else runs on."""
        self._loop = asyncio.get_running_loop()
        self._pictures = Pictures(self._preview, self._metrics, self._loop)
        self._pictures.start()
        self._stop_watching = self._store.watch(self._heard)
        self._ticker = asyncio.create_task(self._tick(), name="ll-page-stats")

    async def close(self) -> None:
        self._stop_watching()
        self._ticker.cancel()
        await asyncio.gather(self._ticker, return_exceptions=True)
        self._pictures.stop()

    async def serve(self, socket: WebSocket) -> None:
        """One page, from greeting to goodbye."""
        await socket.accept()
        client = Client(socket, self._pictures, self._obey)
        self._clients.add(client)
        # Reading the models touches files.
        table = await asyncio.to_thread(rows)
        values = self._store.values()
        client.tell("hello", Hello(PROTOCOL, __version__, table, FIGURES, values, tuple(self._commands)))
        client.tell("stats", self._stats())
        try:
            await client.live()
        finally:
            self._clients.discard(client)

    async def _obey(self, client: Client, message: Set | Command | Say) -> None:
        if isinstance(message, Set):
            self._set(client, message)
        elif isinstance(message, Say):
            await self._say(client, message)
        elif message.name in self._commands:
            try:
                await asyncio.to_thread(self._commands[message.name])
            except LiveLatentError as error:
                client.complain(str(error), message.name)
        else:
            client.complain(f"there is no command {message.name[:64]!r}")

    async def _say(self, client: Client, message: Say) -> None:
        act = self._acts.find(message.address) if self._acts is not None else None
        try:
            if act is None:
                raise ControlError(f"there is no address {message.address!r}")
            # Some read or write a small file.
            answer = await asyncio.to_thread(act, message.args, None)
        except LiveLatentError as error:
            client.complain(str(error), message.address)
            return
        if answer is not None:
            client.tell(f"said.{message.address}", Said(message.address, answer))

    def _set(self, client: Client, message: Set) -> None:
        try:
            self._store.set_many(message.values, message.seconds or None)
        except LiveLatentError as error:
            # The page has moved its controls already: tell it where the values really are.
            true = {name: value for name, value in self._store.values().items() if name in message.values}
            client.complain(str(error), next(iter(true), ""))
            for name, value in true.items():
                client.tell(f"change.{name}", Change({name: value}, {}))

    # Changes

    def _heard(self, setting: Setting) -> None:
        """The store's listener, on the writer's thread: note the change, tell the pages shortly."""
        with self._lock:
            first = not self._news
            self._news[setting.name] = setting
        if first:
            try:
                self._loop.call_soon_threadsafe(self._loop.call_later, CHANGES_PERIOD_S, self._spread)
            except RuntimeError:
                pass  # the loop has closed: nobody is left to be told

    def _spread(self) -> None:
        with self._lock:
            news, self._news = self._news, {}
        for name, setting in news.items():
            seconds = {name: setting.over_s} if setting.over_s else {}
            self._tell_all(f"change.{name}", Change({name: setting.value}, seconds))

    def _tell_all(self, key: str, message: ToPage) -> None:
        for client in self._clients:
            client.tell(key, message)

    # Figures

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(STATS_PERIOD_S)
            if self._clients:
                self._tell_all("stats", self._stats())

    def _stats(self) -> Stats:
        return Stats(readings(self._metrics.snapshot()))
