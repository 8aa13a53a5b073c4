"""A stream without networks, so that the whole bridge runs and is tested with no model, no torch and no GPU.

It paints the negative of the fitted input and writes the version of the parameters into the top left corner, where
`read_version` finds it again even after a JPEG or a movie codec. On request it misbehaves as real networks do.
"""

from __future__ import annotations

import os
import time
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from engines.errors import ModelError
from engines.fit import Fit, source_box, target_box

CELL = 4
"""Pixels along a side of one bit of the code."""
COLUMNS, ROWS = 8, 5
"""One byte a row, most significant bit first: four of the version (modulo 2^32), big-endian, and one that checks."""
CODE_WIDTH, CODE_HEIGHT = COLUMNS * CELL, ROWS * CELL
LAST_PATCH = 5
"""Where the image prompt's picture is shown, after four control units'."""

Pixels = NDArray[np.uint8]


class Shown(msgspec.Struct, frozen=True):
    """The parameters that the fake looks at (pipelines.params.Params has them; engines may not import it)."""

    version: int = 0
    bypass: bool = False
    fit: Fit = "crop"
    hint_preview: int = 0


class FakeOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long the fake takes, and how it misbehaves. A count of frames is 0 for never, 1 for the first frame."""

    ms: float = 0.0
    """A frame takes this long in all, most of it asleep, as a host waits for its GPU."""
    load_s: float = 0.0
    """Loading takes this long."""
    fail_load: float = 0.0
    """Not 0: loading raises ModelError."""
    fail_width: float = 0.0
    """Loading at this width raises ModelError."""
    crash_after: float = 0.0
    """The process dies at once, without clean-up, in place of this frame."""
    stall_after: float = 0.0
    """This frame never returns."""
    raise_after: float = 0.0
    """This frame and all after it raise RuntimeError."""
    nan_after: float = 0.0
    """From this frame on the networks give no finite number: the last good picture is held, and `guard.held` counts."""


def write_version(pixels: Pixels, version: int) -> None:
    """Write `version` into the corner of uint8 (h, w, 3), h ≥ 20, w ≥ 32, in place."""
    pixels[:CODE_HEIGHT, :CODE_WIDTH] = _cells(version)[:, :, None]


def read_version(pixels: Pixels) -> int | None:
    """The version in the corner of uint8 (h, w, 1 | 3 | 4); None if there is no intact code."""
    if pixels.shape[0] < CODE_HEIGHT or pixels.shape[1] < CODE_WIDTH:
        return None
    corner = pixels[:CODE_HEIGHT, :CODE_WIDTH, :3].astype(np.float32).mean(axis=2)
    bits = corner.reshape(ROWS, CELL, COLUMNS, CELL).mean(axis=(1, 3)) > 127
    code = np.packbits(bits, axis=1).tobytes()
    return int.from_bytes(code[:4], "big") if code[4] == _check(code[:4]) else None


def _check(code: bytes) -> int:
    """0xA5 added, so that neither a black nor a white corner passes."""
    return (sum(code) + 0xA5) % 256


def _cells(version: int) -> Pixels:
    code = (version % 2**32).to_bytes(4, "big")
    bits = np.unpackbits(np.frombuffer(code + bytes([_check(code)]), np.uint8)).reshape(ROWS, COLUMNS)
    return np.kron(bits * np.uint8(255), np.ones((CELL, CELL), np.uint8))


class FakeStream:
    """Implements pipelines.spec.Stream with numpy and OpenCV alone."""

    def __init__(self, width: int, height: int, options: dict[str, float]) -> None:
        """Raises ModelError if asked to by `fail_load`, or for an option that does not exist."""
        try:
            self.options = msgspec.convert(options, FakeOptions)
        except msgspec.ValidationError as error:
            raise ModelError(f"the fake engine takes {', '.join(FakeOptions.__struct_fields__)}: {error}") from error
        time.sleep(self.options.load_s)
        if self.options.fail_load or self.options.fail_width == width:
            raise ModelError("the fake engine was told to fail while loading")
        self.width, self.height = width, height
        self.frames = self.held = self.resets = 0
        self._fitted = np.zeros((height, width, 3), np.uint8)
        self._picture = np.zeros((height, width, 3), np.uint8)
        self._own: dict[int, Pixels] = {}
        self._hint: Pixels | None = None
        self._stamped = -1
        self._code = _cells(0)[:, :, None]

    def __call__(self, pixels: Pixels, params: object, moment: object = None) -> Pixels:
        """uint8 (h, w, 1 | 3 | 4) of any size in, uint8 (height, width, 3) out. The next call overwrites it."""
        until = time.perf_counter() + self.options.ms / 1e3
        self.frames += 1
        self._misbehave()
        shown = msgspec.convert(params, Shown, from_attributes=True)
        if self._due(self.options.nan_after):
            self.held += 1
        else:
            self._paint(pixels, shown)
        for number, colour in self._own.items():
            at = (number or LAST_PATCH) * CODE_WIDTH
            self._picture[-CODE_WIDTH:, at - CODE_WIDTH : at] = colour
        self._stamp(shown.version)
        self._hint = np.full_like(self._picture, 40 * shown.hint_preview) if shown.hint_preview else None
        left = until - time.perf_counter()
        if left > 0:
            time.sleep(left)
        return self._picture

    depth, in_place = 1, False

    def go_live(self) -> None: ...

    def lend(self, places: object) -> None: ...

    def begin(self, pixels: Pixels, params: object, moment: object = None, whole: object = None) -> None:
        self(pixels, params, moment)

    def end(self) -> Pixels:
        return self._picture

    def wait_s(self) -> float:
        return 0.0

    def show(self, number: int, pixels: Pixels) -> None:
        """Kept, and painted as a patch of its mean colour at the lower edge, `CELL` times `COLUMNS` wide a unit; the
        image prompt's, number 0, comes last."""
        mean = np.array(cv2.mean(pixels)[: pixels.shape[2]][:3])
        self._own[number] = mean.round().astype(np.uint8)

    def hint(self) -> Pixels | None:
        """Forty levels of grey for each unit's number."""
        return self._hint

    def tune(self, params: object, moment: object = None, fades: bool = False) -> None:
        """Nothing takes time here."""

    def version(self, params: Any) -> int:
        return int(params.version)

    def took(self, params: object) -> dict[str, object]:
        return {"engine": "fake"}

    def reset(self) -> None:
        self.resets += 1

    def notes(self) -> dict[str, float | str]:
        return {"frames": float(self.frames), "resets": float(self.resets), "guard.held": float(self.held)}

    def close(self) -> None:
        """Nothing to free."""

    def _due(self, after: float) -> bool:
        return 0 < after <= self.frames

    def _misbehave(self) -> None:
        if self._due(self.options.crash_after):
            os._exit(70)
        while self._due(self.options.stall_after):
            time.sleep(3600)
        if self._due(self.options.raise_after):
            raise RuntimeError(f"the fake engine was told to fail at frame {self.frames}")

    def _paint(self, pixels: Pixels, shown: Shown) -> None:
        fitted = self._fit(pixels, shown.fit)
        if shown.bypass:
            np.copyto(self._picture, fitted)
        else:
            cv2.bitwise_not(fitted, dst=self._picture)

    def _stamp(self, version: int) -> None:
        if version != self._stamped:
            self._stamped, self._code = version, _cells(version)[:, :, None]
        self._picture[:CODE_HEIGHT, :CODE_WIDTH] = self._code

    def _fit(self, pixels: Pixels, fit: Fit) -> Pixels:
        """As RGB at our size; the buffer is written only where something has to change."""
        if pixels.shape[:2] != (self.height, self.width):
            pixels = self._resize(pixels, fit)
        if pixels.shape[2] == 4:
            return cv2.cvtColor(pixels, cv2.COLOR_RGBA2RGB, dst=self._fitted)  # type: ignore[no-any-return]
        if pixels.shape[2] == 1:
            return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB, dst=self._fitted)  # type: ignore[no-any-return]
        return pixels

    def _resize(self, pixels: Pixels, fit: Fit) -> Pixels:
        height, width, channels = pixels.shape
        y, x, h, w = source_box(height, width, self.height, self.width, fit)
        ty, tx, th, tw = target_box(height, width, self.height, self.width, fit)
        out = np.zeros((self.height, self.width, channels), np.uint8)
        resized = cv2.resize(pixels[y : y + h, x : x + w], (tw, th), interpolation=cv2.INTER_LINEAR)
        out[ty : ty + th, tx : tx + tw] = resized.reshape(th, tw, channels)
        return out
