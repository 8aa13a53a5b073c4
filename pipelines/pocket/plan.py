"""What a training run is made of, in numbers, and how it says how far it is."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from pipelines.pocket import nets
from pipelines.pocket.run import Journal

STAGES = ("codec", "latents", "denoiser", "edge", "temporal", "polish")
WIDE = 4
"""Every so many steps the batch is a few whole pictures instead of many crops."""


@dataclass(frozen=True)
class Plan:
    """One run, in numbers. The defaults make the weights that ship."""

    out: Path
    work: Path
    scenes: int = 1000
    """How many are drawn for the denoiser."""
    moving: int = 600
    """How many the TemporalNet's films are cut out of."""
    pictures: int = 600
    """How many scenes the codec sees, each under two styles beside."""
    size: int = 256
    codec_steps: int = 12_000
    codec_batch: int = 16
    codec_side: int = 64
    codec_rate: float = 6e-4
    polish_steps: int = 2000
    """Of the decoder alone, at the end."""
    polish_rate: float = 3e-4
    words_steps: int = 300
    words_batch: int = 64
    words_rate: float = 1e-3
    steps: int = 24_000
    batch: int = 16
    side: int = 128
    rate: float = 1e-3
    shown: int = 6
    """Answers of each batch that are compared as pictures too."""
    minutes: float = math.inf
    """The denoiser's training is squeezed into this."""
    critic_rate: float = 4e-4
    critic_warm: int = 1000
    """Steps over which the critic is let in."""
    control_steps: int = 3000
    """Of `pocket-edge`."""
    temporal_steps: int = 6000
    """Of `pocket-temporal`; they are quicker."""
    again: int = 4
    """Steps from each frame of its films."""
    control_rate: float = 5e-4
    control_minutes: float = math.inf
    warm: Path | None = None
    """A model folder whose networks to begin with: its codec as it is, its denoiser and text encoder to train on."""
    seed: int = 1
    workers: int = 0
    """Processes that share the work, one thread each; 0: as many as there are cores, one on a GPU."""
    device: str = "auto"
    every: float = 180.0
    """Seconds between contact sheets, checkpoints and written weights."""
    look: Path | None = None
    """A folder of pictures for the contact sheets instead of scenes."""
    until: str = STAGES[-1]
    """The stage to stop after."""
    alone: str = ""
    """`edge` or `temporal`: train this ControlNet and nothing else, over the networks of --warm."""
    sizes: nets.Sizes = nets.SHIPPED

    def crop(self, step: int, team: int) -> tuple[int, int]:
        """Crops of this step and their side in latents."""
        if step % WIDE == WIDE - 1:
            share = (self.size // self.side) ** 2
            return max(1, self.batch // team // share), self.size // 8
        return self.batch // team, self.side // 8

    def seen(self, step: int, team: int) -> int:
        """Answers of this step that are compared as pictures too: one where they are whole."""
        return 1 if step % WIDE == WIDE - 1 else self.shown // team

    @property
    def fast(self) -> torch.autocast:
        """bfloat16 where the machine is quicker with it: GPUs, and processors that calculate with it."""
        cpu = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
        quick = self.place.type != "cpu" or cpu
        return torch.autocast(self.place.type, torch.bfloat16, enabled=quick)

    @property
    def place(self) -> torch.device:
        """Where the networks live."""
        if self.device != "auto":
            return torch.device(self.device)
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Ticker:
    """Says how a loop goes, every few seconds."""

    def __init__(self, journal: Journal, stage: str, seconds: float = 20.0) -> None:
        self._journal, self._stage, self._seconds = journal, stage, seconds
        self._began = self._said = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._said >= self._seconds or done == total:
            self._said = now
            left = (now - self._began) / max(1, done) * (total - done)
            self._journal.write(stage=self._stage, done=done, of=total, minutes_left=round(left / 60, 1))
