"""Optical flow against known motions and against OpenCV's DIS; warping and the masks that judge it."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from pipelines.pocket.scenes import scene
from pipelines.preprocess.flow import flow
from pipelines.preprocess.motion import motion
from pipelines.preprocess.warp import confidence, consistency, inside, warp

MOVES = {
    "shift 1.5": {"dx": 1.3, "dy": -0.7},
    "shift 8": {"dx": 6.0, "dy": -5.3},
    "turn": {"angle": -3.0},
    "zoom": {"zoom": 0.96, "dx": 2.0},
}
SEEDS = (2, 3, 5)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def moved(
    seed: int, size: int = 256, angle: float = 0.0, zoom: float = 1.0, dx: float = 0.0, dy: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """(previous, current, true backward flow) of a scene that was drawn larger, so that no border comes in."""
    pad = size // 5
    full = size + 2 * pad
    before = scene(seed, full)
    matrix = cv2.getRotationMatrix2D(((full - 1) / 2,) * 2, angle, zoom)
    matrix[:, 2] += dx, dy
    now = cv2.warpAffine(before, matrix, (full, full), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
    y, x = np.mgrid[0:full, 0:full].astype(np.float32)
    true = np.stack([row[0] * x + row[1] * y + row[2] for row in matrix]) - np.stack([x, y])
    cut = slice(pad, pad + size)

    def picture(rgb: np.ndarray) -> Tensor:
        levels = np.clip(rgb[cut, cut] * 255, 0, 255).round().astype(np.float32)
        return torch.from_numpy(levels).div(255).permute(2, 0, 1)[None]

    return picture(before), picture(now), torch.from_numpy(true[:, cut, cut].astype(np.float32))[None]


def dis(previous: Tensor, current: Tensor) -> Tensor:
    def grey(x: Tensor) -> np.ndarray:
        return cv2.cvtColor((x[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8), cv2.COLOR_RGB2GRAY)

    found = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST).calc(grey(current), grey(previous), None)
    return torch.from_numpy(found).permute(2, 0, 1)[None]


def error(method: Callable[[Tensor, Tensor], Tensor], name: str, size: int = 256) -> float:
    """Mean end-point error in pixels."""
    scale = size / 256
    move = {key: value * (scale if key in ("dx", "dy") else 1) for key, value in MOVES[name].items()}
    pairs = [moved(seed, size, **move) for seed in SEEDS]
    return float(np.mean([(method(a, b) - true).norm(dim=1).mean() for a, b, true in pairs]))


@pytest.mark.parametrize("name", list(MOVES))
def test_flow_is_within_half_a_pixel_and_better_than_dis(name: str) -> None:
    ours = error(flow, name)
    assert ours < 0.5
    assert ours < error(dis, name)


def test_what_comes_in_at_a_border_does_not_drag_its_surround_along() -> None:
    before, now, true = moved(2, dx=8.0)
    assert (flow(before, now) - true)[..., :-16].norm(dim=1).mean() < 0.1


def test_flow_at_twice_the_size_is_within_a_pixel() -> None:
    assert error(flow, "shift 8", 512) < 1.0


@pytest.mark.parametrize("shape", [(256, 144), (150, 231), (64, 64), (33, 50)])
def test_flow_of_any_shape(shape: tuple[int, int]) -> None:
    before, now, true = moved(3, 256, dx=1.5, dy=1.0)
    h, w = shape
    found = flow(before[:, :, :h, :w], now[:, :, :h, :w])
    assert found.shape == (1, 2, h, w)
    assert (found - true[:, :, :h, :w]).norm(dim=1).mean() < 0.5


@pytest.mark.parametrize("shape", [(256, 256), (256, 144), (150, 231), (33, 50), (17, 9)])
def test_a_processor_finds_the_same_flow_in_its_own_way(shape: tuple[int, int]) -> None:
    before, now, _ = moved(3, 256, dx=3.5, dy=-1.0, angle=2.0)
    h, w = shape
    before, now = before[:, :, :h, :w], now[:, :, :h, :w]
    mine = motion(before, now)
    assert mine.shape == (1, 2, h, w)
    assert mine.is_contiguous()
    torch.testing.assert_close(mine, flow(before, now), atol=1e-3, rtol=0)
    assert motion(torch.zeros_like(now), torch.ones_like(now)).isfinite().all()


def test_what_stands_still_has_no_flow() -> None:
    before, _, _ = moved(3)
    assert flow(before, before).abs().max() < 1e-3
    grey = torch.full((1, 3, 96, 96), 0.5)
    assert flow(grey, grey).abs().max() < 1e-3
    assert flow(grey, grey + 0.2).isfinite().all()
    assert flow(torch.zeros_like(grey), torch.ones_like(grey)).isfinite().all()
    noise = flow(torch.rand(1, 3, 96, 96), torch.rand(1, 3, 96, 96))
    assert noise.isfinite().all()


def test_a_thing_that_moves_over_a_standing_ground() -> None:
    ground, thing = scene(3, 256), scene(5, 256)
    frames = []
    for x in (80, 86):
        rgb = ground.copy()
        rgb[90:170, x : x + 80] = thing[90:170, 80:160]
        frames.append(torch.from_numpy(rgb).permute(2, 0, 1)[None].contiguous())
    found = flow(*frames)[0]
    assert (found[:, 105:155, 100:150] - torch.tensor([-6.0, 0.0])[:, None, None]).norm(dim=0).mean() < 0.7
    assert found[:, :, 200:].norm(dim=0).mean() < 0.3
    assert found[:, :60].norm(dim=0).mean() < 0.3


def test_warp_takes_pixels_from_where_they_were() -> None:
    image = torch.rand(1, 3, 20, 30)
    by = torch.zeros(1, 2, 20, 30)
    assert torch.allclose(warp(image, by), image, atol=1e-5)
    by[:, 0] = -3
    by[:, 1] = 2
    out = warp(image, by)
    assert torch.allclose(out[..., :-2, 3:], image[..., 2:, :-3], atol=1e-5)
    assert torch.allclose(out[..., :-2, 0], image[..., 2:, 0], atol=1e-5)  # the border goes on
    assert warp(image.bfloat16(), by).dtype == torch.bfloat16


def test_warping_along_the_flow_restores_the_frame() -> None:
    before, now, _ = moved(3, dx=6.0, dy=-5.3)
    along = flow(before, now)
    still = (before - now).abs().mean()
    assert (warp(before, along) - now)[:, :, 12:-12, 12:-12].abs().mean() < 0.25 * still
    sure = confidence(before, now, along)
    assert sure[:, :, 16:-16, 16:-16].mean() > 0.8
    assert confidence(before, now.flip(3), along).mean() < 0.5


def test_the_masks_know_what_came_in_and_what_was_uncovered() -> None:
    by = torch.zeros(1, 2, 8, 10)
    by[:, 0] = 4.0
    mask = inside(by)[0, 0]
    assert mask[:, :6].all()
    assert not mask[:, 6:].any()
    back = torch.full((1, 2, 8, 10), 0.0)
    assert consistency(back, back).all()
    back[:, 0, :, 2:5] = 3.0
    kept = consistency(back, torch.zeros_like(back))[0, 0]
    assert not kept[:, 2:5].any()
    assert kept[:, 5:].all()
    ahead = torch.full_like(back, -3.0)
    ahead[:, 1] = 0
    assert consistency(-ahead, ahead)[0, 0, :, :7].all()
