"""Pose through ONNX Runtime: small networks of the published layouts, with known people in the picture."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from engines import library, pose
from engines.errors import ModelError
from engines.hintfiles import find_kind
from engines.pose import Size, decode, detections, load_pose, strongest
from pipelines.preprocess.skeleton import COLOURS, Skeletons, draw, openpose
from tests.support.posenets import BODY, HEIGHT, WIDTH, write_pose

RED = (255, 0, 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pose(tmp_path_factory.mktemp("pose") / "small")


def picture(*cells: tuple[int, int], colour: tuple[int, int, int] = RED) -> np.ndarray:
    """128 high, 96 wide, seen at half its size: each cell is one of the detector's, as column and row."""
    out = np.zeros((128, 96, 3), np.uint8)
    for x, y in cells:
        out[16 * y : 16 * y + 16, 16 * x : 16 * x + 16] = colour
    return out


def body(x: float, y: float) -> np.ndarray:
    """Where the joints of a person are whose box, 32 pixels wide and high, has its middle there."""
    extent = max(32 / WIDTH, 32 / HEIGHT) * 1.25
    half = np.round(2 * BODY) / 2
    return (half - (WIDTH / 2, HEIGHT / 2)) * extent + (x, y)


def test_a_person_is_found_and_every_joint_in_its_place(folder: Path) -> None:
    net = load_pose(folder, "cpu")
    found = net(picture((3, 4)))
    assert found.shape == (1, 17, 3)
    assert np.allclose(found[0, :, :2], body(56, 72), atol=0.01)
    assert np.allclose(found[0, :, 2], 0.4 * (255 - 123.675) / 58.395, atol=1e-3), "red first, and its mean taken away"
    assert net(picture()).shape == (0, 17, 3)
    assert len(net(picture((3, 4), colour=(0, 0, 255)))) == 0, "the detector is shown blue first"


def test_several_people_surest_first_and_none_twice(folder: Path) -> None:
    both = picture((1, 1)) | picture((4, 6), colour=(200, 0, 0))
    found = load_pose(folder, "cpu")(both)
    assert [tuple(person[:, :2].mean(0).round()) for person in found] == [
        tuple(body(x, y).mean(0).round()) for x, y in ((24, 24), (72, 104))
    ]
    boxes = np.array([(0, 0, 10, 10), (1, 1, 10, 10), (20, 0, 30, 10), (0, 0, 10, 30)], np.float32)
    assert strongest(boxes, np.array([0.5, 0.9, 0.31, 0.6], np.float32)) == [1, 3, 2]
    assert strongest(boxes, np.array([0.29, 0.2, 0.1, 0.0], np.float32)) == []
    many = np.array([(20 * n, 0, 20 * n + 10, 10) for n in range(20)], np.float32)
    assert len(strongest(many, np.ones(20, np.float32))) == pose.MOST_PEOPLE


def test_a_detector_that_was_exported_with_its_decoding() -> None:
    dets = np.array([[(1, 2, 3, 4, 0.9), (5, 6, 7, 8, 0.8), (0, 0, 0, 0, 0)]], np.float32)
    boxes, scores = detections([dets, np.array([[0, 16, -1]])], Size(64, 64))
    assert boxes.tolist() == [[1, 2, 3, 4]]
    assert scores == pytest.approx([0.9])


def test_simcc_counts_half_pixels_and_is_as_sure_as_its_worse_side() -> None:
    along_x, along_y = np.zeros((2, 16), np.float32), np.zeros((2, 24), np.float32)
    along_x[0, 5], along_y[0, 23], along_x[1, 0], along_y[1, 8] = 0.75, 0.5, 0.25, 1.0
    assert decode(along_x, along_y, Size(8, 12)).tolist() == [[2.5, 11.5, 0.5], [0.0, 4.0, 0.25]]


def test_openpose_has_a_neck_and_its_own_order() -> None:
    coco = np.zeros((1, 17, 3), np.float32)
    coco[0, :, 0], coco[0, :, 2] = np.arange(17), 1.0
    coco[0, 5], coco[0, 6] = (10, 20, 0.5), (30, 60, 0.9)
    found = openpose(coco)[0]
    assert found[1].tolist() == pytest.approx([20, 40, 0.5])
    order = [0, None, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3]
    for joint, source in enumerate(order):
        assert source is None or (found[joint] == coco[0, source]).all()
    assert openpose(np.zeros((0, 17, 3), np.float32)).shape == (0, 18, 3)


def test_the_skeleton_has_controlnets_colours() -> None:
    assert COLOURS[0] == (255, 0, 0)
    assert COLOURS[1] == (255, 85, 0)
    assert COLOURS[4] == (170, 255, 0)
    assert COLOURS[8] == (0, 255, 170)
    assert COLOURS[13] == (85, 0, 255)
    assert COLOURS[17] == (255, 0, 85)
    person = np.zeros((1, 18, 3), np.float32)
    person[0, :2] = [(256, 100, 1), (256, 200, 1)]  # nose and neck
    person[0, 2], person[0, 5] = (176, 200, 1), (336, 200, 0.29)
    canvas = draw(person, (512, 512))
    assert tuple(canvas[100, 256]) == COLOURS[0]
    assert tuple(canvas[200, 256]) == COLOURS[1]
    assert tuple(canvas[200, 176]) == COLOURS[2]
    assert tuple(canvas[150, 256]) == tuple(int(0.6 * part) for part in COLOURS[12]), "neck to nose is the 13th limb"
    assert tuple(canvas[200, 216]) == tuple(int(0.6 * part) for part in COLOURS[0]), "neck to right shoulder the first"
    assert not canvas[200, 300:].any(), "what is not sure is not there"
    assert canvas[150, 252:261].all(0).any()
    assert not canvas[150, 262:].any(), "four pixels to each side at 512"
    assert not draw(person[:0], (64, 64)).any()
    person[0, 0, :2] = np.nan
    draw(person, (64, 64))


def test_a_picture_becomes_a_drawing(folder: Path) -> None:
    image = torch.from_numpy(picture((3, 4))).permute(2, 0, 1)[None] / 255
    hint = Skeletons(load_pose(folder, "cpu"))(image)
    assert (hint.shape, hint.dtype) == ((1, 3, 128, 96), torch.float32)
    nose = body(56, 72)[0]
    assert hint[0, :, int(nose[1]), int(nose[0])].tolist() == [1, 0, 0]
    assert 0.0 < hint.mean() < 0.3


def test_what_is_no_pose_network_is_a_sentence(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_kind(folder) == "pose"
    assert library.add_hint(folder, "mine", copy=True).kind == "pose"
    few = load_pose(write_pose(tmp_path / "few", joints=3), "cpu")
    with pytest.raises(ModelError, match="knows 3 joints"):
        few(picture((3, 4)))
    (tmp_path / "few" / "yolox_l.onnx").write_bytes(b"no protobuf, but long enough")
    with pytest.raises(ModelError, match=r"yolox_l\.onnx can't be loaded"):
        load_pose(tmp_path / "few", "cpu")
    (tmp_path / "few" / "yolox_l.onnx").write_bytes((folder / "dw-ll_ucoco_384.onnx").read_bytes())
    with pytest.raises(ModelError, match="simcc_x and simcc_y"):
        load_pose(tmp_path / "few", "cpu")
    (tmp_path / "few" / "yolox_l.onnx").unlink()
    with pytest.raises(ModelError, match=r"holds 1 \.onnx"):
        load_pose(tmp_path / "few", "cpu")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match=r"pip install livelatent\[pose\]"):
        load_pose(folder, "cpu")
