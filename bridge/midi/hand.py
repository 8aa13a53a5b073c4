"""One binding at work: what an event of its control is meant to do. Decides; does nothing itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from bridge.midi.bindings import Binding, is_key, row_of, travel_of
from bridge.midi.events import Control, Event, read_control
from bridge.midi.travel import Pickup
from bridge.store import Value
from pipelines.drive import CURVES

DOWN, UP = 0.5, 0.4
"""Where a knob or button counts as pressed, and as let go again."""
_STEPS: dict[str, Callable[[int], int]] = {
    "twos": lambda raw: raw if raw < 64 else raw - 128,
    "offset": lambda raw: raw - 64,
    "sign": lambda raw: -(raw & 63) if raw & 64 else raw,
}


class Move(NamedTuple):
    """What is to be done: a row set, an input put, or an act done with these arguments."""

    to: str
    args: tuple[Value, ...]
    row: str = ""
    """The parameter's name; empty for others."""
    over_s: float | None = None


class Hand:
    """A binding and what it remembers. Not thread-safe. It has been checked: nothing here raises."""

    def __init__(self, binding: Binding) -> None:
        self.binding = binding
        self.control: Control = read_control(binding.on)
        self.spec = row_of(binding.to)
        self.travel = travel_of(binding, self.spec) if self.spec is not None else None
        self._down = False
        self._exact: tuple[Value, float] | None = None
        """Where an encoder has brought the value, and the position between the steps that it stands for."""
        self._pickup: Pickup | None = None
        self.sent: float | None = None
        """Where the control is or was told to be, as far as we know."""

    def hears(self, port: str, event: Event) -> bool:
        return self.control.covers(event.control) and self.binding.port.lower() in port.lower()

    def act(self, event: Event, here: Value | None) -> Move | None:
        """What this event of the control does. `here`: the parameter's present value, for one that has a row."""
        if self.travel is None or here is None:
            return self._other(event)
        if self.binding.relative:
            return self._turned(event, here)
        if is_key(self.control) or self.binding.press:
            return self._pressed(event, here)
        return self._moved(event, here)

    # Parameters

    def _moved(self, event: Event, here: Value) -> Move | None:
        assert self.travel is not None
        self.sent = event.value
        value, at = self.travel.value(event.value), self.travel.position(here)
        if self._picks_up and not self._takes(event, here, at):
            return None
        return self._set(value, here)

    @property
    def _picks_up(self) -> bool:
        spec = self.spec
        return self.binding.takeover == "pickup" and spec is not None and spec.type in (int, float)

    def _takes(self, event: Event, here: Value, at: float) -> bool:
        assert self.travel is not None
        if self._pickup is None:
            travel, step = self.travel, 0.0
            if travel.spec.type is int and travel.high != travel.low:
                step = 0.5 * travel.spec.step / abs(travel.high - travel.low)
            self._pickup = Pickup(max(1.5 / event.steps, step))
        return self._pickup.takes(event.value, here, at)

    def _turned(self, event: Event, here: Value) -> Move | None:
        assert self.travel is not None
        steps = _STEPS[self.binding.relative](event.raw if event.steps == 127 else event.raw >> 7)
        known = self._exact is not None and self._exact[0] == here
        start = self._exact[1] if known and self._exact is not None else self.travel.position(here)
        position = min(1.0, max(0.0, start + steps * self.binding.step))
        value = self.travel.value(position)
        self._exact = value, position
        return self._set(value, here) if value != here else None

    def _pressed(self, event: Event, here: Value) -> Move | None:
        assert self.travel is not None
        assert self.spec is not None
        travel, press = self.travel, self.binding.press or self._usual
        edge = self._edge(event)
        if edge is None or (edge is False and press != "hold"):
            return None
        low, high = travel.value(0.0), travel.value(1.0)
        fixed = self.binding.value
        if press == "hold":
            return self._set((high if fixed is None else fixed) if edge else low, here)
        if press == "toggle":
            top = high if fixed is None else fixed
            return self._set(low if here == top else top, here)
        if press == "next":
            choices = self.spec.choices
            return self._set(choices[(choices.index(str(here)) + 1) % len(choices)], here)
        return self._set(travel.value(event.value) if fixed is None else fixed, here)

    @property
    def _usual(self) -> str:
        """What a press does where the binding does not say."""
        spec = self.spec
        assert spec is not None
        if self.binding.value is not None:
            return "set"
        return "next" if spec.choices else "toggle" if spec.type is bool else "set"

    def _set(self, value: Value, here: Value) -> Move:
        assert self.spec is not None
        over = 0.0
        if self.spec.ramps and (self.binding.attack or self.binding.release):
            over = self.binding.attack if float(value) >= float(here) else self.binding.release
        value = self.spec.coerce(value)
        if self._pickup is not None:
            self._pickup.took(value)
        return Move(self.binding.to, (value,), self.spec.name, over or None)

    def shown(self, here: Value | None) -> float | None:
        """Where the control should stand or shine, 0 to 1; None if that is nobody's business."""
        if self.travel is None or here is None or self.control.kind in ("program", "pressure"):
            return None
        fixed = self.binding.value
        return self.travel.position(here) if fixed is None else float(here == fixed)

    # Inputs and acts

    def _other(self, event: Event) -> Move | None:
        to, args = self.binding.to, tuple(self.binding.args)
        if to.startswith("in/"):
            return self._input(event)
        if not self._edge(event):
            return None
        if to == "cue/jump" and not args and event.control.kind in ("program", "note"):
            args = (event.control.number + 1,)  # cues are counted from 1
        return Move(to, args)

    def _input(self, event: Event) -> Move | None:
        low, high = self.binding.range or (0.0, 1.0)
        part = event.value
        if self.binding.press == "toggle":
            if not self._edge(event):
                return None
            part = 0.0 if self.sent else 1.0
        elif self.binding.relative:
            steps = _STEPS[self.binding.relative](event.raw)
            part = min(1.0, max(0.0, (self.sent or 0.0) + steps * self.binding.step))
        self.sent = part
        return Move(self.binding.to, (low + (high - low) * CURVES[self.binding.curve](part),))

    def _edge(self, event: Event) -> bool | None:
        """True when it goes down, False when it is let go, None when neither."""
        if event.control.kind in ("program", "start", "stop", "continue"):
            return True
        down = event.pressed if event.pressed is not None else event.value >= (UP if self._down else DOWN)
        was, self._down = self._down, down
        return None if down == was else down
