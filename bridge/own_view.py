"""The worker's end of the streams that control units have to themselves: newest picture, never waited for."""

from __future__ import annotations

from collections.abc import Mapping

from bridge.clock import MS, now_ns
from bridge.errors import WireError
from bridge.ring import RingReader
from pipelines.params import Params
from pipelines.spec import Stream


class OwnView:
    """One ring a unit. All but `add_to` belong to the thread that paints."""

    def __init__(self, rings: Mapping[int, str]) -> None:
        """`rings`: unit number → name. A ring outlives its workers, so that an heir finds the newest picture there."""
        self._rings = {number: RingReader(name) for number, name in rings.items()}
        self._captured: dict[int, int] = {}
        self._numbers: dict[int, int] = {}
        self.overtaken = self.broken = 0
        """Pictures that came and went between two looks; and those that were not whole."""

    def look(self, stream: Stream, params: Params) -> None:
        """Show `stream` what is new for units whose source is `stream`. A ring that nobody wants is left unread."""
        if not self._rings:
            return
        units = params.units()
        for number, ring in self._rings.items():
            if units[number - 1].source == "stream":
                self._take(stream, number, ring)
            else:
                self._numbers.pop(number, None)

    def _take(self, stream: Stream, number: int, ring: RingReader) -> None:
        try:
            got = ring.read()
        except WireError:
            self.broken += 1
            return
        if got is None:
            return
        if number in self._numbers:
            self.overtaken += max(0, got.number - self._numbers[number] - 1)
        self._numbers[number] = got.number
        stream.show(number, got.frame.pixels)
        self._captured[number] = got.frame.stamps.captured

    def add_to(self, notes: dict[str, float | str]) -> dict[str, float | str]:
        """Telemetry with how old each unit's picture is, which `control.state` says too. From any thread."""
        if not self._rings:
            return notes
        at, captured = now_ns(), dict(self._captured)
        ages = ", ".join(
            f"{number} stream {(at - captured[number]) / MS:.0f} ms" if number in captured else f"{number} stream waits"
            for number in self._rings
        )
        return {
            **notes,
            "control.state": ", ".join(filter(None, (str(notes.get("control.state", "")), ages))),
            "control.streams": ages,
            "control.overtaken": float(self.overtaken),
            "control.broken": float(self.broken),
        }

    def close(self) -> None:
        for ring in self._rings.values():
            ring.close()
