"""Canny's edges (Canny 1986) to cv2's recipe, on the device: Sobel 3x3, L1 norm, thresholds in 1/255.

Gradients and thinning are done in whole numbers, as OpenCV does them, and are equal to its. What differs is the tracing
of weak edges from strong ones: OpenCV walks a stack until it is empty, we grow `ROUNDS` pixels, since a captured frame
has no loop that depends on data. Weak ends further than that from any strong pixel along the edge are lost.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.preprocess.filters import grey, sobel

ROUNDS = 64
"""How far weak edges are followed, in pixels."""
_TAN = 13573.0
"""tan 22.5 degrees in 1/32768."""
_BITS = 62
"""Pixels in one 64-bit word: shifts by one either way stay clear of the sign."""


def canny(image: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Edges of the grey picture, 0 or 1: cv2.Canny(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), low, high)."""
    red, green, blue = _levels(image).chunk(3, 1)
    level = ((9798 * red + 19235 * green + 3735 * blue + 16384) * (1 / 32768)).floor()
    return _edges(*sobel(level), low, high)


def canny_colour(image: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Edges of the channel with the largest gradient at each pixel, 0 or 1: cv2.Canny(image, low, high)."""
    (x, *xs), (y, *ys) = (slopes.chunk(3, 1) for slopes in sobel(_levels(image)))
    most = x.abs() + y.abs()
    for dx, dy in zip(xs, ys, strict=True):
        size = dx.abs() + dy.abs()
        steeper = size > most
        x, y, most = torch.where(steeper, dx, x), torch.where(steeper, dy, y), torch.maximum(size, most)
    return _edges(x, y, low, high)


def _levels(image: Tensor) -> Tensor:
    """0..1 to whole numbers 0..255."""
    return (image * 255 + 0.5).floor_().clamp_(0, 255)


def _edges(dx: Tensor, dy: Tensor, low: Tensor, high: Tensor) -> Tensor:
    size = dx.abs() + dy.abs()
    first, second = torch.minimum(low, high).floor(), torch.maximum(low, high).floor()
    weak = _thinned(dx, dy, size) & (size > first)
    strong = weak & (size > second)
    trace = _grow_pooled if size.is_cuda else _grow_packed
    return grey(trace(strong[0, 0], weak[0, 0], ROUNDS)[None, None].float())


def _thinned(dx: Tensor, dy: Tensor, size: Tensor) -> Tensor:
    """Where the gradient is largest along its own direction, of four (non-maximum suppression)."""
    ax, ay = dx.abs(), dy.abs()
    steep = ax * _TAN
    level = ay * 32768 < steep
    upright = (ay - 2 * ax) * 32768 > steep  # tan 67.5 is tan 22.5 + 2; all of it exact in fp32
    falling = dx * dy >= 0
    p = F.pad(size, (1, 1, 1, 1))
    h, w = size.shape[2:]

    def over(y: int, x: int) -> Tensor:
        return size > p[:, :, 1 + y : 1 + y + h, 1 + x : 1 + x + w]

    # equal neighbours: along the axes the first of them is the edge, along the diagonals neither
    across = level & over(0, -1) & (size >= p[:, :, 1:-1, 2:])
    along = upright & over(-1, 0) & (size >= p[:, :, 2:, 1:-1])
    down, up = falling & over(-1, -1) & over(1, 1), ~falling & over(-1, 1) & over(1, -1)
    return across | along | (~(level | upright) & (down | up))


def _grow_packed(seed: Tensor, mask: Tensor, rounds: int) -> Tensor:
    """`seed` [H, W] dilated within `mask`, 8-connected, `rounds` times. 62 pixels at once in 64-bit words.

    Bit b of word j holds column b * words + j, so that the pixel to the left is the same bit of the word before.
    """
    h, w = mask.shape
    words = -(-w // _BITS)
    bit = torch.arange(_BITS, device=mask.device)[:, None]
    both = F.pad(torch.stack([seed, mask]), (0, words * _BITS - w)).view(2, h, _BITS, words)
    packed = (both.long() << bit).sum(2)
    grown, allowed = F.pad(packed[0], (1, 1, 1, 1)), packed[1]
    for _ in range(rounds):
        torch.bitwise_left_shift(grown[:, -2], 1, out=grown[:, 0])
        torch.bitwise_right_shift(grown[:, 1], 1, out=grown[:, -1])
        tall = grown[:-2] | grown[1:-1] | grown[2:]
        torch.bitwise_and(tall[:, :-2] | tall[:, 1:-1] | tall[:, 2:], allowed, out=grown[1:-1, 1:-1])
    bits = (grown[1:-1, None, 1:-1] >> bit) & 1
    return bits.view(h, _BITS * words)[:, :w].bool()


def _grow_pooled(seed: Tensor, mask: Tensor, rounds: int) -> Tensor:
    """The same by pooling: two kernels a round, which a GPU likes better."""
    allowed = mask.float()[None, None]
    grown = seed.float()[None, None]
    for _ in range(rounds):
        grown = F.max_pool2d(grown, 3, 1, 1) * allowed
    return grown[0, 0].bool()
