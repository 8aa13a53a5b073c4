"""ONNX: every network of every family, and what ONNX Runtime makes of it is what torch makes of it."""

from __future__ import annotations

import importlib.util

import pytest

from engines import export
from engines.base import Build
from engines.errors import ModelError
from engines.registry import Registry
from tests.support.controlnets import write_controlnet

there = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
needs_onnx = pytest.mark.skipif(not there, reason="onnx is not installed: pip install livelatent[onnx]")
SIZE = Build(64, 64)


@needs_onnx
@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("sd15", ("hand", "hand_embed", "text", "encode")),
        # What the others have one by one: linear projections, heads of two sizes, SDXL's conditions, a guidance scale.
        ("lcmxl", ("unet", "text_2")),
        *(pytest.param(kind, ("unet",), marks=pytest.mark.full) for kind in ("sd15", "sd21", "sdxl", "lcm")),
    ],
)
def test_onnx_runtime_agrees_with_torch(kind, names, model_folder, tmp_path):
    controlnet = [write_controlnet(tmp_path / "hand", model_folder(kind))] if "hand" in names else []
    found = dict(export.graphs(model_folder(kind), SIZE, controlnet))
    for name in names:
        path = export.write(name, found[name], tmp_path, free=False)
        assert export.check(path, found[name]) < export.CLOSE


@needs_onnx
def test_the_models_weights_are_in_it(model_folder, tmp_path):
    """So that the comparison can fail."""
    one, other = (dict(export.graphs(model_folder(kind), SIZE))["decode"] for kind in ("sd15", "lcm"))
    path = export.write("decode", one, tmp_path, free=False)
    for weight in other.module.parameters():
        weight.data.mul_(1.5)
    assert export.check(path, other) > 10 * export.CLOSE


@needs_onnx
def test_one_file_serves_every_size_and_large_weights_lie_beside_it(model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "LARGE", 0)
    here = dict(export.graphs(model_folder(), SIZE))
    path = export.write("decode", here["decode"], tmp_path, free=True)
    assert (tmp_path / "decode.onnx.data").stat().st_size > path.stat().st_size / 10
    other = dict(export.graphs(model_folder(), Build(128, 192)))
    assert export.check(path, here["decode"]) < export.CLOSE
    assert export.check(path, other["decode"]) < export.CLOSE


@pytest.mark.full
@needs_onnx
def test_pocket_is_exported(tmp_path):
    found = dict(export.graphs(Registry.open().get("pocket").folder(), SIZE))
    path = export.write("unet", found["unet"], tmp_path, free=False)
    assert export.check(path, found["unet"]) < export.CLOSE


def test_without_the_exporter_there_is_a_sentence(model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"livelatent\[onnx\]"):
        export.export(model_folder(), SIZE, tmp_path)
