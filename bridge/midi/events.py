"""From MIDI messages to what somebody did: a control at a place from 0 to 1, a key pressed, a programme chosen.

Two controllers make one of 14 bits (coarse 0 to 31, fine 32 to 63 above them), and four make an NRPN (99 and 98 say
which, 6 and 38 its value). A coarse value waits for the fine one that is about to follow, so that nothing jumps in
between; once it has waited for PATIENCE_NS it counts alone. No I/O, no clock of its own.
"""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple, get_args

from bridge.clock import MS
from bridge.errors import ControlError

Kind = Literal["cc", "cc14", "nrpn", "note", "pitch", "pressure", "program", "start", "stop", "continue"]
KINDS: tuple[str, ...] = get_args(Kind)
NUMBERED = {"cc": 127, "cc14": 31, "nrpn": 16383, "note": 127, "program": 127}
"""Kinds with a number, and the highest."""
ANY = -1
PATIENCE_NS = 15 * MS
"""What a slow serial line takes for the second half of a pair, and more."""
FINE, COARSE = 16383, 127
"""The highest value of 14 and of 7 bits."""
_TEXT = re.compile(r"(?:ch\s*(\d{1,2})\s+)?([a-z]+(?:14)?)(?:\s+(\d{1,5}))?")


class Control(NamedTuple):
    """A knob, fader, key or button. As text: `cc 21`, `ch 3 note 36`, `pitch`."""

    kind: Kind
    number: int = ANY
    channel: int = ANY
    """1 to 16."""

    def __str__(self) -> str:
        words = [f"ch {self.channel}"] * (self.channel != ANY) + [self.kind] + [str(self.number)] * (self.number != ANY)
        return " ".join(words)

    def covers(self, other: Control) -> bool:
        """Whether what that one does is meant."""
        same = self.kind == other.kind and self.number in (ANY, other.number)
        return same and (self.channel in (ANY, other.channel) or other.channel == ANY)


class Event(NamedTuple):
    control: Control
    value: float
    """0 to 1."""
    steps: int
    """Steps from 0 to 1: 127, or 16383; 1 for what only happens."""
    pressed: bool | None = None
    """Of a key, or of what happens; None for a knob, which is pressed while it is over a half."""

    @property
    def raw(self) -> int:
        return round(self.value * self.steps)


def read_control(text: str) -> Control:
    """Raises ControlError with a sentence."""
    found = _TEXT.fullmatch(text.strip().lower())
    if found is None or found[2] not in KINDS:
        raise ControlError(f'a control is "cc 21", "ch 3 note 36" or such, of {", ".join(KINDS)}, not {text[:40]!r}')
    kind, number, channel = found[2], int(found[3] or ANY), int(found[1] or ANY)
    most = NUMBERED.get(kind, ANY)
    if (number == ANY and kind in NUMBERED and kind != "program") or number > most:
        wants = f"takes a number from 0 to {most}" if most > 0 else "takes no number"
        raise ControlError(f"{text[:40]!r}: {kind} {wants}")
    if channel != ANY and not 1 <= channel <= 16:
        raise ControlError(f"{text[:40]!r}: a channel is 1 to 16")
    return Control(kind, number, channel)  # type: ignore[arg-type]  # one of KINDS


class _Pair:
    """A coarse and a fine value that belong together."""

    def __init__(self) -> None:
        self.coarse = 0
        self.has_fine = False
        self.waits_ns: int | None = None
        """Since when the coarse value waits."""


class Gather:
    """One port's messages. Not thread-safe."""

    def __init__(self) -> None:
        self._pairs: dict[Control, _Pair] = {}
        self._halves: dict[tuple[int, int], int] = {}
        """Of the NRPN that is chosen, by channel and controller."""

    def take(self, message: Any, at_ns: int) -> list[Event]:
        """What this `mido.Message` says; nothing for what is none of a controller's."""
        match message.type:
            case "note_on" | "note_off":
                on = message.type == "note_on" and message.velocity > 0
                control = Control("note", message.note, message.channel + 1)
                return [Event(control, message.velocity / COARSE if on else 0.0, COARSE, on)]
            case "control_change":
                return self._change(message.control, message.value, message.channel + 1, at_ns)
            case "pitchwheel":
                return [Event(Control("pitch", ANY, message.channel + 1), (message.pitch + 8192) / FINE, FINE)]
            case "aftertouch":
                return [Event(Control("pressure", ANY, message.channel + 1), message.value / COARSE, COARSE)]
            case "program_change":
                control = Control("program", message.program, message.channel + 1)
                return [Event(control, message.program / COARSE, COARSE, True)]
            case "start" | "stop" | "continue":
                return [Event(Control(message.type), 1.0, 1, True)]
            case _:
                return []

    def flush(self, at_ns: int) -> list[Event]:
        """The coarse values that have waited for long enough."""
        out = []
        for control, pair in self._pairs.items():
            if pair.waits_ns is not None and at_ns - pair.waits_ns >= PATIENCE_NS:
                pair.waits_ns = None
                out.append(_both(control, pair.coarse, 0))
        return out

    @property
    def waiting(self) -> bool:
        return any(pair.waits_ns is not None for pair in self._pairs.values())

    def _change(self, number: int, value: int, channel: int, at_ns: int) -> list[Event]:
        out = [Event(Control("cc", number, channel), value / COARSE, COARSE)]
        if number in (98, 99, 100, 101):
            if number in (100, 101):  # an RPN is chosen: the value that follows is none of ours
                self._halves.pop((channel, 98), None)
            else:
                self._halves[channel, number] = value
        elif number in (6, 38):
            chosen = self._chosen(channel)
            if chosen is not None:
                return self._half(Control("nrpn", chosen, channel), number == 6, value, at_ns)
        if number < 64:
            out += self._half(Control("cc14", number % 32, channel), number < 32, value, at_ns)
        return out

    def _chosen(self, channel: int) -> int | None:
        fine = self._halves.get((channel, 98))
        return None if fine is None else (self._halves.get((channel, 99), 0) << 7) | fine

    def _half(self, control: Control, coarse: bool, value: int, at_ns: int) -> list[Event]:
        pair = self._pairs.setdefault(control, _Pair())
        if not coarse:
            pair.has_fine, pair.waits_ns = True, None
            return [_both(control, pair.coarse, value)]
        pair.coarse = value
        if pair.has_fine:
            pair.waits_ns = at_ns
            return []
        return [Event(control, value / COARSE, COARSE)]


def _both(control: Control, coarse: int, fine: int) -> Event:
    return Event(control, ((coarse << 7) | fine) / FINE, FINE)
