"""Control units whose preprocessor looks through a network: loaded beside the stream, paced, told of in words."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from engines.base import Nets
from pipelines.params import Params
from pipelines.preprocess.registry import NETWORK_PREPROCESSORS
from pipelines.stream import DiffusionStream
from tests.support import hintnets
from tests.support.controlnets import register, write_controlnet

SIDE = 64
RNG = np.random.default_rng(0)
FRAME = np.kron(RNG.integers(0, 256, (8, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
OTHER = np.ascontiguousarray(255 - FRAME[::-1])


def world() -> np.ndarray:
    """Soft blobs, larger than a frame."""
    dice = torch.Generator().manual_seed(2)
    wide = F.interpolate(torch.randn(1, 3, 20, 26, generator=dice), (80, 104), mode="bicubic")
    return (wide.sigmoid()[0].permute(1, 2, 0) * 255).to(torch.uint8).numpy()


@pytest.fixture(scope="module")
def folders(model_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A ControlNet `a`, and a small network of every kind."""
    root = tmp_path_factory.mktemp("nets")
    torch.manual_seed(3)
    lively = hintnets.lively_hed(torch.from_numpy(world()).permute(2, 0, 1)[None] / 255)
    for kind, weights in (("hed", lively), ("pidinet", hintnets.pidinet_weights())):
        (root / kind).mkdir()
        save_file(weights, root / kind / "w.safetensors")
    write_controlnet(root / "a", model_folder("sd15"))
    hintnets.write_depth(root / "depth", "depth-anything")
    return {name: root / name for name in ("a", "depth", "hed", "pidinet")}


@pytest.fixture
def stream(shared_nets: Callable[..., Nets], folders: dict[str, Path]) -> Iterator[DiffusionStream]:
    register({"a": folders["a"]})
    made = DiffusionStream(shared_nets(), (SIDE, SIDE), Params())
    yield made
    made.close()


@pytest.fixture
def here(stream: DiffusionStream, folders: dict[str, Path]) -> None:
    """All the networks are on this machine."""
    hintnets.register({f"my-{kind}": (kind, folders[kind]) for kind in ("depth", "hed", "pidinet")})


def unit(preprocessor: str = "depth", **values: object) -> Params:
    own = {"on": True, "model": "a", "preprocessor": preprocessor, **values}
    return Params(**{f"control1_{name}": value for name, value in own.items()})


def paint(stream: DiffusionStream, params: Params, frame: np.ndarray = FRAME) -> np.ndarray:
    stream.tune(params)
    return stream(frame, params).copy()


def watch(stream: DiffusionStream, kind: str, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """What the network of a kind, once it is there, is shown from now on."""
    net, shown = stream.nets.hintnets[kind], []

    def spy(image: torch.Tensor) -> torch.Tensor:
        shown.append(image.clone())
        return net(image)

    monkeypatch.setitem(stream.nets.hintnets, kind, spy)
    return shown


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", [name for name, made in NETWORK_PREPROCESSORS.items() if not made.beside])
def test_each_shows_the_controlnet_what_its_network_sees(
    name: str, stream: DiffusionStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = paint(stream, Params())
    picture = paint(stream, unit(name))
    assert stream.notes()["control.error"] == ""
    assert stream.notes()["control.state"] == "1 a"
    assert not np.array_equal(picture, plain)
    shown: list[torch.Tensor] = []
    embed = stream.nets.controlnets["a"].embed
    monkeypatch.setattr(stream.nets.controlnets["a"], "embed", lambda hint: embed(shown.append(hint) or hint))
    assert np.array_equal(stream(FRAME, unit(name)), picture)
    tool = NETWORK_PREPROCESSORS[name]
    image = torch.from_numpy(FRAME).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        bounds = torch.tensor([tool.low.default, tool.high.default])
        expected = tool.bind(stream.nets.hintnets[tool.needs])(image, *bounds)
    assert torch.allclose(shown[0], expected, atol=1e-4)


def test_what_is_not_here_is_told_with_the_command_and_the_unit_rests(
    stream: DiffusionStream, folders: dict[str, Path]
) -> None:
    plain = paint(stream, Params())
    for name, words in {
        "depth": "unit 1: depth: depth-anything-v2-small is not here yet: run `livelatent models pull depth-anything",
        "scribble_hed": "unit 1: scribble_hed: hed is not here: run `livelatent models add FILE.safetensors --id hed`",
        "pidinet": "unit 1: pidinet: pidinet is not here: run `livelatent models add FILE.safetensors --id pidinet`",
    }.items():
        assert np.array_equal(paint(stream, unit(name)), plain)
        said = str(stream.notes()["control.error"])
        assert said.startswith(words)
        assert len(said) <= 134, "it fits into telemetry"
        assert stream.notes()["control.state"] == ""
    hintnets.register({"my-hed": ("hed", folders["hed"])})
    assert np.array_equal(paint(stream, unit("canny", weight=0.0)), plain)
    assert stream.notes()["control.error"] == ""
    assert not np.array_equal(paint(stream, unit("scribble_hed")), plain), "named again, it is tried again"


def test_what_is_broken_is_a_sentence_and_the_stream_goes_on(
    stream: DiffusionStream, folders: dict[str, Path], tmp_path: Path
) -> None:
    plain = paint(stream, Params())
    shutil.copytree(folders["depth"], tmp_path / "d")
    weights = (tmp_path / "d" / "model.safetensors").read_bytes()
    (tmp_path / "d" / "model.safetensors").write_bytes(weights[:-8])
    hintnets.register({"mine": ("depth", tmp_path / "d")})
    assert np.array_equal(paint(stream, unit()), plain)
    assert "unit 1: depth: model.safetensors is cut short" in str(stream.notes()["control.error"])
    paint(stream, Params())
    (tmp_path / "d" / "model.safetensors").write_bytes(weights)
    assert not np.array_equal(paint(stream, unit()), plain)


@pytest.mark.usefixtures("here")
def test_it_is_loaded_beside_the_stream_and_freed(stream: DiffusionStream, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, acting = paint(stream, Params()), paint(stream, unit())
    paint(stream, unit("none"))
    assert not stream.nets.hintnets, "what nobody looks through is let go of"
    gate, load = threading.Event(), stream.unitnets.hints._load

    def slow(kind: str) -> Callable[[torch.Tensor], torch.Tensor]:
        assert gate.wait(60)
        return load(kind)

    monkeypatch.setattr(stream.unitnets.hints, "_load", slow)
    assert np.array_equal(stream(FRAME, unit()), plain), "no frame waits, and no other hint is shown"
    assert stream.notes()["control.state"] == "1 loading depth"
    gate.set()
    assert stream.unitnets.hints.settle(60)
    assert np.array_equal(stream(FRAME, unit()), acting)
    assert paint(stream, unit(on=False)) is not None
    assert stream.nets.hintnets.keys() == {"depth"}, "off, it stays ready"
    twin = stream.twin(Params())
    twin.close()
    assert twin.nets.hintnets == {}
    paint(stream, unit(model="none"))
    assert not stream.nets.hintnets, "without a ControlNet nobody would see it"


@pytest.mark.usefixtures("here")
def test_every_third_frame_is_looked_at_and_the_age_is_told(
    stream: DiffusionStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = unit(every=3)
    by_each = paint(stream, unit())
    shown = watch(stream, "depth", monkeypatch)
    pictures, ages = [], []
    for _ in range(7):
        pictures.append(stream(FRAME, params).copy())
        ages.append(stream.notes()["control.age"])
    assert ages == [0, 1, 2, 0, 1, 2, 0]
    assert len(shown) == 3
    assert np.array_equal(pictures[0], by_each), "looking and keeping shows the same"
    for picture in pictures:  # nothing moved, so what is carried is what was seen, but for rounding
        assert np.abs(picture.astype(int) - by_each).mean() < 0.5
    stream(FRAME, unit())
    stream(FRAME, unit())
    assert len(shown) == 5
    assert stream.notes()["control.age"] == 0


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("what", ["cut", "size", "bypass", "weight", "reset", "network", "source", "resolution"])
def test_after_what_breaks_the_past_the_network_looks(
    what: str, stream: DiffusionStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, frame = unit("hed", every=50), FRAME
    paint(stream, params)
    shown = watch(stream, "hed", monkeypatch)
    for _ in range(3):
        stream(frame, params)
    assert not shown
    match what:
        case "cut":
            frame = OTHER
            stream(frame, params)
            assert not shown, "the host learns of a cut with the picture that shows it"
        case "weight":
            stream(frame, unit("hed", every=50, weight=0.0))
        case "size":
            frame = np.ascontiguousarray(FRAME[:48])
        case "bypass":
            stream(frame, msgspec.structs.replace(params, bypass=True))
        case "reset":
            stream.reset()
        case "network":
            params = unit("scribble_hed", every=50)
            stream(frame, params)
            assert not shown, "the same network still"
            params = unit("none")
            stream(frame, params)
            params = unit("hed", every=50)
            stream.tune(params)
            stream(frame, params)
            assert stream.notes()["control.age"] == 0
            return
        case "source":
            params = unit("hed", every=50, source="previous_input")
        case "resolution":
            params = unit("hed", every=50, pixel_perfect=False, resolution=128)
    stream(frame, params)
    assert len(shown) == 1
    stream(frame, params)
    assert len(shown) == 1


@pytest.mark.usefixtures("here")
def test_thresholds_act_on_a_hint_that_is_carried(stream: DiffusionStream) -> None:
    params = unit("scribble_hed", every=50)
    paint(stream, params)
    carried = stream(FRAME, params).copy()
    other = stream(FRAME, unit("scribble_hed", every=50, low=200.0)).copy()
    assert stream.notes()["control.age"] == 2
    assert not np.array_equal(other, carried)


@pytest.mark.usefixtures("here")
def test_a_carried_hint_goes_where_the_picture_goes(stream: DiffusionStream, monkeypatch: pytest.MonkeyPatch) -> None:
    def view(n: int) -> np.ndarray:
        return np.ascontiguousarray(world()[8 : 8 + SIDE, 2 * n : 2 * n + SIDE])

    paint(stream, unit("hed", every=50), view(0))
    hints: list[torch.Tensor] = []
    embed = stream.nets.controlnets["a"].embed
    monkeypatch.setattr(stream.nets.controlnets["a"], "embed", lambda hint: embed(hints.append(hint.clone()) or hint))
    stream.reset()
    for n in range(5):
        stream(view(n), unit("hed", every=50))
    stream(view(4), unit("hed"))
    first, last, wanted = hints[0], hints[4], hints[5]
    assert stream.knobs.mode.units[0].look == "each"
    middle = (..., slice(8, -8), slice(8, -16))
    moved, still = ((hint - wanted)[middle].abs().mean() for hint in (last, first))
    assert moved < 0.5 * still
