"""How far a build is, out of what TensorRT's builder reports: phases within phases, each of so many steps.

No TensorRT here: `monitor` makes its listener of this.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorrt as trt

Tell = Callable[[float, str], None]
"""Told how much is done, 0..1, and in which phase."""


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class Progress:
    """One build's. Any thread may report; the share that is done never falls."""

    def __init__(self, tell: Tell, cancelled: Callable[[], bool] = lambda: False) -> None:
        self._tell, self._cancelled = tell, cancelled
        self._phases: dict[str, _Phase] = {}
        self._told = -1.0
        self._change = threading.RLock()

    def start(self, name: str, parent: str | None, steps: int) -> None:
        with self._change:
            self._phases[name] = _Phase(parent if parent in self._phases else None, max(1, steps))

    def step(self, name: str, step: int) -> bool:
        """Step `step`, from 0, of a phase is done. Whether the build shall go on."""
        with self._change:
            phase = self._phases.get(name)
            if phase is not None:
                phase.done = max(phase.done, min(step + 1, phase.steps))
                self._report(name)
        return not self._cancelled()

    def finish(self, name: str) -> None:
        """A phase is over, its last steps reported or not."""
        with self._change:
            self._phases.pop(name, None)

    def _report(self, name: str) -> None:
        roots = [root for root, phase in self._phases.items() if phase.parent is None]
        self._say(self._share(roots[0]) if roots else 0.0, name)

    def _share(self, name: str) -> float:
        """Of a phase's steps, the one that its furthest inner phase is in counted as far as that is."""
        phase = self._phases[name]
        inner = [self._share(other) for other, found in self._phases.items() if found.parent == name]
        return min(1.0, (phase.done + max(inner, default=0.0)) / phase.steps)

    def _say(self, share: float, name: str) -> None:
        if share > self._told:
            self._told = share
            self._tell(share, name)


def monitor(progress: Progress) -> trt.IProgressMonitor:
    """`progress` as TensorRT wants it."""
    import tensorrt as trt

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return progress.step(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            progress.finish(phase_name)

    return Monitor()
