"""Looks, cues and schedules, applied to the store: the one place where a show becomes parameters.

`snapshot` is what the feeder takes for each frame: cues that have come due by then are in it, each begun at its own
time. Nothing here waits for a worker, so the show goes on while one is replaced.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import structs

from bridge.clock import from_seconds, now_ns, seconds
from bridge.errors import ControlError, LiveLatentError
from bridge.metrics import Metrics
from bridge.ramp import RampCurve
from bridge.show import cues
from bridge.show.baton import Baton
from bridge.show.cues import Cue, Quantise, Show
from bridge.show.drives import Drives
from bridge.show.listfile import ListFile
from bridge.show.looks import Library, Look, saved_rows
from bridge.show.news import News
from bridge.show.player import Player
from bridge.show.recall import SEEDS, Move, coming, plan
from bridge.show.standing import name_of, report
from bridge.show.waiting import Later, Waiting
from bridge.store import ParamStore, Setting, Value
from pipelines.params import Params

log = logging.getLogger("livelatent.show")


class Director:
    """Thread-safe. Every method raises ControlError or ConfigError with a sentence, and then nothing has changed."""

    def __init__(
        self,
        store: ParamStore,
        metrics: Metrics,
        clock: Callable[[], int] = now_ns,
        picture: Callable[[], bytes | None] = lambda: None,
    ) -> None:
        """`clock`: nanoseconds, that of the frames. `picture`: a JPEG of how a look that is saved now looks."""
        self._store, self._metrics, self._clock, self._picture = store, metrics, clock, picture
        self.lock = threading.RLock()
        """Held by whoever does several things that belong together."""
        self.drives = Drives(metrics, clock)
        store.drive_by(self.drives)
        self.baton = Baton(store, self.drives, metrics)
        self.looks = Library()
        self._walk: tuple[int, Move] | None = None
        """A walk of the seeds, and when it is over."""
        self._waiting = Waiting(self.drives.tempo, metrics, clock)
        self._now = self._waiting.now
        self.player: Player | None = None
        self._file: ListFile | None = None
        self.news = News()
        self._upcoming: dict[str, Value] = {}

    # The frame's way

    def snapshot(self, at_ns: int | None = None) -> Params:
        """The parameters of a frame at this time."""
        at_ns = self._clock() if at_ns is None else at_ns
        with self.lock:
            if self._walk is not None and at_ns >= self._walk[0]:
                self._end_walk(at_ns)
            self.drives.follow(seconds(at_ns))
            self._waiting.run(at_ns)
            if self.player is not None:
                for cue, when in self.player.advance(seconds(at_ns)):
                    self._fire(cue, when)
            return self._store.snapshot(at_ns)

    def later(self, key: str, quantise: Quantise, act: Later) -> None:
        """Do this with the next beat or bar, or now where `quantise` is empty. Of several with one key, the last."""
        with self.lock:
            self._waiting.later(key, quantise, act)

    def check(self, name: str, value: object, over_s: object, origin: object) -> Setting:
        """A move by hand, validated but not made. Raises ParamError."""
        return self._store.check(name, value, over_s, origin)

    def put(self, settings: Iterable[Setting]) -> None:
        """Make it, as of its beat if it waited for one."""
        self._store.apply(settings, self._now())

    def _fire(self, cue: Cue, at_s: float) -> None:
        try:
            values, schedules = cues.whole(cue, self.looks)
            move = cues.span(cue.move)
            tempo = self.drives.tempo
            over = move.amount if move.unit == "s" else move.beats(tempo.per_bar) * 60.0 / tempo.bpm
            self._apply(values, schedules, over, cue.curve, from_seconds(at_s))
            if cue.look:
                self._metrics.gauge("look", cue.look)
            self.news.tell("cue", name_of(cue))
        except LiveLatentError as error:
            # A look that was deleted meanwhile: the list goes on, and everyone can see why this cue did nothing.
            log.error("cue %s: %s", name_of(cue), error)
            self._metrics.gauge("error", str(error))
            self._metrics.count("cue.failed")
        self._metrics.count("cue.fired")
        self._look_ahead()

    def _look_ahead(self) -> None:
        """What the next cue wants, so that it can be made ready."""
        after = self.player.following() if self.player is not None else None
        self._upcoming = {}
        if self.player is not None and after is not None:
            try:
                self._upcoming, _ = cues.whole(self.player.show.cue[after], self.looks)
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
        """Go to a look, at once or with the next beat or bar, in `over_s` seconds. Of several that wait, the last.

        `origin`: who asked. The changes have none: whoever asked for a look knows none of its values.
        """
        with self.lock:
            look = self.looks.get(name)
            plan(self._store, look.values, over_s, curve)  # what is wrong is told now, and not on the beat

            def begin(at_ns: int) -> None:
                self._apply(look.values, look.schedules, over_s, curve, at_ns)
                self._metrics.gauge("look", look.name)
                self.news.tell("look", look.name, origin)

            self.later("look/recall", quantise, begin)

    def _apply(
        self,
        values: Mapping[str, Value],
        schedules: Mapping[str, str],
        over_s: float | None,
        curve: RampCurve,
        at_ns: int,
    ) -> None:
        move = plan(self._store, values, over_s, curve)
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

    def save(self, name: object, origin: object = None) -> None:
        """Keep the running state, and how it looks, as a look of the user's own."""
        with self.lock:
            params, schedules = self._store.snapshot(self._clock()), self.drives.texts()
            values = {row: getattr(params, row) for row in saved_rows() if row not in schedules}
            look = Look(str(name) if isinstance(name, str) else "", values, schedules)
            path = self.looks.save(look, self._picture())
            self._metrics.gauge("look", look.name)
            self.news.tell("saved", f"the look {look.name}", origin)
        log.info("saved %s", path)

    def delete(self, name: object, origin: object = None) -> None:
        """Forget a look of the user's own."""
        with self.lock:
            self.looks.delete(name)
            self.news.tell("deleted", f"the look {name}", origin)

    # Schedules

    def schedule(self, name: str, text: str, length: float | None = None) -> None:
        """Move a row by `text` from now on; an empty text ends it, and the row stays where it is."""
        with self.lock:
            if text.strip():
                self.drives.attach(name, text, length, self._now())
            elif name in self.drives.texts():
                self._store.set(name, getattr(self._store.snapshot(self._now()), name))
                self.drives.detach((name,))

    def release(self, name: str = "") -> None:
        self.drives.release(name)

    def tap(self) -> None:
        self.baton.tap(self._now())

    def downbeat(self) -> None:
        self.baton.downbeat(self._now())

    # Shows

    def load(self, name: str, origin: object = None) -> None:
        """Put this cue list on; nothing fires yet."""
        file = ListFile(cues.find(name))
        show = cues.read_show(file.path)
        with self.lock:
            self._put_on(Player(show, self.drives.tempo), file)
            self.news.tell("show", name, origin)

    def clear(self) -> None:
        """Take the cue list off. What is running goes on."""
        with self.lock:
            self._put_on(None, None)

    def _put_on(self, player: Player | None, file: ListFile | None) -> None:
        self.player, self._file = player, file
        self._look_ahead()

    def playing(self) -> Player:
        """The cue list that is on. ControlError if there is none."""
        if self.player is None:
            raise ControlError("no show is loaded")
        return self.player

    def go(self) -> None:
        with self.lock:
            self.playing().go(seconds(self._now()))

    def back(self) -> None:
        with self.lock:
            self.playing().back(seconds(self._now()))

    def jump(self, word: str | float) -> None:
        with self.lock:
            player = self.playing()
            player.jump(player.find(word), seconds(self._now()))

    def hold(self, on: bool | None = None) -> None:
        """Stop the list's time, or let it pass again; None does the other of the two."""
        with self.lock:
            player = self.playing()
            player.hold(not player.held if on is None else on, seconds(self._now()))

    def edit(self, change: Sequence[Cue]) -> None:
        """Other cues, while it plays; where no list is on, these begin one."""
        with self.lock:
            before = self.player.show if self.player is not None else Show()
            show = cues.checked(structs.replace(before, cue=tuple(change)))
            if self.player is None:
                self.player = Player(show, self.drives.tempo)
            else:
                self.player.replace(show)
            self._look_ahead()

    def save_show(self, name: str, origin: object = None) -> None:
        with self.lock:
            player = self.playing()
            self._file = ListFile(cues.save_show(player.show, name))
            player.replace(structs.replace(player.show, name=name))
            self.news.tell("saved", f"the show {name}", origin)

    # Ten times a second, on the main thread

    def tick(self) -> None:
        """Take over a file that was edited, and say how the show stands."""
        self.baton.tell()
        file = self._file
        edited = file.edited(self._metrics) if file is not None else None
        with self.lock:
            if file is not None and edited is not None and file is self._file and self.player is not None:
                file.stamp, show = edited
                if show is not None:
                    self.player.replace(show)
                    self._look_ahead()
                    log.info("the show %s was edited: taken over", show.name)
            report(self._metrics, self.drives.tempo, self.player, seconds(self._clock()))
