"""Stage four: `pocket-temporal`, a ControlNet that is shown the last picture that came out, moved as the input moved
(TemporalNet, Rothenhaeusler 2023), and holds on to it. The denoiser stays as it is.

It acts on the finest level alone, where details are: its other gates stay at zero. So the denoiser's own answer and
all that leads to its last block (`finest.py`) are computed once, and learning goes through that block alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from pipelines.coherence.feedback import trust
from pipelines.pocket import denoise, finest, nets, text
from pipelines.pocket.denoise import Lesson
from pipelines.pocket.films import Films, estimated
from pipelines.pocket.finest import Before, Take
from pipelines.preprocess.warp import warp

KEEP, DETAIL = 0.6, 0.45
"""How much of the last picture stays, as the answer has it: of what is coarser than COARSE pixels, and of detail, of
which a mean is soft."""
COARSE = 4
BOOST = 1.1
"""How much the answer's detail is lifted at most, to be as sharp as the denoiser's own."""
LONGEST = 20
"""Frames of a film, at most."""
TURNED = 0.05
"""How often in a frame somebody turns a knob of a film: another prompt, strength or seed."""


@dataclass
class Reel:
    """Films, and what the TemporalNet has made of them so far; everything by rows."""

    films: Films
    left: NDArray[np.int64]
    """Frames until another film begins."""
    wishes: list[text.Wish]
    strength: Tensor
    """(n,)"""
    noise: Tensor
    """(n, channels, h, w): the same in every frame, as a fixed seed's, which clings to the screen while things move."""
    source: Tensor
    """The frame before, (n, 3, side, side) in -1..1."""
    made: Tensor
    """What became of it."""


class Lessons:
    """Frame after frame of films that the TemporalNet itself paints, so that it is shown its own worn pictures.

    The answer is what the denoiser paints without help, with KEEP of the last picture in it, where that is known, and
    as sharp as if it were not a mean. It changes what there is and asks for nothing that could not be seen: whatever
    else is asked for in two ways becomes their mean in the network, and soft.
    """

    def __init__(
        self,
        shown: NDArray[np.uint8],
        vae: AutoencoderTiny,
        net: UNet2DConditionModel,
        words: CLIPTextModel,
        tokenizer: PreTrainedTokenizerFast,
        seed: int,
    ) -> None:
        self._shown, self._seed = shown, seed
        self._vae, self._net, self._words, self._tokenizer = vae, net, words, tokenizer
        self._reels: dict[int, Reel] = {}

    @torch.no_grad()
    def draw(self, number: int, batch: int, side: int) -> Take:
        """The next frame of `batch` films. Afterwards `take` wants what became of it."""
        rng = np.random.default_rng([self._seed, number])
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + number)
        reel = self._reels.setdefault(side, self._reel(batch, side))
        fresh = self._script(reel, rng, generator)
        frame = reel.films.turn(rng, generator)
        flow = estimated(frame.flow, rng, generator)
        known = trust(flow, reel.source, frame.pictures) * ~fresh[:, None, None, None]
        hint = torch.where(fresh[:, None, None, None], frame.pictures, warp(reel.made, flow, "bicubic").clamp(-1, 1))
        reel.source = frame.pictures
        return self._take(reel, hint, known)

    @torch.no_grad()
    def pair(self, number: int, batch: int, side: int) -> Take:
        """One picture that the denoiser paints twice, from two noises: one is the hint for the other."""
        rng = np.random.default_rng([self._seed, 1, number])
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 - 1 - number)
        reel = self._reel(batch, side)
        self._script(reel, rng, generator)
        reel.source = reel.films.turn(rng, generator).pictures
        lesson, _, before = self._unhelped(reel)
        reel.noise = torch.randn(reel.noise.shape, generator=generator)
        take = self._take(reel, self._decode(lesson.answer), torch.ones_like(reel.source[:, :1]))
        take.shown = before.last
        return take

    def _take(self, reel: Reel, hint: Tensor, known: Tensor) -> Take:
        """hint (n, 3, 8 · side, 8 · side) in -1..1, known 0..1 of the same size."""
        lesson, context, before = self._unhelped(reel)
        place, last = lesson.noised.device, torch.channels_last
        return Take(
            noised=lesson.noised,
            t=lesson.t,
            context=context,
            hint=hint.add(1).div(2).to(place, memory_format=last),
            known=F.avg_pool2d(known, 8).to(place),
            before=before,
            plain=lesson.answer,
            answer=self._answer(lesson.answer, hint, known),
        )

    @torch.no_grad()
    def take(self, made: Tensor) -> None:
        """What became of the last frame that was drawn, latents (n, channels, side, side)."""
        self._reels[made.shape[-1]].made = self._decode(made)

    def _reel(self, batch: int, side: int) -> Reel:
        blank = torch.zeros(batch, 3, 8 * side, 8 * side)
        noise = torch.zeros(batch, nets.LATENTS, side, side)
        films, none = Films(self._shown, batch, 8 * side), [text.Wish("")] * batch
        return Reel(films, np.zeros(batch, np.int64), none, torch.zeros(batch), noise, blank, blank.clone())

    def _script(self, reel: Reel, rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        """Begins films anew where they end, and turns knobs in others. Which are new, (n,)."""
        fresh = reel.left <= 0
        for row in np.flatnonzero(fresh | (rng.random(len(fresh)) < TURNED)):
            what = "all" if fresh[row] else str(rng.choice(["wish", "strength", "noise"], p=[0.6, 0.25, 0.15]))
            if what == "all":
                reel.films.begin(int(row), rng)
                reel.left[row] = rng.integers(3, LONGEST + 1)
            if what in ("all", "wish"):
                reel.wishes[row] = text.wish(rng)
            if what in ("all", "strength"):
                low, high = (0.15, 1.0) if rng.random() < 0.3 else (0.3, 0.8)
                reel.strength[row] = float(rng.uniform(low, high))
            if what in ("all", "noise"):
                reel.noise[row] = torch.randn(reel.noise.shape[1:], generator=generator)
        reel.left -= 1
        return torch.from_numpy(fresh)

    def _unhelped(self, reel: Reel) -> tuple[Lesson, Tensor, Before]:
        """The denoiser's own answer, the prompts' embeddings, and how it came about."""
        t = reel.strength * 999
        latents = self._encode(reel.source)
        start = denoise.noised(latents, reel.noise.to(latents), t.to(latents.device))
        lesson = Lesson(start, t, *denoise.tokens(self._tokenizer, reel.wishes), start).to(self._net.device)
        context = denoise.understood(self._words, lesson)
        lesson.answer, before = finest.unhelped(self._net, lesson.noised, lesson.t, context)
        return lesson, context, before

    def _answer(self, plain: Tensor, hint: Tensor, known: Tensor) -> Tensor:
        """Latents, as far from the plain ones as the codec puts the one picture from the other: what it loses of both
        is then not lost."""
        painted = self._decode(plain)
        away = (hint - painted) * known
        coarse = F.interpolate(F.avg_pool2d(away, COARSE), away.shape[2:], mode="bilinear")
        wanted = sharpened(painted + DETAIL * away + (KEEP - DETAIL) * coarse, painted)
        return plain + self._encode(wanted) - self._encode(painted)

    def _encode(self, pictures: Tensor) -> Tensor:
        shown = pictures.to(self._vae.device, memory_format=torch.channels_last)
        return torch.as_tensor(self._vae.encode(shown).latents).float()

    def _decode(self, latents: Tensor) -> Tensor:
        return torch.as_tensor(self._vae.decode(latents).sample).float().clamp(-1, 1).cpu()


def sharpened(pictures: Tensor, like: Tensor) -> Tensor:
    """`pictures`, (n, 3, h, w) in -1..1, with their detail lifted to that of `like` around each place."""
    detail, wanted = (x - _soft(x) for x in (pictures, like))
    lift = ((_around(wanted) + 1e-5) / (_around(detail) + 1e-5)).sqrt().clamp(1, BOOST)
    return (pictures + (F.interpolate(lift, pictures.shape[2:], mode="bilinear") - 1) * detail).clamp(-1, 1)


def _soft(x: Tensor) -> Tensor:
    line = x.new_tensor([1, 4, 6, 4, 1]).div(16).expand(3, 1, 1, 5)
    x = F.conv2d(F.pad(x, (2, 2, 0, 0), "replicate"), line, groups=3)
    return F.conv2d(F.pad(x, (0, 0, 2, 2), "replicate"), line.transpose(2, 3), groups=3)


def _around(detail: Tensor) -> Tensor:
    """Its mean square around each place, (n, 1, h / 8, w / 8)."""
    return F.avg_pool2d(F.avg_pool2d(detail.square().mean(1, keepdim=True), 8), 3, 1, 1, count_include_pad=False)
