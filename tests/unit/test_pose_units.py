"""A control unit whose network runs beside the stream: pose."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from engines.base import Build
from engines.eager import EagerEngine
from pipelines.params import Params
from pipelines.stream import DiffusionStream
from tests.support import hintnets
from tests.support.controlnets import register, write_controlnet
from tests.support.posenets import write_pose

SIDE = 64


@pytest.fixture(scope="module")
def folders(model_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("nets")
    write_controlnet(root / "a", model_folder("sd15"))
    write_pose(root / "pose")
    write_pose(root / "few", joints=3)
    return {name: root / name for name in ("a", "pose", "few")}


@pytest.fixture
def stream(model_folder: Callable[..., Path], folders: dict[str, Path]) -> Iterator[DiffusionStream]:
    register({"a": folders["a"]})
    hintnets.register({"my-pose": ("pose", folders["pose"])})
    nets = EagerEngine().load(model_folder("sd15"), Build(SIDE, SIDE, device="cpu", dtype="fp32"))
    made = DiffusionStream(nets, (SIDE, SIDE), Params())
    yield made
    made.close()


def view(x: int = 24) -> np.ndarray:
    """A red square on a ground with something to follow, which moves along with it."""
    dice = torch.Generator().manual_seed(5)
    ground = torch.nn.functional.interpolate(torch.rand(1, 3, 16, 32, generator=dice), (64, 128), mode="bicubic")
    world = (ground[0].permute(1, 2, 0).clamp(0, 1) * torch.tensor([30, 200, 200])).to(torch.uint8).numpy()
    world[32:40, 56:64] = (255, 0, 0)
    return np.ascontiguousarray(world[:, 56 - x : 56 - x + SIDE])


def unit(**values: object) -> Params:
    own = {"on": True, "model": "a", "preprocessor": "pose", **values}
    return Params(**{f"control1_{name}": value for name, value in own.items()})


def settled(stream: DiffusionStream, params: Params, x: int = 24) -> np.ndarray:
    """One frame, and then what it was for the network has been looked at."""
    picture = stream(view(x), params).copy()
    assert stream.knobs.units.beside.settle(60)
    return picture


def hints(stream: DiffusionStream, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    shown: list[torch.Tensor] = []
    embed = stream.nets.controlnets["a"].embed
    monkeypatch.setattr(stream.nets.controlnets["a"], "embed", lambda hint: embed(shown.append(hint.clone()) or hint))
    return shown


def test_the_unit_rests_until_there_is_an_answer_and_then_it_acts(
    stream: DiffusionStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream.tune(unit())
    plain = stream(view(), Params()).copy()
    stream.tune(unit())
    assert np.array_equal(settled(stream, unit()), plain), "no frame waits for it"
    assert stream.notes()["control.state"] == "1 waiting for pose"
    shown = hints(stream, monkeypatch)
    acting = settled(stream, unit())
    assert not np.array_equal(acting, plain)
    assert (stream.notes()["control.state"], stream.notes()["control.error"]) == ("1 a", "")
    image = torch.from_numpy(view()).permute(2, 0, 1)[None] / 255
    assert torch.allclose(shown[0], stream.nets.hintnets["pose"](image), atol=1e-2), "nothing moved"
    assert shown[0].std() > 0.01
    stream(view(), unit(weight=0.0))
    assert np.array_equal(settled(stream, unit()), plain), "it was away, so it begins anew"


def test_it_is_asked_at_every_nth_frame_and_its_age_is_told(stream: DiffusionStream) -> None:
    stream.tune(unit())
    ages = []
    for _ in range(8):
        settled(stream, unit(every=3))
        ages.append(stream.notes()["control.age"])
    assert ages == [0, 1, 2, 3, 1, 2, 3, 1], "handed over after frames 0, 3 and 6, there by the next"


def test_an_answer_is_moved_to_where_things_are_when_it_comes(
    stream: DiffusionStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream.tune(unit())
    settled(stream, unit())
    stream.reset()
    gate = threading.Event()

    def slow(image: torch.Tensor) -> torch.Tensor:
        """What it sees is the picture itself, which tells best where it has been moved to."""
        assert gate.wait(60)
        return image.clone()

    def off(hint: torch.Tensor, x: int) -> float:
        wanted = torch.from_numpy(view(x)).permute(2, 0, 1)[None] / 255
        return float((hint - wanted)[..., 8:-8, 20:-8].abs().mean())

    monkeypatch.setitem(stream.nets.hintnets, "pose", slow)
    shown = hints(stream, monkeypatch)
    for x in (24, 26, 28, 30):
        stream(view(x), unit())
    assert not shown, "meanwhile it rests"
    gate.set()
    assert stream.knobs.units.beside.settle(60)
    stream(view(32), unit())
    assert stream.notes()["control.age"] == 4
    assert off(shown[-1], 32) < 0.5 * off(shown[-1], 24)
    for x in (34, 36, 38):
        assert stream.knobs.units.beside.settle(60)
        stream(view(x), unit())
    assert stream.notes()["control.age"] == 1
    assert off(shown[-1], 38) < 0.5 * off(shown[-1], 36), "the way begins at the picture that was looked at last"


def test_a_cut_or_another_size_begins_anew(stream: DiffusionStream) -> None:
    stream.tune(unit())
    for _ in range(2):
        settled(stream, unit())
    assert stream.knobs.mode.units[0].look == "carry"
    stream(255 - view()[::-1], unit())
    stream(255 - view()[::-1], unit())
    assert stream.knobs.mode.units[0].look == "watch", "after a cut"
    for _ in range(3):  # back to the first scene, which is another cut
        settled(stream, unit())
    assert stream.knobs.mode.units[0].look == "carry"
    settled(stream, unit(pixel_perfect=False, resolution=128))
    assert stream.knobs.mode.units[0].look == "watch"
    settled(stream, unit(pixel_perfect=False, resolution=128))
    assert stream.knobs.mode.units[0].look == "carry"
    assert {memory[1] for memory in stream.state.hints} == {(64, 64), (128, 128)}


def test_a_network_that_fails_while_it_runs_is_a_sentence(stream: DiffusionStream, folders: dict[str, Path]) -> None:
    hintnets.register({"worse": ("pose", folders["few"])})
    stream.tune(unit())
    plain = stream(view(), Params()).copy()
    stream.tune(unit())
    for _ in range(3):
        assert np.array_equal(settled(stream, unit()), plain)
    assert stream.notes()["control.error"] == "unit 1: pose: the pose network knows 3 joints, not COCO's 17"
    assert stream.notes()["control.state"] == "1 waiting for pose"
