"""Real movie files, made by the system's ffmpeg when a test needs them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bridge.frame import Pixels

BARS = np.array(
    [
        (191, 191, 191),
        (191, 191, 0),
        (0, 191, 191),
        (0, 191, 0),
        (191, 0, 191),
        (191, 0, 0),
        (0, 0, 191),
        (255, 255, 255),
        (16, 16, 16),
        (200, 120, 60),
    ],
    np.uint8,
)
"""Ten colour bars, RGB."""

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg command to make movies")


def ffmpeg(*arguments: str | Path, data: bytes | None = None) -> None:
    """Run ffmpeg; its complaint is the failure's text."""
    command = ["ffmpeg", "-y", "-nostdin", "-v", "error", *map(str, arguments)]
    if data is not None:
        command.remove("-nostdin")
    done = subprocess.run(command, input=data, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()


def generated(path: Path, source: str, *encoding: str) -> Path:
    """A movie from one of ffmpeg's own generators, for example `testsrc2=s=160x90:r=30:d=1`."""
    ffmpeg("-f", "lavfi", "-i", source, *(encoding or ("-c:v", "libx264", "-pix_fmt", "yuv420p")), path)
    return path


def raw(path: Path, frames: Pixels, fps: str, *encoding: str) -> Path:
    """A movie from pixels, uint8 (n, height, width, 3)."""
    _, height, width, _ = frames.shape
    size = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", fps, "-i", "-")
    ffmpeg(*size, *encoding, path, data=frames.tobytes())
    return path


def numbered(path: Path, count: int, fps: str = "20", *encoding: str) -> Path:
    """`count` flat gray pictures, 64×48; picture n has the level 20 + 4 n, which `number` reads back."""
    frames = np.empty((count, 48, 64, 3), np.uint8)
    frames[:] = (20 + 4 * np.arange(count, dtype=np.uint8))[:, None, None, None]
    return raw(path, frames, fps, *(encoding or ("-c:v", "libx264", "-crf", "1", "-g", "7", "-pix_fmt", "yuv420p")))


def number(pixels: Pixels) -> int:
    """Which picture of `numbered` this is."""
    return round((float(pixels.mean()) - 20) / 4)


def colour_bars() -> Pixels:
    """One picture of BARS, 320×64."""
    return np.ascontiguousarray(np.repeat(np.repeat(BARS[None], 32, axis=1), 64, axis=0))
