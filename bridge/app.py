"""The whole program, top to bottom: config → drivers → threads → loop → close."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import webbrowser
from collections.abc import Callable
from types import FrameType

import msgspec

from bridge.clock import NS, now_ns
from bridge.config import Config, settled
from bridge.context import Context
from bridge.control import Control
from bridge.controllers import Controllers
from bridge.display.display import Display
from bridge.drivers import DriverSpec, make_sink, make_source
from bridge.errors import DriverError, LiveLatentError
from bridge.feed import Feeder, SourceThread
from bridge.frame import MAX_PIXELS, Frame
from bridge.hint_output import HintOutput
from bridge.opening import initial_params, opened
from bridge.output import Output
from bridge.own_feed import OwnFeeds
from bridge.record.deck import Deck
from bridge.ring import RingWriter
from bridge.show.acts import Acts
from bridge.store import ParamStore
from bridge.supervisor import Supervisor
from bridge.tox.component import component_hash
from bridge.turn import Turn
from bridge.version import __version__
from engines.registry import Registry
from pipelines.params import Params, table
from pipelines.spec import StreamSpec, structural

log = logging.getLogger("livelatent")

TICK_S = 0.1
SWITCH_S = 0.0005
"""Many threads hand frames to each other; at Python's 5 ms one busy thread would hold up all others for that long."""


class App:
    """One run. `start`, then `wait`, then `close`; or `run` for all three."""

    def __init__(self, config: Config, context: Context | None = None) -> None:
        self.config = config = settled(config)
        self.context = context or Context(config)
        self.metrics = self.context.metrics
        self.metrics.gauge("version", f"{__version__} {component_hash()}")
        self.registry = Registry.open()
        reg = self.registry
        self._ids = {
            "models": reg.ids,
            "controlnets": reg.controlnet_ids,
            "loras": reg.lora_ids,
            "ipadapters": reg.ipadapter_ids,
        }
        self.store = ParamStore(initial_params(config, reg), self._ids)
        self.director = opened(config, self.store, self.metrics, self.context.preview)
        self.context.main_tasks.append(self.director.tick)
        self.deck = Deck(config.record, self.metrics, self.store.take, config.every_frame)
        self.context.main_tasks.append(self.deck.report)
        self._acts = acts = Acts(self.director, self.deck)
        self.controllers = Controllers(config, self.store, self.director, acts, self.context)
        self.output = Output(self.metrics)
        for text in config.sinks:
            self.output.add(DriverSpec.parse(text).name, make_sink(text, self.context))
        self.display = Display(self.output, self.metrics, possible=not config.every_frame)
        self.hints = HintOutput(config.hint_sinks, self.context)
        source = make_source(config.source, self.context)
        self.own = OwnFeeds(config.own_sources(), self.context)
        worker = config.worker
        self.spec = StreamSpec(
            engine=worker.engine, device=worker.device, dtype=worker.dtype, threads=worker.threads, fake=worker.fake
        )
        self.ring = RingWriter.create(MAX_PIXELS * 4)
        self.supervisor = Supervisor(
            *(worker, self.ring.name, self.metrics, self._picture, self._refused, self._skipped, self.own.rings),
            on_hint=self.hints.put,
            on_unseen=self.deck.unseen,
        )
        self.turn = Turn(self.output) if config.every_frame else None
        self.source = SourceThread(source, self.metrics, self.context.preview, self.turn)
        self.feeder = Feeder(
            self.source.slot, self.ring, self.director.snapshot, self._fed, self.metrics, config.every_frame,
            self._feeding,
        )  # fmt: skip
        self.stopping = threading.Event()
        commands = {"restart": self.supervisor.restart, **acts.commands}
        self.control = Control(config.osc, config.lan, self.store, self.metrics, commands, acts)
        self._closers: list[Callable[[], None]] = [
            self.own.close,
            self.ring.unlink,
            self.ring.close,
            self.deck.close,
            self.display.stop,
        ]
        self._commands = commands

    def start(self) -> None:
        """Raises LiveLatentError, with everything closed again, when a port or device that must be there is not."""
        try:
            if self.config.record.start:
                self.deck.start()
            params = self.store.snapshot()
            self.supervisor.want(structural(self.spec, params), params)
            for start, stop in (
                (self.control.start, self.control.stop),
                (self.output.start, self.output.stop),
                (self.hints.start, self.hints.stop),
                (self.supervisor.start, self.supervisor.stop),
                (self.controllers.start, self.controllers.stop),
                (self.feeder.start, self.feeder.stop),
                (self.own.start, self.own.stop),
                (self.source.start, self.source.stop),
            ):
                self._closers.append(stop)
                start()
            if self.config.web.enabled:
                self._start_web()
        except LiveLatentError:
            self.close()
            raise
        log.info("source %s → %s; OSC on port %d", self.config.source, ", ".join(self.config.sinks), self.control.port)

    def _start_web(self) -> None:
        from bridge.web.oscquery import OscQuery
        from bridge.web.server import WebServer

        config, store, metrics = self.config, self.store, self.metrics
        query = OscQuery(config.osc.prefix, lambda: self.control.port, store, metrics, self._ids)
        parts = (config, store, metrics, self.context.preview, self._commands, self._acts)
        web = WebServer(*parts, query if config.osc.query else None)
        self._closers.append(web.stop)
        try:
            web.start()
        except DriverError as error:
            # The page is a window onto the show, not the show.
            log.warning("no page: %s", error)
            self.metrics.gauge("error", str(error))
            return
        print(f"livelatent: {web.url}", flush=True)
        if self.config.web.open_browser and _has_desktop():
            webbrowser.open(web.url)

    def wait(self) -> None:
        """Until a signal, the end of the source, or the number of frames asked for."""
        while not self.stopping.wait(TICK_S):
            for task in self.context.main_tasks:
                task()
            if self.config.frames and self.output.count >= self.config.frames:
                return
            if self.source.ended.is_set() and self.config.stop_at_end:
                self._drain()
                return

    def _drain(self) -> None:
        """Let the last frame come through before the lights go out."""
        deadline = now_ns() + int(max(2.0, 3 * self.supervisor.frame_ms / 1000) * NS)
        while self.output.newest_seq < self.feeder.newest_seq and now_ns() < deadline:
            if self.stopping.wait(0.02):
                return
        self.display.flush()
        self.output.wait_written(2.0)

    def close(self) -> None:
        while self._closers:
            self._closers.pop()()

    def _feeding(self, frame: Frame, params: Params) -> None:
        """The feeder is about to write this frame."""
        self.deck.fed(frame, params)
        self.display.fed(frame, params)

    def _fed(self, params: Params) -> None:
        """The feeder wrote a frame, or looked at the parameters because there was none."""
        self.supervisor.paused = params.pause
        self.display.follow(params)
        if self.supervisor.active_pid is not None and not self.source.ready.is_set():
            self.store.restart_prompt()  # no more than a movie's beginning should its own be shown to nobody
            self.source.ready.set()
            self.own.begin()
        self.supervisor.want(structural(self.spec, params), params)
        self._make_ready(params)
        self.supervisor.feed()

    def _make_ready(self, params: Params) -> None:
        """Have what the next cue paints with built beside what this one does."""
        upcoming = {name: v for name, v in self.director.upcoming.items() if table()[name].kind == "structural"}
        if upcoming:
            params = msgspec.structs.replace(params, **upcoming)
        self.supervisor.prepare(structural(self.spec, params) if upcoming else None, params)

    def _picture(self, frame: Frame) -> None:
        self.display.put(frame)
        self.deck.picture(frame)
        if self.turn is not None:
            self.turn.painted()

    def _skipped(self) -> None:
        """A frame could not be painted: whoever waits for it shall go on."""
        if self.turn is not None:
            self.turn.painted()

    def _refused(self, keep: StreamSpec | None, reason: str) -> None:
        """What was asked for can't be built: the parameters say again what is really painted."""
        if keep is not None:
            kept = {name: getattr(keep, name) for name, row in table().items() if row.kind == "structural"}
            self.store.set_many(kept)


def _has_desktop() -> bool:
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def run(config: Config, with_stdin: bool = False) -> int:
    """Run until Ctrl-C, SIGTERM or the end of the source; returns the exit code. LiveLatentError if it can't start.

    `with_stdin`: until standard input ends, too.
    """
    sys.setswitchinterval(SWITCH_S)
    app = App(config)

    def stop(number: int, frame: FrameType | None) -> None:
        app.stopping.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    if with_stdin:
        threading.Thread(target=_await_end, args=(0, app.stopping), name="ll-stdin", daemon=True).start()
    try:
        app.start()
        app.wait()
    finally:
        app.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _await_end(handle: int, stopping: threading.Event) -> None:
    """Set `stopping` when this pipe closes: whoever holds its other end has gone, however that came about.

    os.read and not sys.stdin, whose lock a daemon thread must not hold when the interpreter ends.
    """
    try:
        while os.read(handle, 4096):
            pass
    except OSError:
        pass
    stopping.set()
