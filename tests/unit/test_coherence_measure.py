"""The measures themselves, on cases whose answer is known beforehand."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from bridge.sources.scene import draw
from pipelines.coherence.measure import (
    assess,
    colour_drift,
    edge_f1,
    edge_map_f1,
    estimate_flow,
    inside,
    mean_lab,
    occluded,
    sharpness,
    warp,
    warped_error,
)

SIDE = 96


def flow(dx: float, dy: float, side: int = SIDE) -> np.ndarray:
    return np.broadcast_to(np.float32([dx, dy]), (side, side, 2)).copy()


def pan(count: int, step: int, side: int = SIDE) -> list[np.ndarray]:
    wide = draw(3.0, side + count * step, side, 1)
    return [np.ascontiguousarray(wide[:, n * step : n * step + side]) for n in range(count)]


def test_a_clip_that_only_moves_has_no_warped_error() -> None:
    a, b = pan(2, 5)
    assert warped_error(a, b, flow(5, 0)) == 0.0
    assert warped_error(a, b, flow(0, 0)) > 5.0
    assert warped_error(a, b, flow(-5, 0)) > 5.0, "the flow is backward"


def test_warped_error_is_the_flicker_in_levels() -> None:
    a, b = pan(2, 5)
    a, b = a // 2, b // 2
    assert warped_error(a, b + 7, flow(5, 0)) == pytest.approx(7.0)
    spot = b.copy()
    spot[:, :19] += 10  # 19 of the 91 columns that came from inside
    assert warped_error(a, spot, flow(5, 0)) == pytest.approx(10 * 19 / 91)


def test_warped_error_leaves_out_what_is_not_known() -> None:
    a, b = pan(2, 5)
    b = b.copy()
    b[:40] = 0
    known = np.ones((SIDE, SIDE), bool)
    known[:40] = False
    assert warped_error(a, b, flow(5, 0), known) == 0.0
    assert warped_error(a, b, flow(5, 0)) > 1.0
    assert math.isnan(warped_error(a, b, flow(1e4, 0)))


def test_warp_and_inside_at_the_border() -> None:
    picture = np.arange(SIDE, dtype=np.uint8)[None, :, None].repeat(SIDE, 0).repeat(3, 2)
    assert np.allclose(warp(picture, flow(2.5, 0))[:, :90, 0], np.arange(90) + 2.5)
    assert inside(flow(3, -2)).sum() == (SIDE - 3) * (SIDE - 2)
    assert inside(flow(0, 0)).all()


def test_occlusion_is_where_the_flow_does_not_explain_the_input() -> None:
    before = cv2.resize(np.random.default_rng(1).integers(60, 200, (12, 12, 3), np.uint8), (SIDE, SIDE))
    after, motion = before.copy(), flow(0, 0)
    background = before.copy()
    before[30:60, 10:40] = (255, 0, 0)
    after[:] = background
    after[30:60, 40:70] = (255, 0, 0)
    motion[30:60, 40:70] = (-30, 0)
    lost = occluded(motion, before, after)
    assert lost[34:56, 14:36].all(), "uncovered"
    assert not lost[34:56, 44:66].any(), "moved"
    assert not lost[:24].any()


def test_estimated_flow_is_the_pan() -> None:
    a, b = pan(2, 3, side=192)
    found = estimate_flow(a, b)[24:-24, 24:-24]
    assert np.median(found[..., 0]) == pytest.approx(3.0, abs=0.2)
    assert np.median(found[..., 1]) == pytest.approx(0.0, abs=0.2)


def test_sharpness_falls_with_blur_and_is_the_laplacians_variance() -> None:
    picture = draw(3.0, 128, 128, 1)
    values = [sharpness(picture), *(sharpness(cv2.GaussianBlur(picture, (0, 0), s)) for s in (0.7, 1.5, 3.0))]
    assert values == sorted(values, reverse=True)
    assert values[0] > 10 * values[-1]
    assert sharpness(np.full((32, 32, 3), 90, np.uint8)) == 0.0
    board = (np.indices((32, 32)).sum(0) % 2 * 10).astype(np.uint8)[..., None].repeat(3, 2)
    assert sharpness(board) == pytest.approx(40.0**2)  # -4 x +-5 about the mean, and the mean's part cancels


def test_colour_drift_is_in_lab_units() -> None:
    grey, lighter = np.full((8, 8, 3), 119, np.uint8), np.full((8, 8, 3), 143, np.uint8)
    assert mean_lab(grey) == pytest.approx([50.0, 0.0, 0.0], abs=0.3)
    assert colour_drift(grey, lighter) == pytest.approx(9.2, abs=0.4)
    assert colour_drift(grey, grey) == 0.0
    warm = grey.copy()
    warm[..., 0] += 20
    assert colour_drift(grey, warm) > 5.0
    assert colour_drift(grey, np.ascontiguousarray(draw(3.0, 8, 8, 1))[::-1]) == colour_drift(grey, draw(3.0, 8, 8, 1))


def lines(*columns: int) -> np.ndarray:
    mask = np.zeros((64, 64), bool)
    mask[:, list(columns)] = True
    return mask


@pytest.mark.parametrize(
    ("wanted", "found", "f1"),
    [
        ((20, 40), (20, 40), 1.0),
        ((20, 40), (22, 38), 1.0),  # two pixels off count as met
        ((20, 40), (23, 37), 0.0),  # three do not
        ((20, 40), (20,), 2 / 3),  # precision 1, recall 1/2
        ((20,), (20, 50), 2 / 3),  # precision 1/2, recall 1
        ((20, 40), (20, 60), 1 / 2),
        ((), (), 1.0),
        ((20,), (), 0.0),
        ((), (20,), 0.0),
    ],
)
def test_edge_f1_of_lines(wanted: tuple[int, ...], found: tuple[int, ...], f1: float) -> None:
    assert edge_map_f1(lines(*wanted), lines(*found)) == pytest.approx(f1)


def test_edge_f1_of_pictures() -> None:
    square = np.zeros((96, 96, 3), np.uint8)
    square[30:60, 30:60] = 255
    assert edge_f1(square, square) == 1.0
    assert edge_f1(square, np.roll(square, 2, 1)) == 1.0
    assert edge_f1(square, np.roll(square, 20, 1)) < 0.7
    assert edge_f1(square, 255 - square) == 1.0, "only where edges are, not which way they go"
    scene = draw(3.0, 128, 128, 1)
    assert edge_f1(scene, cv2.GaussianBlur(scene, (0, 0), 3)) < 0.7


def test_a_clip_is_assessed_by_its_parts() -> None:
    inputs = pan(8, 3)
    flows = [flow(3, 0)] * 7
    rng = np.random.default_rng(1)
    flicker = [np.clip(p + rng.normal(0, 12, p.shape), 0, 255).astype(np.uint8) for p in inputs]
    calm, restless = assess(inputs, inputs, flows), assess(inputs, flicker, flows)
    assert calm.warped_error == 0.0
    assert calm.edges == 1.0
    assert restless.warped_error == pytest.approx(12 * 2 / math.sqrt(math.pi), rel=0.15)
    assert restless.sharpness > calm.sharpness
    fading = [np.clip(p * (1 - 0.06 * n), 0, 255).astype(np.uint8) for n, p in enumerate(inputs)]
    assert assess(inputs, fading, flows).drift > calm.drift + 5
    estimated = assess(inputs, flicker)
    assert estimated.warped_error == pytest.approx(restless.warped_error, rel=0.2)


def test_a_clip_that_does_not_fit_is_refused() -> None:
    inputs = pan(3, 3)
    for wrong in ((inputs, inputs[:2], None), (inputs[:1], inputs[:1], None), (inputs, inputs, [flow(3, 0)])):
        with pytest.raises(ValueError, match="a clip needs"):
            assess(*wrong)
