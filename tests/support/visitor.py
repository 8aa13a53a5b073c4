"""A program that talks to the page's server as it likes, over real HTTP and WebSockets."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from support.stage import Stage
from websockets.sync.client import ClientConnection, connect

DEADLINE_S = 60.0


class Visitor:
    """A program that talks to the server as it likes."""

    def __init__(self, stage: Stage) -> None:
        self.port = stage.server.port
        self.token = urlsplit(stage.server.url).query.removeprefix("token=")
        self.host = f"127.0.0.1:{self.port}"

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        try:
            connection.putrequest(method, path, skip_host=True)
            for key, value in {"Host": self.host, **headers}.items():
                connection.putheader(key, value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def cookie(self) -> str:
        _, headers, _ = self.get(f"/?token={self.token}")
        return headers["set-cookie"].partition(";")[0]

    def talk(self, host: str | None = None, user_agent_header: str = "a test", **headers: str) -> ClientConnection:
        """An open WebSocket; the token goes into the cookie unless `headers` say otherwise."""
        headers.setdefault("Cookie", f"livelatent={self.token}")
        return connect(
            f"ws://{host or self.host}/ws",
            sock=socket.create_connection(("127.0.0.1", self.port), DEADLINE_S),
            additional_headers=headers,
            max_size=None,
            open_timeout=DEADLINE_S,
            close_timeout=1,
            compression=None,
            user_agent_header=user_agent_header,
        )


def say(page: ClientConnection, **message: Any) -> None:
    page.send(json.dumps(message))


def hear(page: ClientConnection, kind: str, test: Callable[[dict[str, Any]], bool] = lambda message: True) -> Any:
    """The next message of this type that passes the test; pictures and others are passed over."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        data = page.recv(timeout=DEADLINE_S)
        if isinstance(data, str):
            message = json.loads(data)
            if message["type"] == kind and test(message):
                return message
    raise AssertionError(f"no such {kind}")
