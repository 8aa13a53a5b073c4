"""The page's server: HTTP and WebSocket on one thread with its own event loop, away from the frames.

Starlette and uvicorn are imported when it starts, so that a bridge without a page does without them.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from bridge.config import Config
from bridge.errors import DriverError
from bridge.metrics import Metrics
from bridge.net import AllowList
from bridge.preview import PreviewHub
from bridge.show.acts import Acts
from bridge.store import ParamStore
from bridge.web.address import host_names, lan_address, listen, listen_host
from bridge.web.announce import Announcement
from engines import paths

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

    from bridge.web.oscquery import OscQuery

log = logging.getLogger("livelatent.web")

START_S = 10.0
STOP_S = 2.0
MAX_CONNECTIONS = 64
MAX_FRAME_BYTES = 64 * 1024
"""A WebSocket message above this ends its connection; one above messages.MAX_MESSAGE_BYTES gets an answer."""


class WebServer:
    """The page, its pictures and its controls, at `url` from `start` to `stop`."""

    def __init__(
        self,
        config: Config,
        store: ParamStore,
        metrics: Metrics,
        preview: PreviewHub,
        commands: Mapping[str, Callable[[], None]],
        acts: Acts | None = None,
        query: OscQuery | None = None,
    ) -> None:
        """`query`: answered on a port of its own, as long as the page is there."""
        self._config = config
        self._store = store
        self._metrics = metrics
        self._preview = preview
        self._commands = commands
        self._acts = acts
        self._query = query
        self._query_socket: socket.socket | None = None
        self._token = ""
        self._port = 0
        self._socket: socket.socket | None = None
        self._servers: list[uvicorn.Server] = []
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._fault: BaseException | None = None

    @property
    def url(self) -> str:
        """What to open, token included; with `--lan` an address that other machines can reach. Valid after `start`."""
        host = listen_host(self._config)
        shown = lan_address() if host == "0.0.0.0" else f"[{host}]" if ":" in host else host  # noqa: S104
        return f"http://{shown}:{self._port}/?token={self._token}"

    @property
    def port(self) -> int:
        """The port it really listens on: the next free one where the configured one was taken."""
        return self._port

    @property
    def query_port(self) -> int:
        """The port that answers OSCQuery; 0 if none does."""
        return int(self._query_socket.getsockname()[1]) if self._query_socket is not None else 0

    def start(self) -> None:
        """Listen and serve. Raises ConfigError for a host that needs `--lan`, DriverError when there is no port."""
        from bridge.web.access import keep_token

        self._token = keep_token(paths.home())
        self._socket = listen(listen_host(self._config), self._config.web.port)
        self._port = int(self._socket.getsockname()[1])
        self._metrics.gauge("web.port", float(self._port))
        if self._config.web.port not in (0, self._port):
            log.warning("port %d is taken: the page is on port %d", self._config.web.port, self._port)
        if self._query is not None:
            self._query_socket = listen(
                self._config.osc.host.replace("localhost", "127.0.0.1"), self._config.osc.query_port
            )
        self._thread = threading.Thread(target=self._run, name="ll-web", daemon=True)
        self._thread.start()
        if not self._started.wait(START_S) or self._fault is not None:
            fault = self._fault
            self.stop()
            raise DriverError(f"the page did not start: {fault or 'it took too long'}")

    def stop(self) -> None:
        """Say goodbye to every page and free the port, within two seconds; safe to call twice."""
        for server in self._servers:
            server.should_exit = True
        if self._thread is not None:
            self._thread.join(STOP_S)
        for sock in (self._socket, self._query_socket):
            if sock is not None:
                sock.close()
        self._socket = self._query_socket = None

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:  # whatever goes wrong with the page, the show goes on
            self._fault = error
            self._metrics.gauge("error", f"the page has stopped: {error}")
        finally:
            self._started.set()

    async def _serve(self) -> None:
        from bridge.web.desk import Desk
        from bridge.web.routes import make_app

        assert self._socket is not None
        desk = Desk(self._store, self._metrics, self._preview, self._commands, self._acts)
        app = make_app(desk, self._preview, self._token, host_names(self._config.lan.enabled))
        self._servers.append(_uvicorn(app))
        await desk.open()
        try:
            async with asyncio.TaskGroup() as tasks:
                if self._query is not None and self._query_socket is not None:
                    tasks.create_task(self._answer(self._query, self._query_socket))
                self._started.set()
                await self._servers[0].serve(sockets=[self._socket])
        finally:
            await desk.close()

    async def _answer(self, query: OscQuery, sock: socket.socket) -> None:
        """OSCQuery, on its own port, and its announcement."""
        app = query.app(AllowList(self._config.lan), host_names(self._config.lan.enabled))
        server = _uvicorn(app)
        self._servers.append(server)
        announcement = Announcement(self._reached(), self.query_port, query.osc_port())
        if self._config.osc.announce:
            announcement.start()
        await query.open()
        try:
            await server.serve(sockets=[sock])
        finally:
            await query.close()
            if self._config.osc.announce:
                await asyncio.to_thread(announcement.stop)

    def _reached(self) -> str:
        host = self._config.osc.host
        return lan_address() if host == "0.0.0.0" else "127.0.0.1" if host == "localhost" else host  # noqa: S104


def _uvicorn(app: ASGIApp) -> uvicorn.Server:
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(
            app,
            ws="websockets-sansio",
            http="h11",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            log_level="warning",  # its INFO lines name addresses with their query, which may hold the token
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=1,
            ws_max_size=MAX_FRAME_BYTES,
            ws_per_message_deflate=False,  # JPEG does not shrink
            ws_ping_interval=5.0,
            ws_ping_timeout=10.0,
        )
    )
