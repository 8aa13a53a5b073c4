"""What the OSC port and the page can tell MIDI to do: the rows `midi/...` of `bridge.show.acts.ACTS`."""

from __future__ import annotations

from collections.abc import Mapping

from bridge.errors import ControlError
from bridge.midi import bindings
from bridge.midi.midi import Midi
from bridge.show.acts import Act
from bridge.show.arguments import Answer, Args, fitting, text


class MidiActs:
    """The rows at work. `prefix`: that of every OSC address, which people may leave on."""

    def __init__(self, midi: Midi, prefix: str) -> None:
        self._midi, self._prefix = midi, f"{prefix}/"

    @property
    def acts(self) -> Mapping[str, Act]:
        return {
            "midi/learn": self._learn,
            "midi/forget": self._forget,
            "midi/load": self._load,
            "midi/list": lambda args, origin: fitting(sorted(bindings.files())),
            "midi/bindings": self._bindings,
        }

    def _learn(self, args: Args, origin: object) -> None:
        if not args or args[0] == "":
            self._midi.learn(None)
            return
        page = origin if isinstance(origin, str) else ""
        self._midi.learn(bindings.wanted(self._address(args), _following(args)), page)

    def _forget(self, args: Args, origin: object) -> None:
        self._midi.forget(self._address(args), _following(args))

    def _load(self, args: Args, origin: object) -> None:
        name = text(args, 0)
        if not bindings.find(name).exists():
            raise ControlError(f"there are no bindings {name!r}: there are {', '.join(sorted(bindings.files()))}")
        self._midi.load(name)

    def _bindings(self, args: Args, origin: object) -> Answer:
        return fitting(
            [word for one in self._midi.bound() for word in (one.on, " ".join(map(str, [one.to, *one.args])))]
        )

    def _address(self, args: Args) -> str:
        return text(args, 0).removeprefix(self._prefix).strip("/")


def _following(args: Args) -> list[bool | int | float | str]:
    """What follows the address."""
    return [one for one in args[1:] if isinstance(one, (bool, int, float, str))]
