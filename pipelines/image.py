"""The image prompt in a frame: what the denoiser reads of a picture, in buffers on the device, and whether it does."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from engines.base import ImageAdapter
from engines.given import ImageBlocks, ImagePrompt
from pipelines.params import Params, PromptCurve
from pipelines.promptlang.blend import eased


class ImageMode(NamedTuple):
    """An image prompt that acts: its part in the sequence of operations."""

    adapter: str
    build: int
    """Which loading of it: another one has other buffers."""
    blocks: ImageBlocks


class Fade(NamedTuple):
    """From one picture to another."""

    old: Tensor
    new: Tensor
    began: float
    seconds: float


class ImageKnobs:
    """The buffers of one stream's image prompt, and the host's side of them."""

    def __init__(self, device: torch.device) -> None:
        self._host = torch.zeros((), pin_memory=device.type == "cuda")
        self._scale = torch.zeros((), device=device)
        self._asked = 0.0
        self._adapter: ImageAdapter | None = None
        self._name, self._build = "", 0
        self._rows: Tensor | None = None
        self._fade: Fade | None = None
        self._views: dict[tuple[int, ImageBlocks], ImagePrompt] = {}
        self.changes = 0
        """How often another picture, or none, came up."""

    @property
    def rows(self) -> Tensor | None:
        """Where what is read of the picture lies."""
        return self._rows

    @property
    def name(self) -> str:
        """The adapter in use; empty for none."""
        return self._name

    def take(self, name: str, adapter: ImageAdapter, rows: Tensor, now: float = 0.0, seconds: float = 0.0) -> None:
        """Between frames: read this from now on, [2, adapter.size], the negative side's row first; on the way for
        `seconds` from what is read now, if the same adapter read that."""
        self.changes += 1
        self._fade = None
        if adapter is self._adapter and self._rows is not None:
            if seconds > 0.0:
                self._fade = Fade(self._rows.clone(), rows.clone(), now, seconds)
            else:
                self._rows.copy_(rows)
            return
        self._adapter, self._name, self._rows = adapter, name, rows.clone()
        self._build += 1
        self._views.clear()

    def travel(self, now: float, curve: PromptCurve) -> None:
        """Between frames: go on towards what was taken last. Keys and values are linear in what is read of a picture,
        so that half way is both pictures half."""
        if self._fade is None or self._rows is None:
            return
        fade, way = self._fade, min(1.0, max(0.0, (now - self._fade.began) / self._fade.seconds))
        torch.lerp(fade.old, fade.new, eased(way, curve), out=self._rows)
        if way == 1.0:
            self._fade = None

    def drop(self) -> None:
        """Read no picture any more."""
        self._fade = None
        if self._rows is not None:
            self._adapter, self._rows, self._name = None, None, ""
            self._views.clear()
            self.changes += 1

    def turn(self, params: Params) -> ImageMode | None:
        """Bring the scale to `params`; what acts, if anything does. Copies what changed, waits for nothing."""
        if self._adapter is None or not params.ip_on or params.ip_scale <= 0.0:
            return None
        if params.ip_scale != self._asked:
            self._asked = params.ip_scale
            self._host.fill_(params.ip_scale)
            self._scale.copy_(self._host, non_blocking=True)
        return ImageMode(self._name, self._build, params.ip_block if self.has(params.ip_block) else "all")

    def has(self, blocks: ImageBlocks) -> bool:
        """Whether the denoiser has such blocks."""
        return self._adapter is None or any(self._adapter.blocks(blocks))

    def look(self, mode: ImageMode | None, batch: int) -> ImagePrompt | None:
        """What the denoiser reads in this frame, if anything. `batch`: 1 for the prompt's side, 2 for both."""
        if mode is None or self._adapter is None or self._rows is None:
            return None
        key = (batch, mode.blocks)
        if key not in self._views:
            self._views[key] = self._adapter.prompt(self._rows[2 - batch :], self._scale, mode.blocks)
        return self._views[key]
