"""How a training run goes, for its journal."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from pipelines.pocket.run import Journal, Run

EVERY_S = 20.0


class Report:
    """Means of what is noted step by step, every few seconds and after the last step."""

    def __init__(self, journal: Journal, run: Run, stage: str) -> None:
        self._journal, self._run, self._stage = journal, run, stage
        self._said = time.monotonic()
        self._errors: list[tuple[float, ...]] = []

    def note(self, norm: float, critic: Callable[[], float] | None = None, /, **errors: float) -> bool:
        """After a step: its gradient's norm, and errors by name. Whether a line was written."""
        self._errors.append(tuple(errors.values()))
        now = time.monotonic()
        if now - self._said <= EVERY_S and self._run.fraction < 1:
            return False
        means = {name: round(float(mean), 4) for name, mean in zip(errors, np.mean(self._errors, 0), strict=True)}
        self._journal.write(
            stage=self._stage, step=self._run.step, **means, norm=round(norm, 2),
            **({"critic": critic()} if critic else {}),
            seconds_a_step=round((now - self._said) / len(self._errors), 3),
            minutes_left=round(self._run.remaining / 60, 1),
        )  # fmt: skip
        self._said = now
        self._errors.clear()
        return True
