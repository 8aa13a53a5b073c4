"""What is sent back to a controller: where its motor faders should stand, and which of its lights be on."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from bridge.clock import MS
from bridge.midi.events import ANY, COARSE, FINE, Control
from bridge.midi.hand import Hand
from bridge.midi.ports import Ports
from bridge.store import Value

PERIOD_NS = 50 * MS
"""A schedule moves a value with every frame; a motor, or a slow line, need not hear of each."""


class Feedback:
    """Sends what differs from what the control did or was told last. Not thread-safe."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._changes = -1
        self._next_ns = 0

    def turn(self, hands: Iterable[Hand], values: Mapping[str, Value], at_ns: int) -> None:
        """Tell the controllers, if it is time to."""
        outputs = self._ports.outputs()
        if at_ns < self._next_ns or not outputs:
            return
        self._next_ns = at_ns + PERIOD_NS
        fresh, self._changes = self._ports.changes != self._changes, self._ports.changes
        for hand in hands:
            place = hand.shown(values.get(hand.spec.name) if hand.spec is not None else None)
            if place is None or (not fresh and hand.sent is not None and _same(hand.control, place, hand.sent)):
                continue
            hand.sent = place
            for port in outputs:
                if hand.binding.port.lower() in port.lower():
                    for message in messages(hand.control, place):
                        self._ports.send(port, message)


def messages(control: Control, place: float) -> list[Any]:
    """What puts this control at `place`, 0 to 1, as `mido.Message`s."""
    message = importlib.import_module("mido").Message
    channel = 0 if control.channel == ANY else control.channel - 1
    coarse, fine = divmod(round(place * FINE), 128)

    def change(number: int, value: int) -> Any:
        return message("control_change", channel=channel, control=number, value=value)

    match control.kind:
        case "cc":
            return [change(control.number, round(place * COARSE))]
        case "cc14":
            return [change(control.number, coarse), change(control.number + 32, fine)]
        case "nrpn":
            high, low = divmod(control.number, 128)
            return [change(99, high), change(98, low), change(6, coarse), change(38, fine)]
        case "note":
            return [message("note_on", channel=channel, note=control.number, velocity=round(place * COARSE))]
        case "pitch":
            return [message("pitchwheel", channel=channel, pitch=round(place * FINE) - 8192)]
        case _:
            return []


def _same(control: Control, place: float, sent: float) -> bool:
    """Whether the control can't tell the two apart."""
    steps = COARSE if control.kind in ("cc", "note") else FINE
    return round(place * steps) == round(sent * steps)
