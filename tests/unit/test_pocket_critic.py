"""What pulls answers away from their average: the critic's verdicts and gradients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from pipelines.pocket.critic import LIKED, Critic, Shown, critic_loss, distance, pictures_loss

STRIPES, DOTS = torch.eye(2)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Toy tensors on several threads are nothing but waiting."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def painted(kind: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Stripes or dots that begin anywhere, (count, 3, 32, 32): there is no one right answer to them."""
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    off = torch.randint(8, (count, 2), generator=generator)[..., None, None]
    bars = ((x + off[:, 0]) % 8 < 4).float()
    out = bars if kind is STRIPES else bars * ((y + off[:, 1]) % 8 < 4)
    return out.mul(2).sub(1)[:, None].expand(-1, 3, -1, -1)


def batch(generator: torch.Generator, made: Tensor | None = None) -> Shown:
    """Two of each; `made` instead of their grey means."""
    wanted = torch.cat([painted(kind, 2, generator) for kind in (STRIPES, DOTS)])
    grey = wanted.mean((1, 2, 3), keepdim=True).expand_as(wanted)
    return Shown(grey if made is None else made, wanted, torch.stack([STRIPES, STRIPES, DOTS, DOTS]))


@pytest.fixture(scope="module")
def critic() -> Critic:
    torch.manual_seed(0)
    net = Critic(2, width=8)
    optimiser = torch.optim.AdamW(net.parameters(), 2e-3, betas=(0.5, 0.99))
    generator = torch.Generator().manual_seed(1)
    for _ in range(150):
        optimiser.zero_grad()
        critic_loss(net, batch(generator)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return net


def test_it_tells_the_teachers_pictures_from_averages_and_from_other_styles(critic: Critic) -> None:
    shown = batch(torch.Generator().manual_seed(2))
    right, _ = critic(shown.wanted, shown.wish)
    grey, _ = critic(shown.made, shown.wish)
    other, _ = critic(shown.wanted, shown.wish.flip(0))
    assert right.shape == (4, 2, 2)
    assert right.mean() > 0.3
    assert grey.mean() < -0.3
    assert other.mean() < -0.3


def test_an_answer_that_can_lie_anywhere_gets_its_texture_with_the_critic_and_stays_grey_without(
    critic: Critic,
) -> None:
    """What it is there for. The right answers' stripes begin elsewhere each time; the picture can't know where."""

    def learned(pull: float) -> float:
        generator = torch.Generator().manual_seed(3)
        picture = (0.1 * torch.randn(4, 3, 32, 32, generator=generator)).requires_grad_()
        optimiser = torch.optim.Adam([picture], 0.03)
        for _ in range(80):
            optimiser.zero_grad()
            pictures_loss(critic, batch(generator, picture), pull).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        return float(picture.detach().std())

    assert learned(1.0) > 1.5 * learned(0.0)


def test_distance_and_dislike_pull_equally_hard(critic: Critic) -> None:
    shown = batch(torch.Generator().manual_seed(4))

    def gradient(pull: float) -> Tensor:
        made = (shown.made + 0.05).requires_grad_()
        loss = pictures_loss(critic, Shown(made, shown.wanted, shown.wish), pull)
        return torch.autograd.grad(loss, made)[0]

    far, both = gradient(0.0), gradient(1.0)
    made = (shown.made + 0.05).requires_grad_()
    assert torch.allclose(far, torch.autograd.grad(distance(made, shown), made)[0], atol=1e-7)
    assert float((both - far).norm() / far.norm()) == pytest.approx(LIKED, rel=1e-3)
