"""OSC over UDP: one thread that listens, applies, answers, and tells telemetry and changes to those who asked.

A flood costs the frames nothing: the thread takes what has come, keeps the last value of each parameter, touches the
store once, and then rests for at least as long as it worked. What comes meanwhile waits in the socket's buffer; what
does not fit there is lost, as UDP may, and counted by the system (`osc.overflow`).

A blocking socket's thread and not asyncio: on Windows the latter's UDP goes deaf for ever once a peer that we answered
has closed its port.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from bridge import sdtd
from bridge.clock import MS, NS, now_ns
from bridge.config import LanConfig, OscConfig
from bridge.dispatch import Batch, Call, Dispatch, Join, Refusal, answer
from bridge.errors import ControlError, LiveLatentError
from bridge.grumble import Grumble
from bridge.metrics import Metrics
from bridge.net import AllowList, Endpoint, check_reach, numeric, open_udp, overflowed, parse_endpoint
from bridge.osc import MAX_PACKET, Packet, build, bundle, message
from bridge.show.acts import Acts
from bridge.store import ParamStore, Setting
from bridge.subscribers import Subscribers
from bridge.telemetry import show_telemetry, telemetry

log = logging.getLogger("livelatent.osc")

MAX_DATAGRAMS = 256
"""Taken in one wake, or fewer where that takes longer than PACE_NS."""
PACE_NS = 4 * MS
"""From one wake to the next, while the socket can be emptied in one."""
FEEDBACK_NS = 20 * MS
"""Changes are told this often at most."""
MAX_WAIT_NS = NS


class Control:
    """The OSC port. `start` binds it; `stop` returns when its thread and sockets are gone."""

    def __init__(
        self,
        osc: OscConfig,
        lan: LanConfig,
        store: ParamStore,
        metrics: Metrics,
        commands: Mapping[str, Callable[[], None]],
        acts: Acts | None = None,
    ) -> None:
        """Raises ConfigError for hosts and networks that are malformed, or beyond this machine without `lan`."""
        self._host, self._port = numeric(osc.host, "osc.host"), osc.port
        check_reach(self._host, lan, "osc.host")
        always = tuple(parse_endpoint(text, "osc.reply") for text in osc.reply)
        for host, _ in always:
            check_reach(host, lan, "osc.reply")
        self._prefix, self._period_ns = osc.prefix, int(NS / osc.rate)
        self._allow = AllowList(lan)
        self._store, self._metrics = store, metrics
        self._sdtd = osc.streamdiffusiontd
        self._dispatch = Dispatch(osc.prefix, store, commands, sdtd.Aliases() if self._sdtd else None, acts)
        self._peers = Subscribers(always)
        self._news: dict[str, Setting] = {}
        self._news_lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._grumble = Grumble()

    @property
    def port(self) -> int:
        """The UDP port, once started: the configured one, or the one that the system chose for 0."""
        return self._port

    def start(self) -> None:
        """Bind and listen. Raises ConfigError when the port is taken."""
        self._socket = open_udp(self._host, self._port, "osc")
        self._port = int(self._socket.getsockname()[1])
        self._bell, self._ear = socket.socketpair()
        self._bell.setblocking(False)
        self._ear.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._selector.register(self._ear, selectors.EVENT_READ)
        self._stopping.clear()
        self._unwatch = self._store.watch(self._heard)
        self._thread = threading.Thread(target=self._run, name="ll-osc", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and free the port; safe to call twice."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._unwatch()
        self._stopping.set()
        self._ring()
        thread.join(5.0)
        self._selector.close()
        for sock in (self._socket, self._bell, self._ear):
            sock.close()

    # The thread

    def _run(self) -> None:
        self._next_telemetry = self._next_feedback = now_ns()
        while not self._stopping.is_set():
            try:
                self._turn()
            except Exception:  # whatever it was: a show whose controls are deaf until the restart is worse
                log.exception("the OSC thread stumbled")
                self._metrics.count("osc.errors")
                time.sleep(0.05)

    def _turn(self) -> None:
        ready = {key.fileobj for key, _ in self._selector.select(self._patience())}
        if self._ear in ready:
            self._ear.recv(4096)
        if self._socket in ready:
            start = time.thread_time_ns()
            batch, more = self._drain(now_ns() + PACE_NS)
            self._settle(batch)
            self._tell()
            # Its own processor time, not the clock: where others hold this thread up, it owes them no rest for that.
            spent = min(time.thread_time_ns() - start, PACE_NS)
            time.sleep((max(spent, MS) if more else max(spent, PACE_NS - spent)) / NS)
        else:
            self._tell()

    def _patience(self) -> float:
        """Seconds until something is to be sent, if nothing comes."""
        now = now_ns()
        due = min(self._next_telemetry, now + MAX_WAIT_NS)
        if self._news:
            due = min(due, self._next_feedback)
        return max(0, due - now) / NS

    def _drain(self, deadline_ns: int) -> tuple[Batch, bool]:
        """What has come, and whether there may be more of it."""
        batch = Batch()
        for count in range(MAX_DATAGRAMS):
            if not count & 7 and now_ns() > deadline_ns:
                break
            try:
                data, address = self._socket.recvfrom(MAX_PACKET)
            except BlockingIOError:
                return batch, False
            except ConnectionError:
                continue  # Windows: a peer that we sent to has gone; that is its own affair
            sender = address[0], address[1]
            if self._allow.allows(sender[0]):
                self._dispatch.take(data, sender, batch)
            else:
                batch.rejected["source"] += 1
                self._grumble.last = f"{sender[0]} is not in lan.allow"
        return batch, True

    def _settle(self, batch: Batch) -> None:
        """Make the changes, then answer: a question behind a change gets the new value, a ping comes back last."""
        self._metrics.count("osc.messages", batch.messages)
        for act in (*batch.inputs.values(), *batch.acts):
            self._store.apply(act.before.values())
            self._act(act, batch)
        if batch.settings:
            self._store.apply(batch.settings.values())
        for call in batch.commands.values():
            self._call(call)
        for target, join in batch.joins.items():
            if join is None:
                self._peers.remove(target)
            elif self._subscribe(join, batch):
                batch.asked[target, ""] = None
        self._complain(batch.rejected, batch.refusals)
        self._answer(batch.asked)
        for to, pong in batch.pongs:
            self._send(to, pong)

    def _act(self, call: Call, batch: Batch) -> None:
        try:
            answer = call.act(call.said.args, call.sender)
        except LiveLatentError as error:
            batch.refuse("value", call.sender, call.said, str(error))
            return
        if answer is not None:
            self._send(self._peers.listens_at(call.sender), message(call.said.address, *answer))

    def _subscribe(self, join: Join, batch: Batch) -> bool:
        """True for a peer that is new, and so wants to know how everything stands."""
        target = join.target
        try:
            new = self._peers.add(target, join.source, now_ns() + int(join.seconds * NS))
        except ControlError as error:
            batch.refuse("peers", join.source, message(f"{self._prefix}/subscribe"), str(error))
            return False
        self._send(target, message(f"{self._prefix}/subscribed", target[1], join.seconds))
        return new

    def _call(self, call: Callable[[], None]) -> None:
        try:
            call()
        except LiveLatentError as error:
            log.warning("a command was refused: %s", error)

    def _answer(self, asked: Iterable[tuple[Endpoint, str]]) -> None:
        values = self._store.values()
        for sender, name in asked:
            to = self._peers.listens_at(sender)
            if name:
                self._send(to, answer(self._prefix, name, values[name]))
            else:
                self._send(to, bundle(*(answer(self._prefix, n, v) for n, v in values.items())))

    def _complain(self, rejected: Counter[str], refusals: list[Refusal]) -> None:
        for kind, n in rejected.items():
            self._metrics.count("osc.rejected", n)
            self._metrics.count(f"osc.rejected.{kind}", n)
        self._grumble.count += rejected.total()
        for refusal in refusals:
            said = refusal.message
            self._grumble.last = f"{refusal.sender[0]}: {said.address + ': ' if said else ''}{refusal.why}"
            if said and self._grumble.may_answer(now_ns()):
                why = self._dispatch.explain(refusal)
                to = self._peers.listens_at(refusal.sender)
                self._send(to, message(f"{self._prefix}/error", said.address, why))

    # Telling

    def _heard(self, setting: Setting) -> None:
        """The store's listener, on any thread."""
        with self._news_lock:
            first = not self._news
            self._news[setting.name] = setting
        if first:
            self._ring()

    def _ring(self) -> None:
        try:
            self._bell.send(b"\0")
        except OSError:
            pass  # full of rings that nobody has heard yet: one more changes nothing

    def _tell(self) -> None:
        now = now_ns()
        if self._news and now >= self._next_feedback:
            self._next_feedback = now + FEEDBACK_NS
            with self._news_lock:
                news, self._news = self._news, {}
            for name, setting in news.items():
                for target in self._peers.targets(but=setting.origin):
                    self._send(target, answer(self._prefix, name, setting.value))
        if now >= self._next_telemetry:
            self._next_telemetry = now + self._period_ns
            self._peers.expire(now)
            self._metrics.gauge("osc.overflow", overflowed(self._socket))
            if len(self._peers):
                seen = self._metrics.snapshot()
                figures = [
                    telemetry(self._prefix, seen),
                    show_telemetry(self._prefix, seen),
                    *([sdtd.telemetry(seen)] if self._sdtd else []),
                ]
                for target in self._peers.targets():
                    for packet in figures:
                        self._send(target, packet)
        self._grumble.log(now)

    def _send(self, to: Endpoint, packet: Packet) -> None:
        try:
            self._socket.sendto(build(packet), to)
        except OSError:
            # No route, no buffer, or (Windows) nobody there. UDP promises nothing, and the next figures come soon.
            self._metrics.count("osc.unsent")
