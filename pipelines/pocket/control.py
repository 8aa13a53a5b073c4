"""Stage three: `pocket-edge`, a ControlNet that is shown the outlines (Canny) of the input, as RGB in 0..1 at the size
of the picture. The denoiser stays as it is; it learns what to add to it.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch
from diffusers import AutoencoderTiny, ControlNetModel, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from pipelines.pocket import denoise
from pipelines.pocket.critic import Critic
from pipelines.pocket.denoise import Lesson


def outlines(picture: NDArray[np.uint8], low: float = 100, high: float = 200) -> NDArray[np.uint8]:
    """The usual Canny hint: (h, w, 3) RGB → (h, w, 3), white on black."""
    edges = cv2.Canny(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), low, high)
    return np.repeat(edges[..., None], 3, 2)


class EdgeLessons(denoise.Lessons):
    """Lessons with outlines, mostly at levels where little of the input is left to see."""

    def __init__(
        self,
        latents: NDArray[np.float16],
        shown: NDArray[np.uint8],
        tokenizer: PreTrainedTokenizerFast,
        seed: int,
    ) -> None:
        super().__init__(latents, 0, tokenizer, seed)
        self._shown = shown
        self._hints: list[NDArray[np.uint8]] = []

    def draw(self, number: int, batch: int, side: int) -> Lesson:
        self._hints.clear()
        lesson = super().draw(number, batch, side)
        hint = torch.from_numpy(np.stack(self._hints)).permute(0, 3, 1, 2).float().div(255)
        return replace(lesson, hint=hint)

    def _strengths(self, batch: int) -> Tensor:
        low = torch.rand(batch, generator=self.generator)
        high = 0.6 + 0.4 * torch.rand(batch, generator=self.generator)
        return torch.where(torch.rand(batch, generator=self.generator) < 0.25, low, high)

    def _place(self, scene: int, y: int, x: int, side: int) -> None:
        low = float(self.rng.uniform(40, 140))
        crop = self._shown[scene, 8 * y : 8 * (y + side), 8 * x : 8 * (x + side)]
        self._hints.append(outlines(np.ascontiguousarray(crop), low, low * float(self.rng.uniform(1.8, 2.5))))


def loss(
    lesson: Lesson,
    control: ControlNetModel,
    net: UNet2DConditionModel,
    words: CLIPTextModel,
    vae: AutoencoderTiny,
    critic: Critic,
    shown: int,
    pull: float,
) -> denoise.Mark:
    """One lesson's: of the denoiser with the ControlNet's help at weight 1."""
    with torch.no_grad():
        context = denoise.understood(words, lesson)
    made = helped(net, control, lesson.noised, lesson.t, context, lesson.hint)
    return denoise.compare(made, lesson, vae, critic, shown, pull)


def helped(
    net: UNet2DConditionModel,
    control: ControlNetModel,
    noised: Tensor,
    t: Tensor,
    context: Tensor,
    hint: Tensor | None,
) -> Tensor:
    """The denoiser's answer with the ControlNet at weight 1."""
    down, middle = control(noised, t, context, hint, return_dict=False)
    made: Tensor = net(
        noised, t, context, down_block_additional_residuals=down, mid_block_additional_residual=middle
    ).sample
    return made
