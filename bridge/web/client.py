"""One open page: what it said, what it is to be told. A page that is slow or silent costs nobody else anything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.websockets import WebSocket, WebSocketDisconnect

from bridge.errors import ControlError
from bridge.web.messages import (
    SHELVES,
    Ack,
    Command,
    Packet,
    Problem,
    Say,
    Set,
    Shelf,
    ToPage,
    Watch,
    decode,
    encode,
)
from bridge.web.pictures import Pictures, Seat

MAX_PROBLEMS = 8


class Client:
    """Lives on the event loop. Its outbox holds the newest message of each kind and picture of each shelf: no queue."""

    def __init__(
        self,
        socket: WebSocket,
        pictures: Pictures,
        obey: Callable[[Client, Set | Command | Say], Awaitable[None]],
        name: str = "",
    ) -> None:
        """`name`: what others know it by, in the log and beside what it moves."""
        self.name = name
        self._socket = socket
        self._pictures = pictures
        self._obey = obey
        self._texts: dict[str, ToPage] = {}
        self._packets: dict[Shelf, Packet] = {}
        self._something = asyncio.Event()
        self._seats: dict[Shelf, Seat] = {shelf: Seat(shelf, self._put) for shelf in SHELVES}

    def tell(self, key: str, message: ToPage) -> None:
        """Send this soon; it replaces a message with the same key that has not gone out yet."""
        self._texts.pop(key, None)
        self._texts[key] = message
        self._something.set()

    def complain(self, text: str, name: str = "") -> None:
        """Say what was refused; of many complaints that have not gone out, the last few are kept."""
        waiting = [key for key in self._texts if key.startswith("problem.")]
        if len(waiting) >= MAX_PROBLEMS:
            del self._texts[waiting[0]]
        self.tell(f"problem.{name}.{text}", Problem(text, name))

    async def live(self) -> None:
        """Until the page goes away."""
        for seat in self._seats.values():
            self._pictures.join(seat)
        writer = asyncio.create_task(self._write(), name="ll-page-writer")
        try:
            await self._read()
        finally:
            for seat in self._seats.values():
                self._pictures.leave(seat)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    def _put(self, packet: Packet) -> bool:
        """A picture for the outbox; whether it replaced one that had not gone out yet."""
        replaced = packet.shelf in self._packets
        self._packets[packet.shelf] = packet
        self._something.set()
        return replaced

    async def _write(self) -> None:
        try:
            while True:
                await self._something.wait()
                self._something.clear()
                while self._texts:
                    message = self._texts.pop(next(iter(self._texts)))
                    await self._socket.send_text(encode(message))
                for shelf in SHELVES:
                    packet = self._packets.pop(shelf, None)
                    if packet is not None:
                        await self._socket.send_bytes(packet.data)
        except (WebSocketDisconnect, RuntimeError, OSError):
            pass  # the page is gone; the reader notices too and ends this client

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            if text is None:
                self.complain("messages are JSON texts")
                continue
            try:
                await self._take(text)
            except ControlError as error:
                self.complain(str(error))

    async def _take(self, text: str) -> None:
        message = decode(text)
        if isinstance(message, Ack):
            self._seats[message.shelf].acknowledge(message.number)
            self._pictures.look_again()
        elif isinstance(message, Watch):
            for shelf, seat in self._seats.items():
                seat.watching = shelf in message.shelves
            self._pictures.look_again()
        else:
            await self._obey(self, message)
