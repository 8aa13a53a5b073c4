"""Stage four: `pocket-temporal`, a ControlNet that is shown the last picture that came out, moved as the input moved
(TemporalNet, Rothenhaeusler 2023), and holds on to it. The denoiser stays as it is.

It acts on the finest level alone, where details are: its other gates stay at zero. So the denoiser's own answer and
all that leads to its last block are computed once, and learning goes through that block alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny, ControlNetModel, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from pipelines.coherence.feedback import trust
from pipelines.pocket import denoise, nets, text
from pipelines.pocket.denoise import Lesson
from pipelines.pocket.films import Films, estimated
from pipelines.preprocess.warp import warp

KEEP, DETAIL = 0.65, 0.4
"""How much of the last picture stays, as the answer has it: of what is coarser than COARSE pixels, and of detail, of
which a mean is soft."""
COARSE = 4
BOOST = 1.4
"""How much the answer's detail is lifted at most, to be as sharp as the denoiser's own."""
LONGEST = 20
"""Frames of a film, at most."""
TURNED = 0.05
"""How often in a frame somebody turns a knob of a film: another prompt, strength or seed."""
FINE = 2
"""Gates of the finest level, those that act."""


@dataclass
class Before:
    """What comes to the denoiser's last block, without any help."""

    hidden: Tensor
    skips: tuple[Tensor, ...]
    emb: Tensor


@dataclass
class Take:
    """One frame of some films; latents are (n, channels, side, side)."""

    noised: Tensor
    t: Tensor
    context: Tensor
    """(n, tokens, width)."""
    hint: Tensor
    """(n, 3, 8 · side, 8 · side) in 0..1."""
    known: Tensor
    """Where the unit acts, (n, 1, side, side) in 0..1."""
    before: Before
    plain: Tensor
    """The denoiser's own answer."""
    answer: Tensor


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
        lesson, context, before = self._unhelped(reel)
        answer = self._answer(lesson.answer, hint, known)
        place, last = lesson.noised.device, torch.channels_last
        return Take(
            noised=lesson.noised,
            t=lesson.t,
            context=context,
            hint=hint.add(1).div(2).to(place, memory_format=last),
            known=F.avg_pool2d(known, 8).to(place),
            before=before,
            plain=lesson.answer,
            answer=answer,
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
        lesson.answer, before = unhelped(self._net, lesson.noised, lesson.t, context)
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


@torch.no_grad()
def unhelped(net: UNet2DConditionModel, noised: Tensor, t: Tensor, context: Tensor) -> tuple[Tensor, Before]:
    """The denoiser's answer, and what came to its last block on the way."""
    seen: list[Before] = []

    def look(_: nn.Module, args: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        del args
        seen.append(Before(named["hidden_states"], tuple(named["res_hidden_states_tuple"]), named["temb"]))

    hook = net.up_blocks[-1].register_forward_pre_hook(look, with_kwargs=True)
    try:
        answer = net(noised, t, context).sample
    finally:
        hook.remove()
    return answer.float(), seen[0]


def helped(net: UNet2DConditionModel, control: ControlNetModel, take: Take) -> Tensor:
    """The denoiser's answer with the ControlNet at weight 1, of which the finest level alone acts."""
    emb = control.time_embedding(control.time_proj(take.t).to(take.noised.dtype))
    emb = emb + control.add_embedding(take.context)
    sample = control.conv_in(take.noised) + control.controlnet_cond_embedding(take.hint)
    first = control.down_blocks[0].resnets[0](sample, emb)
    help_ = (control.controlnet_down_blocks[0](sample), control.controlnet_down_blocks[1](first))
    before = take.before
    skips = tuple(skip + more * take.known for skip, more in zip(before.skips, help_, strict=True))
    x = net.up_blocks[-1](before.hidden, skips, before.emb)
    made: Tensor = net.conv_out(net.conv_act(net.conv_norm_out(x)))
    return made.float()


@torch.no_grad()
def importance(vae: AutoencoderTiny, latents: Tensor) -> Tensor:
    """How much each channel of latents (n, channels, h, w) shows in pictures, (channels, 1, 1), 1 on average: most hold
    detail of which one sees little, and would fill the loss."""
    still = vae.decode(latents).sample.float()
    out = []
    for channel in range(latents.shape[1]):
        other = latents.clone()
        other[:, channel] += 0.5
        out.append((vae.decode(other).sample.float() - still).square().mean().sqrt())
    seen = torch.stack(out)
    return (seen / seen.mean())[:, None, None]


def loss(made: Tensor, take: Take, weights: Tensor) -> Tensor:
    """As far as the answer lies off, by what that shows (`importance`)."""
    off = (made - take.answer) * weights
    return off.abs().mean() + off.square().mean()


def parts(control: ControlNetModel) -> dict[str, nn.Module]:
    """What of it learns: the gates that act, which have a way to go from zero, and what leads to them. The other gates
    are closed."""
    for gate in (*control.controlnet_down_blocks[FINE:], control.controlnet_mid_block):
        for weight in gate.parameters():
            nn.init.zeros_(weight)
    hint = control.controlnet_cond_embedding
    gates = [*control.controlnet_down_blocks[:FINE], hint.conv_out]
    rest = [control.conv_in, control.time_embedding, control.add_embedding, control.down_blocks[0].resnets[0]]
    return {"control": nn.ModuleList([*rest, hint.conv_in, *hint.blocks]), "gates": nn.ModuleList(gates)}
