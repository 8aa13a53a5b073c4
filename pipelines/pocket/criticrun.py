"""The critic's own training run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pipelines.pocket import denoise
from pipelines.pocket.critic import Critic, Shown, critic_loss
from pipelines.pocket.plan import Plan
from pipelines.pocket.run import Run, Team


class CriticRun:
    """The critic and its training, step by step with what it judges."""

    def __init__(
        self, plan: Plan, path: Path, steps: int, minutes: float, team: Team, after: Path | None = None
    ) -> None:
        torch.manual_seed(plan.seed)
        self._plan, self._losses = plan, [0.0]
        self.net: Critic = Critic(len(denoise.ASKED)).to(plan.place)
        if after is not None and after.exists():
            Run({"critic": self.net}, after, 0.0, 0, team)
        self._warm = plan.critic_warm if after is None else plan.critic_warm // 4
        self.run = Run({"critic": self.net}, path, plan.critic_rate, steps // 2, team, minutes, momentum=0.5)
        self._seen = 2 * self.run.step

    @property
    def pull(self) -> float:
        """As `critic.pictures_loss` takes it."""
        return min(1.0, self._seen / max(1, self._warm))

    def update(self, shown: Shown | None) -> None:
        """Learns from what was just judged, every second time: it is ahead of the denoiser anyway."""
        self._seen += 1
        if shown is not None and self._seen % 2 == 0:
            with self._plan.fast:
                loss = critic_loss(self.net, shown)
            self.run.update(loss)
            self._losses.append(float(loss.detach()))

    def said(self) -> float:
        """Its mean loss since it was last asked for; 2.5 where it cannot tell anything apart."""
        out = round(float(np.mean(self._losses[1:] or self._losses)), 3)
        self._losses = self._losses[-1:]
        return out
