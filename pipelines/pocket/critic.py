"""What keeps one-step answers from being averages: a network that learns, beside the denoiser, to tell its pictures
from the teacher's.

The distance to one right answer is smallest in the middle of all answers that could be right: strokes, veins and dots
come out grey. Whether a picture looks like its style is another question, and the critic's: adversarial training for
one-step models (Sauer et al. 2023), with the hinge loss, the wish projected onto the last features (Miyato and Koyama
2018), right pictures of other styles among the wrong ones (Reed et al. 2016), and features compared beside the verdict
(Wang et al. 2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from pipelines.pocket.codec import picture_loss, slopes

LIKED = 0.8
"""How hard the critic pulls at a picture, compared with the distance to its answer."""
ALIKE = 10.0
"""How much features count beside the verdict."""
BUSY = 16
"""Pixels across one place of which features are compared."""


class Critic(nn.Module):
    """Pictures (n, 3, h, w) in −1..1 and what they should show, (n, wishes) → a verdict for every 16 px, above zero
    where it looks like the teacher's, (n, h / 16, w / 16); and the features it came from."""

    def __init__(self, wishes: int, width: int = 32) -> None:
        super().__init__()
        sizes = (12, width, 2 * width, 3 * width, 3 * width)
        strides = (1, 2, 2, 2)
        self.body = nn.ModuleList(
            spectral_norm(nn.Conv2d(a, b, 3 if s == 1 else 4, s, 1))
            for (a, b), s in zip(pairwise(sizes), strides, strict=True)
        )
        self.verdict = nn.Conv2d(sizes[-1], 1, 1)
        self.wish = nn.Linear(wishes, sizes[-1], bias=False)

    def forward(self, pictures: Tensor, wish: Tensor) -> tuple[Tensor, list[Tensor]]:
        """See the class."""
        features, x = [], F.pixel_unshuffle(pictures, 2)
        for layer in self.body:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        fit = (x * self.wish(wish)[:, :, None, None]).sum(1) / x.shape[1] ** 0.5
        verdict: Tensor = self.verdict(x)[:, 0] + fit
        return verdict, features


@dataclass
class Shown:
    """Answers as pictures, (n, 3, h, w) in −1..1: what was made, what was wanted; and what both should show,
    (n, wishes)."""

    made: Tensor
    wanted: Tensor
    wish: Tensor


def show(vae: AutoencoderTiny, made: Tensor, answer: Tensor, wish: Tensor) -> Shown:
    """Latents as pictures."""
    with torch.no_grad():
        wanted = vae.decode(answer).sample
    return Shown(vae.decode(made).sample, wanted, wish)


def energy_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """L1 between how busy both are around each place: a plain distance would rather have no texture than one that lies
    a little off."""
    total = made.new_zeros(())
    for a, b in zip(slopes(made), slopes(wanted), strict=True):
        total = total + (F.avg_pool2d(a.abs(), 16, 8) - F.avg_pool2d(b.abs(), 16, 8)).abs().mean()
    return total


def distance(made: Tensor, shown: Shown) -> Tensor:
    """From the right answer."""
    wanted = shown.wanted.float()
    return 0.5 * picture_loss(made, wanted) + 0.5 * energy_loss(made, wanted)


def dislike(critic: Critic, made: Tensor, wanted: Tensor, wish: Tensor) -> Tensor:
    """What the critic holds against pictures: its verdict, and how its features differ from the wanted picture's in
    the mean over each place."""
    verdict, features = critic(made, wish)
    with torch.no_grad():
        _, right = critic(wanted, wish)
    total: Tensor = -verdict.mean()
    for a, b in zip(features, right, strict=True):
        side = max(1, BUSY * a.shape[-1] // made.shape[-1])
        total = total + ALIKE / len(features) * (F.avg_pool2d(a, side) - F.avg_pool2d(b, side)).abs().mean()
    return total


def pictures_loss(critic: Critic, shown: Shown, pull: float) -> Tensor:
    """What pictures add to the denoiser's loss. `pull`, 0..1: how far the critic has been let in.

    Distance and dislike are brought to the same length at the pictures, as VQGAN does at its last layer (Esser et al.
    2021), so that neither has to be weighed against the other by hand. Only the gradient of the answer means anything.
    """
    picture = shown.made.detach().float().requires_grad_()
    (far,) = torch.autograd.grad(distance(picture, shown), picture)
    (bad,) = torch.autograd.grad(dislike(critic, picture, shown.wanted, shown.wish), picture)
    bad = bad * (far.norm() / bad.norm().clamp_min(1e-12))
    out: Tensor = (shown.made.float() * (far + LIKED * pull * bad)).sum()
    return out


def critic_loss(critic: Critic, shown: Shown) -> Tensor:
    """Hinge loss: the wanted pictures are right; what was made, and right pictures of something else, are wrong."""
    right, _ = critic(shown.wanted, shown.wish)
    made, _ = critic(shown.made.detach(), shown.wish)
    total = F.relu(1 - right).mean() + F.relu(1 + made).mean()
    other = shown.wish.roll(1, 0)
    differ = (other - shown.wish).abs().amax(1) > 0.5
    if differ.any():
        wrong, _ = critic(shown.wanted[differ], other[differ])
        total = total + 0.5 * F.relu(1 + wrong).mean()
    return total
