"""Networks that do not look at every frame: when they look, and where what they saw is meanwhile."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pipelines.carry import CarriedHint
from pipelines.pace import Pace
from pipelines.preprocess.warp import inside
from pipelines.unitrow import Unit

SIDE = 96


def test_every_third_frame_is_looked_at() -> None:
    pace, units = Pace(), (Unit(every=3), Unit(every=1), Unit(every=2))
    watched: dict[int, object] = {1: "a", 2: "b", 3: "c"}
    seen = [(pace(watched, units), pace.age) for _ in range(4)]
    assert [looks[1] for looks, _ in seen] == ["look", "carry", "carry", "look"]
    assert [looks[3] for looks, _ in seen] == ["look", "carry", "look", "carry"]
    assert all(2 not in looks for looks, _ in seen), "nothing is kept for who looks at each"
    assert [age for _, age in seen] == [0, 1, 2, 1]


def test_what_is_new_to_it_is_looked_at() -> None:
    pace, units = Pace(), (Unit(every=9),)
    assert pace({1: "a"}, units) == {1: "look"}
    assert pace({1: "a"}, units) == {1: "carry"}
    assert pace({1: "b"}, units) == {1: "look"}, "another picture or network"
    assert pace({1: "b"}, units) == {1: "carry"}
    assert pace({}, units) == {}
    assert pace({1: "b"}, units) == {1: "look"}, "it was away for a frame"
    pace({1: "b"}, units)
    pace.forget()
    assert (pace({1: "b"}, units), pace.age) == ({1: "look"}, 0)
    for _ in range(4):
        pace({1: "b"}, units)
    assert pace({1: "b"}, (Unit(every=2),)) == {1: "look"}, "a lower number holds at once"
    assert pace({1: "b"}, (Unit(every=1),)) == {}


def texture(seed: int) -> torch.Tensor:
    """[1, 3, 2 SIDE, 2 SIDE] of soft blobs of every size."""
    dice = torch.Generator().manual_seed(seed)
    total = torch.zeros(1, 3, 2 * SIDE, 2 * SIDE)
    for n in (8, 16, 32):
        total += F.interpolate(torch.randn(1, 3, n, n, generator=dice), total.shape[2:], mode="bicubic") * 8 / n
    return total.sigmoid()


def window(picture: torch.Tensor, x: int, y: int) -> torch.Tensor:
    return picture[:, :, 40 + y : 40 + y + SIDE, 40 + x : 40 + x + SIDE].contiguous()


@pytest.mark.parametrize("step", [(2, 0), (1, -2), (-3, 1)])
def test_what_was_seen_moves_with_what_was_looked_at(step: tuple[int, int]) -> None:
    with torch.inference_mode():
        world, answers = texture(1), texture(2)[:, :1]
        hint = CarriedHint((SIDE, SIDE), torch.device("cpu"))
        first = window(answers, 0, 0)
        assert hint.take(window(world, 0, 0), first) is first
        for n in range(1, 7):
            found = hint.move(window(world, n * step[0], n * step[1]))
            wanted = window(answers, n * step[0], n * step[1])
            known = inside(torch.tensor(step).view(1, 2, 1, 1).expand(1, 2, SIDE, SIDE) * (n + 2.0)) > 0
            error, still = ((found - wanted).abs()[known].mean(), (first - wanted).abs()[known].mean())
            assert error < 0.35 * still, (n, error, still)
        now = window(world, 6 * step[0], 6 * step[1])
        hint.take(now, first)
        assert torch.allclose(hint.move(now), first, atol=1e-3), "a new answer begins where it was seen"


def test_nothing_that_stands_still_fades() -> None:
    with torch.inference_mode():
        world, answer = window(texture(1), 0, 0), window(texture(2)[:, :1], 0, 0)
        hint = CarriedHint((SIDE, SIDE), torch.device("cpu"))
        hint.take(world, answer)
        for _ in range(20):
            found = hint.move(world)
        assert torch.allclose(found, answer, atol=1e-3)
        other = answer.flip(2)
        hint.take(world, other)
        assert torch.allclose(hint.move(world), other, atol=1e-3)
