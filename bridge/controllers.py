"""What a run has beside OSC and the page to be played with: MIDI and Ableton Link, each if it was asked for.

Their modules, and the packages behind them, are imported for those who asked.
"""

from __future__ import annotations

from collections.abc import Callable

from bridge.config import Config
from bridge.context import Context
from bridge.show.acts import Acts
from bridge.show.director import Director
from bridge.store import ParamStore


class Controllers:
    """`start` and `stop` as the other parts of a run."""

    def __init__(
        self,
        config: Config,
        store: ParamStore,
        director: Director,
        acts: Acts,
        context: Context,
    ) -> None:
        """`acts` gets those of MIDI. Raises DriverMissing, ConfigError, ControlError."""
        self._starts: list[Callable[[], None]] = []
        self._stops: list[Callable[[], None]] = []
        if config.midi.map:
            from bridge.midi import ports
            from bridge.midi.acts import MidiActs
            from bridge.midi.midi import Midi

            ports.require()
            midi = Midi(config.midi, store, director, context.metrics, acts.whatever)
            acts.add(MidiActs(midi, config.osc.prefix).acts, midi.wiring)
            self._add(midi.start, midi.stop)
        if config.link.enabled:
            from bridge.show.ableton import Ableton

            link = Ableton(director, context.metrics)
            context.main_tasks.append(link.tick)
            self._add(link.start, link.stop)

    def _add(self, start: Callable[[], None], stop: Callable[[], None]) -> None:
        self._starts.append(start)
        self._stops.append(stop)

    def start(self) -> None:
        for start in self._starts:
            start()

    def stop(self) -> None:
        for stop in self._stops:
            stop()
