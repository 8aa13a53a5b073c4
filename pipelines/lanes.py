"""Frames on a card: each mode's work recorded as graphs, on three streams, so that one frame's upload and the decoding
of the one before go on under the denoiser.

Before people watch, a mode that was never seen is painted operation by operation once, which loads its kernels, and
recorded when it comes again. Once they do (`live`), the mode before is played on until the new one has been made ready
beside it (pipelines.rehearsal). Nothing that is live makes another mode, so nothing that is live is waited for.

Who waits for whom (n: this frame):
    enter n   for the copies of what enter n-1 handed on; for what the host writes if it paints a part, which lies there
    walk n    for enter n, and for the copies of what walk n-1 handed on; for leave n-1 if it uses what that remembers
    leave n   for walk n
All that the host writes between frames is queued on walk, behind frame n-1's, and so is what networks make of it alone.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from engines.base import Nets
from engines.errors import first_line
from engines.machine import Machine
from pipelines.flights import Flight, Shown, fetch_down, key_of, parts_of
from pipelines.forecast import Forecast
from pipelines.img2img import step
from pipelines.knobs import Knobs, Mode
from pipelines.painter import Whole
from pipelines.pins import Pins
from pipelines.recorded import Recorded, Recorder
from pipelines.rehearsal import Job, Rehearsal
from pipelines.spec import Overtaken, Places
from pipelines.staging import Landing, Staging
from pipelines.state import NUMBERS, StreamState
from pipelines.transfer import Pixels

MOST = 24
"""Modes whose graphs are kept."""
TRIES = 3
"""So many modes that can't be recorded, and no other is tried."""


class Lanes:
    """Implements pipelines.painter.Painter."""

    depth, in_place = 2, True

    def __init__(self, machine: Machine, size: tuple[int, int], device: torch.device) -> None:
        self._machine, self._device = machine, device
        self._forecast = Forecast()
        self.streams = self._enter, self._walk, self._leave = [machine.stream(first=True) for _ in range(3)]
        self._recorder = Recorder(machine)
        self._rehearsal = Rehearsal(machine, self._recorder)
        self.live = False
        self._shown: Shown | None = None
        self._held: Shown | None = None
        self._refused: set[tuple[object, ...]] = set()
        """Modes that could not be made ready beside the stream."""
        self._known: OrderedDict[tuple[object, ...], Recorded | None] = OrderedDict()
        """None for what was painted once."""
        self._flights: deque[Flight] = deque()
        self._upload, self._landing = Staging(machine), Landing(machine, device)
        self._pins = Pins(machine)
        self._places: Places | None = None
        self._downs = [
            (machine.host((*size, 3), torch.uint8), machine.host((NUMBERS,), torch.float32)) for _ in range(3)
        ]
        self._frame = torch.empty(0, dtype=torch.uint8)
        self._taken = self._passed = self._left = self._written = self._walk.mark()
        self.records = 0
        """Modes recorded so far."""
        self.spans: list[float] = []
        """Milliseconds of each stage of the frame that was collected last, as far as it was played."""
        self.wrong = ""
        """Why a mode could not be recorded, a sentence, or nothing."""
        self._failures = 0

    @contextmanager
    def between(self) -> Iterator[None]:
        self._written.wait()  # the host's numbers of the frame before are on the device: they may be overwritten
        self._walk.follow(self._passed)
        with self._machine.on(self._walk):
            yield

    def settle(self) -> None:
        self._walk.follow(self._left)

    def meet(self) -> None:
        self._walk.follow(self._machine.others().mark())

    def up(self, pixels: Pixels, whole: Whole | None = None) -> Tensor:
        device = self._device_frame(pixels)
        pinned = self._pins.find(pixels) if whole is not None else None
        if pinned is not None and whole is not None:
            found, landed = self._landing.fetch(pinned, whole)
            self._enter.follow(landed)
        else:
            found = self._upload.put(pixels)
            if whole is not None and not whole():
                raise Overtaken
        self._enter.follow(self._taken)
        with self._machine.on(self._enter):
            device.copy_(found, non_blocking=True)
        uploaded = self._enter.mark()
        (self._upload.read if pinned is None else self._landing.used)(uploaded)
        self._walk.follow(uploaded)
        return device

    def lend(self, places: Places | None) -> None:
        self._places = places
        if places is None:
            self._left.wait()
            self._pins.close()

    @property
    def failed(self) -> str:
        return self.wrong or self._pins.failed

    @property
    def doing(self) -> str:
        return "recording" if self._rehearsal.doing else ""

    def hold(self, knobs: Knobs, state: StreamState, nets: Nets) -> Mode | None:
        self._held = None
        if not self.live:
            return None
        self._fetch(knobs, nets)
        mode, shown = knobs.mode, self._shown
        parts = parts_of(knobs, nets)
        key = key_of(knobs, nets, parts)
        ready = mode.work == "bypass" or self._known.get(key) is not None or key in self._refused
        if ready or shown is None or shown.mode.source != mode.source:
            return None
        state.make(mode, knobs)
        knobs.foreknown.make(knobs, nets)
        self._rehearsal.ask(Job(key, parts, self._frame, knobs, state, nets))
        self._held = shown
        return shown.mode

    def paint(self, frame: Tensor, knobs: Knobs, state: StreamState, nets: Nets) -> None:
        self._written = self._walk.mark()
        if knobs.mode.partial:
            self._enter.follow(self._written)
        if self._held is not None:
            recorded = self._held.recorded
        else:
            parts = parts_of(knobs, nets)
            recorded = self._recorded(key_of(knobs, nets, parts), parts, frame, knobs, state, nets)
        self._foresee(recorded, knobs, nets)
        holds = recorded is not None or knobs.mode.work == "bypass"
        if knobs.mode.deep != "kept" and not knobs.mode.partial:  # more of those would need the whole frame before them
            self._shown = Shown(knobs.mode, recorded) if holds else None
        host, numbers, lent = self._target()
        try:
            if recorded is None:
                self._flights.append(self._one_by_one(frame, knobs, state, nets, host, numbers))
            else:
                self._flights.append(self._play(recorded, host, numbers))
        except BaseException:
            if lent is not None and self._places is not None:
                self._places.drop(lent)
            self._taken = self._passed = self._left = self._walk.mark()  # what was begun of it may still be going on
            raise

    def _target(self) -> tuple[Tensor, Tensor, Pixels | None]:
        """Where the next picture and its numbers go on the host; and the memory that was lent for it, if any was."""
        host, numbers = self._downs[0]
        self._downs = [*self._downs[1:], self._downs[0]]
        if self._places is not None and not self._pins.failed:
            pixels = self._places.open(tuple(host.shape))
            pinned = self._pins.find(pixels)
            if pinned is not None:
                return pinned, numbers, pixels
            self._places.drop(pixels)
        return host, numbers, None

    def collect(self) -> tuple[Pixels, Sequence[float]]:
        flight = self._flights.popleft()
        flight.done.wait()
        self._machine.claim(flight.host)
        self._machine.claim(flight.numbers)
        if flight.spans:
            self.spans = [end.since(begin) for begin, end in flight.spans]
            self._forecast.learn(self.spans[0], self.spans[1])
        return flight.host.numpy(), flight.numbers.tolist()

    def wait_s(self) -> float:
        return self._forecast.wait_s()

    def close(self) -> None:
        self._rehearsal.close()
        self._left.wait()
        self._known.clear()

    def _device_frame(self, pixels: Pixels) -> Tensor:
        if self._frame.shape != pixels.shape:
            self._left.wait()
            with self._machine.on(self._enter):  # whose memory it is
                self._frame = torch.empty(pixels.shape, dtype=torch.uint8, device=self._device)
            self._rehearsal.settle()
            self._rehearsal.fetch()
            self._known.clear()  # they read the old one
            self._shown = None
        return self._frame

    def _foresee(self, recorded: Recorded | None, knobs: Knobs, nets: Nets) -> None:
        """Bring up to date what networks make of steps and prompts, on the walk's stream, before it."""
        for part in knobs.foreknown.due(knobs, nets):
            if recorded is not None:
                recorded.ahead[part].play()
            else:
                knobs.foreknown.compute(part, knobs, nets)
            knobs.foreknown.done(part, knobs, nets)

    def _recorded(
        self, key: tuple[object, ...], parts: tuple[object, ...],
        frame: Tensor, knobs: Knobs, state: StreamState, nets: Nets,
    ) -> Recorded | None:  # fmt: skip
        """The graphs of this mode; None where it is to be painted operation by operation."""
        if knobs.mode.work == "bypass":
            return None
        if self._known.get(key) is None:
            self._rehearsal.settle()  # networks run for one frame at a time
        if key not in self._known:
            self._remember(key, knobs, nets)
            return None
        self._known.move_to_end(key)
        if self._known[key] is None and self._failures < TRIES and key not in self._refused:
            self._left.wait()
            try:
                with torch.inference_mode():
                    recorded = Recorded(parts, *self._recorder(frame, knobs, state, nets))
                self._take(key, recorded)
            except RuntimeError as error:  # whatever a card or a library refuses: the show goes on without
                self._fail(first_line(error))
        return self._known[key]

    def _fetch(self, knobs: Knobs, nets: Nets) -> None:
        """What was made ready beside the stream, if it was."""
        answer = self._rehearsal.fetch()
        if answer is None:
            return
        key = answer.job.key
        self._remember(key, knobs, nets)
        if answer.made is not None:
            self._take(key, answer.made)
        else:
            self._refused.add(key)
            self._fail(answer.wrong)

    def _take(self, key: tuple[object, ...], recorded: Recorded) -> None:
        self._known[key] = recorded
        for mark in self._recorder.marks():
            for stream in self.streams:
                stream.follow(mark)
        self.records += 1

    def _fail(self, why: str) -> None:
        self._failures += 1
        self.wrong = f"this mode can't be recorded as a graph, and is painted without: {why}"

    def _remember(self, key: tuple[object, ...], knobs: Knobs, nets: Nets) -> None:
        """A mode is here for the first time. Those go whose networks have been let go of, and the oldest."""
        windows = nets.window.present if nets.window is not None else ()
        kept = (nets.unet, nets.encode, nets.decode, *nets.controlnets.values(), *nets.hintnets.values(), *windows)
        present = {*map(id, (*kept, *knobs.units.own.values(), knobs.image.rows))}
        gone = [old for old, known in self._known.items() if known and not {*map(id, known.parts)} <= present]
        if gone or len(self._known) >= MOST:
            self._left.wait()
        for old in gone:
            del self._known[old]
        while len(self._known) >= MOST:
            self._known.popitem(last=False)
        self._known[key] = None

    def _play(self, recorded: Recorded, host: Tensor, numbers: Tensor) -> Flight:
        spans = []
        for stage, stream, before in zip(recorded.stages, self.streams, (None, *self.streams), strict=False):
            if before is not None:
                stream.follow(before.mark())
            with self._machine.on(stream):
                if stage.take is not None:
                    stage.take.play()
                taken = stream.mark()
                begun = stream.mark(timed=True)
                stage.work.play()
                if stream is self._walk:
                    self._taken = taken
                elif stream is self._leave:
                    self._passed = taken
                    fetch_down(recorded.picture, recorded.numbers, host, numbers)
            spans.append((begun, stream.mark(timed=True)))
        self._left = self._leave.mark()
        self._forecast.begun()
        return Flight(host, numbers, self._left, spans)

    def _one_by_one(
        self, frame: Tensor, knobs: Knobs, state: StreamState, nets: Nets, host: Tensor, numbers: Tensor
    ) -> Flight:
        self.settle()
        picture = step(frame, knobs, state, nets)
        with torch.inference_mode():
            found = state.numbers()
            fetch_down(picture, found, host, numbers)
        self._taken = self._passed = self._left = self._walk.mark()
        return Flight(host, numbers, self._left, [], (picture, found))
