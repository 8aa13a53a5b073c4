"""What pocket can and cannot do, in figures: `scripts/pocket-report` prints them.

The classifier of styles learns from nothing but the teacher's pictures of scenes that the denoiser has never seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pipelines.coherence.measure import Flow, edge_map_f1, warped_error
from pipelines.pocket import data
from pipelines.pocket.scenes import scene
from pipelines.pocket.styles import STYLES, render_all

Pixels = NDArray[np.uint8]
OTHERS = 2_000_000
"""Scenes from this number on teach the classifier; the denoiser never sees them."""


class StyleNet(nn.Module):
    """(n, 3, side, side) in −1..1 → scores of the styles (n, styles): a plain small convolutional network."""

    def __init__(self, styles: int, width: int = 48) -> None:
        super().__init__()
        sizes = (3, width, width, 2 * width, 2 * width)
        self.body = nn.Sequential()
        for a, b in pairwise(sizes):
            self.body += nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU())
        self.head = nn.Linear(2 * 2 * width, styles)

    def forward(self, x: Tensor) -> Tensor:
        """Means and deviations of features: where things are does not matter."""
        x = self.body(x)
        scores: Tensor = self.head(torch.cat([x.mean((2, 3)), x.std((2, 3))], 1))
        return scores


def lessons(scenes: int, size: int, first: int = OTHERS) -> NDArray[np.uint8]:
    """The teacher's pictures of `scenes` other scenes, (scenes, styles, size, size, 3)."""
    names = tuple(STYLES)
    return np.stack([data.pack(render_all(scene(first + i, size), names)) for i in range(scenes)])


def train_classifier(
    shown: NDArray[np.uint8], steps: int, through: Callable[[Tensor], Tensor], seed: int = 1, side: int = 128
) -> StyleNet:
    """Learns to name styles from crops; half of them go `through` the codec, as every picture of pocket's has."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    count, styles, size = shown.shape[:3]
    net = StyleNet(styles)
    optimiser = torch.optim.AdamW(net.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, steps)
    for _ in range(steps):
        which = rng.integers(styles, size=32)
        rows, y, x = rng.integers(count, size=32), *(8 * rng.integers((size - side) // 8 + 1, size=(2, 32)))
        crops = np.stack(
            [shown[r, s, b : b + side, a : a + side] for r, s, b, a in zip(rows, which, y, x, strict=True)]
        )
        batch = data.tensor(crops)
        batch = torch.cat([through(batch[:16]), batch[16:]])
        optimiser.zero_grad()
        loss = F.cross_entropy(net(batch), torch.from_numpy(which), label_smoothing=0.05)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return net.eval()


@torch.no_grad()
def named(net: StyleNet, pictures: Pixels) -> NDArray[np.int64]:
    """The style of each of (n, h, w, 3): index into STYLES."""
    return np.asarray(net(data.tensor(pictures)).argmax(1).numpy(), np.int64)


def edges(picture: Pixels) -> NDArray[np.bool_]:
    """Canny's, of softened luma: outlines and not grain."""
    gray = cv2.GaussianBlur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (0, 0), 1.0)
    return np.asarray(cv2.Canny(gray, 60, 140) > 0)


def edge_f1(made: Pixels, source: Pixels, tolerance: int = 2) -> float:
    """Agreement of outlines, 0..1, where `tolerance` px apart still counts as met."""
    return edge_map_f1(edges(source), edges(made), tolerance)


def shift(height: int, width: int, dx: float, dy: float) -> Flow:
    """The backward flow of a picture of which everything moves by (dx, dy) px."""
    return np.broadcast_to(np.array([-dx, -dy], np.float32), (height, width, 2)).copy()


def flicker(pictures: Sequence[Pixels], moves: Iterable[Flow]) -> float:
    """Mean absolute difference, in 8-bit levels, between each picture and the one before it moved along."""
    return float(np.mean([warped_error(a, b, move) for (a, b), move in zip(pairwise(pictures), moves, strict=True)]))


def jumps(pictures: Sequence[Pixels]) -> NDArray[np.float64]:
    """Mean absolute difference of each picture to the one before, in 8-bit levels."""
    return np.array([np.abs(a.astype(float) - b).mean() for a, b in pairwise(pictures)])
