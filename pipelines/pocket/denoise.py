"""Stage two: the denoiser and the text encoder, trained together for one-step img2img.

A lesson: latents of a scene, noised to a random level s, and a prompt. The answer: latents of the scene mixed with what
the prompt makes of it, the share growing with s. That is few-step diffusion by direct regression: one call from any
level gives a finished picture, and because some lessons start from a picture that is already painted, further calls
keep it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from engines.text import emphasise
from pipelines.pocket import data, nets, text
from pipelines.pocket.critic import Critic, Shown, pictures_loss, show
from pipelines.pocket.styles import MODIFIERS, STYLES

FULL = 0.55
"""Strength from which on the style's share is 1."""
PAINTED = 0.12
"""Share of lessons that start from an already painted picture."""
BLANK = 0.06
"""Share of lessons that start from noise alone."""
GUIDED = 0.3
"""How much the reading back of prompts counts."""
REACH = 10.0
ASKED = {name: i for i, name in enumerate((*STYLES, *MODIFIERS))}
FADED = 8
"""One lesson in so many is between two prompts: embeddings are blended where prompts cross-fade."""
COARSE = 4
"""Latents across one cell of what a blank lesson's noise tells of its answer."""
TOLD = 0.7
"""How much of that cell's noise is the answer's."""


def share(strength: Tensor) -> Tensor:
    """How much of the style a strength shows: 0 at 0, smoothly and strictly up to 1 at FULL."""
    x = (strength / FULL).clamp(0, 1)
    return x * x * (3 - 2 * x)


@dataclass
class Fade:
    """The prompts that a batch's first k rows are on their way to: (k, tokens) twice, and how far they are, (k,)."""

    ids: Tensor
    weights: Tensor
    share: Tensor

    def to(self, device: torch.device) -> Fade:
        """The same on that device."""
        return Fade(self.ids.to(device), self.weights.to(device), self.share.to(device))


@dataclass
class Lesson:
    """One batch; latents are (n, channels, side, side)."""

    noised: Tensor
    t: Tensor
    ids: Tensor
    weights: Tensor
    """(n, tokens): emphasis of each token."""
    answer: Tensor
    hint: Tensor | None = None
    """(n, 3, 8 · side, 8 · side) in 0..1: what a ControlNet is shown."""
    fade: Fade | None = None
    asked: Tensor | None = None
    """(n, styles and modifiers): what the prompts ask for."""
    share: Tensor | None = None
    """(n,): how much of that the answers show."""

    def to(self, device: torch.device) -> Lesson:
        """The same on that device, channels last."""
        last = torch.channels_last
        return Lesson(
            self.noised.to(device, memory_format=last),
            self.t.to(device),
            self.ids.to(device),
            self.weights.to(device),
            self.answer.to(device, memory_format=last),
            None if self.hint is None else self.hint.to(device, memory_format=last),
            None if self.fade is None else self.fade.to(device),
            None if self.asked is None else self.asked.to(device),
            None if self.share is None else self.share.to(device),
        )


class Guide:
    """Reads a prompt's pooled embedding back: (n, width) → (n, styles and modifiers), how much of each was asked for.

    Every style and modifier has a fixed direction of its own, and one that is fully asked for reaches REACH along it:
    a good part of an embedding whose length is the root of its width. Left alone, the pooled embeddings of two words
    among 32 tokens differ by a few per cent, and the denoiser learns for thousands of steps before it tells them apart.
    """

    def __init__(self, width: int, device: torch.device) -> None:
        rows = torch.empty(len(ASKED), width)
        nn.init.orthogonal_(rows, generator=torch.Generator().manual_seed(7))
        self._rows = (rows / REACH).to(device)

    def __call__(self, pooled: Tensor) -> Tensor:
        return pooled.float() @ self._rows.T


def asked(wish: text.Wish) -> Tensor:
    """What a prompt asks for, in the order of ASKED."""
    out = torch.zeros(len(ASKED))
    for name, part in wish.styles:
        out[ASKED[name]] += part * wish.amount
    if wish.modifier:
        out[ASKED[wish.modifier]] = wish.amount
    return out


class Lessons:
    """Draws batches out of the cached latents. Batch number k is the same in every run with the same seed."""

    def __init__(self, latents: NDArray[np.float16], first: int, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
        self.latents = latents
        self.tokenizer = tokenizer
        self.seed = seed
        self.turn(0)
        self._index = {name: i for i, name in enumerate(data.NAMES)}
        self._extras = [data.extras(first + i) for i in range(len(latents))]
        self._centre, self._whiten = _spread(latents[:300, 0].astype(np.float32))

    def turn(self, number: int) -> None:
        """Sets the dice for batch `number`: what makes a resumed run go on as if it had not stopped."""
        self.rng = np.random.default_rng([self.seed, number])
        self.generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)

    def draw(self, number: int, batch: int, side: int) -> Lesson:
        """Crops keep to multiples of 4 latents (32 px), so that the styles' grids stay in phase with the network."""
        self.turn(number)
        rows = [self._one(side, faded=row < max(1, batch // FADED)) for row in range(batch)]
        clean, wanted = torch.stack([r[0] for r in rows]), torch.stack([r[1] for r in rows])
        kind = torch.rand(batch, generator=self.generator)
        strength = self._strengths(batch)
        painted, blank = kind < PAINTED, kind > 1 - BLANK
        strength[blank] = 1.0
        part = torch.where(painted, torch.ones(()), share(strength))[:, None, None, None]
        start = torch.where(painted[:, None, None, None], wanted, clean)
        start = torch.where(blank[:, None, None, None], torch.zeros(()), start)
        t = strength * 999
        noise = torch.randn(start.shape, generator=self.generator)
        noise = torch.where(blank[:, None, None, None], self._telling(clean, noise), noise)
        first, others = self.tokens([r[2] for r in rows]), [r[3] for r in rows if r[3] is not None]
        fade = Fade(*self.tokens([wish for wish, _ in others]), torch.tensor([share for _, share in others]))
        told = torch.stack([asked(r[2]) for r in rows])
        for row, (wish, much) in enumerate(others):
            told[row] = torch.lerp(told[row], asked(wish), much)
        answer = clean + part * (wanted - clean)
        return Lesson(noised(start, noise, t), t, *first, answer, fade=fade, asked=told, share=part.flatten())

    def tokens(self, wishes: list[text.Wish]) -> tuple[Tensor, Tensor]:
        """Ids and emphasis of some prompts, (n, tokens) each."""
        return tokens(self.tokenizer, wishes)

    def prompts(self, number: int, batch: int) -> Lesson:
        """Batch `number` of prompts without pictures."""
        self.turn(number)
        wishes = [text.wish(self.rng) for _ in range(batch)]
        for row, wish in enumerate(wishes):
            if wish.modifier:
                wishes[row] = text.coloured(self.rng, str(self.rng.choice(data.NAMES)), wish.modifier)
        none = torch.empty(0, 1, 1, 1)
        return Lesson(none, none, *self.tokens(wishes), none, asked=torch.stack([asked(w) for w in wishes]))

    def _telling(self, clean: Tensor, noise: Tensor) -> Tensor:
        """Noise whose coarse part is, decorrelated, the coarse part of `clean`: a picture is in it, and the answer to
        nothing but noise becomes some picture and not the mean of all. Close to white in every channel."""
        coarse = F.avg_pool2d(clean, COARSE) - self._centre[:, None, None]
        told = torch.einsum("dc,nchw->ndhw", self._whiten, coarse)
        own = F.avg_pool2d(noise, COARSE)
        mixed = (TOLD**0.5 * told + (1 - TOLD) ** 0.5 * own * COARSE) / COARSE
        return noise + F.interpolate(mixed - own, scale_factor=COARSE)

    def _strengths(self, batch: int) -> Tensor:
        """Half uniform, half around the strengths that people use."""
        wide = torch.rand(batch, generator=self.generator)
        usual = 0.3 + 0.5 * torch.rand(batch, generator=self.generator)
        return torch.where(torch.rand(batch, generator=self.generator) < 0.5, wide, usual)

    def _one(self, side: int, faded: bool) -> tuple[Tensor, Tensor, text.Wish, tuple[text.Wish, float] | None]:
        """Scene, what it should become, the prompt; and the prompt that this one is fading into, with how far it is."""
        scene = int(self.rng.integers(len(self.latents)))
        extent = self.latents.shape[-1]
        y, x = (4 * int(v) for v in self.rng.integers(0, (extent - side) // 4 + 1, 2))
        self._place(scene, y, x, side)
        stack = self.latents[scene, :, :, y : y + side, x : x + side]
        clean = torch.from_numpy(stack[0].astype(np.float32))
        wish, wanted = self._wish(scene, stack, clean)
        if not faded:
            return clean, wanted, wish, None
        other, wanted2 = self._wish(scene, stack, clean)
        share = float(self.rng.random())
        return clean, torch.lerp(wanted, wanted2, share), wish, (other, share)

    def _wish(self, scene: int, stack: NDArray[np.float16], clean: Tensor) -> tuple[text.Wish, Tensor]:
        """A prompt, and the latents of what it asks for."""
        wish = text.wish(self.rng)
        rows: tuple[tuple[int, float], ...] = ((0, 1.0),)
        if wish.modifier:
            wish, row = self._coloured(scene)
            rows = ((row, 1.0),)
        elif wish.styles:
            rows = tuple((self._index[name], weight) for name, weight in wish.styles)
        wanted = torch.from_numpy(np.asarray(sum(stack[row].astype(np.float32) * weight for row, weight in rows)))
        return wish, torch.lerp(clean, wanted, wish.amount)

    def _place(self, scene: int, y: int, x: int, side: int) -> None:
        """Told where each lesson is cut out, in latents."""

    def _coloured(self, scene: int) -> tuple[text.Wish, int]:
        """A prompt for one of the coloured versions that this scene has."""
        which = int(self.rng.integers(data.EXTRAS))
        style, modifier = self._extras[scene][which]
        return text.coloured(self.rng, data.NAMES[style], MODIFIERS[modifier]), len(data.NAMES) + which


def tokens(tokenizer: PreTrainedTokenizerFast, wishes: list[text.Wish]) -> tuple[Tensor, Tensor]:
    """Ids and emphasis of some prompts, (n, tokens) each."""
    ids = tokenizer(
        [w.prompt for w in wishes], padding="max_length", max_length=text.TOKENS, truncation=True, return_tensors="pt"
    ).input_ids
    weights = torch.ones(ids.shape)
    for row, wish in enumerate(wishes):
        for word, weight in wish.weighed:
            for token in tokenizer(word, add_special_tokens=False).input_ids:
                weights[row, ids[row] == token] = weight
    return ids, weights


def noised(start: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Latents at timesteps t (n,) in 0..999."""
    level = nets.alphas(t)[:, None, None, None]
    return level.sqrt() * start + (1 - level).sqrt() * noise


def _spread(shown: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
    """Mean (channels,) of coarse latents and the matrix that makes their channels independent with deviation 1."""
    coarse = F.avg_pool2d(torch.from_numpy(shown), COARSE).transpose(0, 1).flatten(1)
    centre = coarse.mean(1)
    values, vectors = torch.linalg.eigh(torch.cov(coarse.double()))
    return centre, (vectors @ torch.diag(values.clamp_min(1e-4).rsqrt()) @ vectors.T).float()


def understood(words: CLIPTextModel, lesson: Lesson) -> Tensor:
    """(n, tokens, width)."""
    hidden = emphasise(words(lesson.ids).last_hidden_state, lesson.weights)
    if lesson.fade is None:
        return hidden
    to, count = lesson.fade, len(lesson.fade.share)
    other = emphasise(words(to.ids).last_hidden_state, to.weights)
    return torch.cat([torch.lerp(hidden[:count], other, to.share[:, None, None].to(other)), hidden[count:]])


@dataclass
class Mark:
    """What a step is told. `error` is the mean absolute latent error, `shown` what there is for the critic."""

    loss: Tensor
    error: Tensor
    shown: Shown | None


def loss(
    lesson: Lesson,
    net: UNet2DConditionModel,
    words: CLIPTextModel,
    guide: Guide,
    vae: AutoencoderTiny,
    critic: Critic,
    shown: int,
    pull: float,
) -> Mark:
    """One lesson's. The first `shown` answers are compared as pictures too; `pull` as in `pictures_loss`."""
    context = understood(words, lesson)
    made = net(lesson.noised, lesson.t, context).sample
    mark = compare(made, lesson, vae, critic, shown, pull)
    assert lesson.asked is not None
    mark.loss = mark.loss + GUIDED * misread(guide(net.add_embedding(context)), lesson.asked)
    return mark


def misread(read: Tensor, wanted: Tensor) -> Tensor:
    """How far the reading back of prompts is off, squared."""
    return (read - wanted).square().sum(1).mean()


def compare(made: Tensor, lesson: Lesson, vae: AutoencoderTiny, critic: Critic, shown: int, pull: float) -> Mark:
    """Answers beside the lesson's: as latents and, the first `shown`, as pictures."""
    off = made - lesson.answer
    error = off.abs().mean()
    total = error + off.square().mean()
    if not shown:
        return Mark(total, error.detach(), None)
    assert lesson.asked is not None
    assert lesson.share is not None
    wish = lesson.asked[:shown] * lesson.share[:shown, None]
    seen = show(vae, made[:shown], lesson.answer[:shown], wish)
    return Mark(total + pictures_loss(critic, seen, pull), error.detach(), seen)
