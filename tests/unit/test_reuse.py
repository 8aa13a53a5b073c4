"""Deep features kept: what the outermost level paints alone, when it may, and when everything is computed at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from bridge.sources.scene import draw
from engines.base import Build
from engines.eager import EagerEngine
from engines.given import Deep
from engines.outer import outer_of
from pipelines.coherence.cut import difference, host_difference, host_thumbnail, thumbnail
from pipelines.params import Params
from pipelines.reuse import Reuse
from pipelines.stream import DiffusionStream
from tests.support.controlnets import register, write_controlnet

SIDE = 64
BUILD = Build(SIDE, SIDE, device="cpu", dtype="fp32")
UNIT = {"control1_on": True, "control1_model": "a", "control1_preprocessor": "none"}


def frame(at: float) -> np.ndarray:
    return draw(at, SIDE, SIDE, 1)


OTHER = np.ascontiguousarray(255 - frame(3.0)[::-1])
"""Another scene."""


@pytest.fixture
def make(shared_nets, model_folder, tmp_path) -> Iterator[Callable[..., DiffusionStream]]:
    made: list[DiffusionStream] = []

    def new(kind: str = "sd15") -> DiffusionStream:
        register({"a": write_controlnet(tmp_path / kind, model_folder(kind), 1)})
        made.append(DiffusionStream(shared_nets(kind), (SIDE, SIDE), Params()))
        return made[-1]

    yield new
    for stream in made:
        stream.close()


# The networks


@pytest.mark.parametrize("kind", ["sd15", "sd21", "sdxl", "lcm"])
def test_the_outermost_level_says_what_the_whole_network_would_with_old_levels_below(kind, model_folder, tmp_path):
    nets, rng = EagerEngine().load(model_folder(kind), BUILD), torch.Generator().manual_seed(2)
    control = nets.load_control(write_controlnet(tmp_path / "a", model_folder(kind), 1))
    noise = [torch.randn(2, *nets.latent, generator=rng) for _ in range(2)]
    hint, t = control.embed(torch.rand(1, 3, SIDE, SIDE, generator=rng)), torch.tensor(500.0)
    cond = [part.expand(2, *part.shape[1:]) for part in nets.text("ink").cond]
    guidance = torch.tensor(3.0) if nets.takes_guidance else None
    kept = torch.zeros(2, *nets.outer.state)
    with torch.inference_mode():
        whole = [control(x, t, cond, hint) for x in noise]
        part = control(noise[1], t, cond, hint, outer=True)
        assert len(part) == nets.outer.residuals
        assert all(map(torch.equal, part, whole[1]))
        plain = nets.unet(noise[0], t, cond, guidance, whole[0])
        assert torch.equal(nets.unet(noise[0], t, cond, guidance, whole[0], deep=Deep(kept, True)), plain)
        old = kept.clone()
        found = nets.unet(noise[1], t, cond, guidance, part, deep=Deep(kept, False))
        fresh = nets.unet(noise[1], t, cond, guidance, whole[1])
        with nets.unet.net.up_blocks[-2].register_forward_hook(lambda *_: old):
            wanted = nets.unet(noise[1], t, cond, guidance, whole[1])
        bare = nets.unet(noise[1], t, cond, guidance, deep=Deep(kept, False))
    assert torch.equal(kept, old)
    assert (found - wanted).abs().max() < 1e-4
    assert (found - fresh).abs().max() > 1e-3
    assert (found - bare).abs().max() > 1e-3


@pytest.mark.parametrize(
    "config",
    [
        {"down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"], "block_out_channels": [8]},
        {
            "down_block_types": ["SkipDownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "UpBlock2D"],
            "block_out_channels": [8, 8],
        },
        {},
    ],
)  # fmt: skip
def test_a_network_that_is_built_otherwise_has_no_such_level(config):
    assert outer_of(config, (4, 8, 8)) is None


# The plan


def plan(reuse: Reuse, frames: list[np.ndarray], *what: object, **values) -> str:
    params = Params(**{"reuse_deep": 2, **values})
    return "".join({"off": "-", "fresh": "F", "kept": "k"}[reuse(pixels, params, *what)] for pixels in frames)


def test_so_many_frames_are_kept_after_each_full_one():
    assert plan(Reuse(), [frame(0.0)] * 7) == "FkkFkkF"
    assert plan(Reuse(), [frame(0.0)] * 3, reuse_deep=0) == "---"
    assert plan(Reuse(), [frame(n / 30) for n in range(6)], reuse_deep=30) == "Fkkkkk"


def test_another_scene_is_computed_in_its_first_frame():
    assert plan(Reuse(), [frame(0.0), frame(0.0), OTHER, OTHER, frame(0.0)]) == "FkFkF"
    assert plan(Reuse(), [frame(0.0), OTHER, OTHER], cut_sensitivity=0.0) == "Fkk"
    assert plan(Reuse(), [frame(0.0), OTHER, OTHER], mode="txt2img") == "Fkk"
    flash = np.zeros_like(OTHER)
    assert plan(Reuse(), [frame(0.0), flash, frame(0.0)]) == "FFF"


def test_a_jump_is_computed_at_once_and_a_glide_is_not():
    reuse = Reuse()
    strengths = (0.5, 0.52, 0.54, 0.9, 0.9, 0.8)
    assert "".join(plan(reuse, [frame(0.0)], strength=each, reuse_deep=9) for each in strengths) == "FkkFkF"
    assert plan(reuse, [frame(0.0)] * 2, strength=0.8, control2_weight=1.9, reuse_deep=9) == "Fk"


def test_what_else_it_was_told_counts_and_it_can_be_forgotten():
    reuse = Reuse()
    assert [plan(reuse, [frame(0.0)], what) for what in (1, 1, 2, 2)] == ["F", "k", "F", "k"]
    reuse.forget()
    assert plan(reuse, [frame(0.0)], 2) == "F"
    assert reuse.taken == 2
    assert [plan(reuse, [frame(0.0)], 2, reuse_deep=n) for n in (2, 0, 2)] == ["k", "-", "F"]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_host_sees_the_differences_that_the_device_sees(channels):
    for a, b in ((0.0, 1.0), (0.0, 9.0), (2.0, 2.1)):
        pair = [draw(at, 256, 256, 1) for at in (a, b)]
        if channels == 1:
            pair = [np.repeat(p[..., :1], 3, axis=2) for p in pair]
        device = [torch.from_numpy(p).permute(2, 0, 1)[None].float() / 127.5 - 1.0 for p in pair]
        alpha = np.full((256, 256, 1), 7, np.uint8)
        given = [p[..., :1] if channels == 1 else np.concatenate([p, alpha], 2)[..., :channels] for p in pair]
        wanted = float(difference(*map(thumbnail, device)))
        assert host_difference(*map(host_thumbnail, given)) == pytest.approx(wanted, rel=0.15, abs=0.05)


# In a stream


def modes(stream: DiffusionStream, frames: list[np.ndarray], **values) -> str:
    found = ""
    for pixels in frames:
        stream(pixels, Params(**{"reuse_deep": 3, **values}))
        found += {"off": "-", "fresh": "F", "kept": "k"}[stream.knobs.mode.deep]
    return found


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_a_full_frame_is_bit_equal_to_one_without_and_a_kept_one_follows_the_picture(kind, make):
    stream, values = make(kind), {"steps": 2, "sampler": "lcm", "guidance_mode": "onetime", "guidance": 2.0, **UNIT}
    stream.tune(Params(**values))
    frames = [frame(n / 8) for n in range(4)]
    plain = [stream(pixels, Params(**values)).copy() for pixels in frames]
    first = stream(frames[0], Params(**values, reuse_deep=3)).copy()
    again = stream(frames[0], Params(**values, reuse_deep=3)).copy()
    later = [stream(pixels, Params(**values, reuse_deep=3)).copy() for pixels in frames[2:]]
    assert np.array_equal(first, plain[0])
    assert np.abs(again.astype(int) - first).max() <= 1
    assert not np.array_equal(later[0], plain[2])
    assert not np.array_equal(later[0], later[1])
    for pixels, picture in zip(frames, plain, strict=True):
        assert np.array_equal(stream(pixels, Params(**values)), picture)


def test_everything_that_is_new_is_computed_at_once(make):
    stream, still = make(), [frame(0.0)]
    assert modes(stream, still * 6) == "FkkkFk"
    assert modes(stream, [OTHER] * 2) == "Fk"
    assert modes(stream, [OTHER] * 2, seed=5) == "Fk"
    assert modes(stream, [OTHER] * 2, steps=2) == "Fk"
    assert modes(stream, [OTHER] * 2, guidance_mode="full") == "Fk"
    assert modes(stream, [OTHER[:, :40]] * 2) == "Fk"
    stream.tune(Params(prompt="ink"))
    assert modes(stream, [OTHER[:, :40]] * 2, prompt="ink") == "Fk"
    assert modes(stream, [OTHER[:, :40]] * 2, prompt="ink", take=1) == "Fk"
    stream.tune(Params(prompt="ink", **UNIT))
    assert modes(stream, [OTHER[:, :40]] * 2, prompt="ink", take=1, **UNIT) == "Fk"
    stream.reset()
    assert modes(stream, still * 2, prompt="ink", take=1, bypass=True) == "--"
    assert modes(stream, still, prompt="ink", take=1) == "F"


def test_a_picture_that_is_not_finite_is_not_kept(make):
    stream = make()
    good = stream(frame(0.0), Params(reuse_deep=9)).copy()
    stream.state.deep.kept[next(iter(stream.state.deep.kept))].fill_(float("nan"))
    assert np.array_equal(stream(frame(0.1), Params(reuse_deep=9)), good), "held"
    assert modes(stream, [frame(0.2)], reuse_deep=9) == "F"
    assert stream.notes()["guard.held"] == 1
    assert np.array_equal(stream(frame(0.2), Params()), stream(frame(0.2), Params(reuse_deep=0)))


def test_frames_that_rest_keep_nothing_longer(make):
    stream = make()
    still = {"similarity_threshold": 8.0, "similarity_max_skip": 100}
    assert modes(stream, [frame(0.0)] * 3, **still) == "FFF", "one full frame, shown three times"
    assert stream.thrift.reuse.taken == 0


def test_an_engine_that_can_not_says_so_and_paints(make):
    stream = make()
    plain = stream(frame(0.0), Params()).copy()
    stream.nets = dataclasses.replace(stream.nets, outer=None)
    assert modes(stream, [frame(0.0)] * 3) == "---"
    assert "computes every level" in str(stream.notes()["engine"])
    assert np.array_equal(stream(frame(0.0), Params()), plain)
    assert "computes every level" not in str(stream.notes()["engine"])
