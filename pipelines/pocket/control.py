"""Stages three and four: the ControlNets. The denoiser stays as it is; each learns what to add to it.

`pocket-edge` is shown the outlines (Canny) of the input, `pocket-temporal` the previous picture that came out, as
TemporalNet is (Rowles 2023): both as RGB in 0..1, at the size of the picture.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny, ControlNetModel, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from pipelines.pocket import data, denoise, text
from pipelines.pocket.critic import Critic
from pipelines.pocket.denoise import Lesson

OWN = 0.6
"""Share of temporal lessons whose previous picture is the denoiser's own and not the teacher's."""
WORN = 2.0
"""How soft the hint may be made, as the deviation of a blur in pixels: in use every picture is a copy of a copy, and
what is not made sharp again on the way gets softer until nothing is left."""
AGAIN = 0.5
"""Share of those made with the ControlNet's help, as in use, where every picture follows from another."""


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


class TemporalLessons:
    """Lessons of two frames: the answer is the second, the hint is what the first became. What it became, moved along,
    is another answer that counts: the mean of both would be soft, and everything that follows from it softer still."""

    def __init__(
        self,
        latents: NDArray[np.float16],
        following: NDArray[np.float16],
        vae: AutoencoderTiny,
        net: UNet2DConditionModel,
        words: CLIPTextModel,
        control: ControlNetModel,
        tokenizer: PreTrainedTokenizerFast,
        seed: int,
    ) -> None:
        self._control = control
        self._first, self._second = latents, following
        self._vae, self._net, self._words = vae, net, words
        self._dice = denoise.Lessons(latents, 0, tokenizer, seed)

    @torch.no_grad()
    def draw(self, number: int, batch: int, side: int) -> Lesson:
        """Batch `number`, (n, channels, side, side)."""
        dice, device = self._dice, self._net.device
        dice.turn(number)
        rows = [self._one(side) for _ in range(batch)]
        before, was, now, wanted = (torch.stack(part) for part in list(zip(*rows, strict=True))[:4])
        strength = 0.15 + 0.85 * torch.rand(batch, generator=dice.generator)
        part = denoise.share(strength)[:, None, None, None]
        t, noise = strength * 999, torch.randn(now.shape, generator=dice.generator)
        wishes, moves = [row[4] for row in rows], [row[5] for row in rows]
        asked = torch.stack([denoise.asked(wish) for wish in wishes])
        new = now + part * (wanted - now)
        start = denoise.noised(now, noise, t)
        lesson = Lesson(start, t, *dice.tokens(wishes), new, asked=asked, share=part.flatten()).to(device)
        old = (before + part * (was - before)).to(device, memory_format=torch.channels_last)
        if float(dice.rng.random()) < OWN:
            # The same noise as now: a fixed seed is what people use, and what clings to the screen while things move.
            context = denoise.understood(self._words, lesson)
            start = denoise.noised(before, noise, t).to(old)
            old = self._net(start, lesson.t, context).sample
            if float(dice.rng.random()) < AGAIN:
                earlier = _carry(self._decode(old), [cv2.invertAffineTransform(m) for m in moves])
                old = helped(self._net, self._control, start, lesson.t, context, earlier.add(1).div(2).to(start))
        picture = self._decode(old)
        held = self._vae.encode(_carry(picture, moves).to(start)).latents.float()
        return replace(lesson, held=held, hint=self._worn(picture).add(1).div(2))

    def _worn(self, pictures: Tensor) -> Tensor:
        """Pictures (n, 3, h, w), each softened by another amount, a third of them not at all."""
        out = pictures.clone()
        for row, amount in enumerate(self._dice.rng.uniform(-0.5, 1.0, len(out))):
            if amount > 0:
                out[row] = blur(pictures[row : row + 1], WORN * float(amount))[0]
        return out

    def _decode(self, latents: Tensor) -> Tensor:
        return torch.as_tensor(self._vae.decode(latents).sample).float().clamp(-1, 1)

    def _one(self, side: int) -> tuple[Tensor, Tensor, Tensor, Tensor, text.Wish, NDArray[np.float32]]:
        rng = self._dice.rng
        scene = int(rng.integers(len(self._second)))
        place = int(rng.integers(data.MOVING))
        style = data.moving_styles(scene)[place]
        extent = self._first.shape[-1]
        y, x = (4 * int(v) for v in rng.integers(0, (extent - side) // 4 + 1, 2))

        def cut(stack: NDArray[Any]) -> Tensor:
            return torch.from_numpy(stack[:, y : y + side, x : x + side].astype(np.float32))

        matrix = data.move(scene, 8 * extent).copy()
        corner = np.array([8 * x, 8 * y], np.float32)
        matrix[:, 2] += matrix[:, :2] @ corner - corner
        wish = text.named(rng, data.NAMES[style])
        first, second = self._first[scene], self._second[scene]
        return cut(first[0]), cut(first[style]), cut(second[0]), cut(second[place]), wish, matrix


def _carry(pictures: Tensor, matrices: list[NDArray[np.float32]]) -> Tensor:
    """Pictures (n, 3, h, w) moved on by 2 × 3 matrices in pixels (new place → old place)."""
    _, _, h, w = pictures.shape
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    here = torch.stack([x, y, torch.ones_like(x)], -1).float()
    there = torch.einsum("nij,hwj->nhwi", torch.from_numpy(np.stack(matrices)), here)
    grid = 2 * there / torch.tensor([w - 1, h - 1]) - 1
    # Bilinear would make the answer softer than what it is to hold on to.
    out = F.grid_sample(pictures, grid.to(pictures), "bicubic", padding_mode="reflection", align_corners=True)
    return out.clamp(-1, 1)


def blur(pictures: Tensor, sigma: float) -> Tensor:
    """Pictures (n, 3, h, w) through a Gaussian of that deviation in pixels."""
    reach = max(1, round(3 * sigma))
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / max(sigma, 1e-3)) ** 2).to(pictures)
    line = (line / line.sum()).expand(pictures.shape[1], 1, 1, -1)
    for kernel, pad in ((line, (reach, reach, 0, 0)), (line.transpose(2, 3), (0, 0, reach, reach))):
        pictures = F.conv2d(F.pad(pictures, pad, "replicate"), kernel, groups=pictures.shape[1])
    return pictures


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
