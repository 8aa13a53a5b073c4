"""Encodes the newest pictures for those who watch: once per frame for all, on a thread of its own.

Nothing here ever waits for a page. A page has at most `IN_FLIGHT` pictures of a shelf that it has not painted yet;
until it has, newer ones replace each other in the hub, and a shelf that nobody can take now is not encoded at all.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import cv2
import numpy as np
import simplejpeg

from bridge.clock import NS, now_ns
from bridge.frame import Frame, Pixels
from bridge.metrics import Metrics
from bridge.preview import PreviewHub
from bridge.web.messages import HEADER, PROTOCOL, SHELVES, Packet, Shelf

QUALITY = 85
MAX_SIDE = 1280
"""Larger pictures are shrunk for the page; what goes to the other sinks is untouched."""
THUMBNAIL_SIDE = 256
FULL_CHROMA_PIXELS = 640 * 640
"""Up to here colours keep their full resolution (neon edges show it); above, bandwidth matters more."""
IN_FLIGHT = 3
"""Enough for 60 pictures a second over a network of 50 ms there and back."""
WAIT_S = 0.1
_COLOURS = {1: "GRAY", 3: "RGB", 4: "RGBA"}
_TO_BGR = {1: cv2.COLOR_GRAY2BGR, 3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGR}


def encode_jpeg(pixels: Pixels, quality: int = QUALITY) -> bytes:
    """uint8 (h, w, 1 | 3 | 4), RGB(A) or gray, as JPEG."""
    chroma = "444" if pixels.shape[0] * pixels.shape[1] <= FULL_CHROMA_PIXELS else "420"
    pixels = np.ascontiguousarray(pixels)
    jpeg: bytes = simplejpeg.encode_jpeg(pixels, quality, _COLOURS[pixels.shape[2]], chroma)
    return jpeg


def encode_png(pixels: Pixels) -> bytes:
    """uint8 (h, w, 1 | 3 | 4), RGB(A) or gray, as PNG without alpha."""
    ok, png = cv2.imencode(".png", cv2.cvtColor(pixels, _TO_BGR[pixels.shape[2]]))
    if not ok:
        raise ValueError("this picture can't be written as PNG")
    return bytes(png)


def shrink(pixels: Pixels, side: int = MAX_SIDE) -> Pixels:
    """The picture with its longer side at most `side`, same shape otherwise."""
    height, width, channels = pixels.shape
    scale = side / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small: Pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], channels)
    return small


def thumbnail(preview: PreviewHub) -> bytes | None:
    """The newest output, small, as JPEG; None while there is none."""
    frame = preview.newest("output")
    return encode_jpeg(shrink(frame.pixels, THUMBNAIL_SIDE), 80) if frame is not None else None


class Seat:
    """One page's place at one shelf. Used on the event loop alone."""

    def __init__(self, shelf: Shelf, receive: Callable[[Packet], bool]) -> None:
        self.shelf = shelf
        self.watching = False
        self._receive = receive
        self._in_flight: list[int] = []
        self._last = -1

    @property
    def hungry(self) -> bool:
        return self.watching and len(self._in_flight) < IN_FLIGHT

    def offer(self, packet: Packet) -> None:
        """Take the picture if it is new here and there is room for it."""
        if self.hungry and packet.number > self._last:
            self._last = packet.number
            replaced = self._receive(packet)
            if replaced:
                self._in_flight.pop()
            self._in_flight.append(packet.number)

    def acknowledge(self, number: int) -> None:
        self._in_flight = [n for n in self._in_flight if n > number]


class Pictures:
    """The encoder thread and the seats it serves. All methods but `stop` belong to the event loop."""

    def __init__(self, hub: PreviewHub, metrics: Metrics, loop: asyncio.AbstractEventLoop) -> None:
        self._hub = hub
        self._metrics = metrics
        self._loop = loop
        self._seats: set[Seat] = set()
        self._orders = threading.Condition()
        self._wanted: frozenset[Shelf] = frozenset()
        self._fresh = False
        self._stopped = False
        self._done: dict[Shelf, tuple[Frame, Packet]] = {}
        self._thread = threading.Thread(target=self._run, name="ll-pictures", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; returns when it is gone."""
        with self._orders:
            self._stopped = True
            self._orders.notify()
        self._thread.join(2)

    def join(self, seat: Seat) -> None:
        self._seats.add(seat)
        self.look_again()

    def leave(self, seat: Seat) -> None:
        self._seats.discard(seat)
        self.look_again()

    def look_again(self) -> None:
        """Call when a seat has changed: some shelf may be wanted now, or no longer."""
        wanted = frozenset(seat.shelf for seat in self._seats if seat.hungry)
        with self._orders:
            self._fresh = True
            self._wanted = wanted
            if wanted:
                self._orders.notify()

    def _run(self) -> None:
        seen = -1
        while not self._stopped:
            with self._orders:
                self._orders.wait_for(lambda: self._wanted or self._stopped)
                wanted, fresh, self._fresh = self._wanted, self._fresh, False
            seen = self._hub.wait(-1 if fresh else seen, WAIT_S)
            for shelf in SHELVES:
                if shelf in wanted and not self._stopped:
                    self._serve(shelf, fresh)

    def _serve(self, shelf: Shelf, fresh: bool) -> None:
        frame = self._hub.newest(shelf)
        if frame is None:
            return
        done = self._done.get(shelf)
        if done is None or done[0] is not frame:
            packet = self._encode(shelf, frame, done[1].number + 1 if done else 0)
            if packet is None:
                return
            self._done[shelf] = (frame, packet)
        elif fresh:
            packet = done[1]
        else:
            return
        try:
            self._loop.call_soon_threadsafe(self._deliver, packet)
        except RuntimeError:  # the loop has closed while we encoded
            self._stopped = True

    def _encode(self, shelf: Shelf, frame: Frame, number: int) -> Packet | None:
        try:
            jpeg = encode_jpeg(shrink(frame.pixels))
        except (ValueError, RuntimeError, cv2.error):
            self._metrics.count("web.errors")
            return None
        head = HEADER.pack(
            SHELVES.index(shelf),
            PROTOCOL,
            HEADER.size,
            number & 0xFFFFFFFF,
            frame.seq & 0xFFFFFFFF,
            frame.version & 0xFFFFFFFF,
            frame.stamps.captured / NS,
            now_ns() / NS,
        )
        return Packet(shelf, number, head + jpeg)

    def _deliver(self, packet: Packet) -> None:
        for seat in self._seats:
            if seat.shelf == packet.shelf:
                seat.offer(packet)
        self.look_again_quietly()

    def look_again_quietly(self) -> None:
        """As `look_again`, but a seat that became full is no reason to encode anew."""
        with self._orders:
            self._wanted = frozenset(seat.shelf for seat in self._seats if seat.hungry)
