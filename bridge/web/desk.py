"""What all open pages share: the store they move, the changes and figures they are told."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping

from starlette.websockets import WebSocket

from bridge.errors import ControlError, LiveLatentError
from bridge.metrics import Metrics
from bridge.preview import PreviewHub
from bridge.show.acts import Acts
from bridge.show.wiring import Wiring
from bridge.store import ParamStore, Setting
from bridge.telemetry import READINGS, SHOW, readings
from bridge.version import __version__
from bridge.web.board import Board
from bridge.web.catalogue import rows
from bridge.web.client import Client
from bridge.web.figures import detail
from bridge.web.journal import Journal, who
from bridge.web.messages import PROTOCOL, Change, Command, Figure, Hello, Log, Midi, Said, Say, Set, Stats, ToPage
from bridge.web.pictures import Pictures

FIGURES = tuple(Figure(row.address, row.unit, row.doc) for row in (*READINGS, *SHOW))
TICK_S = 0.05
"""How soon a cue that fired is seen."""
STATS_TICKS, DETAIL_TICKS, FOLDER_TICKS = 3, 12, 20
"""Figures, the meters' details, and files that somebody put into the folders, every so many ticks."""
ERRORS = ("/error", "/control/error", "/lora/error", "/ip/error")
"""Readings that say what is wrong: whatever they come to say is in the log too."""
LOG_KEYS = 64
"""Entries of the log that may wait for a page that is slow."""
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
        self.board = Board(acts.director) if acts is not None else None
        self._wiring: Wiring | None = None
        self._errors = dict.fromkeys(ERRORS, "")
        self._count = 0
        self._clients: set[Client] = set()
        self._lock = threading.Lock()
        self._news: dict[str, Setting] = {}

    async def open(self) -> None:
        """Start listening. Call on the loop that all else runs on."""
        self._loop = asyncio.get_running_loop()
        self._pictures = Pictures(self._preview, self._metrics, self._loop)
        self._pictures.start()
        self._reading = asyncio.Lock()
        self.journal = Journal(self._post)
        logging.getLogger("livelatent").addHandler(self.journal)
        self._endings: list[Callable[[], None]] = [
            self._store.watch(self._heard),
            lambda: logging.getLogger("livelatent").removeHandler(self.journal),
        ]
        if self._acts is not None:
            self._endings.append(self._acts.director.news.watch(self._did))
        self._ticker = asyncio.create_task(self._tick(), name="ll-page-stats")

    async def close(self) -> None:
        for end in self._endings:
            end()
        self._ticker.cancel()
        await asyncio.gather(self._ticker, return_exceptions=True)
        self._pictures.stop()

    async def serve(self, socket: WebSocket) -> None:
        """One page, from greeting to goodbye."""
        await socket.accept()
        client = Client(socket, self._pictures, self._obey, self._name(socket))
        # Reading the models and the folders touches files.
        table = await asyncio.to_thread(rows)
        if self.board is not None:
            await self._read_folders(self.board)
        # From here to `live` nothing waits: what changes is in the greeting or comes after it, and nothing before it.
        values = self._store.values()
        self._clients.add(client)
        client.tell("hello", Hello(PROTOCOL, __version__, table, FIGURES, values, tuple(self._commands), client.name))
        client.tell("stats", self._stats())
        client.tell("log", Log(self.journal.all()))
        if self.board is not None:
            client.tell("offer", self.board.offer)
            client.tell("cues", self.board.cues)
        if self._acts is not None and self._acts.wiring is not None:
            client.tell("midi", Midi(self._acts.wiring()))
        self.journal.note("note", "is here", client.name)
        try:
            await client.live()
        finally:
            self._clients.discard(client)
            self.journal.note("note", "has gone", client.name)
            self._learn_no_more(client)

    def _name(self, socket: WebSocket) -> str:
        """`desk 1`, `phone 2`: short enough for the log, and enough to tell two people apart."""
        self._count += 1
        return f"{'phone' if 'Mobi' in socket.headers.get('user-agent', '') else 'desk'} {self._count}"

    async def _obey(self, client: Client, message: Set | Command | Say) -> None:
        if isinstance(message, Set):
            self._set(client, message)
        elif isinstance(message, Say):
            await self._say(client, message)
        elif message.name in self._commands:
            self.journal.note("note", message.name.replace("/", " "), client.name)
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
            answer = await asyncio.to_thread(act, message.args, client.name)
        except LiveLatentError as error:
            client.complain(str(error), message.address)
            return
        if message.address.startswith("cue/") and answer is None:
            self.journal.note("note", " ".join(map(str, (message.address, *message.args))), client.name)
        if answer is not None:
            client.tell(f"said.{message.address}", Said(message.address, answer))

    def _set(self, client: Client, message: Set) -> None:
        try:
            self._store.set_many(message.values, message.seconds or None, origin=client.name)
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
            self._post(lambda: self._loop.call_later(CHANGES_PERIOD_S, self._spread))

    def _did(self, kind: str, what: str, origin: object) -> None:
        """The director's listener, on any thread, on a frame's way too."""
        self._post(lambda: self.journal.did(kind, what, origin))

    def _post(self, job: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(job)
        except RuntimeError:
            pass  # the loop has closed: nobody is left to be told

    def _spread(self) -> None:
        with self._lock:
            news, self._news = self._news, {}
        for name, setting in news.items():
            seconds = {name: setting.over_s} if setting.over_s else {}
            self._tell_all(f"change.{name}", Change({name: setting.value}, seconds, who(setting.origin)))
            self.journal.moved(setting)

    def _tell_all(self, key: str, message: ToPage) -> None:
        for client in self._clients:
            client.tell(key, message)

    # MIDI learn

    def _learn_no_more(self, client: Client) -> None:
        """What a page that has gone wanted to bind must not wait on: no controller moves anything meanwhile."""
        if self._acts is None or self._acts.wiring is None or self._acts.wiring().by != client.name:
            return
        if (act := self._acts.find("midi/learn")) is not None:
            self._loop.run_in_executor(None, act, (), client.name)

    def _look_at_midi(self, acts: Acts) -> None:
        if acts.wiring is None:
            return
        before, self._wiring = self._wiring, acts.wiring()
        if self._wiring != before:
            self._tell_all("midi", Midi(self._wiring))

    # Ticks

    async def _tick(self) -> None:
        count = 0
        while True:
            await asyncio.sleep(TICK_S)
            count += 1
            if self.board is not None and self._clients:
                await self._look_at(self.board, count % FOLDER_TICKS == 0)
            if self._acts is not None:
                self._look_at_midi(self._acts)
            if count % STATS_TICKS == 0:
                self._figures(count)
            for entry in self.journal.fresh():
                self._tell_all(f"log.{entry.number % LOG_KEYS}", Log((entry,)))

    async def _look_at(self, board: Board, folders: bool) -> None:
        if board.turn():
            self._tell_all("cues", board.cues)
        if folders or board.stale:
            await self._read_folders(board)

    async def _read_folders(self, board: Board) -> None:
        # One at a time, and whoever finds a change tells all: the next to look would find none.
        async with self._reading:
            if await asyncio.to_thread(board.read):
                self._tell_all("offer", board.offer)

    def _figures(self, count: int) -> None:
        if not self._clients:
            return
        stats = self._stats()
        self._tell_all("stats", stats)
        if count % DETAIL_TICKS == 0:
            self._tell_all("detail", detail(self._metrics))
        errors = {address: str(stats.readings.get(address, "")) for address in ERRORS}
        for address, error in errors.items():
            if error and error != self._errors[address]:
                self.journal.note("error", error)
        self._errors = errors

    def _stats(self) -> Stats:
        return Stats(readings(self._metrics.snapshot()))
