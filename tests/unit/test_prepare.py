"""Geometry and colour on the way in and out, to the pixel; and noise that agrees with AUTOMATIC1111's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engines.fit import source_box, target_box
from pipelines import guard as guards
from pipelines import prepare as prepares
from pipelines.guard import guard
from pipelines.noise import SeedWalk, seeded, slerp
from pipelines.prepare import finish, prepare, to_bytes
from pipelines.state import StreamState
from tests.support.tape import Tape

GOLDEN = Path(__file__).parent.parent / "golden" / "subseed_slerp.npz"


def there_and_back(pixels, size, fit):
    return to_bytes(prepare(torch.from_numpy(pixels), size, fit)).numpy()


def marked(height, width):
    """Black, with the centred square red and a green bar at the left end and a blue one at the right."""
    picture, side = np.zeros((height, width, 3), np.uint8), min(height, width)
    y, x = (height - side) // 2, (width - side) // 2
    picture[:, :8], picture[:, -8:] = (0, 255, 0), (0, 0, 255)
    picture[y : y + side, x : x + side] = (255, 0, 0)
    return picture


def test_every_byte_survives_the_way_there_and_back():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    assert np.array_equal(there_and_back(ramp, (16, 16), "crop"), ramp)


def test_crop_shows_the_centred_square_alone():
    out = there_and_back(marked(64, 128), (32, 32), "crop")
    assert np.array_equal(out, np.full((32, 32, 3), (255, 0, 0), np.uint8))


def test_letterbox_shows_all_of_it_between_black_bars():
    out = there_and_back(marked(64, 128), (64, 64), "letterbox")
    assert not out[:16].any()
    assert not out[48:].any()
    assert np.array_equal(out[16:48, 18:46], np.full((32, 28, 3), (255, 0, 0), np.uint8))
    assert np.array_equal(out[16:48, :3], np.full((32, 3, 3), (0, 255, 0), np.uint8))
    assert np.array_equal(out[16:48, -3:], np.full((32, 3, 3), (0, 0, 255), np.uint8))


def test_stretch_fills_the_target_with_all_of_it():
    out = there_and_back(marked(64, 128), (64, 64), "stretch")
    assert np.array_equal(out[:, :3], np.full((64, 3, 3), (0, 255, 0), np.uint8))
    assert np.array_equal(out[:, -3:], np.full((64, 3, 3), (0, 0, 255), np.uint8))
    assert np.array_equal(out[:, 18:46], np.full((64, 28, 3), (255, 0, 0), np.uint8))


def test_shrinking_does_not_alias():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    out = there_and_back(stripes, (64, 64), "crop")
    assert np.abs(out.astype(int) - 128)[:, 2:-2].max() <= 2


@pytest.mark.parametrize("fit", ["crop", "letterbox", "stretch"])
def test_alpha_is_dropped_and_grey_spreads(fit):
    rgb = np.random.default_rng(2).integers(0, 256, (40, 90, 3), np.uint8)
    rgba = np.concatenate([rgb, np.full((40, 90, 1), 7, np.uint8)], 2)
    assert np.array_equal(there_and_back(rgba, (64, 64), fit), there_and_back(rgb, (64, 64), fit))
    grey = there_and_back(rgb[:, :, :1].copy(), (64, 64), fit)
    assert np.array_equal(grey[..., 0], grey[..., 2])
    assert np.array_equal(grey[..., 0], there_and_back(rgb, (64, 64), fit)[..., 0])


@pytest.mark.parametrize("shape", [(1, 1), (1, 4096), (288, 1550), (2160, 4096), (63, 65)])
def test_boxes_stay_inside_and_keep_the_shape(shape):
    for size in ((64, 64), (512, 768), (64, 2048)):
        y, x, h, w = source_box(*shape, *size, "crop")
        assert y >= 0
        assert x >= 0
        assert 1 <= h <= shape[0] - y
        assert 1 <= w <= shape[1] - x
        assert h == shape[0] or w == shape[1]
        y, x, h, w = target_box(*shape, *size, "letterbox")
        assert 1 <= h <= size[0] - y
        assert 1 <= w <= size[1] - x
        assert h == size[0] or w == size[1]


def test_mix_goes_from_the_source_to_the_picture():
    image, source = torch.full((1, 3, 2, 2), 1.0), torch.full((1, 3, 2, 2), -1.0)
    for mix, level in ((0.0, 0), (0.5, 128), (1.0, 255)):
        assert finish(image.clone(), source, torch.tensor(mix)).unique().tolist() == [level]


def test_the_guard_clamps_and_holds():
    state, source = StreamState(2, 2, torch.device("cpu"), (4, 1, 1)), torch.full((1, 3, 2, 2), 0.25)
    for wrong in (float("nan"), float("inf"), -float("inf")):
        image = torch.zeros(1, 3, 2, 2)
        image[0, 1, 1, 0] = wrong
        assert torch.equal(guard(image, source, state), source)
    assert int(state.held) == 3
    assert torch.equal(guard(torch.full((1, 3, 2, 2), float("nan")), -source, state), -source), "nothing painted yet"
    assert guard(torch.full((1, 3, 2, 2), 7.0), source, state).unique().tolist() == [1.0]
    assert guard(torch.full((1, 3, 2, 2), float("nan")), source, state).unique().tolist() == [1.0]
    state.reset()
    assert torch.equal(guard(torch.full((1, 3, 2, 2), float("nan")), source, state), source)


def test_noise_between_seeds_is_automatic1111s():
    golden = np.load(GOLDEN)
    names = [name for name in golden if name.startswith("v")]
    assert names
    a, b = torch.from_numpy(golden["seed1"]), torch.from_numpy(golden["seed2"])
    for name in names:
        assert np.abs(slerp(a, b, float(name[1:])).numpy() - golden[name]).max() <= 1e-5


def test_noise_of_a_seed_is_diffusers_and_more_of_it_changes_nothing():
    first = torch.randn((1, 4, 5, 3), generator=torch.Generator("cpu").manual_seed(11))
    assert torch.equal(seeded(11, 1, (1, 4, 5, 3))[0], first)
    assert torch.equal(seeded(11, 9, (1, 4, 5, 3))[0], first)
    assert not torch.equal(seeded(11, 2, (1, 4, 5, 3))[1], first)


def test_slerp_between_parallel_or_tiny_noises_is_finite():
    a = seeded(1, 1, (1, 4, 1, 1))
    for b in (a, -a, 2 * a, seeded(2, 1, (1, 4, 1, 1))):
        for w in (0.0, 0.3, 1.0):
            assert bool(torch.isfinite(slerp(a, b, w)).all())


def test_a_walk_keeps_its_ends_and_its_loudness():
    walk = SeedWalk((1, 4, 32, 32), torch.device("cpu"))
    for mix in np.linspace(0, 1, 11):
        assert float(walk(1, 2, float(mix), 2).std()) == pytest.approx(1.0, abs=0.05)
    assert torch.equal(walk(1, 2, 1.0, 2), seeded(2, 2, (1, 4, 32, 32)))


def test_a_card_guards_as_a_processor_does_and_can_be_recorded():
    good, wrong = torch.rand(1, 3, 4, 4) * 4 - 2, torch.full((1, 3, 4, 4), float("nan"))
    source = torch.rand(1, 3, 4, 4)
    for images in ([good, wrong], [wrong, good, wrong]):
        mine, card = (StreamState(4, 4, torch.device("cpu"), (4, 1, 1)) for _ in range(2))
        image = images[0].clone()
        theirs = (card.picture, card.painted, card.unbroken, card.held)
        with torch.inference_mode(), Tape() as tape:
            guards._everywhere(image, source, *theirs)
        for kept in theirs:
            kept.zero_()  # what recording did is no frame
        for each in images:
            image.copy_(each)
            tape.play()
            guard(image, source, mine)
            for a, b in zip(theirs, (mine.picture, mine.painted, mine.unbroken, mine.held), strict=True):
                assert torch.equal(a, b)


@pytest.mark.parametrize("mix", [0.0, 0.3, 1.0])
def test_a_card_mixes_as_a_processor_does_and_can_be_recorded(mix):
    image, source = (torch.rand(2, 3, 8, 8) * 2 - 1).split(1)
    amount = torch.tensor(0.5)
    with torch.inference_mode(), Tape() as tape:
        card = prepares._mixed_everywhere(image, source, amount)
    amount.fill_(mix)
    tape.play()
    mine = finish(image, source, torch.tensor(mix))
    assert mine.is_contiguous()
    assert (card.int() - mine.int()).abs().max() <= 1, "halves may be rounded either way"
    assert (card == mine).float().mean() > 0.9
