"""What a card computes for a frame, operation by operation, where no number exists: all of it on one device, and
nothing that a graph can't hold. Torch's meta device takes the card's way where a processor has its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from engines.emulated_rules import NoHost, refuse
from engines.random_nets import random_control, random_nets
from pipelines.img2img import step
from pipelines.knobs import Knobs
from pipelines.params import Params
from pipelines.state import StreamState

META = torch.device("meta")
CARDS = torch._C.DispatchKeySet(torch._C.DispatchKey.Meta)
SIZE = 64, 64
UNITS = {f"control{n}_on": True for n in (1, 2, 3)} | {f"control{n}_model": name for n, name in enumerate("abc", 1)}
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "everything": {
        **UNITS, "control1_preprocessor": "canny", "control2_preprocessor": "tile", "control3_preprocessor": "softedge",
        "control2_source": "previous_output", "feedback": 0.4, "smoothing": 0.3, "noise_mode": "warp",
        "colour_match": "lab", "colour_amount": 0.5, "guidance_mode": "full", "steps": 2, "sampler": "lcm", "mix": 0.7,
    },
    "from noise": {"mode": "txt2img", "guidance_mode": "onetime", "steps": 3, "sampler": "tcd", "eta": 0.3},
    "a part": {
        "refresh_threshold": 4.0, "guidance_mode": "onetime", "steps": 2, "sampler": "lcm", "noise_mode": "travel",
    },
    "in latents": {"feedback": 0.4, "feedback_space": "latent", "noise_mode": "travel", "guidance_mode": "self"},
}  # fmt: skip


class OneDevice(TorchDispatchMode):
    """Fails where an operation is given another device's tensor, or is one that a graph can't hold."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.count += 1
        assert not refuse(func, args, kwargs), (func, refuse(func, args, kwargs))
        given = torch.utils._pytree.tree_leaves((args, kwargs))
        devices = {str(each.device) for each in given if isinstance(each, torch.Tensor)}
        assert devices <= {"meta"}, (func, devices)
        assert torch.device(kwargs.get("device") or META) == META, (func, kwargs)
        if func.namespace == "livelatent":
            with self:  # what it is made of, elsewhere than on a processor
                return func.redispatch(CARDS, *args, **kwargs)
        return func(*args, **kwargs)


@pytest.fixture(scope="module")
def nets():
    made = random_nets("tiny", SIZE, META, torch.float16)
    cond = [torch.empty(spec.shape, device=META, dtype=spec.dtype) for spec in made.text.spec.outputs]
    made.unet(torch.empty(1, *made.latent, device=META), torch.empty((), device=META), cond)  # imports what it needs
    return replace(made, controlnets={name: random_control(made, seed) for seed, name in enumerate("abc")})


@pytest.mark.parametrize("case", CASES)
def test_a_frame_stays_on_the_card(case, nets):
    params = Params(**CASES[case])
    for shape in ((80, 100, 3), (64, 64, 4)):
        knobs, state = Knobs(nets, SIZE, "turbo", 1.0), StreamState(*SIZE, META, nets.latent)
        knobs.turn(params, shape)
        if case == "a part":
            knobs.mode = knobs.mode._replace(window=(32, 64))
        state.surroundings.make(nets, knobs.mode)
        state.follow(knobs.mode, knobs)
        knobs.foreknown.make(knobs, nets)
        frame = torch.empty(shape, dtype=torch.uint8, device=META)
        mode = OneDevice()
        with NoHost(), mode:
            painted = step(frame, knobs, state, nets)
            for part in knobs.foreknown.parts(knobs, nets):
                knobs.foreknown.compute(part, knobs, nets)
            state.numbers()
        assert (tuple(painted.shape), painted.dtype, painted.device) == ((*SIZE, 3), torch.uint8, META)
        assert mode.count > 150


def test_a_number_that_was_made_on_the_host_is_found(nets):
    x, host = torch.empty(3, device=META), torch.zeros(3)
    with OneDevice():
        x + 1.0
        with pytest.raises(AssertionError, match="cpu"):
            x.copy_(host)
        with pytest.raises(AssertionError, match="back to the host"):
            x.sum().item()
