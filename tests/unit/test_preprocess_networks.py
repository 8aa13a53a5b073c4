"""Network preprocessors: loading, small builds of the real architectures, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from engines.edgenets import Hed, PiDiNet, _as_convolution
from engines.errors import ModelError
from engines.hintfiles import check_depth
from engines.hintnets import load_depth, load_edges
from pipelines.preprocess import NETWORK_PREPROCESSORS
from tests.support.hintnets import HED, hed_weights, pidinet_weights, write_depth


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(3)


def test_hed_is_the_mean_of_five_side_outputs(tmp_path: Path) -> None:
    w = hed_weights()
    save_file(w, tmp_path / "hed.safetensors")
    net = load_edges("hed", tmp_path / "hed.safetensors", "cpu", "fp32")
    image = torch.rand(1, 3, 80, 96)
    x, sides = image * 255 - w["norm"], []
    for i, (_, depth) in enumerate(HED):
        if i:
            x = F.max_pool2d(x, 2, 2)
        for j in range(depth):
            name = f"block{i + 1}.convs.{j}"
            x = F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], padding=1).relu()
        side = F.conv2d(x, w[f"block{i + 1}.projection.weight"], w[f"block{i + 1}.projection.bias"])
        sides.append(F.interpolate(side, (80, 96), mode="bilinear", align_corners=False))
    expected = torch.stack(sides).mean(0).sigmoid()
    found = net(image)
    assert found.shape == (1, 1, 80, 96)
    assert torch.allclose(found, expected, atol=1e-5)
    assert expected.std() > 0.01
    zero = torch.tensor(0.0)
    assert torch.allclose(NETWORK_PREPROCESSORS["hed"].bind(net)(image, zero, zero)[:, 2:], expected, atol=1e-5)


def test_hed_of_full_size_has_the_published_names() -> None:
    with torch.device("meta"):
        names = {name: tuple(t.shape) for name, t in Hed((64, 128, 256, 512, 512)).state_dict().items()}
    assert sum(torch.Size(shape).numel() for shape in names.values()) == 14_716_168
    assert names["block3.convs.2.weight"] == (256, 256, 3, 3)
    assert names.keys() == hed_weights().keys()


def difference_convolution(kind: str, x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """By its definition: weights times differences of pixels. x [1, 1, H, W], kernel [1, 1, 3, 3]."""
    p = F.pad(x, (2, 2, 2, 2))
    h, w = x.shape[2:]

    def at(dy: int, dx: int) -> torch.Tensor:
        return p[:, :, 2 + dy : 2 + dy + h, 2 + dx : 2 + dx + w]

    ring = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]  # clockwise
    out = torch.zeros_like(x)
    if kind == "rd":  # eight of the nine weights, row by row
        for weight, (dy, dx) in zip(kernel.flatten()[1:], sorted(ring), strict=True):
            out += weight * (at(2 * dy, 2 * dx) - at(dy, dx))
    for i, (dy, dx) in enumerate(ring):
        weight = kernel[0, 0, dy + 1, dx + 1]
        if kind == "cd":
            out += weight * (at(dy, dx) - at(0, 0))
        elif kind == "ad":
            out += weight * (at(dy, dx) - at(*ring[(i + 1) % 8]))
    return F.conv2d(x, kernel, padding=1) if kind == "cv" else out


PLACES = {
    "init_block": "cd", "block1_1.conv1": "ad", "block1_2.conv1": "rd", "block1_3.conv1": "cv",
    "block2_1.conv1": "cd", "block4_3.conv1": "rd", "block4_4.conv1": "cv",
}  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), list(PLACES.items()))
def test_pixel_difference_kernels_become_ordinary_ones(name: str, kind: str) -> None:
    x, kernel = torch.randn(1, 1, 12, 14), torch.randn(1, 1, 3, 3)
    before = kernel.clone()
    plain = _as_convolution(f"{name}.weight", kernel)
    found = F.conv2d(x, plain, padding=plain.shape[-1] // 2)
    assert torch.allclose(found, difference_convolution(kind, x, kernel), atol=1e-5)
    assert torch.equal(kernel, before)


def test_pidinet_loads_as_trained_and_as_converted(tmp_path: Path) -> None:
    trained = pidinet_weights()
    save_file(trained, tmp_path / "trained.safetensors")
    net = load_edges("pidinet", tmp_path / "trained.safetensors", "cpu", "fp32")
    image = torch.rand(1, 3, 64, 72)
    found = net(image)
    assert found.shape == (1, 1, 64, 72)
    assert 0 <= found.min() < found.max() <= 1
    save_file(PiDiNet.of(trained).state_dict(), tmp_path / "converted.safetensors")
    again = load_edges("pidinet", tmp_path / "converted.safetensors", "cpu", "fp32")
    assert torch.equal(again(image), found)


def test_pidinet_is_shown_blue_first() -> None:
    weights = pidinet_weights()
    weights["module.init_block.weight"][:, 1:] = 0
    image = torch.rand(1, 3, 64, 64)
    red, blue = image.clone(), image.clone()
    red[:, 0], blue[:, 2] = 0, 0
    with torch.inference_mode():
        net = PiDiNet.of(weights).eval()
        assert torch.equal(net(red), net(image))
        assert not torch.allclose(net(blue), net(image))


def test_pidinet_of_full_size_has_the_published_count() -> None:
    with torch.device("meta"):
        net = PiDiNet(60, 24)
    trained = sum(t.numel() * 9 // 25 if t.shape[-1:] == (5,) else t.numel() for t in net.parameters())
    assert round(trained / 1000) == 710  # 710 K in the paper's table


@pytest.mark.parametrize("kind", ["depth-anything", "midas"])
def test_depth_is_transformers_own_stretched_to_the_range(kind: str, tmp_path: Path) -> None:
    from transformers import AutoModelForDepthEstimation

    folder = write_depth(tmp_path / kind, kind)
    net = load_depth(folder, "cpu", "fp32")
    image = torch.rand(1, 3, 6, 8).repeat_interleave(16, 2).repeat_interleave(16, 3)
    inner = net.inner(96, 128)
    assert inner == ((56, 70) if kind == "depth-anything" else (56, 56))
    with torch.inference_mode():
        found = net(image)
        seen = F.interpolate(image, inner, mode="bicubic", antialias=True)
        seen = (seen - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
        plain = AutoModelForDepthEstimation.from_pretrained(folder, local_files_only=True).eval()
        theirs = F.interpolate(plain(seen).predicted_depth[:, None], (96, 128), mode="bilinear")
    assert theirs.max() > theirs.min()
    assert (found.min(), found.max()) == (0, 1)
    assert torch.allclose(found, (theirs - theirs.min()) / (theirs.max() - theirs.min()), atol=1e-3)
    zero = torch.zeros(())
    hint = NETWORK_PREPROCESSORS["depth"].bind(net)(image, zero, zero)
    assert torch.equal(hint[:, 1:2], net(image))
    assert load_depth(folder, "cpu", "fp32", side=112).inner(512, 512) == (112, 112)
    normal = NETWORK_PREPROCESSORS["normal_depth"].bind(net)(image, zero, torch.tensor(4.0))
    assert torch.allclose((normal * 2 - 1).norm(dim=1), torch.ones(()), atol=1e-4)


def test_depth_refuses_in_a_sentence_what_it_can_not_trust(tmp_path: Path) -> None:
    folder = write_depth(tmp_path / "d", "midas")
    config = json.loads((folder / "config.json").read_text())

    def refused(match: str, **changes: object) -> None:
        (folder / "config.json").write_text(json.dumps({**config, **changes}))
        with pytest.raises(ModelError, match=match):
            load_depth(folder, "cpu")
        (folder / "config.json").write_text(json.dumps(config))

    refused("not DPTForDepthEstimation or|not DepthAnything", architectures=["LlamaForCausalLM"])
    refused("backbone that is not in its folder", backbone="someone/net", use_pretrained_backbone=True)
    refused("code of its own", auto_map={"AutoModel": "x.y"})
    refused("metres", depth_estimation_type="metric")
    refused("can't be loaded", hidden_size=24)
    assert check_depth(folder) == "DPTForDepthEstimation"
    (folder / "pytorch_model.bin").write_bytes(b"PK\x03\x04")
    with pytest.raises(ModelError, match="can carry code"):
        load_depth(folder, "cpu")
    with pytest.raises(ModelError, match="not a folder"):
        load_depth(tmp_path / "nowhere", "cpu")


def test_edges_refuse_in_a_sentence_what_is_not_theirs(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"block1.projection.weight": torch.zeros(1, 4, 1, 1)}, path)
    for kind in ("hed", "pidinet"):
        with pytest.raises(ModelError, match=f"does not hold {kind}'s weights"):
            load_edges(kind, path, "cpu")
    save_file({**hed_weights(), "more": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match="does not hold hed's weights"):
        load_edges("hed", path, "cpu")
    with pytest.raises(ModelError, match="no edge detector"):
        load_edges("teed", path, "cpu")
    path.write_bytes(b"PK\x03\x04" + bytes(40))
    with pytest.raises(ModelError, match="pickle"):
        load_edges("hed", path, "cpu")
