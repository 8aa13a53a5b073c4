"""The past, moved and mixed in: only where it can be known, and never when it is not wanted."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from bridge.sources.scene import draw
from pipelines.coherence import measure
from pipelines.coherence.feedback import blend, feedback, trust
from pipelines.coherence.smooth import MOST, keep, smooth, stillness
from pipelines.preprocess.warp import fit_flow, inside, warp


def picture(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1.0


def scene(t: float = 3.0, side: int = 128, seed: int = 1) -> Tensor:
    return picture(draw(t, side, side, seed))


def uniform(dx: float, dy: float, height: int = 128, width: int = 128) -> Tensor:
    return torch.tensor([dx, dy]).view(1, 2, 1, 1).expand(1, 2, height, width).clone()


def panned(by: int, side: int = 128) -> tuple[Tensor, Tensor]:
    """A picture, and the same one as the camera turns right: what was at x + by is at x now."""
    wide = draw(3.0, 2 * side, side, 1)
    return picture(wide[:, :side].copy()), picture(wide[:, by : by + side].copy())


def half() -> Tensor:
    return torch.tensor(0.5)


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), [(96, 128), (64, 64), (7, 33)])
def test_warp_moves_by_whole_pixels_exactly_and_repeats_the_edge(kernel: str, height: int, width: int) -> None:
    image = torch.rand(1, 5, height, width)
    out = warp(image, uniform(3.0, -2.0, height, width), kernel)
    columns = (torch.arange(width) + 3).clamp(max=width - 1)
    rows = (torch.arange(height) - 2).clamp(min=0)
    assert torch.allclose(out, image[:, :, rows][..., columns], atol=1e-4)


def test_warp_agrees_with_opencv_between_pixels() -> None:
    image = scene()
    flow = 5 * torch.randn(1, 2, 128, 128, generator=torch.Generator().manual_seed(1))
    y, x = np.mgrid[:128, :128].astype(np.float32)
    f = flow[0].numpy()
    expected = cv2.remap(
        image[0].permute(1, 2, 0).numpy(), x + f[0], y + f[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    difference = (warp(image, flow)[0].permute(1, 2, 0).numpy() - expected) * 127.5
    assert np.abs(difference).max() < 4  # OpenCV's weights are in 1/32
    assert np.abs(difference).mean() < 0.3


def test_flow_keeps_its_meaning_at_another_size() -> None:
    flow = uniform(8.0, -4.0, 128, 256)
    assert torch.allclose(fit_flow(flow, (16, 32)), uniform(1.0, -0.5, 16, 32))
    assert torch.allclose(fit_flow(flow, (256, 512)), uniform(16.0, -8.0, 256, 512))
    assert torch.allclose(fit_flow(flow, (32, 32)), uniform(1.0, -1.0, 32, 32))
    latent = torch.rand(1, 4, 16, 32)
    assert torch.allclose(warp(latent, flow)[..., :-1], warp(latent, uniform(1.0, -0.5, 16, 32))[..., :-1])


def test_inside_ends_where_the_picture_ends() -> None:
    mask = inside(uniform(2.0, -1.0, 8, 8))[0, 0]
    expected = torch.zeros(8, 8)
    expected[1:, :6] = 1.0
    assert torch.equal(mask, expected)


def test_what_moved_as_the_flow_says_is_trusted_and_what_came_in_is_not() -> None:
    before, after = panned(12)
    known = trust(uniform(12.0, 0.0), before, after)[0, 0]
    assert known[:, :110].min() > 0.99
    assert known[:, 116:].max() == 0.0


def test_a_wrong_flow_is_not_trusted_where_it_shows() -> None:
    before, after = panned(12)
    right = trust(uniform(12.0, 0.0), before, after)[..., :100].mean()
    wrong = trust(uniform(-12.0, 0.0), before, after)[..., 16:100].mean()
    assert right > 0.99
    assert wrong < 0.6


def test_what_was_uncovered_is_not_trusted() -> None:
    background = np.random.default_rng(1).integers(60, 200, (16, 16, 3), np.uint8)
    background = cv2.resize(background, (128, 128), interpolation=cv2.INTER_CUBIC)
    before, after, flow = background.copy(), background.copy(), uniform(0.0, 0.0)
    before[40:80, 20:60] = (255, 0, 0)
    after[40:80, 50:90] = (255, 0, 0)
    flow[:, 0, 40:80, 50:90] = -30.0
    known = trust(flow, picture(before), picture(after))[0, 0]
    assert known[42:78, 24:46].max() < 0.05, "background that the square had covered"
    assert known[44:76, 54:86].min() > 0.95, "the square itself"
    assert known[:34].min() == 1.0


def test_a_flash_is_not_fed_back() -> None:
    image = scene()
    flash = (image + 0.8).clamp(max=1.0)
    assert trust(uniform(0.0, 0.0), image, flash).mean() < 0.3


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0.3])
def test_no_feedback_is_no_change_whatever_the_past_holds(bad: float) -> None:
    init, past = scene(), torch.full((1, 3, 128, 128), bad)
    flow, ones = uniform(1.5, 0.5), torch.ones(1, 1, 128, 128)
    assert torch.equal(feedback(init, past, flow, ones, torch.tensor(0.0)), init)
    assert torch.equal(feedback(init, past, flow, ones * 0.0, torch.tensor(1.0)), init)


def test_full_feedback_is_the_past_where_it_is_known() -> None:
    before, after = panned(12)
    known = torch.zeros(1, 1, 128, 128)
    known[..., :64] = 1.0
    painted = -before
    out = feedback(after, painted, uniform(12.0, 0.0), known, torch.tensor(1.0))
    assert torch.allclose(out[..., :64], -after[..., :64], atol=1e-4)
    assert torch.equal(out[..., 64:], after[..., 64:])


def test_feedback_is_proportional() -> None:
    init, past, ones = torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16), torch.ones(1, 1, 16, 16)
    for amount in (0.25, 0.5, 0.9):
        out = feedback(init, past, uniform(0.0, 0.0, 16, 16), ones, torch.tensor(amount))
        assert torch.allclose(out, torch.tensor(amount), atol=1e-5)


def test_latents_take_the_same_flow_and_mask() -> None:
    past, init = torch.rand(1, 32, 16, 16), torch.zeros(1, 32, 16, 16)
    known = torch.ones(1, 1, 128, 128)
    known[..., :64, :] = 0.0
    out = feedback(init, past, uniform(8.0, 0.0), known, torch.tensor(1.0))
    assert torch.allclose(out[..., 8:, :-1], past[..., 8:, 1:], atol=1e-4)
    assert torch.equal(out[..., :8, :], init[..., :8, :])


def test_bicubic_feedback_keeps_detail_that_bilinear_loses() -> None:
    image = scene(side=192)
    kept = {}
    for kernel in ("bilinear", "bicubic"):
        x = image
        for n in range(24):  # round a small circle, and back
            angle = math.tau * n / 24
            x = warp(x, uniform(0.4 * math.cos(angle), 0.4 * math.sin(angle), 192, 192), kernel).clamp(-1.0, 1.0)
        kept[kernel] = measure.sharpness(pixels(x[..., 8:-8, 8:-8]))
    original = measure.sharpness(pixels(image[..., 8:-8, 8:-8]))
    assert kept["bicubic"] < 1.1 * original
    assert kept["bicubic"] > 4 * kept["bilinear"]


def pixels(image: Tensor) -> np.ndarray:
    return np.ascontiguousarray((image[0] * 127.5 + 128.0).clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy())


def test_what_moves_is_not_smoothed_and_grain_is() -> None:
    rng = np.random.default_rng(2)
    base = draw(3.0, 128, 128, 1).astype(np.int16)
    before = np.clip(base + rng.normal(0, 1.5, base.shape), 0, 255).astype(np.uint8)
    after = np.clip(base + rng.normal(0, 1.5, base.shape), 0, 255).astype(np.uint8)
    after[40:70, 40:70] = 255 - after[40:70, 40:70]
    still = stillness(picture(before), picture(after))[0, 0]
    assert still[44:66, 44:66].max() == 0.0
    assert still[:30].min() > 0.9
    assert still[36:39, 44:66].max() < 0.5, "the mask is wider than what moved"


def test_smoothing_lowers_flicker_and_leaves_no_ghost() -> None:
    rng = np.random.default_rng(3)
    amount, shown = torch.tensor(0.8), torch.zeros(1, 3, 64, 64)
    still = torch.ones(1, 1, 64, 64)
    still[..., 32:] = 0.0
    raw, smoothed = [], []
    for _ in range(60):
        image = torch.from_numpy(rng.normal(0, 0.1, (1, 3, 64, 64)).astype(np.float32))
        shown = smooth(image, shown, amount, still)
        assert torch.equal(shown[..., 32:], image[..., 32:])
        raw.append(image[..., :32])
        smoothed.append(shown[..., :32].clone())
    ratio = torch.stack(smoothed[20:]).var() / torch.stack(raw[20:]).var()
    assert float(ratio) == pytest.approx((1 - 0.8) / (1 + 0.8), rel=0.1)


def test_smoothing_never_freezes_and_at_zero_does_nothing() -> None:
    image, past, still = torch.ones(1, 3, 8, 8), torch.zeros(1, 3, 8, 8), torch.ones(1, 1, 8, 8)
    assert torch.equal(smooth(image, past * float("nan"), torch.tensor(0.0), still), image)
    assert torch.allclose(smooth(image, past, torch.tensor(1.0), still), torch.tensor(1.0 - MOST))


def test_a_half_life_is_one_at_any_rate() -> None:
    for rate in (15, 30, 60):
        assert keep(0.5, 1 / rate) ** (rate / 2) == pytest.approx(0.5)
    assert keep(0.0, 0.02) == 0.0


def test_blend_is_exact_at_its_ends() -> None:
    new, past = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)
    assert torch.equal(blend(new, past, torch.zeros(1, 1, 8, 8)), new)
    assert torch.allclose(blend(new, past, torch.ones(1, 1, 8, 8)), past)
    assert torch.allclose(blend(new, past, half()), (new + past) / 2)
