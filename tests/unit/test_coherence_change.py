"""Did the input move, and is it a new scene? Both on the device; and the first on the host, too."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
from torch import Tensor

from bridge.sources.scene import draw
from pipelines.coherence.cut import CutDetector
from pipelines.coherence.similar import HostSimilarity, Similarity

CPU = torch.device("cpu")
SIDE = 128
NEVER = 10**6


def tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 127.5 - 1.0


def grain(pixels: np.ndarray, sigma: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, pixels.shape)
    return np.clip(pixels + noise, 0, 255).round().astype(np.uint8)


Decide = Callable[[np.ndarray, float, int, bool], bool]


def device_form() -> Decide:
    similar = Similarity((SIDE, SIDE), CPU)

    def decide(pixels: np.ndarray, threshold: float, longest: int, force: bool) -> bool:
        args = torch.tensor(threshold), torch.tensor(longest), torch.tensor(force)
        return bool(similar(tensor(pixels), *args))

    return decide


def host_form() -> Decide:
    similar = HostSimilarity()
    return lambda pixels, threshold, longest, force: similar(pixels, threshold, longest, force)


@pytest.fixture(params=[device_form, host_form])
def decide(request: pytest.FixtureRequest) -> Decide:
    return request.param()


def test_a_still_input_is_painted_once_and_then_every_so_often(decide: Decide) -> None:
    picture = draw(3.0, SIDE, SIDE, 1)
    got = [decide(picture, 2.0, 5, False) for _ in range(19)]
    assert got == [n % 6 == 0 for n in range(19)], "never more than five skips in a row"


def test_it_paints_the_frame_that_moved_and_not_the_one_after(decide: Decide) -> None:
    still, moved = draw(3.0, SIDE, SIDE, 1), draw(4.0, SIDE, SIDE, 1)
    clip = [still, still, moved, moved, still, still]
    assert [decide(p, 4.0, NEVER, False) for p in clip] == [True, False, True, False, True, False]


def test_a_cameras_grain_is_no_motion_and_a_small_thing_is(decide: Decide) -> None:
    picture = draw(3.0, SIDE, SIDE, 1)
    decide(grain(picture, 2.0, 0), 5.0, NEVER, False)
    assert not any(decide(grain(picture, 2.0, n), 5.0, NEVER, False) for n in range(1, 10))
    blink = picture.copy()
    blink[60:64, 60:64] = 255 - blink[60:64, 60:64]
    assert decide(grain(blink, 2.0, 11), 5.0, NEVER, False)


def test_a_slow_drift_adds_up(decide: Decide) -> None:
    base = draw(3.0, SIDE, SIDE, 1).astype(np.float32) * 0.5
    got = [decide((base + 0.5 * n).astype(np.uint8), 4.0, NEVER, False) for n in range(41)]
    assert 4 <= sum(got[1:]) <= 5


def test_force_and_a_threshold_of_nought_paint_all(decide: Decide) -> None:
    picture = draw(3.0, SIDE, SIDE, 1)
    assert all(decide(picture, 2.0, NEVER, True) for _ in range(3))
    assert all(decide(picture, 0.0, NEVER, False) for _ in range(3))
    assert all(decide(picture, 2.0, 0, False) for _ in range(3))


def test_both_forms_decide_alike_on_a_moving_scene() -> None:
    device, host = Similarity((SIDE, SIDE), CPU), HostSimilarity()
    never, no = torch.tensor(NEVER), torch.tensor(False)
    for n in range(40):
        pixels = draw(n / 60, SIDE, SIDE, 2)
        device(tensor(pixels), torch.tensor(1e9), never, no)
        host(pixels, 1e9, NEVER)
        if n:
            assert host.change == pytest.approx(float(device.change), rel=0.25, abs=1.0)


def test_reset_paints_the_next_frame() -> None:
    picture = draw(3.0, SIDE, SIDE, 1)
    device, host = Similarity((SIDE, SIDE), CPU), HostSimilarity()
    args = torch.tensor(2.0), torch.tensor(NEVER), torch.tensor(False)
    for _ in range(2):
        assert device(tensor(picture), *args)
        assert not device(tensor(picture), *args)
        assert host(picture, 2.0, NEVER)
        assert not host(picture, 2.0, NEVER)
        device.reset()
        host.reset()


@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 300, 1), (480, 640, 4), (20, 30, 3)])
def test_the_host_takes_any_shape_and_a_size_that_changes(shape: tuple[int, int, int]) -> None:
    host, rng = HostSimilarity(), np.random.default_rng(1)
    first = rng.integers(0, 256, shape, np.uint8)
    assert host(first, 2.0, NEVER)
    assert not host(first, 2.0, NEVER)
    assert host(255 - first, 2.0, NEVER)
    assert host(rng.integers(0, 256, (64, 64, 3), np.uint8), 2.0, NEVER)
    wide = rng.integers(0, 256, (shape[0], shape[1] + 8, shape[2]), np.uint8)
    host.reset()
    assert host(wide[:, 4:-4], 2.0, NEVER)
    assert not host(wide[:, 4:-4], 2.0, NEVER), "pixels that are a part of a larger picture"


def test_the_host_keeps_no_hold_of_the_pixels() -> None:
    """The ring's slot is written again while the decision's memory is in use."""
    host, slot = HostSimilarity(), draw(3.0, SIDE, SIDE, 1).copy()
    host(slot, 2.0, NEVER)
    slot[:] = 0
    assert host(slot, 2.0, NEVER)


def cuts(frames: Iterable[np.ndarray], sensitivity: float = 1.0) -> list[int]:
    """The numbers of the frames that begin a scene."""
    detector, level = CutDetector(CPU), torch.tensor(sensitivity)
    return [n for n, pixels in enumerate(frames) if bool(detector(tensor(pixels), level))]


def at(seconds: Iterable[float], seed: int = 1) -> list[np.ndarray]:
    return [draw(float(t), SIDE, SIDE, seed) for t in seconds]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("fps", [30.0, 6.0])
def test_a_scene_that_moves_is_one_scene(seed: int, fps: float) -> None:
    assert cuts(at(np.arange(40) / fps, seed)) == [0]


@pytest.mark.parametrize(("a", "b"), [(0, 1), (1, 2), (2, 3), (3, 0), (0, 4), (2, 6), (5, 1)])
def test_a_cut_is_seen_in_its_frame_and_once(a: int, b: int) -> None:
    """Also between two scenes of the same time of day, whose palettes are alike: 4, 6 and 5 are such."""
    frames = at(np.arange(8) / 30, a) + at(5 + np.arange(8) / 30, b) + at(8 / 30 + np.arange(4) / 30, a)
    assert cuts(frames) == [0, 8, 16]


@pytest.mark.parametrize("speed", [1, 4, 8, 16])
def test_a_pan_is_no_cut(speed: int) -> None:
    wide = draw(3.0, 5 * SIDE, SIDE, 1)
    steps = range(0, 4 * SIDE, speed)
    assert cuts(np.ascontiguousarray(wide[:, x : x + SIDE]) for x in steps) == [0]


@pytest.mark.parametrize("gain", [0.1, 0.4, 1.8, 4.0])
def test_a_flash_and_a_dimmer_are_no_cuts(gain: float) -> None:
    frames = at(np.arange(10) / 30)
    frames[4] = np.clip(frames[4] * gain, 0, 255).astype(np.uint8)
    for n in (7, 8, 9):
        frames[n] = np.clip(frames[n] * gain, 0, 255).astype(np.uint8)
    assert cuts(frames) == [0]


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_strobe_is_no_cut_and_what_it_hides_is(level: int) -> None:
    flat = np.full((SIDE, SIDE, 3), level, np.uint8)
    strobe = [p if n % 2 else flat for n, p in enumerate(at(np.arange(12) / 30))]
    assert cuts(strobe) == [1], "the first with content"
    hidden = [*at([0.0, 0.03]), flat, flat, *at([5.0, 5.03], seed=2)]
    assert cuts(hidden) == [0, 4]


def test_coloured_light_is_no_cut() -> None:
    frames = at(np.arange(8) / 30)
    frames[4:] = [(p * np.array([1.0, 0.3, 0.2])).astype(np.uint8) for p in frames[4:]]
    assert cuts(frames) == [0]


def test_sensitivity_goes_from_never_to_sooner() -> None:
    frames = [*at([0.0]), *at([5.0], seed=2), *at([7.5], seed=2)]
    assert cuts(frames, 0.0) == [0]
    assert cuts(frames, 1.0) == [0, 1]
    assert cuts(frames, 4.0) == [0, 1, 2]


def test_cuts_are_counted_and_reset_begins_anew() -> None:
    detector, one = CutDetector(CPU), torch.tensor(1.0)
    frames = [tensor(p) for p in (*at([0.0]), *at([5.0], seed=2))]
    for n in (0, 1, 0, 0):
        detector(frames[n], one)
    assert int(detector.count) == 2, "what comes first is no cut"
    detector.reset()
    assert bool(detector(frames[0], one))
    assert int(detector.count) == 2
