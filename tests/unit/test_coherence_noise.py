"""Noise that moves: white and Gaussian whatever happens to it, and where the picture went."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.coherence.gaussian import dither, turn, white
from pipelines.coherence.noise import MovingNoise, TravellingNoise, carry, coarsen, refine
from pipelines.noise import seeded
from pipelines.preprocess.warp import warp

CPU = torch.device("cpu")
SIZE = 256
"""Of the picture; latents are an eighth of it."""
SHAPE = (1, 4, 32, 32)
LAGS = [(0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0), (3, 1), (0, 4), (4, 0)]


def number(value: int) -> Tensor:
    return torch.tensor(value, dtype=torch.int32)


def field() -> tuple[Tensor, Tensor]:
    """Coordinates from the middle, px: x and y, [SIZE, SIZE]."""
    axis = torch.arange(SIZE, dtype=torch.float32) - SIZE / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return x, y


def uniform(dx: float, dy: float) -> Tensor:
    return torch.tensor([dx, dy]).view(1, 2, 1, 1).expand(1, 2, SIZE, SIZE).clone()


def flows() -> dict[str, Tensor]:
    x, y = field()
    return {
        "still": uniform(0.0, 0.0),
        "pan": uniform(3.3, -1.7),
        "zoom in": torch.stack((-0.03 * x, -0.03 * y))[None],
        "zoom out": torch.stack((0.03 * x, 0.03 * y))[None],
        "turn": torch.stack((0.04 * y, -0.04 * x))[None],
        "wave": torch.stack((6 * torch.sin(y / 20), 6 * torch.sin(x / 13)))[None],
        "everything to one point": torch.stack((-x, -y))[None],
        "far outside": uniform(1e5, -1e5),
    }


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack((a.flatten(), b.flatten())))[0, 1])


def shifted(noise: Tensor, dy: int, dx: int) -> tuple[Tensor, Tensor]:
    """The overlap of noise with itself, dy down and dx right."""
    h, w = noise.shape[-2:]
    left, right = max(dx, 0), min(dx, 0)
    return noise[..., dy:, left : w + right], noise[..., : h - dy, -right : w - left]


def faults(noise: Tensor, sigmas: float = 4.5) -> list[str]:
    """What keeps `noise` from being standard, white and Gaussian."""
    n, out = noise.numel(), []
    expected = {
        "mean": (noise.mean(), 0.0, 1.0),
        "variance": (noise.var(), 1.0, math.sqrt(2.0)),
        "kurtosis": ((noise**4).mean(), 3.0, math.sqrt(96.0)),
        "skewness": ((noise**3).mean(), 0.0, math.sqrt(15.0)),
    }
    for name, (value, want, spread) in expected.items():
        if abs(float(value) - want) > sigmas * spread / math.sqrt(n):
            out.append(f"{name} {float(value):.3f}")
    noise = noise / noise.std()
    for lag in LAGS:
        a, b = shifted(noise, *lag)
        if abs(float((a * b).mean())) > sigmas / math.sqrt(a.numel()):
            out.append(f"lag {lag} {float((a * b).mean()):.3f}")
    for c in range(noise.shape[1] - 1):
        if abs(correlation(noise[:, c], noise[:, c + 1])) > sigmas / math.sqrt(n / noise.shape[1]):
            out.append(f"channels {c}, {c + 1}")
    return out


def begun(cells: int = 4, shape: tuple[int, int, int, int] = SHAPE) -> MovingNoise:
    noise = MovingNoise(shape, CPU, cells)
    noise.begin(seeded(1, 1, shape)[0], 1)
    return noise


def test_the_counter_draws_white_gaussian_noise() -> None:
    assert not faults(white((1, 4, 256, 256), number(3), number(0)))


@pytest.mark.parametrize("other", [(4, 0, 0), (3, 1, 0), (3, 0, 1), (-3, 0, 0), (3, 2**31 - 1, 0)])
def test_another_seed_frame_or_stream_is_other_noise(other: tuple[int, int, int]) -> None:
    seed, count, stream = other
    a = white((64, 64), number(3), number(0))
    b = white((64, 64), number(seed), number(count), stream)
    assert torch.equal(a, white((64, 64), number(3), number(0)))
    assert abs(correlation(a, b)) < 4.5 / 64


def test_successive_frames_draw_independent_noise_in_every_place() -> None:
    draws = torch.stack([white((16, 16), number(5), number(n)) for n in range(400)])
    assert not faults(draws.view(1, 1, 400, 256))


def pcg4d(*v: int) -> list[int]:
    """The hash in unbounded integers, as published."""
    wrap = (1 << 32) - 1
    x, y, z, w = ((n * 1664525 + 1013904223) & wrap for n in v)
    for last in (False, True):
        x = (x + y * w) & wrap
        y = (y + z * x) & wrap
        z = (z + x * y) & wrap
        w = (w + y * z) & wrap
        if not last:
            x, y, z, w = (n ^ (n >> 16) for n in (x, y, z, w))
    return [x, y, z, w]


@pytest.mark.parametrize(("seed", "count"), [(1, 2), (2**31 - 1, 2**31 - 1), (7, 123456789)])
def test_the_noise_of_a_seed_is_the_same_on_every_machine(seed: int, count: int) -> None:
    words = torch.tensor([pcg4d(i, count, seed, 3) for i in range(100)]).T
    halves = torch.cat((words & 0xFFFF, words >> 16)).flatten().double()
    expected = torch.special.ndtri((halves + 0.5) / 65536)
    got = white((8, 100), number(seed), number(count), 3).flatten()
    assert torch.allclose(got.double(), expected, atol=2e-4)


def test_the_dither_is_even_on_each_axis_and_together() -> None:
    points = torch.tensor([[float(v) for v in dither(number(n))] for n in range(512)])
    assert ((points >= 0.0) & (points < 1.0)).all()
    for part in (0.05, 0.185, 0.5, 0.93):
        below = (points < part).long().cumsum(0)
        expected = part * torch.arange(1, 513)[:, None]
        assert (below - expected).abs().max() < 3.0  # chance alone: up to 20
    cells = (points * 4).long()
    counts = torch.bincount(cells[:, 0] * 4 + cells[:, 1], minlength=16)
    assert counts.min() >= 26
    assert counts.max() <= 38


@pytest.mark.parametrize("cells", [1, 2, 4])
def test_fine_noise_is_white_and_sums_to_the_coarse(cells: int) -> None:
    base = seeded(1, 1, SHAPE)[0]
    fine = refine(base, white((1, 4, 32 * cells, 32 * cells), number(1), number(0)), cells)
    assert not faults(fine)
    assert torch.allclose(coarsen(fine, cells), base, atol=1e-5)


@pytest.mark.parametrize("name", list(flows()))
def test_it_stays_white_and_gaussian_after_200_frames(name: str) -> None:
    noise, flow = begun(), flows()[name]
    for _ in range(200):
        out = noise(flow)
    assert not faults(out)
    assert not faults(noise.grains)


def test_it_stays_white_where_every_flow_in_turn_has_been() -> None:
    noise = begun(cells=2, shape=(1, 8, 32, 32))
    for n in range(200):
        out = noise(list(flows().values())[n % 7])
    assert not faults(out)


def test_interpolated_noise_does_not() -> None:
    noise = seeded(1, 1, SHAPE)[0]
    for _ in range(20):
        noise = warp(noise, flows()["turn"])
    assert len(faults(noise)) > 5


def test_it_is_fixed_where_nothing_moves() -> None:
    noise = begun()
    first = noise(flows()["still"])
    jitter = 0.02 * torch.rand(1, 2, SIZE, SIZE)
    for _ in range(50):
        assert torch.equal(noise(jitter), first)
    assert torch.allclose(first, seeded(1, 1, SHAPE)[0], atol=1e-5), "and begins as the seed's fixed noise"


def test_it_follows_a_pan_of_whole_pixels_exactly() -> None:
    noise = begun()
    first = noise(flows()["still"])
    for _ in range(5):
        out = noise(uniform(-8.0, 16.0))  # a latent's pixel to the right, two upward
    assert torch.allclose(out[..., :-10, 5:], first[..., 10:, :-5], atol=1e-6)
    assert not faults(out)


def test_the_rounding_of_a_slow_pan_never_adds_up() -> None:
    noise = begun()
    grains = noise.grains.clone()
    for n in range(1, 101):
        noise(uniform(-0.37, 0.0))
        gone = 0.37 / 2 * n  # grains of 2 px
        near = [k for k in range(math.floor(gone) - 1, math.ceil(gone) + 2) if k >= 0]
        assert any(torch.equal(noise.grains[..., k:], grains[..., : grains.shape[-1] - k]) for k in near), n


@pytest.mark.parametrize(("name", "least"), [("zoom in", 0.9), ("zoom out", 0.9), ("turn", 0.9), ("wave", 0.75)])
def test_it_follows_a_flow_that_is_not_uniform(name: str, least: float) -> None:
    noise, flow = begun(), flows()[name]
    before = noise.grains.clone()
    after = noise(flow)
    fine = F.interpolate(before, (SIZE, SIZE), mode="nearest")
    ideal = F.avg_pool2d(warp(fine, flow), 8)[..., 4:-4, 4:-4]
    assert correlation(after[..., 4:-4, 4:-4], ideal) > least
    assert correlation(after[..., 4:-4, 4:-4], coarsen(before, 4)[..., 4:-4, 4:-4]) < least - 0.1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_flow_that_is_not_finite_leaves_it_white(bad: float) -> None:
    noise, flow = begun(), flows()["pan"]
    flow[..., 64:128, 64:128] = bad
    out = noise(flow)
    assert not faults(out)
    assert not faults(noise(flows()["pan"]))


def test_a_grain_that_is_shared_is_split_into_independent_ones() -> None:
    grains, fresh = torch.randn(2, 1, 16, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    flow = torch.zeros(1, 2, SIZE, SIZE)
    flow[:, 0] = -(torch.arange(SIZE) % 2)  # every second cell takes its left neighbour's grain
    out = carry(grains, flow, fresh, number(0))
    left, right = out[..., 0::2], out[..., 1::2]
    assert torch.allclose(left + right, grains[..., 0::2] * math.sqrt(2), atol=1e-5)
    assert abs(correlation(left, right)) < 0.01
    assert not faults(out)


def test_two_noises_turn_into_one_another_on_the_sphere() -> None:
    a, b = seeded(1, 2, (1, 4, 128, 128))
    for w in (0.0, 0.3, 0.5, 0.9, 1.0):
        assert not faults(turn(a, b, torch.tensor(w)))
    assert torch.equal(turn(a, b, torch.tensor(0.0)), a)
    assert torch.allclose(turn(a, b, torch.tensor(1.0)), b, atol=1e-6)


def test_travelling_noise_walks_at_its_speed_and_stays_white() -> None:
    noise = TravellingNoise(SHAPE, CPU)
    noise.begin(9)
    speed = torch.tensor(0.25)
    walk = [noise(speed)[0] for _ in range(40)]
    assert not faults(torch.cat(walk[::4]).view(1, 4, 320, 32))
    near = [correlation(a, b) for a, b in itertools.pairwise(walk)]
    assert min(near) > math.cos(math.pi / 8) - 0.05
    assert abs(correlation(walk[0], walk[4])) < 0.1
    assert abs(correlation(walk[4], walk[8])) < 0.1


def test_travelling_noise_at_the_ends_of_its_range() -> None:
    noise = TravellingNoise(SHAPE, CPU)
    noise.begin(9)
    (first,) = noise(torch.tensor(0.0))
    assert torch.equal(noise(torch.tensor(0.0))[0], first)
    each = [noise(torch.tensor(1.0))[0] for _ in range(4)]
    assert all(abs(correlation(a, b)) < 0.1 for a, b in itertools.pairwise(each))
    noise.begin(9)
    assert torch.equal(noise(torch.tensor(0.5))[0], first)
