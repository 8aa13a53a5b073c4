"""Films with known motion, and the TemporalNet's lessons over them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from numpy.typing import NDArray

from pipelines.pocket import data, finest, hold, nets, text
from pipelines.pocket.films import Films, Frame, estimated
from pipelines.pocket.scenes import scene
from pipelines.preprocess.warp import inside, warp

SIDE = 96
WEIGHTS = Path(hold.__file__).parent / "weights"


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Toy tensors on several threads are nothing but waiting."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def shown() -> NDArray[np.uint8]:
    return data.pack([scene(seed, 128) for seed in range(4)])


def frames(films: Films, count: int, seed: int = 1) -> list[Frame]:
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    return [films.turn(rng, generator) for _ in range(count)]


def test_the_flow_of_a_film_leads_to_the_frame_before(shown: NDArray[np.uint8]) -> None:
    films, rows = Films(shown, 12, SIDE), range(12)
    for row in rows:
        films.begin(row, np.random.default_rng(row))
    films._grain[:] = 0
    first, second, third = frames(films, 3)
    for before, now in ((first, second), (second, third)):
        known = inside(now.flow).bool().expand_as(now.pictures)
        gap = (warp(before.pictures, now.flow) - now.pictures).abs()
        still = (before.pictures - now.pictures).abs()
        moving = [row for row in rows if now.flow[row].abs().mean() > 0.5]
        assert len(moving) >= 6
        for row in moving:
            # Interpolated twice, and at the border of what is in front something comes into view.
            assert gap[row][known[row]].mean() < 0.6 * still[row][known[row]].mean(), row
    assert any(now.flow[row].std() > 1 for row in rows), "what is in front moves in its own way"


def test_films_repeat_and_some_cameras_stand_still(shown: NDArray[np.uint8]) -> None:
    one, other = (Films(shown, 16, SIDE) for _ in range(2))
    for films in (one, other):
        for row in range(16):
            films.begin(row, np.random.default_rng(row))
    a, b = frames(one, 2)[1], frames(other, 2)[1]
    assert torch.equal(a.pictures, b.pictures)
    assert torch.equal(a.flow, b.flow)
    stands = (one._steps == np.eye(3)).all((2, 3))
    assert 0 < int(stands.sum()) < 16


def test_an_estimate_is_near_the_flow_and_not_the_flow() -> None:
    flow = torch.full((64, 2, 48, 48), 3.0)
    seen = estimated(flow, np.random.default_rng(1), torch.Generator().manual_seed(1))
    off = (seen - flow).abs().mean((1, 2, 3))
    assert 0.01 < float(off.median()) < 0.3
    assert 2 <= int((off > 0.3).sum()) <= 20, "in some it is quite wrong somewhere"


def lessons(shown: NDArray[np.uint8]) -> hold.Lessons:
    torch.manual_seed(0)
    tokenizer = text.tokenizer()
    vae, net = nets.load(AutoencoderTiny, WEIGHTS, "vae"), nets.unet(nets.TINY).eval()
    return hold.Lessons(shown, vae, net, nets.encoder(nets.TINY, tokenizer).eval(), tokenizer, seed=4)


def test_a_new_film_has_nothing_to_hold_and_then_holds_what_became_of_it(shown: NDArray[np.uint8]) -> None:
    course = lessons(shown)
    first = course.draw(0, 4, 8)
    assert not first.known.any()
    assert torch.allclose(first.answer, first.plain, atol=1e-5)
    reel = course._reels[8]
    assert torch.allclose(first.hint * 2 - 1, reel.source, atol=1e-6)
    course.take(torch.zeros_like(first.answer))
    reel.left[:] = 5
    second = course.draw(1, 4, 8)
    assert 0.3 < float(second.known.mean()) <= 1, "where the motion is believed"
    assert float((second.hint * 2 - 1 - reel.made).abs().mean()) < 0.1
    near, far = ((second.answer - second.plain).abs().mean(1)[at].mean() for at in
                 (second.known[:, 0] > 0.9, second.known[:, 0] < 0.1))  # fmt: skip
    assert near > 0.05
    assert bool(far.isnan()) or far < near


def test_films_end_and_somebody_turns_their_knobs(shown: NDArray[np.uint8]) -> None:
    course = lessons(shown)
    reel = course._reel(6, 8)
    rng, generator = np.random.default_rng(1), torch.Generator().manual_seed(1)
    begun, turned = 0, {"wish": 0, "strength": 0, "noise": 0}
    for _ in range(200):
        wishes, strength, noise = list(reel.wishes), reel.strength.clone(), reel.noise.clone()
        fresh = course._script(reel, rng, generator)
        begun += int(fresh.sum())
        for row in np.flatnonzero(~fresh.numpy()):
            turned["wish"] += wishes[row] is not reel.wishes[row]
            turned["strength"] += bool(strength[row] != reel.strength[row])
            turned["noise"] += not torch.equal(noise[row], reel.noise[row])
    assert 200 * 6 / hold.LONGEST < begun < 200 * 6 / 5
    assert all(3 < count < 100 for count in turned.values()), turned


def test_lessons_repeat(shown: NDArray[np.uint8]) -> None:
    one, again = (lessons(shown).draw(3, 3, 8) for _ in range(2))
    assert torch.equal(one.noised, again.noised)
    assert torch.equal(one.hint, again.hint)
    assert torch.equal(one.answer, again.answer)


def test_a_mean_of_two_pictures_is_lifted_to_the_detail_of_one() -> None:
    one, other = (0.2 * torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(i)) for i in range(2))
    mean = torch.lerp(one, other, 0.1)
    made = hold.sharpened(mean, one)
    assert float(mean.std()) < 0.93 * float(one.std())
    assert float(made.std()) == pytest.approx(float(one.std()), rel=0.04)
    assert torch.equal(hold.sharpened(one, mean), one), "nothing is softened"


def test_a_pair_is_one_picture_painted_twice_and_the_hint_is_one_of_them(shown: NDArray[np.uint8]) -> None:
    course = lessons(shown)
    pair, again = course.pair(5, 2, 8), course.pair(5, 2, 8)
    assert torch.equal(pair.answer, again.answer)
    assert not torch.equal(pair.plain, course.pair(6, 2, 8).plain)
    assert pair.known.eq(1).all()
    assert pair.shown is not None
    last = course._net.conv_out(course._net.conv_act(course._net.conv_norm_out(pair.shown)))
    assert torch.allclose(course._decode(last), pair.hint * 2 - 1, atol=1e-4), "the hint comes from that state"
    assert not torch.allclose(pair.shown, pair.before.last), "another noise, another picture"
    hinted, painted = course._decode(last), course._decode(pair.plain)
    apart, left = ((hinted - course._decode(x)).abs().mean() for x in (pair.plain, pair.answer))
    assert left < 0.95 * apart, painted.shape


def test_training_begins_with_a_straight_way_into_the_last_hidden_state(shown: NDArray[np.uint8]) -> None:
    course = lessons(shown)
    torch.manual_seed(3)
    unet, net = course._net, nets.control(course._net, words=True)
    finest.begin(net, unet, 7.0)
    gate, shortcut = net.controlnet_down_blocks[0].weight[:, :, 0, 0], finest._shortcut(unet)[:, :, 0, 0]
    straight = (shortcut @ gate / 7.0).detach()
    strong = torch.linalg.svdvals(shortcut)
    kept = int((strong > finest.STEEP * strong.max()).sum())
    assert float(straight.trace()) == pytest.approx(kept, abs=0.5)
    assert torch.allclose(straight @ straight, straight, atol=0.1), "a projection, on what the shortcut passes"
    take = course.pair(1, 2, 8)
    made, last = finest.helped(unet, net, take)
    before = finest.reading_loss(net, unet, take), finest.state_loss(last, unet, take)
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(30):
        optimiser.zero_grad()
        finest.reading_loss(net, unet, take).backward()
        optimiser.step()
    assert finest.reading_loss(net, unet, take) < 0.7 * before[0]
    assert made.shape == take.answer.shape


def test_help_through_the_last_block_alone_is_the_help_of_the_whole_network(shown: NDArray[np.uint8]) -> None:
    """What the trainer computes is what the frame will."""
    course = lessons(shown)
    torch.manual_seed(3)
    net, unet = nets.control(course._net, words=True), course._net
    for gate in (*net.controlnet_down_blocks, net.controlnet_mid_block, net.controlnet_cond_embedding.conv_out):
        torch.nn.init.normal_(gate.weight, std=0.2)
    finest.close(net)
    learning = finest.parts(net)
    take = course.draw(0, 2, 8)
    take.known = torch.ones_like(take.known)
    with torch.no_grad():
        short, _ = finest.helped(unet, net, take)
        down, middle = net(take.noised, take.t, take.context, take.hint, return_dict=False)
        whole = unet(take.noised, take.t, take.context, down_block_additional_residuals=down,
                     mid_block_additional_residual=middle).sample  # fmt: skip
    assert float((whole - take.plain).abs().mean()) > 0.01
    assert torch.allclose(short, whole, atol=1e-4)
    learned = {id(weight) for part in learning.values() for weight in part.parameters()}
    assert len(learned) < len(list(net.parameters()))
