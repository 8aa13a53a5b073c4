"""Where people's joints are, through ONNX Runtime: a YOLOX person detector and a SimCC pose network (RTMPose, DWPose).

Both are ordinary ONNX files in the layouts that their authors publish. They run on the host, on the thread that calls,
and can't be part of a captured frame.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.errors import ModelError
from engines.hintfiles import pose_files

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
JOINTS = 17
"""COCO's, which come first in every layout: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles; left
before right."""
MOST_PEOPLE = 8
SURE = 0.3
"""A person below this score is none."""
OVERLAP = 0.45
"""Of two boxes that share more of their area than this, the weaker one is dropped."""
_STRIDES = (8, 16, 32)
_GREY = 114
_MARGIN = 1.25
"""A pose network is shown a person's box with so much around it."""
_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
_SPREAD = np.array([58.395, 57.12, 57.375], np.float32)


class Size(NamedTuple):
    width: int
    height: int


class PoseNet:
    """RGB pictures to joints."""

    def __init__(self, detector: Any, pose: Any) -> None:
        """Two onnxruntime.InferenceSessions."""
        self._detector, self._pose = detector, pose
        self._seen, self._crop = _input(detector), _input(pose)

    def __call__(self, picture: Pixels) -> Floats:
        """(h, w, 3) to (people, 17, 3), surest person first: x and y in its pixels, and how sure that is, 0 to 1."""
        found = [self._joints(picture, box) for box in self._people(picture)]
        return np.stack(found) if found else np.zeros((0, JOINTS, 3), np.float32)

    def _people(self, picture: Pixels) -> Floats:
        """(n, 4): left, top, right, bottom, in the picture's pixels."""
        height, width = picture.shape[:2]
        scale = min(self._seen.height / height, self._seen.width / width)
        small = Size(round(width * scale), round(height * scale))
        shown = np.full((self._seen.height, self._seen.width, 3), _GREY, np.uint8)
        shown[: small.height, : small.width] = cv2.resize(picture, small)
        blob = shown[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32)  # blue first, as it was trained
        outputs = self._detector.run(None, {self._detector.get_inputs()[0].name: blob})
        boxes, scores = detections(outputs, self._seen)
        people: Floats = boxes[strongest(boxes, scores)] / np.float32(scale)
        return people

    def _joints(self, picture: Pixels, box: Floats) -> Floats:
        """(17, 3) of the person in a box."""
        middle = (box[:2] + box[2:]) / 2
        extent = float(max((box[2] - box[0]) / self._crop.width, (box[3] - box[1]) / self._crop.height)) * _MARGIN
        to_crop = np.array(
            [
                [1 / extent, 0, self._crop.width / 2 - middle[0] / extent],
                [0, 1 / extent, self._crop.height / 2 - middle[1] / extent],
            ]
        )
        crop = cv2.warpAffine(picture, to_crop, self._crop, flags=cv2.INTER_LINEAR)
        blob = ((crop - _MEAN) / _SPREAD).transpose(2, 0, 1)[None].astype(np.float32)
        outputs = self._pose.run(["simcc_x", "simcc_y"], {self._pose.get_inputs()[0].name: blob})
        found = decode(outputs[0][0], outputs[1][0], self._crop)[:JOINTS]
        if len(found) < JOINTS:
            raise ModelError(f"the pose network knows {len(found)} joints, not COCO's {JOINTS}")
        found[:, :2] = (found[:, :2] - np.array(self._crop) / 2) * extent + middle
        return found


def decode(along_x: Floats, along_y: Floats, size: Size) -> Floats:
    """SimCC (Li et al. 2022): a score for every half pixel, (joints, bins) along each side, to (joints, 3)."""
    x, y = (along.argmax(1) * (side / along.shape[1]) for along, side in zip((along_x, along_y), size, strict=True))
    sure = np.minimum(along_x.max(1), along_y.max(1))
    return np.stack((x, y, sure), 1).astype(np.float32)


def detections(outputs: list[Any], size: Size) -> tuple[Floats, Floats]:
    """Boxes (n, 4) and scores (n,) of persons, from YOLOX as exported: bare, [1, n, 85], or decoded, with labels."""
    first = np.asarray(outputs[0], np.float32)[0]
    if first.shape[1] == 5:  # left, top, right, bottom, score; another output says which class
        people = np.asarray(outputs[1])[0] == 0
        return first[people, :4], first[people, 4]
    grid, stride = _cells(size)
    middle, extent = (first[:, :2] + grid) * stride, np.exp(first[:, 2:4]) * stride
    return np.concatenate((middle - extent / 2, middle + extent / 2), 1), first[:, 4] * first[:, 5]


def strongest(boxes: Floats, scores: Floats) -> list[int]:
    """Which boxes stand for a person each, the surest first."""
    kept: list[int] = []
    for i in np.argsort(-scores):
        if scores[i] < SURE or len(kept) == MOST_PEOPLE:
            break
        if all(_shared(boxes[i], boxes[other]) <= OVERLAP for other in kept):
            kept.append(int(i))
    return kept


def _shared(a: Floats, b: Floats) -> float:
    """Intersection over union."""
    sides = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    both = float(sides.prod())
    return both / max(float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod()) - both, 1e-6)


def _cells(size: Size) -> tuple[Floats, Floats]:
    """Each cell's place, (n, 2), and stride, (n, 1), in the order of YOLOX's output."""
    grids, strides = [], []
    for stride in _STRIDES:
        rows, columns = size.height // stride, size.width // stride
        y, x = np.mgrid[:rows, :columns]
        grids.append(np.stack((x, y), 2).reshape(-1, 2))
        strides.append(np.full((rows * columns, 1), stride))
    return np.concatenate(grids).astype(np.float32), np.concatenate(strides).astype(np.float32)


def load_pose(folder: Path, device: str) -> PoseNet:
    """The two networks of a folder. `device`: `cuda` uses the card where ONNX Runtime can. Raises ModelError."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError("ONNX Runtime is missing: run `pip install livelatent[pose]`") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2  # the frames' own threads come first
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    wanted = ["CUDAExecutionProvider"] if device == "cuda" else []
    here = set(onnxruntime.get_available_providers())
    providers = [name for name in (*wanted, "CPUExecutionProvider") if name in here]
    sessions = []
    for path in pose_files(folder):
        try:
            # from bytes: a network that keeps its weights in another file has nowhere to look for it
            sessions.append(onnxruntime.InferenceSession(path.read_bytes(), options, providers=providers))
        except Exception as error:  # onnxruntime's errors have no base of their own
            raise ModelError(f"{path.name} can't be loaded: {str(error).strip().splitlines()[0][:200]}") from error
    poses = [one for one in sessions if {"simcc_x", "simcc_y"} <= {output.name for output in one.get_outputs()}]
    if len(poses) != 1:
        raise ModelError(f"{folder.name} needs one network with the outputs simcc_x and simcc_y, and one detector")
    detector = next(one for one in sessions if one is not poses[0])
    return PoseNet(detector, poses[0])


def _input(session: Any) -> Size:
    """Of a network's picture. Raises ModelError where it is not fixed."""
    shape = session.get_inputs()[0].shape
    if len(shape) != 4 or not all(isinstance(n, int) and 0 < n <= 4096 for n in shape[2:]):
        raise ModelError(f"a pose network takes pictures of {shape}, which is no fixed size")
    return Size(shape[3], shape[2])
