"""MIDI devices for machines that have none, as a backend of mido: `mido.Backend("support.fake_midi")`.

As strict as the real ones: a name that is not plugged in can't be opened, what was pulled out stays deaf for ever and
raises when it is sent to, and every message goes through bytes. There is one set of sockets, as in a real machine.
"""

from __future__ import annotations

from typing import Any

import mido
from mido.ports import BaseInput, BaseOutput

PLUGGED: dict[str, tuple[bool, bool]] = {}
"""Name → whether it has an input and an output."""
_open: dict[str, Input] = {}
SENT: dict[str, list[Any]] = {}
BROKEN: set[str] = set()
"""What can't be opened, as another program has it."""


def reset() -> None:
    for kept in (PLUGGED, _open, SENT, BROKEN):
        kept.clear()


def plug(name: str, output: bool = True) -> None:
    PLUGGED[name] = True, output


def unplug(name: str) -> None:
    """Nobody is told."""
    del PLUGGED[name]
    _open.pop(name, None)


def is_open(name: str) -> bool:
    return name in _open


def play(name: str, *messages: Any) -> None:
    """The device says this; nobody may hear."""
    for message in messages:
        data = message.bytes()
        if name in _open:
            _open[name].deliver(mido.Message.from_bytes(data))


def get_devices(**kwargs: Any) -> list[dict[str, Any]]:
    return [{"name": n, "is_input": ins, "is_output": outs} for n, (ins, outs) in PLUGGED.items()]


class Input(BaseInput):  # type: ignore[misc]
    def _open(self, virtual: bool = False, callback: Any = None, **kwargs: Any) -> None:
        assert callback is not None, "nobody would hear it"
        assert not virtual
        if self.name not in PLUGGED or self.name in BROKEN:
            raise OSError(f"unknown port {self.name!r}")
        assert self.name not in _open, f"{self.name} is opened twice"
        self._callback = callback
        _open[self.name] = self

    def _close(self) -> None:
        if _open.get(self.name) is self:
            del _open[self.name]

    def deliver(self, message: Any) -> None:
        assert not self.closed
        self._callback(message)


class Output(BaseOutput):  # type: ignore[misc]
    def _open(self, virtual: bool = False, **kwargs: Any) -> None:
        if not PLUGGED.get(self.name, (False, False))[1] or self.name in BROKEN:
            raise OSError(f"unknown port {self.name!r}")

    def _send(self, message: Any) -> None:
        if self.name not in PLUGGED:
            raise OSError(f"{self.name} is gone")
        SENT.setdefault(self.name, []).append(mido.Message.from_bytes(message.bytes()))
