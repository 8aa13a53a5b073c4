"""Pixels across the border: TouchDesigner's float32 rows from the bottom up, the wire's uint8 rows from the top down.

The one place where rows are flipped. Memory is set aside when a size is new, never per frame.
"""

import numpy as np

ROWS = 32
"""Converted at once: a block that stays in the processor's cache, for its four steps."""


class Painter:
    """numpyArray()'s pictures as the wire's: `paint(source, mask, out)`."""

    def __init__(self):
        self._block = np.empty((0, 0, 0), np.float32)
        self._lines, self._key = None, None

    def paint(self, source, mask, out):
        """`source` (h, w, 1..4) float32 bottom-up into `out` (h, w, 4) uint8 top-down, `mask`'s red as its alpha."""
        height, width, channels = source.shape
        if self._block.shape[1:] != (width, channels):
            self._block = np.empty((ROWS, width, channels), np.float32)
        flipped = source[::-1]
        for top in range(0, height, ROWS):
            rows = flipped[top : top + ROWS]
            block = self._block[: len(rows)]
            np.fmax(rows, 0.0, out=block)  # NaN becomes 0 here
            np.fmin(block, 1.0, out=block)
            np.multiply(block, 255.0, out=block)
            np.add(block, 0.5, out=block)
            target = out[top : top + ROWS]
            if channels == 4:
                np.copyto(target, block, casting="unsafe")
            else:
                # One channel is grey, two are grey and alpha, as TouchDesigner's mono formats have them.
                np.copyto(target[..., :3], block[..., : 3 if channels == 3 else 1], casting="unsafe")
                if channels == 2:
                    np.copyto(target[..., 3], block[..., 1], casting="unsafe")
                else:
                    target[..., 3] = 255
        if mask is not None:
            self._mask(mask, out)

    def _mask(self, mask, out):
        key = (*mask.shape, *out.shape)
        if key != self._key:
            rows = (np.arange(out.shape[0]) * mask.shape[0] // out.shape[0])[::-1]
            columns = np.arange(out.shape[1]) * mask.shape[1] // out.shape[1]
            self._lines = [int(row) for row in rows], columns, np.empty(out.shape[1], np.float32)
            self._key = key
        rows, columns, line = self._lines
        for y, row in enumerate(rows):
            np.take(mask[row, :, 0], columns, out=line, mode="clip")
            np.clip(line, 0.0, 1.0, out=line)
            np.multiply(line, 255.0, out=line)
            np.copyto(out[y, :, 3], line, casting="unsafe")


class Picture:
    """The last whole picture as copyNumpyArray() wants it: (h, w, 4) uint8, bottom row first, in `front`.

    `fill` writes a second buffer and `show` exchanges the two, so that a torn or broken picture is never shown.
    """

    def __init__(self):
        self.front = self._back = None

    def fill(self, view):
        """A (h, w, 1 | 3 | 4) uint8 picture, top row first."""
        height, width, channels = view.shape
        if self._back is None or self._back.shape[:2] != (height, width):
            self._back = np.full((height, width, 4), 255, np.uint8)
        flipped = view[::-1]
        if channels == 4:
            np.copyto(self._back, flipped)
        else:
            np.copyto(self._back[..., :3], flipped)
            self._back[..., 3] = 255

    def show(self):
        self.front, self._back = self._back, self.front

    @property
    def there(self):
        """Whether there is one."""
        return self.front is not None

    def paint(self, scriptOp):
        """Into a Script TOP that cooks."""
        if self.front is not None:
            scriptOp.copyNumpyArray(self.front)
