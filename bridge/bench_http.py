"""How AUTOMATIC1111's clients hand over pictures, for comparison only: base64 of a PNG in JSON over HTTP."""

from __future__ import annotations

import base64
import threading
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import msgspec
import numpy as np

from bridge.errors import SinkError
from bridge.frame import Frame, Stamps
from bridge.pacing import Pace
from bridge.slot import LatestSlot

PNG_LEVEL = 6
"""Pillow's default, and so that of those clients."""


class Body(msgspec.Struct):
    image: str
    captured: int
    media: int


class HttpSource:
    """Takes POSTs on a port of this machine."""

    def __init__(self, port: int) -> None:
        self.slot: LatestSlot[Frame] = LatestSlot()
        slot = self.slot

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = (
                True  # or the answer waits 40 ms for an acknowledgement, which PNG is not to blame for
            )

            def do_POST(self) -> None:
                body = msgspec.json.decode(self.rfile.read(int(self.headers["Content-Length"])), type=Body)
                png = np.frombuffer(base64.b64decode(body.image), np.uint8)
                pixels = np.asarray(
                    cv2.cvtColor(cv2.imdecode(png, cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA), np.uint8
                )
                slot.put(Frame(pixels, 0, Stamps(body.captured), body.media))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="ll-http", daemon=True)

    def open(self) -> None:
        self._thread.start()

    def read(self, timeout: float) -> Frame | None:
        return self.slot.take(timeout)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def describe(self) -> str:
        return "HTTP"


class HttpSink:
    """POSTs, and waits for the answer."""

    def __init__(self, port: int) -> None:
        self.pace = Pace()
        self._connection = HTTPConnection("127.0.0.1", port, timeout=10)

    def open(self) -> None:
        pass

    def write(self, frame: Frame) -> None:
        bgra = cv2.cvtColor(frame.pixels, cv2.COLOR_RGBA2BGRA)
        _, png = cv2.imencode(".png", bgra, [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL])
        body = Body(base64.b64encode(png.tobytes()).decode(), frame.stamps.captured, frame.media_ns)
        try:
            self._connection.request("POST", "/", msgspec.json.encode(body))
            self._connection.getresponse().read()
        except (OSError, HTTPException) as error:
            raise SinkError(f"HTTP: {error}") from error

    def close(self) -> None:
        self._connection.close()

    def describe(self) -> str:
        return "HTTP"
