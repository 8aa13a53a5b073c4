"""Paint a recording's input again with its recorded parameters, and see whether the pictures are the same.

A picture is a function of the input, the parameters as they took effect, and what the frames before handed on. The
first two are recorded; the third begins anew with the recording. What is made ready beside the stream (a prompt, a
ControlNet) came up with some frame then; here it is waited for, and comes up with that same frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from bridge.clock import NS, seconds
from bridge.errors import LiveLatentError
from bridge.record.doubts import Doubts, engine_of
from bridge.record.lines import Entry
from bridge.record.reel import Reel
from bridge.record.take import digest_of
from bridge.record.tape import Tape
from pipelines.acting import effective
from pipelines.build import build
from pipelines.params import Params
from pipelines.spec import Engine, Moment, Stream, StreamSpec


class Outcome(NamedTuple):
    """Of one picture."""

    n: int
    same: bool | None
    """Whether it is the recorded one, bit for bit; None where it could not be painted."""
    doubt: str
    """Why it may not be, as far as the recording tells; empty if nothing speaks against it."""


class Replay:
    """Iterate over it once: a picture is painted for each Outcome. Raises LiveLatentError and ModelError."""

    def __init__(
        self,
        tape: Tape,
        engine: Engine | None = None,
        changes: Mapping[str, Any] | None = None,
        reel: Reel | None = None,
        make: Callable[[StreamSpec, Params], Stream] = build,
    ) -> None:
        """`engine`: instead of the one that painted the first picture. `changes`: parameters to paint with instead of
        the recorded ones. `reel` gets the pictures."""
        self._tape, self._changes, self._reel, self._make = tape, dict(changes or {}), reel, make
        self.engine = engine
        """What paints; None until the first picture is known."""
        self._doubts = Doubts()
        self._stream: Stream | None = None
        self._built: tuple[int, StreamSpec] | None = None

    def __iter__(self) -> Iterator[Outcome]:
        try:
            for entry, pixels in self._tape:
                line = entry.line
                if pixels is None:
                    self._doubts.hole("the input of one before it is missing")
                    if not line.unseen:
                        yield Outcome(line.n, None, "its input is missing")
                    continue
                if digest_of(pixels) != line.input_hash:
                    raise LiveLatentError(f"{self._tape.folder}: picture {line.n} has another input than was recorded")
                self.engine = self.engine or engine_of(entry.acting)
                params = msgspec.structs.replace(effective(entry.params, entry.acting), **self._changes)
                stream, fresh = self._stream_for(entry, self.engine, params)
                moment = Moment(seconds(entry.stamps.fed), line.seq)
                stream.tune(params, moment, fades=not fresh)
                picture = stream(pixels, params, moment)
                doubt = self._doubts.of(entry, stream.took(params)["engine"], fresh)
                if line.unseen:
                    continue
                if self._reel is not None:
                    self._reel.write(picture, round(line.t * NS))
                yield Outcome(line.n, digest_of(picture) == line.hash, doubt)
        finally:
            if self._stream is not None:
                self._stream.close()

    def _stream_for(self, entry: Entry, engine: Engine, params: Params) -> tuple[Stream, bool]:
        """The stream that paints this picture, and whether it is new: where another worker began, so does another."""
        spec = msgspec.structs.replace(entry.spec, engine=engine)
        if self._changes:
            named = {name: getattr(params, name) for name in self._changes if name in StreamSpec.__struct_fields__}
            spec = msgspec.structs.replace(spec, **named)
        if self._stream is not None and self._built == (entry.line.epoch, spec):
            return self._stream, False
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        self._stream, self._built = self._make(spec, params), (entry.line.epoch, spec)
        return self._stream, True
