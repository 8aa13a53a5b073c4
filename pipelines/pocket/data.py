"""The training set, drawn once and kept on disk: pictures for the codec, latents for the denoiser."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers import AutoencoderTiny
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from pipelines.pocket.run import Team
from pipelines.pocket.scenes import Picture, scene
from pipelines.pocket.styles import MODIFIERS, STYLES, render, render_all

NAMES = ("plain", *STYLES)
EXTRAS = 4
"""Coloured versions kept of each scene, beside one of every style."""

Progress = Callable[[int, int], None]


def pack(pictures: list[Picture]) -> NDArray[np.uint8]:
    """(n, h, w, 3), rounded to 8 bits."""
    return (np.stack(pictures) * 255 + 0.5).astype(np.uint8)


def tensor(pictures: NDArray[np.uint8]) -> Tensor:
    """(n, 3, h, w) in −1..1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def _shared(
    path: Path, kind: type, shape: tuple[int, ...], team: Team, fill: Callable[[NDArray[Any], int], None]
) -> NDArray[Any]:
    """The array at `path`; if it is not there, everybody in the team fills every n-th row of it."""
    if not path.exists():
        cv2.setNumThreads(1)
        part = path.with_suffix(".part.npy")
        if team.rank == 0:
            open_memmap(part, mode="w+", dtype=kind, shape=shape).flush()
        team.wait()
        out = np.load(part, mmap_mode="r+")
        for row in range(team.rank, shape[0], team.size):
            fill(out, row)
        out.flush()
        team.wait()
        if team.rank == 0:
            part.rename(path)
    team.wait()
    return np.asarray(np.load(path, mmap_mode="r"))


def pictures(path: Path, count: int, size: int, team: Team, progress: Progress) -> NDArray[np.uint8]:
    """Three for each of `count` scenes, (3 · count, size, size, 3) at `path`: the scene itself and under two styles."""
    names = tuple(STYLES)

    def fill(out: NDArray[Any], seed: int) -> None:
        base = scene(seed, size)
        pair = (names[seed % len(names)], names[(seed * 7 + 3) % len(names)])
        out[seed] = pack([base, *render_all(base, pair)])
        progress(seed + 1, count)

    return _shared(path, np.uint8, (count, 3, size, size, 3), team, fill).reshape(-1, size, size, 3)


def scenes(path: Path, count: int, size: int, team: Team, progress: Progress) -> NDArray[np.uint8]:
    """The scenes themselves, (count, size, size, 3) at `path`: what hints are made from."""

    def fill(out: NDArray[Any], seed: int) -> None:
        out[seed] = pack([scene(seed, size)])[0]
        progress(seed + 1, count)

    return _shared(path, np.uint8, (count, size, size, 3), team, fill)


def extras(seed: int) -> list[tuple[int, int]]:
    """Which coloured versions scene `seed` has: (index into NAMES, index into MODIFIERS)."""
    rng = np.random.default_rng([seed, 0xE7])
    return [
        (int(rng.integers(len(NAMES))) if rng.random() < 0.85 else 0, int(rng.integers(len(MODIFIERS))))
        for _ in range(EXTRAS)
    ]


def versions(seed: int, size: int) -> NDArray[np.uint8]:
    """A scene, under every style, and its coloured versions: (1 + styles + EXTRAS, size, size, 3)."""
    base = scene(seed, size)
    coloured = [render(base, NAMES[s], MODIFIERS[m]) for s, m in extras(seed)]
    return pack([base, *render_all(base, tuple(STYLES)), *coloured])


def latents(
    path: Path, vae: AutoencoderTiny, count: int, size: int, team: Team, progress: Progress
) -> NDArray[np.float16]:
    """All versions of `count` scenes, (count, 1 + styles + EXTRAS, channels, size/8, size/8) at `path`."""
    device = vae.device
    net = copy.deepcopy(vae).to(dtype=torch.bfloat16)

    @torch.no_grad()
    def fill(out: NDArray[Any], seed: int) -> None:
        batch = tensor(versions(seed, size)).to(device, net.dtype, memory_format=torch.channels_last)
        out[seed] = net.encode(batch).latents.float().cpu().numpy().astype(np.float16)
        progress(seed + 1, count)

    shape = (count, len(NAMES) + EXTRAS, vae.config.latent_channels, size // 8, size // 8)
    return _shared(path, np.float16, shape, team, fill)
