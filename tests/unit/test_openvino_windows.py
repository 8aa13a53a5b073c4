"""Windows of the engine openvino: eager's pictures, compiled beside the stream, whole pictures until then."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from bridge.sources.scene import draw
from engines.base import Build
from engines.cache import EngineCache
from engines.errors import ModelError
from engines.openvino_device import installed
from engines.openvino_window import Loaded, OpenvinoWindow
from engines.window import Painters
from pipelines.params import Params
from pipelines.stream import DiffusionStream

SIDE = 192
SCENE = draw(3.0, SIDE, SIDE, 1)
ON = {"refresh_threshold": 6.0}
PAINTERS = Painters(object(), object(), object())


def flicker(n: int) -> np.ndarray:
    out = SCENE.copy()
    out[16:32, 16:32] = 255 * (n % 2)
    return out


def test_a_size_is_made_ready_beside_the_stream_and_the_whole_before_it():
    asked, go = [], threading.Event()

    def load(size):
        asked.append(size)
        assert go.wait(30.0)
        return Loaded(PAINTERS, 7)

    window = OpenvinoWindow(load, (192, 192), 16)
    assert [window.painters(size) for size in ((96, 96), (192, 192), (144, 144))] == [None] * 3, "nobody waits"
    go.set()
    window.settle()
    assert asked == [(192, 192), (96, 96)]
    assert window.painters((96, 96)) is PAINTERS
    assert window.numbers == 7
    go.clear()
    assert window.painters((144, 144)) is None
    assert window.painters((96, 96)) is PAINTERS, "what is there is there meanwhile"
    go.set()
    window.settle()
    assert window.painters((144, 144)) is PAINTERS
    assert asked == [(192, 192), (96, 96), (144, 144)]


@pytest.mark.parametrize("bad", [(192, 192), (96, 96)])
def test_what_can_not_be_compiled_is_asked_for_once_and_named(bad):
    asked = []

    def load(size):
        asked.append(size)
        if size == bad:
            raise ModelError("no memory is left\nnor anything else")
        return Loaded(PAINTERS, 7)

    window = OpenvinoWindow(load, (192, 192), 16, beside=False)
    for _ in range(3):
        assert window.painters((96, 96)) is None
    assert window.wrong == "no memory is left"
    assert window.painters((144, 144)) is (None if bad == (192, 192) else PAINTERS)
    assert len(asked) == len(set(asked)) == 3


@pytest.mark.skipif(not installed(), reason="openvino is not installed: pip install livelatent[openvino]")
@pytest.mark.parametrize("values", [{}, {"steps": 2, "sampler": "lcm", "guidance_mode": "full", "guidance": 2.0}])
def test_windows_are_eagers(values, model_folder, shared_nets, same_key, tmp_path_factory, monkeypatch):
    from engines.openvino import OpenvinoEngine
    from pipelines import windows

    monkeypatch.setattr(windows, "MANY", windows.FEW)
    cache = EngineCache("openvino")
    cache.folder = tmp_path_factory.getbasetemp() / "compiled windows"
    build = Build(SIDE, SIDE, device="cpu", dtype="fp32", threads=1)
    ours = OpenvinoEngine(here=True, cache=cache).load(model_folder("sd15"), build)
    assert ours.window is not None
    assert not ours.window.present, "nothing more is compiled before it is asked for"
    params = Params(**ON, **values)
    streams = [DiffusionStream(nets, (SIDE, SIDE), params) for nets in (ours, shared_nets("sd15", (SIDE, SIDE)))]
    try:
        kinds = ""
        for n in range(5):
            shown = []
            for stream in streams:
                stream(flicker(n), params)
                shown.append(stream.state.refresh.shown.clone())
            assert (shown[0] - shown[1]).abs().max() < 1e-3
            kinds += "p" if streams[0].knobs.mode.partial else "-"
        assert kinds == "--ppp"
        assert streams[0].notes()["coherence.painted"] < 1.0
        kept = streams[0].state.surroundings.kept
        assert all(torch.isfinite(each).all() for each in kept.values())
    finally:
        for stream in streams:
            stream.close()
