"""Looks, cues and schedules, applied to the store: the one place where a show becomes parameters.

`snapshot` is what the feeder takes for each frame: cues that have come due by then are in it, each begun at its own
time. Nothing here waits for a worker, so the show goes on while one is replaced.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bridge.clock import from_seconds, now_ns, seconds
from bridge.errors import ConfigError, ControlError, LiveLatentError
from bridge.metrics import Metrics
from bridge.ramp import RampCurve
from bridge.show import cues
from bridge.show.cues import Cue, Quantise, Show
from bridge.show.drives import Drives
from bridge.show.looks import Library, Look, saved_rows
from bridge.show.player import Player
from bridge.show.recall import SEEDS, Move, coming, plan
from bridge.store import ParamStore, Value
from pipelines.params import Params

log = logging.getLogger("livelatent.show")


class Director:
    """Thread-safe. Every method raises ControlError or ConfigError with a sentence, and then nothing has changed."""

    def __init__(self, store: ParamStore, metrics: Metrics, clock: Callable[[], int] = now_ns) -> None:
        """`clock`: nanoseconds, that of the frames."""
        self._store, self._metrics, self._clock = store, metrics, clock
        self.lock = threading.RLock()
        """Held by whoever does several things that belong together."""
        self.drives = Drives(metrics, clock)
        store.drive_by(self.drives)
        self.looks = Library()
        self._walk: tuple[int, Move] | None = None
        """A walk of the seeds, and when it is over."""
        self._asked: tuple[int, Callable[[int], None]] | None = None
        """A recall that waits for its beat: when, and what."""
        self.player: Player | None = None
        self._path: Path | None = None
        self._stamp = 0
        self._upcoming: dict[str, Value] = {}

    # The frame's way

    def snapshot(self, at_ns: int | None = None) -> Params:
        """The parameters of a frame at this time."""
        at_ns = self._clock() if at_ns is None else at_ns
        with self.lock:
            if self._walk is not None and at_ns >= self._walk[0]:
                self._end_walk(at_ns)
            if self._asked is not None and at_ns >= self._asked[0]:
                (when_ns, recall), self._asked = self._asked, None
                recall(when_ns)
            if self.player is not None:
                for cue, when in self.player.advance(seconds(at_ns)):
                    self._fire(cue, when)
            return self._store.snapshot(at_ns)

    def _fire(self, cue: Cue, at_s: float) -> None:
        try:
            values, schedules = self._of(cue)
            move = cues.span(cue.move)
            tempo = self.drives.tempo
            over = move.amount if move.unit == "s" else move.beats(tempo.per_bar) * 60.0 / tempo.bpm
            self._apply(values, schedules, over, cue.curve, from_seconds(at_s))
            if cue.look:
                self._metrics.gauge("look", cue.look)
        except LiveLatentError as error:
            # A look that was deleted meanwhile: the list goes on, and everyone can see why this cue did nothing.
            log.error("cue %s: %s", cue.name or cue.look, error)
            self._metrics.gauge("error", str(error))
            self._metrics.count("cue.failed")
        self._metrics.count("cue.fired")
        self._look_ahead()

    def _of(self, cue: Cue) -> tuple[dict[str, Value], dict[str, str]]:
        """What a cue sets, its look and what it says itself."""
        look = self.looks.get(cue.look) if cue.look else Look("", {}, {})
        values, schedules = cues.cue_parts(cue)
        own = {name: text for name, text in look.schedules.items() if name not in values} | dict(schedules)
        return {n: v for n, v in {**look.values, **values}.items() if n not in own}, own

    def _look_ahead(self) -> None:
        """What the next cue wants, so that it can be made ready."""
        after = self.player.following() if self.player is not None else None
        self._upcoming = {}
        if self.player is not None and after is not None:
            try:
                self._upcoming, _ = self._of(self.player.show.cue[after])
            except LiveLatentError as error:
                self._metrics.gauge("error", f"the next cue: {error}")
        self._store.foresee(coming(self._upcoming, self._store.values()))

    @property
    def upcoming(self) -> Mapping[str, Value]:
        """The parameters that the next cue sets; empty if there is none."""
        return self._upcoming

    # Looks

    def recall(
        self,
        name: object,
        over_s: float | None = None,
        curve: RampCurve = "linear",
        quantise: Quantise = "",
        origin: object = None,
    ) -> None:
        """Go to a look, at once or with the next beat or bar, in `over_s` seconds. Of several that wait, the last."""
        with self.lock:
            look = self.looks.get(name)
            plan(self._store, look.values, over_s, curve)  # what is wrong is told now, and not on the beat

            def begin(at_ns: int) -> None:
                try:
                    self._apply(look.values, look.schedules, over_s, curve, at_ns, origin)
                    self._metrics.gauge("look", look.name)
                except LiveLatentError as error:
                    self._metrics.gauge("error", str(error))

            at_s, tempo = seconds(self._clock()), self.drives.tempo
            if quantise:
                beats = 1.0 if quantise == "beat" else float(tempo.per_bar)
                self._asked = from_seconds(tempo.next_after(at_s, beats)), begin
            else:
                self._asked = None
                begin(self._clock())

    def _apply(
        self,
        values: Mapping[str, Value],
        schedules: Mapping[str, str],
        over_s: float | None,
        curve: RampCurve,
        at_ns: int,
        origin: object = None,
    ) -> None:
        move = plan(self._store, values, over_s, curve, origin)
        if SEEDS & values.keys():
            self._walk = (at_ns + from_seconds(over_s or 0.0), move) if move.walking else None
        self._store.apply(move.now, at_ns)
        self.drives.detach(values)
        for name, text in schedules.items():
            self.drives.attach(name, text, at_ns=at_ns)

    def _end_walk(self, at_ns: int) -> None:
        assert self._walk is not None
        (_, move), self._walk = self._walk, None
        here = self._store.values()
        if all(here[name] == value for name, value in move.walking.items()):  # else somebody has moved them since
            self._store.apply(move.then, at_ns)

    def save(self, name: object) -> None:
        """Keep the running state as a look of the user's own."""
        with self.lock:
            params, schedules = self._store.snapshot(self._clock()), self.drives.texts()
            values = {row: getattr(params, row) for row in saved_rows() if row not in schedules}
            path = self.looks.save(Look(str(name) if isinstance(name, str) else "", values, schedules))
            self._metrics.gauge("look", str(name))
        log.info("saved %s", path)

    # Schedules

    def schedule(self, name: str, text: str, length: float | None = None) -> None:
        """Move a row by `text` from now on; an empty text ends it, and the row stays where it is."""
        with self.lock:
            if text.strip():
                self.drives.attach(name, text, length)
            elif name in self.drives.texts():
                self._store.set(name, getattr(self._store.snapshot(self._clock()), name))
                self.drives.detach((name,))

    def release(self, name: str = "") -> None:
        self.drives.release(name)

    def tap(self) -> None:
        bpm = self.drives.tap(seconds(self._clock()))
        if bpm is not None:
            self._store.set("tempo", min(300.0, max(20.0, round(bpm, 2))), at_ns=self._clock())

    def downbeat(self) -> None:
        self.drives.downbeat(seconds(self._clock()))

    # Shows

    def load(self, name: str) -> None:
        """Put this cue list on; nothing fires yet."""
        path = cues.find(name)
        show = cues.read_show(path)
        with self.lock:
            self.player = Player(show, self.drives.tempo)
            self._path, self._stamp = path, path.stat().st_mtime_ns
            self._look_ahead()

    def playing(self) -> Player:
        """The cue list that is on. ControlError if there is none."""
        if self.player is None:
            raise ControlError("no show is loaded")
        return self.player

    def go(self) -> None:
        with self.lock:
            self.playing().go(seconds(self._clock()))

    def back(self) -> None:
        with self.lock:
            self.playing().back(seconds(self._clock()))

    def jump(self, word: str | float) -> None:
        with self.lock:
            player = self.playing()
            player.jump(player.find(word), seconds(self._clock()))

    def hold(self, on: bool | None = None) -> None:
        """Stop the list's time, or let it pass again; None does the other of the two."""
        with self.lock:
            player = self.playing()
            player.hold(not player.held if on is None else on, seconds(self._clock()))

    def edit(self, change: Sequence[Cue]) -> None:
        """Other cues, while it plays."""
        with self.lock:
            player = self.playing()
            show = Show(name=player.show.name, title=player.show.title, loop=player.show.loop, cue=tuple(change))
            player.replace(cues.checked(show))
            self._look_ahead()

    def save_show(self, name: str) -> None:
        with self.lock:
            self._path = cues.save_show(self.playing().show, name)
            self._stamp = self._path.stat().st_mtime_ns

    # Ten times a second, on the main thread

    def tick(self) -> None:
        """Take over a file that was edited, and say how the show stands."""
        path, stamp = self._path, self._stamp
        if path is not None:
            self._reread(path, stamp)
        with self.lock:
            self._report(seconds(self._clock()))

    def _reread(self, path: Path, before: int) -> None:
        try:
            stamp = path.stat().st_mtime_ns
        except OSError:
            return  # an editor is just putting another in its place, or it is gone: the list plays on
        if stamp == before:
            return
        show = None
        try:
            show = cues.read_show(path)  # which may take its time: no frame waits for it
        except ConfigError as error:
            # Half a file, or a mistake in it: the list goes on as it was.
            log.warning("the show keeps its former cues: %s", error)
            self._metrics.gauge("error", str(error))
        with self.lock:
            if path != self._path or self._stamp != before or self.player is None:
                return  # another one was put on meanwhile
            self._stamp = stamp
            if show is not None:
                self.player.replace(show)
                self._look_ahead()
                log.info("the show %s was edited: taken over", path.stem)

    def _report(self, at_s: float) -> None:
        tempo, player = self.drives.tempo, self.player
        beat = tempo.beat(at_s)
        self._metrics.gauge("beat", beat % tempo.per_bar + 1.0)
        if player is None:
            return
        after, due = player.following(), player.next_s(at_s)
        self._metrics.gauge("cue", _title(player.show, player.index))
        self._metrics.gauge("cue.next", _title(player.show, -1 if after is None else after))
        self._metrics.gauge("cue.in", due - at_s if math.isfinite(due) else -1.0)


def _title(show: Show, index: int) -> str:
    if index < 0:
        return ""
    cue = show.cue[index]
    return f"{index + 1} {cue.name or cue.look}".rstrip()
