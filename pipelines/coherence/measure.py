"""How coherent a clip is: the figures that settings are chosen by. On the host, after the show; numpy and OpenCV.

Pictures are uint8 (H, W, 3) RGB. Flow is fp32 (H, W, 2) in pixels, x before y, backward: what is at (x, y) now was at
(x, y) + flow in the picture before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Flow = NDArray[np.float32]
Mask = NDArray[np.bool_]

CANNY = (100, 200)


class Coherence(NamedTuple):
    """A clip's figures, each the mean over its pictures."""

    warped_error: float
    """Levels of 255; lower is steadier."""
    sharpness: float
    """Variance of the Laplacian, in squared levels."""
    drift: float
    """CIE L*a*b* units between the mean colours of the last quarter and of the first picture."""
    edges: float
    """F1 of the input's edges in the output, 0..1."""


def assess(inputs: Sequence[Picture], outputs: Sequence[Picture], flows: Sequence[Flow] | None = None) -> Coherence:
    """The figures of a clip. flows[n]: the inputs' backward flow from n to n + 1; estimated where not given.

    ValueError for lengths that do not fit, or fewer than two pictures.
    """
    if len(inputs) != len(outputs) or len(inputs) < 2 or (flows is not None and len(flows) != len(inputs) - 1):
        raise ValueError("a clip needs two pictures or more, an output for each input, and a flow between any two")
    errors = []
    for n in range(1, len(inputs)):
        flow = estimate_flow(inputs[n - 1], inputs[n]) if flows is None else flows[n - 1]
        known = ~occluded(flow, inputs[n - 1], inputs[n])
        errors.append(warped_error(outputs[n - 1], outputs[n], flow, known))
    tail = outputs[-max(1, len(outputs) // 4) :]
    return Coherence(
        warped_error=float(np.nanmean(errors)) if not np.isnan(errors).all() else float("nan"),
        sharpness=float(np.mean([sharpness(picture) for picture in outputs])),
        drift=float(np.linalg.norm(np.mean([mean_lab(p) for p in tail], axis=0) - mean_lab(outputs[0]))),
        edges=float(np.mean([edge_f1(a, b) for a, b in zip(inputs, outputs, strict=True)])),
    )


def warped_error(previous: Picture, current: Picture, flow: Flow, known: Mask | None = None) -> float:
    """Mean absolute difference, in levels, between `current` and `previous` moved by the flow, where that is `known`
    and came from inside the picture; NaN if that is nowhere.

    Lai et al. 2018 (Learning Blind Video Temporal Consistency) but for the absolute value: 40 % less is then 40 % less
    flicker to the eye, and not 23 %.
    """
    use = inside(flow) if known is None else inside(flow) & known
    if not use.any():
        return float("nan")
    difference = np.abs(current.astype(np.float32) - warp(previous, flow))
    return float(difference[use].mean())


def warp(previous: Picture, flow: Flow) -> NDArray[np.float32]:
    """The previous picture where its parts are now, bilinear, edge repeated: fp32 (H, W, 3)."""
    height, width = flow.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    source = previous.astype(np.float32)
    return np.asarray(
        cv2.remap(source, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    )


def inside(flow: Flow) -> Mask:
    """Where the flow points into the picture."""
    height, width = flow.shape[:2]
    y, x = np.mgrid[:height, :width] + np.moveaxis(flow[..., ::-1], -1, 0)
    return np.asarray((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1))


def occluded(flow: Flow, previous: Picture, current: Picture, tolerance: float = 20.0) -> Mask:
    """Where the flow does not explain the input: uncovered, lit anew, or estimated wrongly. Grown by a pixel.

    tolerance: levels, of the mean of the channels over 5 x 5 pixels.
    """
    missed = np.abs(current.astype(np.float32) - warp(previous, flow)).mean(axis=2)
    lost = (cv2.blur(missed, (5, 5)) > tolerance).astype(np.uint8)
    return np.asarray(cv2.dilate(lost, np.ones((3, 3), np.uint8)) > 0)


def estimate_flow(previous: Picture, current: Picture) -> Flow:
    """Backward flow by dense inverse search (Kroeger et al. 2016). For measuring; the stream has its own."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(search.calc(_grey(current), _grey(previous), None), np.float32)


def sharpness(picture: Picture) -> float:
    """Variance of the brightness's Laplacian, in squared levels (Pech-Pacheco et al. 2000)."""
    return float(cv2.Laplacian(_grey(picture), cv2.CV_32F).var())


def mean_lab(picture: Picture) -> NDArray[np.float64]:
    """Mean CIE L*a*b* (D65; L* 0..100): shape (3,)."""
    lab = cv2.cvtColor(picture.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)
    return np.asarray(lab.mean(axis=(0, 1), dtype=np.float64))


def colour_drift(reference: Picture, picture: Picture) -> float:
    """Distance of the mean colours in CIE L*a*b*; 2 is about what an eye sees side by side."""
    return float(np.linalg.norm(mean_lab(picture) - mean_lab(reference)))


def edge_f1(wanted: Picture, picture: Picture, tolerance: int = 2) -> float:
    """F1, 0..1, of Canny's edges of `picture` against those of `wanted`; an edge counts as met within `tolerance` px
    in either direction. 1 if neither has any, 0 if one has none."""
    return edge_map_f1(cv2.Canny(_grey(wanted), *CANNY) > 0, cv2.Canny(_grey(picture), *CANNY) > 0, tolerance)


def edge_map_f1(wanted: Mask, found: Mask, tolerance: int = 2) -> float:
    """As edge_f1, of edges that are there already."""
    if not wanted.any() or not found.any():
        return float(wanted.any() == found.any())
    precision = (found & _grown(wanted, tolerance)).sum() / found.sum()
    recall = (wanted & _grown(found, tolerance)).sum() / wanted.sum()
    return 0.0 if precision + recall == 0 else float(2 * precision * recall / (precision + recall))


def _grown(mask: Mask, by: int) -> Mask:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * by + 1, 2 * by + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disc) > 0)


def _grey(picture: Picture) -> Picture:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
