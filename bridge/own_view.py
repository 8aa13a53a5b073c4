"""The worker's end of the streams that control units and the image prompt have to themselves: newest picture, never
waited for."""

from __future__ import annotations

from collections.abc import Mapping

from bridge.clock import MS, now_ns
from bridge.errors import WireError
from bridge.ring import RingReader
from pipelines.params import Params
from pipelines.spec import IMAGE, Stream


class OwnView:
    """One ring each. All but `add_to` belong to the thread that paints."""

    def __init__(self, rings: Mapping[int, str]) -> None:
        """`rings`: unit number, or IMAGE → name. A ring outlives its workers, so that an heir finds the newest picture
        there."""
        self._rings = {number: RingReader(name) for number, name in rings.items()}
        self._captured: dict[int, int] = {}
        self._numbers: dict[int, int] = {}
        self.overtaken = self.broken = 0
        """Pictures that came and went between two looks; and those that were not whole."""

    def look(self, stream: Stream, params: Params) -> None:
        """Show `stream` what is new for those whose source is `stream`. A ring that nobody wants is left unread."""
        if not self._rings:
            return
        sources = {IMAGE: params.ip_source, **{n: unit.source for n, unit in enumerate(params.units(), 1)}}
        for number, ring in self._rings.items():
            if sources[number] == "stream":
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
        """Telemetry with how old each picture is, which `control.state` and `ip.state` say too. From any thread."""
        if not self._rings:
            return notes
        at, captured = now_ns(), dict(self._captured)
        ages = {
            number: f"stream {(at - captured[number]) / MS:.0f} ms" if number in captured else "stream waits"
            for number in self._rings
        }
        units = ", ".join(f"{number} {age}" for number, age in ages.items() if number != IMAGE)
        return {
            **notes,
            "control.state": _joined(notes, "control.state", units),
            "ip.state": _joined(notes, "ip.state", ages.get(IMAGE, "")),
            "control.streams": units,
            "control.overtaken": float(self.overtaken),
            "control.broken": float(self.broken),
        }

    def close(self) -> None:
        for ring in self._rings.values():
            ring.close()


def _joined(notes: dict[str, float | str], name: str, more: str) -> str:
    return ", ".join(filter(None, (str(notes.get(name, "")), more)))
