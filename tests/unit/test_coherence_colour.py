"""Colours matched to a reference: against OpenCV, scikit-image and Deforum's own output."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage.color import rgb2lab
from skimage.exposure import match_histograms
from torch import Tensor

from bridge.sources.scene import draw
from pipelines.coherence.colour import join, join8, split, split8
from pipelines.coherence.match import (
    ColourMatch,
    histogram,
    match_histogram,
    match_statistics,
    statistics,
)

CPU = torch.device("cpu")
GOLDEN = Path(__file__).parent.parent / "golden" / "image_ops.npz"
SPACES = ["lab", "hsv", "rgb"]
CODES = {
    "lab": (cv2.COLOR_RGB2LAB, cv2.COLOR_LAB2RGB),
    "hsv": (cv2.COLOR_RGB2HSV, cv2.COLOR_HSV2RGB),
}
TRUE, FALSE, ONE = torch.tensor(True), torch.tensor(False), torch.tensor(1.0)


def image(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 127.5 - 1.0


def pixels(x: Tensor) -> np.ndarray:
    return np.ascontiguousarray((x[0] * 127.5 + 128.0).clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy())


def every_colour() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (256, 256, 3), np.uint8)


def to_space(rgb: np.ndarray, space: str) -> np.ndarray:
    return rgb if space == "rgb" else cv2.cvtColor(rgb, CODES[space][0])


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a.astype(int) - b.astype(int))


@pytest.mark.parametrize("space", SPACES)
def test_splitting_and_joining_returns_every_byte(space: str) -> None:
    rgb = every_colour()
    rgb[0, :256] = np.arange(256)[:, None]  # greys, black and white
    assert np.array_equal(pixels(join(split(image(rgb), space), space)), rgb)


def test_lab_and_hsv_are_scikit_images_and_opencvs() -> None:
    rgb = every_colour()
    lab = split(image(rgb), "lab").permute(1, 2, 0).numpy()
    assert np.abs(lab - rgb2lab(rgb)).max() < 0.1  # another rounding of D65
    hsv = split(image(rgb), "hsv").permute(1, 2, 0).numpy()
    expected = cv2.cvtColor(rgb.astype(np.float32) / 255.0, cv2.COLOR_RGB2HSV)
    assert np.abs(hsv[..., 1:] - expected[..., 1:]).max() < 1e-4
    turn = np.abs(hsv[..., 0] * 360 - expected[..., 0])
    assert np.minimum(turn, 360 - turn).max() < 0.05


@pytest.mark.parametrize("space", ["lab", "hsv"])
def test_eight_bit_channels_are_opencvs_to_the_bit(space: str) -> None:
    rgb = every_colour()
    assert np.array_equal(split8(image(rgb), space).permute(1, 2, 0).numpy(), to_space(rgb, space))
    levels = to_space(rgb, space)
    back = pixels(join8(torch.from_numpy(levels.astype(np.int32)).permute(2, 0, 1), space))
    off = difference(back, cv2.cvtColor(levels, CODES[space][1]))
    assert off.max() <= 2
    assert (off > 1).mean() < 2e-4


def test_histogram_matching_is_deforums() -> None:
    golden = np.load(GOLDEN, allow_pickle=False)
    reference = histogram(split8(image(golden["sample"]), "lab"))
    got = pixels(match_histogram(image(golden["prev"]), reference, "lab"))
    assert difference(got, golden["match_LAB"]).max() <= 1


PAIRS = [(0, 1), (1, 0), (2, 3), (3, 0), (4, 2), (1, 4)]


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_histogram_matching_is_scikit_images(space: str, a: int, b: int) -> None:
    pictures = [draw(3.0, 128, 96, seed) for seed in range(4)] + [every_colour()[:80, :60]]
    source, template = pictures[a], pictures[b]
    expected = match_histograms(to_space(source, space), to_space(template, space), channel_axis=-1)
    rgb = expected if space == "rgb" else cv2.cvtColor(expected, CODES[space][1])
    off = difference(pixels(match_histogram(image(source), histogram(split8(image(template), space)), space)), rgb)
    assert off.max() <= (1 if space == "rgb" else 2)
    assert (off > 1).mean() < 1e-3


@pytest.mark.parametrize("space", ["lab", "rgb"])
def test_statistics_are_the_references_afterwards(space: str) -> None:
    source, template = image(draw(3.0, 128, 128, 1)) * 0.5, image(draw(3.0, 128, 128, 2)) * 0.5
    wanted = statistics(split(template, space), space)
    got = statistics(split(match_statistics(source, wanted, space), space), space)
    before = statistics(split(source, space), space)
    scale = 100.0 if space == "lab" else 1.0
    assert (before - wanted).abs().max() > 0.03 * scale
    assert (got - wanted).abs().max() < 0.01 * scale


def test_hues_are_turned_the_short_way_round() -> None:
    """From 10 to 350 degrees it is 20 back, through red, and not 340 on, through green."""

    def tinted(degrees: float) -> Tensor:
        hsv = torch.stack((torch.full((32, 32), degrees / 360), torch.full((32, 32), 0.8), torch.rand(32, 32)))
        return join(hsv, "hsv")

    reference = statistics(split(tinted(350.0), "hsv"), "hsv")
    got = statistics(split(match_statistics(tinted(10.0), reference, "hsv"), "hsv"), "hsv")
    assert math.degrees(math.atan2(got[0, 1], got[0, 0])) == pytest.approx(-10.0, abs=2.0)


def test_a_picture_of_all_hues_is_not_turned() -> None:
    hue = torch.linspace(0, 1, 257)[:-1].expand(16, 256)
    wheel = join(torch.stack((hue, torch.full_like(hue, 0.7), torch.full_like(hue, 0.7))), "hsv")
    green = torch.stack((torch.full_like(hue, 0.33), torch.full_like(hue, 0.7), torch.full_like(hue, 0.7)))
    reference = statistics(split(join(green, "hsv"), "hsv"), "hsv")
    got = split(match_statistics(wheel, reference, "hsv"), "hsv")[0]
    turn = (got - hue + 0.5).remainder(1.0) - 0.5
    assert turn.abs().max() < 0.02


@pytest.mark.parametrize("method", ["statistics", "histogram"])
@pytest.mark.parametrize("space", SPACES)
def test_a_picture_matched_to_itself_stays(space: str, method: str) -> None:
    rgb = draw(3.0, 96, 96, 1)
    match = ColourMatch(space, method, CPU)
    match.take(image(rgb), TRUE)
    off = difference(pixels(match(image(rgb), ONE)), rgb)
    assert off.max() <= (0 if method == "statistics" or space == "rgb" else 6)  # 8-bit L*a*b* and hue are coarse
    assert off.mean() < 0.8


@pytest.mark.parametrize("method", ["statistics", "histogram"])
@pytest.mark.parametrize("space", SPACES)
def test_amount_goes_from_nothing_to_all(space: str, method: str) -> None:
    source, match = image(draw(3.0, 96, 96, 1)), ColourMatch(space, method, CPU)
    assert torch.equal(match(source, ONE), source), "no reference yet"
    match.take(image(draw(3.0, 96, 96, 2)), TRUE)
    whole = match(source, ONE)
    assert not torch.equal(whole, source)
    assert torch.equal(match(source, torch.tensor(0.0)), source)
    assert torch.allclose(match(source, torch.tensor(0.5)), (source + whole) / 2, atol=1e-6)
    assert whole.min() >= -1.0
    assert whole.max() <= 1.0
    match.reset()
    assert torch.equal(match(source, ONE), source)


@pytest.mark.parametrize("method", ["statistics", "histogram"])
def test_a_reference_is_taken_when_it_is_told_to(method: str) -> None:
    match = ColourMatch("lab", method, CPU)
    first, second = image(draw(3.0, 96, 96, 1)), image(draw(3.0, 96, 96, 2))
    match.take(first, FALSE)
    assert not match.taken
    match.take(first, TRUE)
    kept = match.reference.clone()
    match.take(second, FALSE)
    assert torch.equal(match.reference, kept)
    match.take(second, TRUE)
    assert not torch.equal(match.reference, kept)


@pytest.mark.parametrize("method", ["statistics", "histogram"])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("level", [-1.0, 0.0, 1.0])
def test_flat_pictures_stay_finite(space: str, method: str, level: float) -> None:
    flat, match = torch.full((1, 3, 32, 32), level), ColourMatch(space, method, CPU)
    match.take(image(draw(3.0, 96, 96, 1)), TRUE)
    assert match(flat, ONE).isfinite().all()
    match.take(flat, TRUE)
    out = match(image(draw(3.0, 96, 96, 1)), ONE)
    assert out.isfinite().all()
    assert out.std() < 0.05


@pytest.mark.parametrize("method", ["statistics", "histogram"])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_picture_that_is_not_finite_is_no_reference_and_breaks_nothing(space: str, method: str, bad: float) -> None:
    good, match = image(draw(3.0, 96, 96, 1)), ColourMatch(space, method, CPU)
    wrong = good.clone()
    wrong[0, 1, 5, 5] = bad
    match.take(wrong, TRUE)
    assert not match.taken
    match.take(good, TRUE)
    match.take(wrong, TRUE)
    match(wrong, ONE)
    assert match(good, ONE).isfinite().all()


def test_matching_holds_a_feedback_loop_to_its_first_colours() -> None:
    """A loop that warms and darkens its own output a little each time, as autoencoders do."""
    drifts = {}
    for amount in (0.0, 1.0):
        x = first = image(draw(3.0, 96, 96, 1))
        match = ColourMatch("lab", "statistics", CPU)
        for _ in range(60):
            match.take(x, ~match.taken)
            x = (x * 0.97 + torch.tensor([0.01, 0.0, -0.01]).view(1, 3, 1, 1)).clamp(-1.0, 1.0)
            x = match(x, torch.tensor(amount))
        drifts[amount] = float((split(x, "lab").mean((1, 2)) - split(first, "lab").mean((1, 2))).norm())
    assert drifts[0.0] > 10
    assert drifts[1.0] < 0.5
