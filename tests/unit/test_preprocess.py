"""The hints that need no network, against cv2 and against their definitions."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage import data

from pipelines.pocket.scenes import scene
from pipelines.preprocess import NETWORK_PREPROCESSORS, PREPROCESSORS, Preprocessor
from pipelines.preprocess import canny as canny_module
from pipelines.preprocess.normal import normals

Picture = NDArray[np.uint8]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def picture(name: str) -> Picture:
    if name.startswith("scene"):
        _, seed, size = name.split("-")
        return (scene(int(seed), int(size)) * 255 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(getattr(data, name)())


def tensor(rgb: Picture) -> torch.Tensor:
    return torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255


def hint(name: str, rgb: Picture, low: float = -1, high: float = -1) -> NDArray[np.float32]:
    """(H, W, 3) in 0..255; a negative threshold is the default."""
    tool = PREPROCESSORS[name]
    settled = (torch.tensor(tool.low.settle(low)), torch.tensor(tool.high.settle(high)))
    with torch.inference_mode():
        return (tool(tensor(rgb), *settled)[0].permute(1, 2, 0) * 255).numpy()


PICTURES = ["scene-1-256", "scene-3-256", "scene-5-130", "scene-2-384", "astronaut", "coffee"]


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize(("low", "high"), [(100, 200), (50, 150), (200.7, 20.2)])
def test_canny_agrees_with_opencv(name: str, low: float, high: float) -> None:
    rgb = picture(name)
    grey = cv2.Canny(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), low, high)
    for ours, theirs in (("canny", grey), ("canny_colour", cv2.Canny(rgb, low, high))):
        found = hint(ours, rgb, low, high)[..., 0]
        wrong = found != theirs
        assert wrong.mean() < (0.02 if low > high else 0.005)
        # thinning is equal: all that differs is weak edges that we stopped following
        assert not (wrong & (found > 0)).any()
        assert wrong.sum() < 0.2 * (theirs > 0).sum()


def test_canny_is_equal_to_opencv_where_no_weak_edge_is_long() -> None:
    rgb = picture("scene-1-256")
    assert np.array_equal(
        hint("canny", rgb, 100, 100)[..., 0], cv2.Canny(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), 100, 100)
    )
    assert np.array_equal(hint("canny_colour", rgb, 100, 200)[..., 1], cv2.Canny(rgb, 100, 200))


@pytest.mark.parametrize("width", [1, 61, 62, 63, 64, 130])
def test_both_ways_of_following_an_edge_are_the_same(width: int) -> None:
    dice = torch.Generator().manual_seed(width)
    for _ in range(4):
        mask = torch.rand(40, width, generator=dice) < 0.5
        seed = mask & (torch.rand(40, width, generator=dice) < 0.01)
        for rounds in (0, 1, 7, 90):
            packed = canny_module._grow_packed(seed, mask, rounds)
            assert torch.equal(packed, canny_module._grow_pooled(seed, mask, rounds))
    count, labels = cv2.connectedComponents(mask.numpy().astype(np.uint8), connectivity=8)
    reached = np.isin(labels, np.unique(labels[seed.numpy()]))
    assert count > 1
    assert np.array_equal(packed.numpy(), reached & mask.numpy())


@pytest.mark.parametrize("sigma", [0.3, 1.5, 9.0, 40.0])
def test_blur_is_a_gaussian(sigma: float) -> None:
    rgb = picture("scene-3-256")[:200]
    theirs = cv2.GaussianBlur(rgb.astype(np.float32), (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    assert np.abs(hint("blur", rgb, sigma) - theirs).max() < 1.0


@pytest.mark.parametrize(("side", "size"), [(64, (256, 192)), (50, (128, 130)), (4, (64, 64)), (256, (130, 100))])
def test_the_colour_grid_has_the_mean_of_each_cell(side: int, size: tuple[int, int]) -> None:
    rgb = picture("scene-2-384")[: size[0], : size[1]]
    found = hint("colour", rgb, side)
    for y in range(0, size[0], side):
        for x in range(0, size[1], side):
            cell = rgb[y : y + side, x : x + side].reshape(-1, 3).mean(0)
            assert np.abs(found[y : y + side, x : x + side] - cell).max() < 0.1


def test_tile_shrinks_and_brings_back() -> None:
    rgb = picture("scene-2-384")[:256, :256]
    assert np.abs(hint("tile", rgb, 1) - rgb).max() < 0.05
    small = cv2.resize(rgb.astype(np.float32), (64, 64), interpolation=cv2.INTER_AREA)
    theirs = cv2.resize(small, (256, 256), interpolation=cv2.INTER_LINEAR)
    assert np.abs(hint("tile", rgb, 4) - theirs).max() < 0.1
    between = hint("tile", rgb, 2.5)  # cells need not be whole pixels
    assert between.mean(0).mean(0) == pytest.approx(rgb.mean(0).mean(0), abs=1)


def test_tones() -> None:
    rgb = picture("astronaut")[:200, :200]
    assert np.array_equal(hint("none", rgb).round(), rgb)
    assert np.array_equal(hint("invert", rgb).round(), 255 - rgb)
    assert np.array_equal(hint("threshold", rgb, 90)[..., 0] > 0, rgb.min(2) > 90)
    luma = rgb @ np.array([0.299, 0.587, 0.114])
    assert hint("luminance", rgb)[..., 2] == pytest.approx(luma, abs=0.01)
    assert hint("luminance", rgb, 0.5)[..., 0] == pytest.approx(255 * (luma / 255) ** 0.5, abs=0.01)


def drawing() -> Picture:
    """A black line, a grey disc and fine noise on white."""
    rgb = np.full((160, 160, 3), 255, np.uint8)
    cv2.line(rgb, (20, 20), (140, 30), (0, 0, 0), 3)
    cv2.circle(rgb, (80, 100), 30, (90, 90, 90), -1)
    return rgb


def test_lineart_draws_dark_lines_white() -> None:
    found = hint("lineart", drawing())[..., 0]
    assert found[25, 80] > 120
    assert found[150, 150] < 0.01
    assert (found > 30).mean() < 0.2
    rgb = drawing().astype(np.float32)
    darker = np.clip((cv2.GaussianBlur(rgb, (0, 0), 6.0) - rgb).min(2), 0, 255)
    scale = max(16, np.median(darker[darker > 8]))
    assert np.abs(found - np.clip(darker / scale * 127, 0, 255)).mean() < 2  # ours is a sample's median
    assert hint("lineart", np.full((64, 64, 3), 200, np.uint8)).max() < 0.01


def test_scribble_is_what_is_darker_than_its_surround() -> None:
    rgb = drawing()
    narrow, wide = (cv2.GaussianBlur(rgb.astype(np.float32), (0, 0), s) for s in (0.5, 5.0))
    theirs = 2 * (wide - narrow).min(2) > 32
    found = hint("scribble", rgb, 32)[..., 0] > 0
    assert (found != theirs).mean() < 0.002
    assert 0.02 < found.mean() < 0.3


def test_softedge_prefers_contours_to_texture() -> None:
    dice = np.random.default_rng(1)
    rgb = np.full((192, 192, 3), 60, np.uint8)
    rgb[:, 96:] = 190
    rgb[:, :60] = dice.integers(0, 120, (192, 60, 3))
    bare, held = hint("softedge", rgb, 0.0)[..., 0], hint("softedge", rgb, 1.0)[..., 0]
    contour, texture = (slice(8, -8), slice(94, 98)), (slice(8, -8), slice(8, 52))
    assert held[contour].mean() > 150
    assert held[:, 130:].max() < 2
    assert held[contour].mean() / held[texture].mean() > 2 * bare[contour].mean() / bare[texture].mean()
    row = held[96, 60:]
    assert np.abs(np.diff(row)).max() < 130  # soft: several pixels from black to white
    assert hint("softedge", rgb, 1.0, 1.0)[contour].mean() < held[contour].mean()


def test_normals_have_the_colours_of_scannet() -> None:
    """Blue faces the viewer, red left, green up."""
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    ball = np.sqrt(np.clip(1 - x**2 - y**2, 0, None)).astype(np.float32)
    depth = torch.from_numpy(ball)[None, None]
    found = normals(depth, torch.tensor(0.0), torch.tensor(8.0))[0]
    assert found[:, 64, 64].tolist() == pytest.approx([0.5, 0.5, 1.0], abs=0.02)
    assert found[0, 64, 16] > 0.65 > 0.35 > found[0, 64, 112]
    assert found[1, 16, 64] > 0.65 > 0.35 > found[1, 112, 64]
    assert torch.allclose((found * 2 - 1).norm(dim=0), torch.ones(()), atol=1e-5)
    flat = normals(depth, torch.tensor(0.5), torch.tensor(8.0))[0]
    assert flat[:, 2, 2].tolist() == [0.5, 0.5, 1.0]
    assert hint("normal", drawing()).shape == (160, 160, 3)


@pytest.mark.parametrize("name", list(PREPROCESSORS))
@pytest.mark.parametrize("shape", [(64, 64), (130, 67)])
def test_every_hint_keeps_shape_type_and_range(name: str, shape: tuple[int, int]) -> None:
    tool = PREPROCESSORS[name]
    image = tensor(picture("scene-3-256")[: shape[0], : shape[1]]).contiguous(memory_format=torch.channels_last)
    before = image.clone()
    ends = [(getattr(tool.low, end), getattr(tool.high, end)) for end in ("minimum", "default", "maximum")]
    for low, high in ends:
        for dtype in (torch.float32, torch.bfloat16):
            out = tool(image.to(dtype), torch.tensor(float(low)), torch.tensor(float(high)))
            assert out.shape == (1, 3, *shape)
            assert out.dtype == dtype
            assert out.isfinite().all()
            assert out.min() >= 0
            assert out.max() <= 1
    assert torch.equal(image, before)


def test_the_registry_says_what_it_holds() -> None:
    assert not PREPROCESSORS.keys() & NETWORK_PREPROCESSORS.keys()
    for name, tool in {**PREPROCESSORS, **NETWORK_PREPROCESSORS}.items():
        assert tool.name == name
        assert tool.doc.endswith(".")
        assert bool(tool.needs) == (name in NETWORK_PREPROCESSORS)
        assert callable(tool.run)
        for knob in (tool.low, tool.high):
            assert bool(knob.name) == (knob.maximum > knob.minimum)
            assert knob.minimum <= knob.default <= knob.maximum
            assert knob.settle(-1) == knob.default
            assert knob.settle(1e9) == knob.maximum


def test_a_hint_of_a_network_waits_for_it() -> None:
    tool = NETWORK_PREPROCESSORS["scribble_hed"]
    image, zero = torch.zeros(1, 3, 64, 64), torch.zeros(())
    image[..., 32:] = 0.8
    with pytest.raises(ValueError, match="needs the network hed"):
        tool(image, zero, zero)
    bound = tool.bind(lambda x: x.amax(1, keepdim=True))
    assert isinstance(bound, Preprocessor)
    assert torch.equal(bound(image, torch.tensor(127.0), zero), (image > 0).float())
    assert tool.net is None
