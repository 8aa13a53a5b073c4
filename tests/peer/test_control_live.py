"""Every live row of the table moved 200 times a second while frames are painted.

Each picture is that of one version, to the bit; nothing is loaded, encoded or built anew for it; and no frame takes
longer than the same frame where nobody moves anything, by more than two of its times.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from bridge.store import ParamStore
from engines import modelfile
from engines.base import Build, HintNet
from engines.eager import EagerEngine
from pipelines.params import Params, ParamSpec, pack, table, unpack
from pipelines.spec import Moment, StreamSpec, structural
from pipelines.stream import DiffusionStream
from tests.support import loras
from tests.support.controlnets import register, write_controlnet
from tests.support.hammer import Hammer
from tests.support.hintnets import lively_hed
from tests.unit.conftest import write_model

SIDE = 64
SECONDS = 1
MAX_GAP = 2.0
"""A frame may be late by so many of its own times."""
ENOUGH = 12
"""Frames at least in which units act, and LoRAs: how many of all do is the dice's and the clock's."""
LEAST = 40
"""Frames at least, which a busy machine paints in more than `SECONDS`; in half a minute they are hundreds."""
PROMPT = "neon:`1.5+cos(t/20)` | ink:`strength` | [gold|neon ink]:0.5"
IDS = {"controlnets": ("none", "a", "b"), "loras": ("none", "ink", "mist")}
HELD = frozenset({"pause", "control1_source", "control2_source", "control3_source", "control4_source"})
"""Moved as well, but not to values that make a picture depend on when it was painted: pausing, stills, own streams."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    import torch

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("live")
    write_model(root / "model", "sd15", tiny=True, prediction="epsilon")
    for seed, name in enumerate(IDS["loras"][1:]):  # on the denoiser alone: words would have to be encoded anew
        made = {place: factors for place, factors in loras.make(root / "model", seed).items() if place[0] == "unet"}
        loras.write(root / f"{name}.safetensors", loras.kohya(made))
    return root / "model", {name: write_controlnet(root / name, root / "model", n) for n, name in enumerate("ab")}


def draw(dice: random.Random, spec: ParamSpec) -> object:
    if spec.name in HELD:
        return False if spec.name == "pause" else dice.choice(("input", "previous_output", "previous_input"))
    if spec.ids:
        return dice.choice(IDS[spec.ids][1:])
    if spec.choices:
        return dice.choice(spec.choices)
    if spec.type is bool:
        return dice.random() < (0.9 if spec.name.endswith("_on") else 0.1)
    assert spec.low is not None
    assert spec.high is not None
    if spec.name.endswith("_every"):
        return dice.randint(1, 4)
    if spec.name == "steps":
        return dice.randint(1, 3)
    if spec.type is int:
        return dice.randrange(int(spec.low) // spec.step, int(spec.high) // spec.step) * spec.step or spec.step
    if spec.name.endswith(("_start", "_end")):  # mostly a window with something in it
        return dice.uniform(0.0, 0.3) if spec.name.endswith("_start") else dice.uniform(0.6, 1.0)
    return dice.uniform(spec.low, spec.high)


class Seen(NamedTuple):
    """One frame: what it was made of, what came of it, and the processor's time for it in seconds."""

    blob: bytes
    number: int
    moment: Moment
    picture: np.ndarray
    cost: float


def open_stream(folder: Path, now: float) -> DiffusionStream:
    """A stream that has all that it will ever need: networks loaded, every text of the prompt encoded and, since `now`
    is long ago, faded in."""
    nets = EagerEngine().load(folder, Build(SIDE, SIDE, device="cpu", dtype="fp32"))
    stream = DiffusionStream(nets, (SIDE, SIDE), Params(prompt=PROMPT))
    everything = Params(prompt=PROMPT, control1_model="a", control2_model="b", lora1_id="ink", lora2_id="mist")
    stream.tune(everything, Moment(now, 0))
    stream.tune(everything, Moment(now + 1.0, 0))
    stream(np.zeros((SIDE, SIDE, 3), np.uint8), everything, Moment(now, 0))
    stream.nets.hintnets.update((kind, hint_net(seed)) for seed, kind in enumerate(("depth", "hed", "pidinet")))
    stream.reset()
    return stream


def hint_net(seed: int) -> HintNet:
    import torch

    from engines.edgenets import Hed
    from engines.hintnets import EdgeNet

    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return EdgeNet(Hed.of(lively_hed(torch.rand(1, 3, SIDE, SIDE))), torch.float32)


def keep_loaded(stream: DiffusionStream) -> None:
    """Loading is the one thing that a picture may depend on and no version names: here both are always there."""
    stream.unitnets.follow = lambda units, ahead: None  # type: ignore[method-assign]
    stream.loras.ask = lambda ids: None  # type: ignore[method-assign]


def places(stream: DiffusionStream) -> list[int]:
    """Where the numbers lie that a captured graph would read."""
    knobs, adapters = stream.knobs, stream.nets.loras
    assert adapters is not None
    weights = adapters.unet.layers.values()  # type: ignore[attr-defined]  # the eager engine's have it
    return [tensor.data_ptr() for tensor in (*knobs.both, knobs.guidance, *knobs.noise, *weights)]


def encodings(stream: DiffusionStream) -> list[str]:
    """The texts that are encoded from now on."""
    encode, asked = stream.prompter._encode, []

    class Counting:
        spec = encode.spec

        def __call__(self, prompt: str) -> object:
            asked.append(prompt)
            return encode(prompt)

    stream.prompter._encode = Counting()  # type: ignore[assignment]
    return asked


def paint(stream: DiffusionStream, frames: np.ndarray, blob: bytes, number: int, moment: Moment) -> Seen:
    began = time.thread_time()
    picture = stream(frames[number], unpack(blob), moment).copy()
    return Seen(blob, number, moment, picture, time.thread_time() - began)


def hammered(folders: tuple[Path, dict[str, Path]], seconds: float) -> None:
    model, nets = folders
    register(nets)
    with modelfile.user_file().open("a") as file:
        file.write(
            "".join(f'[loras.{name}]\npath = "{model.parent}/{name}.safetensors"\n' for name in IDS["loras"][1:])
        )
    first = Params(prompt=PROMPT, control1_on=True, control1_model="a", control2_on=True, control2_model="b")
    ids = {"models": lambda: ("pocket",), "ipadapters": lambda: ("none",)}
    store = ParamStore(first, ids | {kind: lambda kind=kind: IDS[kind] for kind in IDS})
    rows = [row for row in table().values() if row.kind == "live" or row.ids in IDS]
    frames = np.random.default_rng(2).integers(0, 256, (6, 48, 80, 4), np.uint8)
    long_ago = time.perf_counter() - 3600.0
    live, again = open_stream(model, long_ago), open_stream(model, long_ago)
    try:
        keep_loaded(live)
        keep_loaded(again)
        asked, before, seen = encodings(live), places(live), list[Seen]()
        with Hammer(store, rows, draw) as hammer:
            end, steered, merged = time.perf_counter() + seconds, 0, 0
            while (
                time.perf_counter() < end or min(steered, merged) < ENOUGH or len(seen) < LEAST or not hammer.all_moved
            ):
                blob, number = pack(store.snapshot()), len(seen) % len(frames)
                seen.append(paint(live, frames, blob, number, Moment(time.perf_counter(), len(seen))))
                steered += bool(live.knobs.mode.units)
                merged += bool(live.loras._acting)
        assert not asked, "nothing is encoded for a live row"
        assert places(live) == before, "a graph would have to be captured anew"
        check(seen, again, frames)
    finally:
        live.close()
        again.close()


def check(seen: list[Seen], again: DiffusionStream, frames: np.ndarray) -> None:
    versions = [unpack(one.blob).version for one in seen]
    assert versions == sorted(versions)
    assert len(set(versions)) > 10
    specs = [structural(StreamSpec(), unpack(one.blob)) for one in seen]
    assert all(spec == specs[0] for spec in specs), "something is to be built"
    steps, costs = set(), list[tuple[float, float]]()
    for one in seen:
        params = unpack(one.blob)
        quiet = paint(again, frames, one.blob, one.number, one.moment)
        assert np.array_equal(quiet.picture, one.picture), params
        costs.append((one.cost, quiet.cost))
        steps.add(again.prompter.notes()["prompt.step"])
    assert len(steps) > 3, "the prompt moved too"
    busy, quiet_cost = np.median(costs, axis=0)
    assert busy <= (1 + MAX_GAP) * quiet_cost + 0.002, "a change costs the frame's thread next to nothing"


@pytest.mark.timeout(900)
def test_no_picture_mixes_two_versions(
    folders: tuple[Path, dict[str, Path]], amount: Callable[[int, int], int]
) -> None:
    hammered(folders, amount(30, SECONDS))
