"""The way from a picture's input to now, and the picture moved along it, on motion that is known to the pixel."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.clock import MS, NS
from bridge.display.budget import LOOKED_AT, WARM_UP, Budget
from bridge.display.track import Track, Way
from bridge.display.warp import along
from bridge.frame import Pixels
from engines.fit import Fit, target_box
from tests.support.pans import difference, fed, laid, painted, window

SIZE = (128, 256)
STEP = 50 * MS


def followed(inputs: list[Pixels], at_ns: int, fit: Fit = "crop", of: int = 0) -> Way | None:
    """From input `of` to `at_ns` after the first; inputs are 50 ms apart."""
    track = Track()
    for n, pixels in enumerate(inputs):
        track.add([laid(fed(pixels, n, NS + n * STEP), SIZE, fit)])
    return track.to_now(NS + of * STEP, SIZE, NS + at_ns)


@pytest.mark.parametrize("fit", ["crop", "letterbox", "stretch"])
@pytest.mark.parametrize("shape", [(120, 200), (240, 160), (300, 300)])
def test_a_picture_follows_its_input_however_that_is_fitted(fit: Fit, shape: tuple[int, int]) -> None:
    then, now = window(100, 80, *shape), window(109, 75, *shape)
    picture, wanted = painted(then, SIZE, fit), painted(now, SIZE, fit)
    way = followed([then, now], STEP, fit)
    assert way is not None
    assert way.captured == NS + STEP
    shown, box = along(picture, way), target_box(*shape, *SIZE, fit)
    held, moved = difference(picture, wanted, 8), difference(shown, wanted, 8)
    assert moved < 0.4 * held, (held, moved)
    outside = np.ones(SIZE, bool)
    outside[box.y : box.y + box.height, box.x : box.x + box.width] = False
    assert np.array_equal(shown[outside], picture[outside]), "bars stay as they were painted"


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_inputs_and_those_with_alpha_move_pictures_too(channels: int) -> None:
    then, now = (np.repeat(window(x, 80, 128, 128)[..., :1], channels, 2) for x in (100, 106))
    way = followed([then, now], STEP)
    assert way is not None
    picture, wanted = painted(then, SIZE, "crop"), painted(now, SIZE, "crop")
    assert difference(along(picture, way), wanted, 8) < 0.4 * difference(picture, wanted, 8)


def test_motion_is_carried_on_between_inputs_and_taken_back_when_none_come() -> None:
    inputs = [window(100 + 6 * n, 80, *SIZE) for n in range(3)]
    picture = painted(inputs[0], SIZE, "crop")

    def shown(at_ns: int) -> Pixels:
        way = followed(inputs, at_ns)
        assert way is not None
        return along(picture, way)

    for share, x in ((0.5, 115), (1.0, 118)):
        wanted = painted(window(x, 80, *SIZE), SIZE, "crop")
        ahead = difference(shown(int((2 + share) * STEP)), wanted, 24)
        assert ahead < 0.6 * difference(shown(2 * STEP), wanted, 24), share
    assert np.array_equal(shown(6 * STEP), shown(2 * STEP))


def test_a_repeated_input_is_no_step_of_the_motion() -> None:
    inputs = [window(100, 80, *SIZE), window(106, 80, *SIZE)]
    plain = followed(inputs, STEP + STEP // 2)
    doubled = followed([*inputs, inputs[1]], STEP + STEP // 2)
    assert plain is not None
    assert doubled is not None
    assert np.array_equal(plain.vectors, doubled.vectors)
    assert plain.captured == doubled.captured


def test_nothing_is_moved_across_a_cut_and_the_new_scene_is() -> None:
    old, new = ([window(100 + 5 * n, 80, *SIZE, seed) for n in range(3)] for seed in (1, 3))
    assert followed([*old, *new], 5 * STEP, of=1) is None
    assert followed([*old, *new], 5 * STEP, of=3) is not None
    assert followed([*old, new[0]], 3 * STEP, of=2) is None


def test_what_is_not_known_is_not_guessed() -> None:
    inputs = [window(100, 80, *SIZE), window(104, 80, *SIZE)]
    track = Track()
    assert track.to_now(NS, SIZE, NS) is None
    for n, pixels in enumerate(inputs):
        track.add([laid(fed(pixels, n, NS + n * STEP), SIZE)])
    assert track.to_now(NS, SIZE, NS + STEP) is not None
    assert track.to_now(NS + 1, SIZE, NS + STEP) is None, "an input that was never seen"
    assert track.to_now(NS, (64, 128), NS + STEP) is None, "a picture of another size"
    track.add([laid(fed(window(104, 80, 100, 128), 2, NS + 2 * STEP), SIZE)])
    assert track.to_now(NS, SIZE, NS + 2 * STEP) is None, "the input has another shape since"


def test_a_still_input_leaves_the_picture_as_it_is() -> None:
    still = window(100, 80, *SIZE)
    picture = painted(still, SIZE, "crop")
    way = followed([still, still.copy()], STEP)
    assert way is not None
    assert along(picture, way) is picture


def test_a_part_of_the_way_is_a_mixture() -> None:
    inputs = [window(100, 80, *SIZE), window(106, 80, *SIZE)]
    picture, way = painted(inputs[0], SIZE, "crop"), followed(inputs, STEP)
    assert way is not None
    whole, half = along(picture, way), along(picture, way, 0.5)
    assert difference(half, ((whole.astype(int) + picture + 1) // 2).astype(np.uint8)) < 1
    assert along(picture, way, 0.0) is picture


@pytest.mark.parametrize("shape", [(1, 1), (1, 2000), (2000, 1), (15, 17), (720, 1280)])
@pytest.mark.parametrize("size", [(64, 64), (64, 2048), (2048, 64)])
def test_no_shape_of_input_or_picture_is_too_odd(shape: tuple[int, int], size: tuple[int, int]) -> None:
    for fit, channels in (("crop", 1), ("letterbox", 3), ("stretch", 4)):
        track, rng = Track(), np.random.default_rng(1)
        for n in range(2):
            frame = fed(rng.integers(100, 103, (*shape, channels), dtype=np.uint8), n, NS + n * STEP)
            track.add([laid(frame, size, fit)])  # type: ignore[arg-type]
        way = track.to_now(NS, size, NS + STEP + STEP // 2)
        assert way is not None
        picture = np.full((*size, 3), 90, np.uint8)
        assert np.array_equal(along(picture, way), picture), "what has one colour keeps it"


def test_a_rate_that_can_not_be_kept_is_given_up_with_a_sentence() -> None:
    def judged(work_s: float, missed: int, ticks: int) -> str:
        budget = Budget(60)
        return next(filter(None, (budget.tick(work_s, missed) for _ in range(ticks))), "")

    whole = WARM_UP + LOOKED_AT
    assert judged(0.004, 0, 10 * whole) == ""
    assert judged(1.0, 9, WARM_UP) == "", "what runs for the first time is slow"
    assert "14 ms" in judged(0.014, 0, whole)
    assert "50%" in judged(0.004, 1, whole)
    assert judged(0.014, 0, whole - 1) == ""
