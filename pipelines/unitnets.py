"""The networks that control units name: their ControlNets, and what their preprocessors look through.

They are loaded beside the stream, used from the frame on in which they are there, and let go of when no unit wants
them any more.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from engines.base import ControlNet, HintNet, Nets
from engines.errors import ModelError
from engines.hintnets import load_hint
from engines.modelrows import NO_CONTROLNET
from engines.pose import load_pose
from engines.registry import Registry
from pipelines.knobs import Knobs
from pipelines.pace import WAITING
from pipelines.preprocess.flowcolour import wheel
from pipelines.preprocess.registry import CHOICES
from pipelines.preprocess.skeleton import Skeletons
from pipelines.shelf import Shelf
from pipelines.state import StreamState
from pipelines.unitrow import Unit
from pipelines.units import UnitMode


class UnitNets:
    """Those of one stream. All but `notes` belongs to the frame's thread."""

    def __init__(self, nets: Nets, size: tuple[int, int], knobs: Knobs, units: tuple[Unit, ...]) -> None:
        """Keeps `nets.controlnets` and `nets.hintnets` at what is there. `size`: (height, width)."""
        self._plain = self._nets = nets
        self._size, self._knobs, self._units = size, knobs, units
        self.shelf: Shelf[ControlNet] = Shelf(self._load_control, nets.device)
        self.hints: Shelf[HintNet] = Shelf(self._load_hint, nets.device, "ll-hints")
        self._stale: set[str] = set()
        """ControlNets of an engine that was left: each is used until its like has been loaded."""

    @property
    def loaded(self) -> tuple[str, ...]:
        """Ids of what is there."""
        return (*self._nets.controlnets, *self._nets.hintnets)

    def adopt(self, nets: Nets) -> None:
        """Another engine's networks, with these in its dictionaries: have ControlNets loaded by it."""
        self._nets, self._stale = nets, set(nets.controlnets)

    def follow(self, units: tuple[Unit, ...], ahead: Iterable[str]) -> None:
        """Before a frame: have what `units` name loaded, and ControlNets that will be named (`ahead`)."""
        self._units = units
        self._follow_hints()
        here, named = self._nets.controlnets, {unit.model for unit in units} - {NO_CONTROLNET} | set(ahead)
        if not (named or here):
            self.shelf.ask(())
            return
        fetched = self.shelf.fetch()
        here |= fetched
        self._stale = (self._stale - fetched.keys()) & named
        for name in here.keys() - named - set(self._knobs.units.using.values()):
            del here[name]
        self.shelf.ask(sorted(named - (here.keys() - self._stale)))

    def look_beside(self, state: StreamState) -> None:
        """After a frame: hand what units saw in it to networks that run beside the stream."""
        here = self._nets.hintnets  # a mode that is held may name one that has gone
        late = [unit for unit in self._knobs.mode.units if unit.beside and CHOICES[unit.preprocessor].needs in here]
        hints = {unit.number: state.hints[unit.memory] for unit in late}
        nets = {unit.number: here[CHOICES[unit.preprocessor].needs] for unit in late}
        self._knobs.units.beside.offer(hints, nets, self._units)

    def settle(self) -> None:
        """Wait until all that is wanted is there or has failed: for a standby, tests and offline work."""
        self.shelf.settle()
        self.hints.settle()

    def waiting(self) -> list[int]:
        """Numbers of units whose preprocessor has no network yet."""
        there = ("", *self._nets.hintnets)
        return [number for number, unit in enumerate(self._units, 1) if _needs(unit) not in there]

    def notes(self) -> dict[str, float | str]:
        """Telemetry, from any thread: which units act, which networks are on their way, and what is wrong."""
        wrong, pending, unseen = self.shelf.wrong(), self.shelf.pending(), self.hints.wrong()
        mode, using, beside = self._knobs.mode, self._knobs.units.using, self._knobs.units.beside
        acting = {unit.number: unit for unit in mode.units}
        state, error = [f"{unit.number} {_acts(unit)}" for unit in mode.units], []
        for number, unit in enumerate(self._units, 1):
            if unit.model in pending:
                state.append(f"{number} loading {unit.model}")
            if unit.model in wrong:
                error.append(f"unit {number}: {unit.model}: {wrong[unit.model]}")
            if (needs := _needs(unit)) in self.hints.pending():
                state.append(f"{number} loading {needs}")
            if needs in unseen:
                error.append(f"unit {number}: {unit.preprocessor}: {unseen[needs]}")
            if beside.wrong and needs and CHOICES[unit.preprocessor].beside:
                error.append(f"unit {number}: {unit.preprocessor}: {beside.wrong}")
            if unit.on and unit.source == "stream" and number in using and number not in acting:
                error.append(f"unit {number}: nothing has come from its own stream yet")
            if number in acting and unit.mode == "control" and mode.guidance != "full":
                error.append(f"unit {number}: mode control is prompt without guidance_mode full")
        age = float(self._knobs.units.age)
        return {"control.state": ", ".join(state), "control.error": "; ".join(error), "control.age": age}

    def close(self) -> None:
        """Stop the threads."""
        self.shelf.close()
        self.hints.close()
        self._knobs.units.beside.close()

    def _follow_hints(self) -> None:
        here, wanted = self._nets.hintnets, {needs for unit in self._units if (needs := _needs(unit))}
        if wanted or here:
            here |= self.hints.fetch()
            for kind in here.keys() - wanted:
                del here[kind]
        self.hints.ask(sorted(wanted - here.keys()))

    def _load_hint(self, kind: str) -> HintNet:
        """On the shelf's thread."""
        entry = Registry.open().hintnet_for(kind)  # type: ignore[arg-type]  # a shelf knows its ids as text
        if entry.kind == "pose":
            pose = Skeletons(load_pose(entry.folder(), self._plain.device.type))
            pose(torch.zeros(1, 3, *self._size))
            return pose
        return load_hint(entry.kind, entry.folder(), self._plain.device, self._plain.dtype, self._size)

    def _load_control(self, name: str) -> ControlNet:
        """On the shelf's thread."""
        if self._nets.load_control is None:
            raise ModelError("this engine runs no ControlNets")
        net = self._nets.load_control(Registry.open().controlnet(name).folder())
        if net.channels not in (3, 6):
            raise ModelError(f"it wants a hint of {net.channels} channels; livelatent has 3, or 6 for TemporalNet2")
        if net.channels == 6:
            wheel(self._nets.device)  # uploaded here, as no frame that is recorded as a graph may
        return net


def _needs(unit: Unit) -> str:
    """The kind of network that a unit's preprocessor looks through; empty for none, or where no ControlNet is named."""
    return "" if unit.model == NO_CONTROLNET else CHOICES[unit.preprocessor].needs


def _acts(unit: UnitMode) -> str:
    return f"waiting for {unit.preprocessor}" if unit.look in WAITING else unit.net
