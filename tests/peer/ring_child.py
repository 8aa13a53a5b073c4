"""A writer process whose every pixel tells the number of its frame: `ring_child.py NAME FIRST_SEQ SIDE`."""

import sys

import numpy as np

from bridge.frame import Frame
from bridge.ring import RingWriter

STEP = 2_654_435_761


def ramp(side: int) -> np.ndarray:
    return np.arange(side * side, dtype=np.uint32) * np.uint32(STEP)


def paint(base: np.ndarray, seq: int, out: np.ndarray) -> None:
    """Pixel i of frame seq is the word i * STEP + seq * STEP mod 2**32."""
    np.add(base, np.uint32(seq * STEP % 2**32), out=out)


def main() -> None:
    name, seq, side = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    ring = RingWriter.attach(name)
    base = ramp(side)
    canvas = np.empty_like(base)
    pixels = canvas.view(np.uint8).reshape(side, side, 4)
    while True:
        paint(base, seq, canvas)
        ring.write(Frame(pixels, seq), seq.to_bytes(8, "little"), epoch=seq // 1_000_000)
        seq += 1


if __name__ == "__main__":
    main()
