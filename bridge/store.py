"""What every remote control writes to and every frame reads: the current value of each row of the parameter table.

Writers (OSC, the page, a controller, a cue) may come from any thread at any rate. The last value of a row wins. A frame
takes one `snapshot`, so it never sees half of a change, and its version tells which values a picture was made with.

Ramps: `set("strength", 0.7, over_s=2)` moves there in two seconds from wherever the value is then; the next `set` of
that row takes over. A text does not move: its `over_s` is the cross-fade of that one change. It reaches the worker as
`prompt_fade` of every snapshot from the one that first carries the new text until the next change of a text, so it
can't get lost with a dropped frame; the row `prompt_fade` keeps its own value and counts again from the next change.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from bridge.clock import from_seconds, now_ns, seconds
from bridge.errors import ParamError
from bridge.ramp import Ramp, RampCurve
from bridge.setting import Drives
from bridge.setting import Setting as Setting
from bridge.setting import Value as Value
from bridge.words import near, short
from pipelines.coming import Coming
from pipelines.params import Params, ParamSpec, table
from pipelines.promptlang.timeline import Timeline

log = logging.getLogger("livelatent.store")


MAX_RAMP_S = 3600.0
FADE = "prompt_fade"


class ParamStore:
    """The current parameters. Thread-safe; no lock is held while a listener runs."""

    def __init__(self, initial: Params, ids: Mapping[str, Callable[[], Collection[str]]]) -> None:
        """`ids`: registry name, as in `ParamSpec.ids`, to its ids now. ParamError if `initial` is out of range."""
        self._ids = ids
        self._lock = threading.Lock()
        self._targets: dict[str, Value] = {n: _coerce(s, getattr(initial, n)) for n, s in table().items()}
        self._ramps: dict[str, Ramp] = {}
        self._fade: float | None = None
        self._fade_name = ""
        self._fade_seen = False
        self._dirty = False
        self._at_ns = 0
        version = max(1, initial.version)  # 0 means "no worker has seen this frame"
        self._line = Timeline.start(seconds(now_ns()), initial.prompt_rate, initial.prompt_fps)
        self._last = msgspec.structs.replace(initial, version=version, prompt_line=self._line, **self._targets)
        self._watchers: list[Callable[[Setting], None]] = []
        self._news: dict[str, Setting] = {}
        self._telling = False
        self._drives: Drives | None = None
        self._coming: Coming | None = None
        self._take = initial.take

    def drive_by(self, drives: Drives) -> None:
        """Let these move rows from now on. A row that is set is theirs no more, until they take it back."""
        with self._lock:
            self._drives, self._dirty = drives, True

    # Writing

    def set(
        self, name: str, value: object, over_s: float | None = None, at_ns: int | None = None, origin: object = None
    ) -> None:
        """Change one row. Raises ParamError, with a sentence, and then nothing has changed."""
        self.apply((self.check(name, value, over_s, origin),), at_ns)

    def set_many(
        self, values: Mapping[str, object], over_s: float | None = None, at_ns: int | None = None, origin: object = None
    ) -> None:
        """Change several rows, visible in one snapshot together; all or, on ParamError, none.

        `over_s` applies to the rows that can move (numbers and prompts); the others change at once.
        """
        self.apply(self.check_many(values, over_s, origin), at_ns)

    def check_many(
        self, values: Mapping[str, object], over_s: float | None, origin: object, curve: RampCurve = "linear"
    ) -> list[Setting]:
        """The changes of `set_many`, validated but not made."""
        out = []
        for name, value in values.items():
            spec = table().get(name)
            moves = spec is not None and (spec.ramps or fades(spec))
            out.append(self.check(name, value, over_s if moves else None, origin)._replace(curve=curve))
        return out

    def check(
        self, name: str, value: object, over_s: object = None, origin: object = None, hints: bool = True
    ) -> Setting:
        """The change, validated but not made. Raises ParamError.

        `hints=False` leaves out the search for near matches, a tenth of a millisecond that a flood must not buy.
        """
        spec = table().get(name)
        if spec is None:
            raise ParamError(f"no parameter {short(name)}{near(name, table()) if hints else ''}")
        value = _coerce(spec, value)
        if spec.ids:
            known = self._ids[spec.ids]() if spec.ids in self._ids else ()
            if value not in known:
                hint = near(str(value), known) if hints else ""
                raise ParamError(f"{name}: there is no {short(str(value))}{hint}")
        return Setting(name, value, None if over_s is None else _seconds(spec, over_s), origin)

    def apply(self, settings: Iterable[Setting], at_ns: int | None = None) -> None:
        """Make changes that `check` has passed, atomically: a snapshot has all of them or none."""
        at_ns = now_ns() if at_ns is None else at_ns
        with self._lock:
            at_ns = max(at_ns, self._at_ns)
            for setting in settings:
                self._change(setting, at_ns)
        self._tell()

    def _change(self, setting: Setting, at_ns: int) -> None:
        name, value, over_s, _, curve = setting
        spec = table()[name]
        old = self._targets[name]
        if fades(spec):
            self._note_fade(name, over_s, value != old)
            if value != old:
                self._begin(at_ns)
        ramp = self._ramps.pop(name, None)
        driven = self._drives.taken(name) if self._drives is not None else None
        if over_s and spec.ramps:
            now = float(driven if driven is not None else ramp.at(at_ns) if ramp else old)
            if now != value:
                self._ramps[name] = Ramp(spec, now, float(value), at_ns, at_ns + from_seconds(over_s), curve)
        if ramp is not None or driven is not None or value != old:
            self._dirty = True
        if value != old:
            self._targets[name] = value
            self._news.pop(name, None)
            self._news[name] = setting

    def _note_fade(self, name: str, over_s: float | None, changes: bool) -> None:
        if not changes:
            return
        if over_s is not None:
            self._fade, self._fade_name, self._fade_seen = over_s, name, False
        elif self._fade_seen or name == self._fade_name:
            # Until a snapshot has carried it, another text that comes along (a negative prompt) shares the given time.
            self._fade = None

    def restart_prompt(self, at_ns: int | None = None) -> None:
        """Let the prompt's time (its editing, alternation, mathematics) begin anew."""
        with self._lock:
            self._begin(now_ns() if at_ns is None else at_ns)
            self._dirty = True

    def _begin(self, at_ns: int) -> None:
        self._line = Timeline.start(seconds(at_ns), self._line.rate, self._line.fps)

    def foresee(self, coming: Coming | None) -> None:
        """What the worker may make ready."""
        with self._lock:
            self._dirty, self._coming = self._dirty or coming != self._coming, coming

    def take(self, number: int) -> None:
        """Let what recurs from frame to frame begin anew with the next snapshot: a recording's beginning."""
        with self._lock:
            self._dirty, self._take = True, number

    # Reading

    def snapshot(self, at_ns: int | None = None) -> Params:
        """The parameters at this time, ramps evaluated. Its version grows whenever a value differs from the last one's.

        Time never runs backwards here: an `at_ns` before that of an earlier call counts as that one.
        """
        at_ns = now_ns() if at_ns is None else at_ns
        with self._lock:
            self._at_ns = max(at_ns, self._at_ns)
            if self._dirty or self._ramps or (self._drives is not None and self._drives.busy):
                self._refresh(self._at_ns)
            return self._last

    def _refresh(self, at_ns: int) -> None:
        values = dict(self._targets)
        for name, ramp in list(self._ramps.items()):
            values[name] = ramp.at(at_ns)
            if ramp.done(at_ns):
                del self._ramps[name]
        live = self._drives.move(at_ns, values) if self._drives is not None else None
        if self._fade is not None:
            values[FADE] = self._fade
            self._fade_seen = True
        self._line = self._line.turn(seconds(at_ns), float(values["prompt_rate"]), float(values["prompt_fps"]))
        last = self._last
        hints = {"coming": self._coming, "live": live, "prompt_line": self._line, "take": self._take}
        fresh = Params(version=last.version, **hints, **values)  # type: ignore[arg-type]  # one type per row, checked by coerce
        if fresh != last:
            self._last = msgspec.structs.replace(fresh, version=last.version + 1)
        self._dirty = False

    def values(self) -> dict[str, Value]:
        """Where every row is or is going: what a control shows."""
        with self._lock:
            return {**self._targets, **(self._drives.moved() if self._drives is not None else {})}

    # Telling others

    def listen(self, callback: Callable[[str, Value], None], origin: object = None) -> Callable[[], None]:
        """Call back with (name, value) on every change but those that `origin` asked for; returns the way to end it."""

        def tell(setting: Setting) -> None:
            if origin is None or setting.origin != origin:
                callback(setting.name, setting.value)

        return self.watch(tell)

    def watch(self, callback: Callable[[Setting], None]) -> Callable[[], None]:
        """Like `listen`, with the whole Setting: who asked, and the seconds that it takes.

        Called on the writer's thread (or on that of a writer who is just telling others), in order, the last value of a
        row always last; a value that was replaced meanwhile may be left out. Must return soon and may call `set`.
        """
        with self._lock:
            self._watchers.append(callback)

        def end() -> None:
            with self._lock:
                if callback in self._watchers:
                    self._watchers.remove(callback)

        return end

    def _tell(self) -> None:
        # One thread tells at a time and takes along what others add meanwhile: two writers of one row would otherwise
        # race to the listeners, and a slider could stay on the value that lost.
        while True:
            with self._lock:
                if self._telling or not self._news:
                    return
                self._telling = True
                news, self._news = self._news, {}
                watchers = tuple(self._watchers)
            try:
                for setting in news.values():
                    for watcher in watchers:
                        _call(watcher, setting)
            finally:
                with self._lock:
                    self._telling = False


def _call(watcher: Callable[[Setting], None], setting: Setting) -> None:
    try:
        watcher(setting)
    except Exception:  # a listener's fault must not stop the writer, which may be the OSC thread
        log.exception("a listener failed on %s", setting.name)


def fades(spec: ParamSpec) -> bool:
    """Whether it is a prompt: what people write, and no choice of something that is there."""
    return spec.kind == "encode" and spec.type is str and not (spec.ids or spec.choices)


def _coerce(spec: ParamSpec, value: object) -> Value:
    try:
        return spec.coerce(value)
    except ValueError as error:
        raise ParamError(str(error)) from error


def _seconds(spec: ParamSpec, over_s: object) -> float:
    if isinstance(over_s, bool) or not isinstance(over_s, (int, float)) or not math.isfinite(over_s):
        raise ParamError(f"{spec.name}: the seconds must be a number")
    if not 0 <= over_s <= MAX_RAMP_S:
        raise ParamError(f"{spec.name}: the seconds must be 0 to {MAX_RAMP_S:g}")
    if over_s and not (spec.ramps or fades(spec)):
        raise ParamError(f"{spec.name} changes at once and takes no seconds")
    return float(over_s)
