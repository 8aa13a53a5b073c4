"""Keeps a worker painting. One thread; decides ten times a second and whenever something happens to a worker.

The one that paints and a warm standby beside it. When the painter dies or stalls, the standby is promoted: that takes
one message. When another model or size is wanted, the standby is built with it and promoted when it is ready; until
then the old one paints on, and if the new one can't be built, it paints on for good and the reason is shown.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from bridge.ahead import Ahead
from bridge.bulletin import Bulletin
from bridge.channel import Painted
from bridge.child import Child, see_out
from bridge.clock import NS, now_ns
from bridge.config import WorkerConfig
from bridge.errors import WireError, WorkerError
from bridge.frame import Frame, Made
from bridge.lifecycle import Deaths, Event, State
from bridge.metrics import Metrics
from pipelines.params import Params
from pipelines.spec import StreamSpec

log = logging.getLogger("livelatent.supervisor")

TICK_S = 0.1
ALONE = 8
"""So many times longer a painter may be silent, or at one frame, while there is no warm standby."""
DUMP_S = 0.1
"""How long a stalled worker gets to write its stacks before it is killed."""
SILENT_S = {State.STARTING: 60.0, State.WARM: 5.0, State.LEAVING: 2.0, State.ACTIVE: 5.0, State.DEAD: 5.0}
"""No sign of life for this long, and a worker that does not paint is killed. Imports can hold one up for seconds."""


class Supervisor:
    """`want` says what to paint with, `feed` rings the painter's bell, `on_picture` gets the pictures."""

    def __init__(
        self,
        config: WorkerConfig,
        ring_in: str,
        metrics: Metrics,
        on_picture: Callable[[Frame], None],
        on_refused: Callable[[StreamSpec | None, str], None] = lambda spec, reason: None,
        on_skipped: Callable[[], None] = lambda: None,
        rings_own: Mapping[int, str] | None = None,
        on_hint: Callable[[Frame], None] = lambda frame: None,
        on_unseen: Callable[[int, Made], None] = lambda fed_ns, made: None,
    ) -> None:
        """`rings_own`: control unit → the ring with the pictures of its own stream. `on_hint` gets what `hint_preview`
        wants to be seen, `on_unseen` the feeding times of pictures that newer ones overtook."""
        self._config, self._ring_in, self._metrics = config, ring_in, metrics
        self._on_picture, self._on_hint, self._on_unseen = on_picture, on_hint, on_unseen
        self._on_refused, self._on_skipped = on_refused, on_skipped
        self._rings_own = dict(rings_own or {})
        self._children: list[Child] = []
        self._active: Child | None = None
        self._wanted: StreamSpec | None = None
        self._params = Params()
        self._refused: StreamSpec | None = None
        self._ahead = Ahead()
        self._epoch = 0
        self.paused = False
        """Nothing is fed on purpose; only for what is reported."""
        self._deaths = Deaths()
        self._not_before_ns = 0
        self._bulletin = Bulletin(metrics)
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ll-supervisor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """See every worker out: politely, then not. Returns when nothing of them is left."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(5.0)
        with self._lock:
            children, self._children, self._active = self._children, [], None
        see_out(children)

    def want(self, spec: StreamSpec, params: Params) -> None:
        """What to paint with from now on; `params` are for the warm-up."""
        self._params = params
        if spec != self._wanted:
            self._wanted = spec
            self._refused = None
            self._wake.set()

    def prepare(self, spec: StreamSpec | None, params: Params) -> None:
        """What may be wanted next: the standby is built with it while all goes well. None leaves it a twin."""
        if self._ahead.put(spec, params):
            self._wake.set()

    def feed(self) -> None:
        """A new frame lies in ring A."""
        active = self._active
        if active is not None:
            active.feed()

    def restart(self) -> None:
        """The user says: try again, whatever happened before."""
        self._deaths.forgive()
        self._refused = None
        self._ahead.forgive()
        self._not_before_ns = 0
        self._wake.set()

    @property
    def active_pid(self) -> int | None:
        active = self._active
        return active.pid if active is not None else None

    @property
    def standby_pid(self) -> int | None:
        """The warm one's process id; None while there is none."""
        with self._lock:
            return next((c.pid for c in self._children if c.state is State.WARM), None)

    @property
    def frame_ms(self) -> float:
        """The painter's frame time as measured at its warm-up; 0 while nobody paints."""
        active = self._active
        return active.ready.frame_ms if active is not None and active.ready is not None else 0.0

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(TICK_S)
            self._wake.clear()
            self._reap()
            self._watch()
            self._handle_refusals()
            self._promote()
            self._populate()
            self._report()

    def _reap(self) -> None:
        for child in [c for c in self._children if c.gone()]:
            before = child.move(Event.DIED)
            with self._lock:
                self._children.remove(child)
            if before is not State.LEAVING:
                why = f"worker {child.pid} ({before.value}) died with {child.exit_code}"
                if child is not self._active and child.spec != self._wanted:
                    self._not_ahead(child.spec, why)
                else:
                    self._lost(child, why)
            child.bury()
            if before is not State.LEAVING:
                last = " | ".join(child.tail)[-600:]
                log.warning("worker %d painted for %.1f s; its last words: %s", child.pid, child.painted_s(), last)

    def _lost(self, child: Child, reason: str) -> None:
        """A worker is lost. The standby takes over before anything else is done about it."""
        if child is self._active:
            self._active = None
            self._metrics.count("worker.restarts")
        self._promote()
        self._deaths.record(now_ns() / NS, child.painted_s())
        self._not_before_ns = now_ns() + int(self._deaths.pause_s * NS)
        log.warning(reason)
        self._bulletin.error(reason)

    def _watch(self) -> None:
        at = now_ns()
        for child in list(self._children):
            silent = child.unheard_s(at)
            if child is self._active:
                # With none to take over, a start would take longer than what only waits for its turn at a processor.
                limit_s = self._config.stall_s * (1 if self.standby_pid is not None else ALONE)
                if why := child.stalled(at, limit_s):
                    self._replace(child, why)
            elif silent > SILENT_S[child.state]:
                log.error("worker %d (%s) has been silent for %.0f s", child.pid, child.state.value, silent)
                child.kill()

    def _replace(self, child: Child, why: str) -> None:
        """Take a stalled painter out; ask it where it is, for the log; kill it."""
        self._metrics.count("worker.stalls")
        child.move(Event.DISMISSED)
        self._lost(child, f"worker {child.pid} stalled: {why}")
        child.dump_stacks()
        self._stop.wait(DUMP_S)
        child.kill()
        log.error("worker %d was here: %s", child.pid, "\n".join(child.tail))

    def _handle_refusals(self) -> None:
        for child in self._children:
            if child.refusal and child.spec == self._wanted:
                self._refuse(child.spec, child.refusal)
            elif child.refusal and child.spec != self._refused:
                self._not_ahead(child.spec, child.refusal)
            if child.skipped:
                self._metrics.count("worker.skipped")
                self._bulletin.error(child.skipped)
                child.skipped = ""
                self._on_skipped()
        active, wanted = self._active, self._wanted
        if self._deaths.hopeless and active is not None and wanted is not None and active.spec != wanted:
            self._refuse(wanted, f"{wanted.model} can't be loaded: its worker dies")
            self._deaths.forgive()

    def _refuse(self, spec: StreamSpec, reason: str) -> None:
        """Stay with what paints now, and say why."""
        if spec == self._refused:
            return
        log.error("can't build %s: %s", spec.model, reason)
        self._metrics.count("worker.refused")
        self._bulletin.error(reason)
        active = self._active
        self._refused = spec
        self._on_refused(active.spec if active is not None else None, reason)
        if active is not None:
            self._wanted = active.spec

    def _not_ahead(self, spec: StreamSpec, reason: str) -> None:
        """What comes next can't be built ahead: the standby is a twin again, and the painter knows nothing of it."""
        if self._ahead.give_up(spec):
            log.warning("can't make %s ready: %s", spec.model, reason)
            self._bulletin.error(f"the next cue's {spec.model}: {reason}")

    def _promote(self) -> None:
        """Put a warm worker in the painter's place: at once if there is none, else when it has what is wanted."""
        warm = [c for c in self._children if c.state is State.WARM]
        fitting = [c for c in warm if c.spec == self._wanted]
        old = self._active
        if old is not None and (old.spec == self._wanted or not fitting):
            return
        # Anything that paints is better than nothing: with no painter, a standby of the former model will do.
        new = next(iter(fitting or warm), None)
        if new is None:
            return
        self._epoch += 1
        new.on_picture, new.on_hint, new.on_unseen = self._picture, self._hint, self._unseen
        new.promote(self._epoch)
        self._active = new
        if old is not None:
            old.dismiss()
        log.info("worker %d paints %s at %dx%d", new.pid, new.spec.model, new.spec.width, new.spec.height)

    def _picture(self, child: Child, frame: Frame) -> None:
        if child is self._active:
            self._on_picture(frame)

    def _unseen(self, child: Child, painted: Painted, made: Made) -> None:
        if child is self._active:
            self._on_unseen(painted.fed, made)

    def _hint(self, child: Child, frame: Frame) -> None:
        if child is self._active:
            self._on_hint(frame)

    def _populate(self) -> None:
        """Start what is missing; send away a standby that nobody wants any more."""
        wanted = self._wanted
        if wanted is None or self._deaths.hopeless or wanted == self._refused:
            return
        active = self._active
        # The standby is started once pictures flow: before, it would only compete with the first one for the processor.
        settled = self._config.standby and active is not None and active.spec == wanted and active.painted > 0
        spec, params = (settled and self._ahead.get()) or (wanted, self._params)
        for child in self._children:
            if child is not active and child.spec != spec and child.state in (State.STARTING, State.WARM):
                child.dismiss()
        there = [c for c in self._children if c.state is not State.LEAVING and c.spec == spec]
        if len(there) > (settled and spec == wanted) or now_ns() < self._not_before_ns:
            return
        try:
            child = Child(
                spec,
                params,
                self._ring_in,
                background=active is not None,
                changed=self._wake.set,
                rings_own=self._rings_own,
            )
        except (WorkerError, WireError) as error:
            # A full shared memory, a full process table: worth another try, and no reason to stop supervising.
            self._bulletin.error(str(error))
            self._deaths.record(now_ns() / NS, 0.0)
            self._not_before_ns = now_ns() + int(self._deaths.pause_s * NS)
            return
        with self._lock:
            self._children.append(child)

    def _report(self) -> None:
        self._bulletin.state(self._state(), self.standby_pid is not None)
        if self._active is not None:
            self._bulletin.painter(self._active)

    def _state(self) -> str:
        active = self._active
        if active is not None and active.painted:
            return "paused" if self.paused else "running"
        if self._deaths.hopeless or (self._refused is not None and active is None):
            return "failed"
        return "starting" if self._epoch == 0 else "holding"
