"""Windows: a part of the picture is painted as the whole picture has it there, and nothing else of it changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from bridge.sources.scene import draw
from engines.base import Build
from engines.compiled import CompiledEngine
from engines.emulated import EmulatedMachine
from engines.fit import Box
from engines.given import Around
from pipelines.coherence import place, refresh
from pipelines.coherence.blocks import Fitted, HostBlocks
from pipelines.coherence.refresh import BLOCK, MARGIN, Refresh
from pipelines.control import controlled
from pipelines.guidance import guided
from pipelines.params import Params
from pipelines.prepare import prepare
from pipelines.sampling import SAMPLERS, noised
from pipelines.stream import DiffusionStream
from pipelines.windows import MANY, sizes, within
from tests.support.controlnets import register, write_controlnet

SIDE, CPU = 192, torch.device("cpu")
SIZE = SIDE, SIDE
SCENE = draw(3.0, SIDE, SIDE, 1)
ON = {"refresh_threshold": 6.0}
UNIT = {"control1_on": True, "control1_model": "a", "control1_preprocessor": "canny", "control1_weight": 1.5}


def rand(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def frame(*blocks: tuple[int, int], level: int = 0) -> np.ndarray:
    """The scene, with something in these blocks (row, column)."""
    out = SCENE.copy()
    for row, column in blocks:
        out[row * BLOCK : (row + 1) * BLOCK, column * BLOCK : (column + 1) * BLOCK] = level
    return out


def flicker(n: int, row: int = 5, column: int = 5) -> np.ndarray:
    return frame((row, column), level=255 * (n % 2))


def feathered(box: Box) -> tuple[slice, slice]:
    half = BLOCK // 2
    return slice(max(0, box.y - half), box.y + box.height + half), slice(max(0, box.x - half), box.x + box.width + half)


# The denoiser


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_a_denoiser_gives_away_what_it_found_and_takes_it_back(kind, shared_nets):
    nets = shared_nets(kind)
    x, t = rand(2, *nets.latent), torch.tensor(500.0)
    cond = [part.expand(2, *part.shape[1:]) for part in nets.text("ink").cond]
    kept = torch.zeros(2, nets.window.numbers)
    with torch.inference_mode():
        plain = nets.unet(x, t, cond)
        assert torch.equal(nets.unet(x, t, cond, around=Around(kept, True)), plain)
        assert (nets.unet(x, t, cond, around=Around(kept, False)) - plain).abs().max() < 1e-4
        other = nets.unet(x, t, cond, around=Around(kept.flip(0), False))
        assert torch.equal(nets.unet(x, t, cond), plain), "nothing of it is left behind"
    assert (other - plain).abs().max() > 1e-2


def test_an_autoencoder_that_looks_across_the_picture_has_no_windows(shared_nets):
    assert shared_nets("sd15", tiny=False).window is None


# What a card computes, and what a processor does


@pytest.mark.parametrize("corner", [(0, 0), (32, 64), (96, 128)])
def test_a_part_is_taken_out_and_put_back_alike_everywhere(corner):
    at, whole = torch.tensor(corner, dtype=torch.float32), rand(1, 3, *SIZE)
    made = [cut(whole, at, 96, 64) for cut in (place._cut_everywhere, place._cut_on_processor)]
    assert torch.equal(*made)
    y, x = corner
    assert torch.equal(made[0], whole[:, :, y : y + 96, x : x + 64])
    put = [whole.clone(), whole.clone()]
    place._put_everywhere(put[0], -made[0], at)
    place._put_on_processor(put[1], -made[0], at)
    assert torch.equal(*put)
    assert torch.equal(put[0][:, :, y : y + 96, x : x + 64], -made[0])


@pytest.mark.parametrize("good", [True, False])
@pytest.mark.parametrize("corner", [(0, 0), (32, 64), (96, 96)])
def test_a_part_is_renewed_alike_everywhere_and_only_within_its_margin(corner, good):
    source, image = rand(1, 3, *SIZE), rand(1, 3, 96, 96, seed=2)
    y, x = corner
    states = [Refresh(SIZE, CPU) for _ in range(2)]
    at, numbers = torch.tensor(corner, dtype=torch.float32), (torch.tensor(8.0), torch.tensor(40.0))
    for each, renew in zip(states, (refresh._renew_everywhere, refresh._renew_on_processor), strict=True):
        each(rand(1, 3, *SIZE, seed=3), source, torch.tensor(True), *numbers)
        each.age[0, 0, 8:, 8:] = 50.0
        moved = source[:, :, y : y + 96, x : x + 96].clone()
        moved[:, :, 40:56, 40:56] += 1.0
        moved[:, :, 80:, 40:56] += 1.0
        renew(image, moved, torch.tensor(good), at, *numbers, each._part, each.shown, each.seen, each.moving, each.age)
    for name in ("shown", "seen", "moving", "age"):
        assert torch.equal(*(getattr(each, name) for each in states)), name
    same = (states[0].shown == rand(1, 3, *SIZE, seed=3)).all(1)[0]
    assert bool(same.all()) == (not good)
    shown = within(Box(y, x, 96, 96), SIZE)
    same[feathered(shown)] = True
    assert same.all(), "nothing in the margin but the feather, and nothing outside"
    if good:
        assert torch.equal(states[0].shown[:, :, y + 40 : y + 56, x + 40 : x + 56], image[:, :, 40:56, 40:56])


# The host's eyes


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("fit", ["crop", "letterbox", "stretch"])
def test_the_host_sees_all_blocks_that_refresh_sees(channels, fit):
    fitted, rng = Fitted(SIZE, fit), np.random.default_rng(3)
    shape = (240, 320, channels)
    first = rng.integers(0, 250, shape, np.uint8)
    second = first.copy()
    second[100:140, 90:150, :3] ^= 60
    if channels == 4:
        second[:40, :40, 3] ^= 255
    blocks = HostBlocks()
    assert blocks(first, fitted, 8.0) is None
    blocks.take()
    assert not blocks(first, fitted, 8.0).any()
    found = blocks(second, fitted, 8.0)
    a, b = (prepare(torch.from_numpy(each), SIZE, fit) for each in (first, second))
    _, wanted = refresh._moved(b, a, torch.zeros(1, 1, 12, 12, dtype=torch.bool), torch.tensor(8.0))
    wanted = wanted[0, 0].numpy()
    assert wanted.any()
    assert found[wanted].all()
    assert found.sum() <= wanted.sum() + 14
    blocks.take(Box(0, 0, 0, 0))
    assert np.array_equal(blocks(second, fitted, 8.0), found)
    blocks.take(Box(0, 0, *SIZE))
    assert not blocks(second, fitted, 8.0).any()


def test_sizes_fit_the_networks_and_the_smallest_comes_first():
    few = list(sizes((512, 512), 64))
    assert few[:4] == [(320, 192), (192, 320), (256, 256), (384, 256)]
    assert few == sorted(few, key=np.prod)
    assert list(sizes((512, 768), 64))[2:4] == [(256, 384), (384, 384)]
    many = list(sizes(SIZE, 16, MANY))
    assert len(many) == len(set(many)) == len(MANY)
    assert all(h % 16 == 0 and w % 16 == 0 and (h, w) != SIZE for h, w in many)
    assert many[0] == (48, 48)
    assert list(sizes((64, 64), 64)) == []


# In a stream


@pytest.fixture
def make(shared_nets, model_folder, tmp_path) -> Iterator[Callable[..., DiffusionStream]]:
    made: list[DiffusionStream] = []
    register({"a": write_controlnet(tmp_path / "a", model_folder("sd15"), 1)})

    def new(kind: str = "sd15", engine: CompiledEngine | None = None) -> DiffusionStream:
        build = Build(*SIZE, device="cpu", dtype="fp32")
        nets = engine.load(model_folder(kind), build) if engine else shared_nets(kind, SIZE)
        made.append(DiffusionStream(nets, SIZE, Params(), clock=lambda: 0.0))
        return made[-1]

    yield new
    for stream in made:
        stream.close()


def modes(stream: DiffusionStream, frames: list[np.ndarray], **values) -> str:
    """`-` a whole picture, W one that leaves behind what its parts need, p a part."""
    found = ""
    for pixels in frames:
        stream(pixels, Params(**{**ON, **values}))
        mode = stream.knobs.mode
        found += "-" if mode.window is None else "p" if mode.partial else "W"
    return found


def area(stream: DiffusionStream) -> tuple[slice, slice]:
    """Of the last window, what may be seen of it, the feather included."""
    return feathered(within(Box(*stream.thrift.windows.corner, *stream.knobs.mode.window), SIZE))


def test_a_part_is_painted_where_something_moves_and_the_rest_is_kept(make):
    stream = make()
    assert modes(stream, [flicker(n) for n in range(3)]) == "-Wp"
    for n in range(3, 6):
        before = stream.state.refresh.shown.clone()
        picture = stream(flicker(n), Params(**ON))
        shown = stream.state.refresh.shown
        assert stream.knobs.mode.partial
        changed = (shown != before).any(1)[0]
        assert changed[80:96, 80:96].float().mean() > 0.9
        changed[area(stream)] = False
        assert not changed.any()
        assert np.abs(picture.astype(int) - (shown[0].permute(1, 2, 0).numpy() * 127.5 + 127.5)).max() <= 0.51


def by_hand(stream: DiffusionStream, pixels: np.ndarray, alone: bool = False) -> Tensor:
    """What the networks make of the last window of `pixels` and of the noise there, in the middle block; `alone`: with
    the window's own statistics."""
    nets, knobs, (y, x) = stream.nets, stream.knobs, stream.thrift.windows.corner
    mode, (height, width) = knobs.mode, knobs.mode.window
    noise = [each[:, :, y // 8 : (y + height) // 8, x // 8 : (x + width) // 8] for each in knobs.noise]
    knobs.mode = mode._replace(window=None) if alone else mode
    with torch.inference_mode():
        part = torch.from_numpy(pixels[y : y + height, x : x + width]).permute(2, 0, 1)[None] / 127.5 - 1
        x0 = nets.encode(part)
        model = guided(controlled(nets, [], knobs, stream.state), x0, knobs)
        start = noised(x0, noise[0], knobs.start_alpha, knobs.start_sigma)
        found = nets.decode(SAMPLERS[mode.sampler](model, start, knobs.levels, noise))
    knobs.mode = mode
    return found[:, :, 80 - y : 96 - y, 80 - x : 96 - x].clamp(-1, 1)


@pytest.mark.parametrize("values", [{}, {"steps": 2, "sampler": "lcm", "guidance_mode": "full", "guidance": 2.0}])
def test_what_is_painted_is_the_window_of_input_and_noise_in_the_light_of_the_whole(values, make):
    stream = make()
    modes(stream, [flicker(n) for n in range(4)], **values)
    assert (stream.state.refresh.shown[:, :, 80:96, 80:96] - by_hand(stream, flicker(3))).abs().max() < 1e-4


def test_it_is_nearer_to_what_the_whole_picture_has_there_than_a_window_alone(make):
    stream, whole = make(), make()
    modes(stream, [flicker(n) for n in range(4)])
    whole(flicker(3), Params())
    wanted = whole.state.picture[:, :, 80:96, 80:96]
    near, alone = ((by_hand(stream, flicker(3), how) - wanted).abs().mean() for how in (False, True))
    assert near < 0.7 * alone


@pytest.mark.parametrize("more", [{}, {"steps": 2, "sampler": "lcm", "guidance_mode": "full", "guidance": 2.0}])
def test_control_units_steer_a_part_as_they_steer_the_whole(more, make):
    stream, whole, bare = make(), make(), make()
    values = {**UNIT, **more}
    for each in (stream, whole):
        each.tune(Params(**values))
    assert modes(stream, [flicker(n) for n in range(4)], **values) == "-Wpp"
    whole(flicker(3), Params(**values))
    modes(bare, [flicker(n) for n in range(4)], **more)
    there = slice(None), slice(None), slice(80, 96), slice(80, 96)
    wanted = whole.state.picture[there]
    near, far = ((each.state.refresh.shown[there] - wanted).abs().mean() for each in (stream, bare))
    assert near < 0.6 * far
    for kept in (each for key, each in stream.state.surroundings.kept.items() if key[0] == "a"):
        assert kept[0].abs().sum() > 0.0
        kept.mul_(3.0)
    modes(stream, [flicker(4), flicker(5)], **values)
    assert (stream.state.refresh.shown[there] - wanted).abs().mean() > near + 0.005, "its own statistics are used"


@pytest.mark.parametrize(
    "values",
    [
        {"control1_source": "previous_output"}, {"control1_source": "previous_input"}, {"control1_mask": "alpha"},
        {"control1_source": "previous_output", "control1_follow": False},
    ],
)  # fmt: skip
def test_units_that_look_back_or_act_in_places_are_shown_whole_pictures(values, make):
    stream = make()
    stream.tune(Params(**UNIT, **values))
    assert modes(stream, [np.dstack([flicker(n), flicker(0)[..., :1]]) for n in range(4)], **UNIT, **values) == "----"


def test_all_of_it_is_painted_where_too_much_moves_and_after_a_cut(make):
    stream = make()
    assert modes(stream, [flicker(n) for n in range(4)]) == "-Wpp"
    assert modes(stream, [frame((0, 0), (11, 11), level=9)]) == "-"
    assert modes(stream, [frame((0, 0), level=9)] * 2) == "Wp"
    other = np.ascontiguousarray(255 - SCENE[::-1])
    assert modes(stream, [other] * 3) == "-Wp"
    assert modes(stream, [other[:, :90]] * 3) == "-Wp"
    stream.reset()
    assert modes(stream, [other[:, :90]] * 3) == "-Wp"


def test_what_people_steer_is_painted_everywhere_at_once(make):
    stream, plain = make(), make()
    modes(stream, [flicker(n) for n in range(3)])
    for values in ({"strength": 0.9}, {"seed": 4}, {"mix": 0.5}, {"refresh_max_age": 60}, {"take": 1}):
        assert modes(stream, [flicker(3), flicker(4), flicker(5)], **values) == "-Wp", values
    values = {"strength": 0.9, "mix": 0.5}
    modes(stream, [flicker(5)], **values)
    assert np.array_equal(stream(flicker(5), Params(**ON, **values)), plain(flicker(5), Params(**values)))
    stream.tune(Params(prompt="ink", **ON))
    assert modes(stream, [flicker(6), flicker(7)], prompt="ink") == "-W"


def test_a_part_is_mixed_with_the_input_as_the_whole_is(make):
    stream = make()
    picture = [stream(flicker(n), Params(**ON, mix=0.25)).copy() for n in range(4)][-1]
    assert stream.knobs.mode.partial
    shown = stream.state.refresh.shown[0].permute(1, 2, 0).numpy() * 127.5 + 127.5
    assert np.abs(picture - (0.75 * flicker(3) + 0.25 * shown)).max() <= 0.51


def test_a_whole_picture_comes_now_and_then_and_none_is_older_than_the_longest(make):
    stream = make()
    found = modes(stream, [flicker(n) for n in range(20)], refresh_max_age=16)
    assert found == "-W" + "pppW" * 4 + "pp"
    assert modes(stream, [flicker(n) for n in range(4)], refresh_max_age=4) == "-WWW"
    stream, last = make(), np.zeros((12, 12))
    for n in range(60):
        modes(stream, [flicker(n, 2, 2)], refresh_max_age=16)
        last = np.where(stream.state.refresh.age[0, 0].numpy() == 0.0, n, last)
        assert n - last[6:, 6:].min() <= 16


@pytest.mark.parametrize(
    "values",
    [
        {"smoothing": 0.3}, {"feedback": 0.3}, {"feedback": 0.3, "feedback_space": "latent"}, {"noise_mode": "warp"},
        {"colour_match": "lab", "colour_amount": 0.5}, {"reuse_deep": 3}, {"ip_source": "previous_output"},
        {"mode": "txt2img"}, {"bypass": True}, {"refresh_threshold": 0.0},
    ],
)  # fmt: skip
def test_where_something_looks_across_the_picture_all_of_it_is_painted(values, make):
    assert modes(make(), [flicker(n) for n in range(4)], **values) == "----"


def test_noise_that_travels_is_that_of_the_place(make):
    stream = make()
    assert modes(stream, [flicker(n) for n in range(4)], noise_mode="travel", guidance_mode="self") == "-Wpp"
    before = stream.state.refresh.shown[..., 150:, 150:].clone()
    modes(stream, [flicker(n) for n in range(4)], noise_mode="travel", guidance_mode="self")
    assert torch.equal(stream.state.refresh.shown[..., 150:, 150:], before)


def test_a_part_that_is_not_finite_is_not_shown_and_all_is_painted_then(make):
    stream, plain = make(), make()
    modes(stream, [flicker(n) for n in range(3)])
    good = stream(flicker(3), Params(**ON)).copy()
    for kept in stream.state.surroundings.kept.values():
        kept.fill_(float("nan"))
    assert np.array_equal(stream(flicker(4), Params(**ON)), good)
    assert stream.notes()["guard.held"] == 1
    assert np.array_equal(stream(flicker(4), Params(**ON)), plain(flicker(4), Params()))
    assert modes(stream, [flicker(5), flicker(6)]) == "Wp"
    assert stream.notes()["guard.held"] == 1


@pytest.mark.parametrize("live", [False, True])
def test_a_show_waits_for_no_window_and_a_measurement_does(live, make, monkeypatch):
    stream, there = make(), []
    real = stream.nets.window.painters
    monkeypatch.setattr(stream.nets.window, "painters", lambda size: real(size) if there else None)
    monkeypatch.setattr(stream.nets.window, "settle", lambda: there.append(True))
    stream.warm_up(Params(**ON))
    assert not there
    if live:
        stream.go_live()
    assert modes(stream, [flicker(n) for n in range(4)]) == ("----" if live else "-Wpp")


def test_engines_that_paint_whole_pictures_alone_say_so(make, monkeypatch):
    stream = make()
    assert stream.notes()["coherence.painted"] == 1.0
    monkeypatch.setattr(stream.nets.window, "painters", lambda size: None)
    assert modes(stream, [flicker(n) for n in range(3)]) == "---", "not there yet"
    monkeypatch.undo()
    assert modes(stream, [flicker(n) for n in range(4)]) == "Wppp"
    assert "saves" not in str(stream.notes()["engine"])
    assert 0.5 < stream.notes()["coherence.painted"] < 1.0
    monkeypatch.setattr(stream.nets.window, "wrong", "no memory is left")
    assert modes(stream, [flicker(n) for n in range(30)]).endswith("pp")
    assert "saves less work than it could: no memory is left" in str(stream.notes()["engine"])
    assert 0.05 < stream.notes()["coherence.painted"] < 0.4
    object.__setattr__(stream.nets, "window", None)
    assert modes(stream, [flicker(n) for n in range(3)]) == "---"
    assert "saves no work" in str(stream.notes()["engine"])
    assert stream.notes()["coherence.painted"] == 1.0


@pytest.mark.parametrize("unit", [{}, UNIT])
def test_recorded_frames_paint_the_same_windows_and_none_is_recorded_for_its_place(unit, make, monkeypatch):
    machine = EmulatedMachine()
    eager, fast = make(), make(engine=CompiledEngine(machine))
    params = Params(**ON, **unit)
    for each in (eager, fast):
        each.tune(params)
    for name in ("FEW", "MANY"):
        monkeypatch.setattr(f"pipelines.windows.{name}", ((0.75, 0.75),))
    walk = [flicker(n, row, column) for n, (row, column) in enumerate([(5, 5), (6, 6)] * 4 + [(1, 1)] * 5)]
    kinds = ""
    for pixels in [*walk, SCENE[::-1].copy(), *walk]:
        assert np.array_equal(fast(pixels, params), eager(pixels, params))
        kinds += "p" if fast.knobs.mode.partial else "-"
    assert kinds.count("p") > 12
    assert fast.painter.failed == ""
    before, places = (fast.painter.records, machine.graphs, machine.made, machine.syncs), set()
    for n, (row, column) in enumerate([(1, 1), (1, 2), (2, 1), (2, 2)] * 2):
        assert np.array_equal(fast(flicker(n, row, column), params), eager(flicker(n, row, column), params))
        places.add(fast.thrift.windows.corner)
    for n in range(3):
        pixels = flicker(n, 9, 9)
        assert np.array_equal(fast(pixels, params), eager(pixels, params))
        places.add(fast.thrift.windows.corner)
    assert len(places) > 1
    assert (fast.painter.records, machine.graphs, machine.made, machine.syncs) == before


def test_the_margin_is_whole_blocks():
    assert MARGIN % BLOCK == 0


def test_a_show_paints_whole_pictures_until_its_windows_are_recorded(make):
    machine = EmulatedMachine()
    stream, seen = make(engine=CompiledEngine(machine)), ""
    stream.warm_up(Params(**ON))
    stream.go_live()
    for n in range(12):
        before = stream.state.refresh.shown.clone() if stream.state.refresh is not None else None
        stream(flicker(n), Params(**ON))
        shown, partial = stream.state.refresh.shown, stream.knobs.mode.partial
        seen += "p" if partial else "-"
        if n > 2:
            changed = (shown != before).any(1)[0]
            assert changed[80:96, 80:96].float().mean() > 0.9, "no frame is lost on the way"
            if partial:
                changed[area(stream)] = False
                assert not changed.any()
        stream.painter._rehearsal.settle()
    assert seen.startswith("--")
    assert seen.endswith("pppp")
    assert stream.painter.failed == ""
