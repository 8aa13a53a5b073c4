"""What the OSC port and the page can tell the show to do, one address a row: arguments in, a change or an answer out.

Arguments are a stranger's: each is checked for its type, and names are ids of looks, cues and parameters, never paths.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import msgspec

from bridge.errors import ControlError
from bridge.oscargs import as_typed
from bridge.ramp import RAMP_CURVES, RampCurve
from bridge.record.places import FORMATS
from bridge.show import cues
from bridge.show.act_list import ACTS, RECORDING
from bridge.show.arguments import Answer, Args, amount, count, fitting, text, word
from bridge.show.cues import Cue, Quantise
from bridge.show.director import Director
from bridge.show.wiring import Wiring
from bridge.store import Setting
from pipelines.params import table

if TYPE_CHECKING:
    from bridge.record.deck import Deck

Act = Callable[[Args, object], "Answer | None"]
"""(arguments, who asked) → what to answer with. Raises LiveLatentError with a sentence."""

_INPUT = re.compile(r"in/([A-Za-z_]\w{0,31})", re.ASCII)
_EDITABLE = frozenset(Cue.__struct_fields__) - {"params", "schedule"}


class Acts:
    """The rows at work on a director."""

    def __init__(self, director: Director, deck: Deck | None = None) -> None:
        """Without `deck`, nothing is recorded."""
        self._director, self._deck = director, deck
        self._rows = {row.address: name for name, row in table().items()}
        self._acts: dict[str, Act] = {name: _absent for name in ACTS if name.startswith("midi/")}
        own = [name for name in ACTS if "<" not in name and name not in self._acts]
        self._acts |= {name: getattr(self, f"_{name.replace('/', '_')}") for name in own}
        self.wiring: Callable[[], Wiring] | None = None
        """What is bound to what; None where MIDI is off."""

    def add(self, more: Mapping[str, Act], wiring: Callable[[], Wiring] | None = None) -> None:
        """Acts of ACTS that others do: MIDI's."""
        self._acts |= more
        self.wiring = wiring

    @property
    def director(self) -> Director:
        return self._director

    @property
    def commands(self) -> dict[str, Callable[[], None]]:
        director = self._director
        return {"cue/go": director.go, "cue/back": director.back, "tap": director.tap}

    def find(self, address: str) -> Act | None:
        """What this address, under the prefix, does; None if it is none of ours."""
        act = self._find(address)
        if act is None or address in RECORDING:
            return act
        return lambda args, origin: self._run(act, args, origin)

    def _run(self, act: Act, args: Args, origin: object) -> Answer | None:
        with self._director.lock:
            return act(args, origin)

    def _find(self, address: str) -> Act | None:
        if act := self._acts.get(address):
            return act
        head, _, rest = address.partition("/")
        if head == "schedule" and (name := self._rows.get(rest)):
            return lambda args, origin: self._schedule(name, args)
        if head == "in" and (found := _INPUT.fullmatch(address)):
            key = found[1]
            return lambda args, origin: self._director.drives.put({key: amount(args, 0)})
        if head == "next":
            return self._next(rest)
        return None

    def _next(self, rest: str) -> Act | None:
        """What waits for its beat or bar: `bar/strength`, `beat/cue/go`."""
        quantise, _, address = rest.partition("/")
        act = None if address.startswith("next/") else self.whatever(address)
        if quantise not in ("beat", "bar") or act is None:
            return None

        def wait(args: Args, origin: object) -> None:
            if name := self._rows.get(address):
                self._setting(name, args, origin)  # what is wrong is told now, and not on the beat

            def then(at_ns: int) -> None:
                act(args, origin)

            self._director.later(address, cast(Quantise, quantise), then)

        return wait

    def whatever(self, address: str) -> Act | None:
        """What this address, under the prefix, does: that of a parameter and of a command too."""
        if name := self._rows.get(address):
            return lambda args, origin: self._director.put([self._setting(name, args, origin)])
        if command := self.commands.get(address):
            return lambda args, origin: command()
        return self._find(address)

    def _setting(self, name: str, args: Args, origin: object) -> Setting:
        count(args, 1, 2)
        value = as_typed(args[0]) if isinstance(args[0], float) else args[0]
        return self._director.check(name, value, args[1] if len(args) > 1 else None, origin)

    def _look_recall(self, args: Args, origin: object) -> None:
        count(args, 1, 4)
        seconds = amount(args, 1) if len(args) > 1 else None
        curve = args[2] if len(args) > 2 else "linear"
        if curve not in RAMP_CURVES:
            raise ControlError(f"a curve is {' | '.join(RAMP_CURVES)}")
        quantise = args[3] if len(args) > 3 else ""
        if quantise not in ("", "beat", "bar"):
            raise ControlError("a recall waits for a beat or a bar")
        self._director.recall(text(args, 0), seconds, cast(RampCurve, curve), quantise, origin)

    def _look_save(self, args: Args, origin: object) -> None:
        self._director.save(text(args, 0), origin)

    def _look_delete(self, args: Args, origin: object) -> None:
        self._director.delete(text(args, 0), origin)

    def _look_list(self, args: Args, origin: object) -> Answer:
        return fitting(self._director.looks.names())

    def _show_load(self, args: Args, origin: object) -> None:
        self._director.load(text(args, 0), origin)

    def _show_save(self, args: Args, origin: object) -> None:
        self._director.save_show(text(args, 0), origin)

    def _show_new(self, args: Args, origin: object) -> None:
        self._director.clear()

    def _show_list(self, args: Args, origin: object) -> Answer:
        return fitting(sorted(cues.files()))

    def _cue_jump(self, args: Args, origin: object) -> None:
        self._director.jump(word(args, 0))

    def _cue_hold(self, args: Args, origin: object) -> None:
        self._director.hold(bool(amount(args, 0)) if args else None)

    def _cue_list(self, args: Args, origin: object) -> Answer:
        return fitting([cue.name or cue.look for cue in self._director.playing().show.cue])

    def _cue_insert(self, args: Args, origin: object) -> None:
        count(args, 2, 4)
        player = self._director.player
        before = player.show.cue if player is not None else ()
        at = len(before) if args[0] == 0 else self._director.playing().find(word(args, 0))
        more = {key: word(args, i) for i, key in ((2, "move"), (3, "wait")) if len(args) > i}
        self._director.looks.get(text(args, 1))
        cue = _cue({"look": text(args, 1), **more})
        self._director.edit([*before[:at], cue, *before[at:]])

    def _cue_set(self, args: Args, origin: object) -> None:
        count(args, 3, 3)
        player, key = self._director.playing(), text(args, 1)
        at, value = player.find(word(args, 0)), word(args, 2)
        if key not in _EDITABLE:
            raise ControlError(f"a cue has {', '.join(sorted(_EDITABLE))}")
        if key == "look" and value:
            self._director.looks.get(value)
        cue = _cue({**msgspec.to_builtins(player.show.cue[at]), key: int(amount(args, 2)) if key == "times" else value})
        self._director.edit([*player.show.cue[:at], cue, *player.show.cue[at + 1 :]])

    def _cue_remove(self, args: Args, origin: object) -> None:
        player = self._director.playing()
        at = player.find(word(args, 0))
        self._director.edit([*player.show.cue[:at], *player.show.cue[at + 1 :]])

    def _cue_move(self, args: Args, origin: object) -> None:
        count(args, 2, 2)
        player = self._director.playing()
        at, to = player.find(word(args, 0)), player.find(word(args, 1))
        rest = [*player.show.cue[:at], *player.show.cue[at + 1 :]]
        self._director.edit([*rest[:to], player.show.cue[at], *rest[to:]])

    def _schedule(self, name: str, args: Args) -> None:
        count(args, 1, 2)
        self._director.schedule(name, text(args, 0), amount(args, 1) if len(args) > 1 else None)

    def _schedule_release(self, args: Args, origin: object) -> None:
        address = text(args, 0) if args else ""
        name = self._rows.get(address, address)
        if name and name not in self._director.drives.texts():
            raise ControlError(f"{address[:40]!r} has no schedule")
        self._director.release(name)

    def _schedule_list(self, args: Args, origin: object) -> Answer:
        texts = self._director.drives.texts()
        return fitting([word for name, text in texts.items() for word in (table()[name].address, text)])

    def _downbeat(self, args: Args, origin: object) -> None:
        self._director.downbeat()

    def _record(self, args: Args, origin: object) -> None:
        count(args, 0, 1)
        self._recorder().toggle(bool(amount(args, 0)) if args else None)

    def _record_start(self, args: Args, origin: object) -> None:
        if not _released(args):
            name, words = _name_and_words(args, *FORMATS, "input")
            formats = [format for format in FORMATS if format in words]
            self._recorder().start(name, formats[0] if formats else None, True if "input" in words else None)

    def _record_stop(self, args: Args, origin: object) -> None:
        if not _released(args):
            self._recorder().stop()

    def _still(self, args: Args, origin: object) -> None:
        if not _released(args):
            name, words = _name_and_words(args, "input")
            self._recorder().still(name, "input" in words)

    def _recorder(self) -> Deck:
        if self._deck is None:
            raise ControlError("nothing can be recorded here")
        return self._deck


def _released(args: Args) -> bool:
    """Whether a control surface says that a button was let go: a press alone counts."""
    return len(args) == 1 and isinstance(args[0], (bool, int, float)) and not args[0]


def _name_and_words(args: Args, *known: str) -> tuple[str, list[str]]:
    """A name if there is one, then any of the words that are known. A button's 1 is neither."""
    count(args, 0, 1 + len(known))
    if len(args) == 1 and not isinstance(args[0], str):
        return "", []
    said = [text(args, at) for at in range(len(args))]
    name = said.pop(0) if said and said[0] not in known else ""
    for said_word in said:
        if said_word not in known:
            raise ControlError(f"after the name comes {' or '.join(known)}, not {said_word[:40]!r}")
    return name, said


def _absent(args: Args, origin: object) -> None:
    raise ControlError("no MIDI here: start with --midi")


def _cue(values: Mapping[str, Any]) -> Cue:
    try:
        return msgspec.convert(values, Cue)
    except msgspec.ValidationError as error:
        raise ControlError(f"the cue: {error}") from error
