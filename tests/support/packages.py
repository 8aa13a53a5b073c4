"""Denoisers whose calls go to packages, and what stands in for one that torch's compiler made: the same, uncompiled."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from engines import inductor, kernels
from engines.base import Build
from engines.eager import EagerEngine
from engines.given import Deep
from engines.inductor_build import Call, ControlCall, _cond
from engines.inductor_order import inputs, kind

SIDE = 64
BUILD = Build(SIDE, SIDE, device="cpu", dtype="fp32", threads=1)
CLOSE = 1e-3


def load(folder):
    return EagerEngine().load(folder, BUILD)


def frame(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def asked(nets, rows=1):
    generator = torch.Generator().manual_seed(rows)
    cond = [torch.randn(rows, *spec.shape[1:], generator=generator) for spec in nets.text.spec.outputs]
    return torch.randn(rows, *nets.latent, generator=generator), torch.tensor(400.0), cond


class Counted:
    """A package, and how often it ran."""

    def __init__(self, package):
        self._package, self.runs = package, 0

    def fits(self, given):
        return self._package.fits(given)

    def __call__(self, given):
        self.runs += 1
        return self._package(given)


class Traced:
    """What would be compiled, as it is. Takes for granted what compiled code does."""

    def __init__(self, nets, structure, control=None):
        cond = _cond(nets, structure.rows)
        if control is None:
            self._call = Call(kernels.twin(nets.unet), structure, cond)  # which waits for nothing, as compiled code
        else:
            self._call = ControlCall(control, cond)
        self._inputs = [kind(x) for x in inputs(nets, structure, control).values()]

    def fits(self, given):
        return [kind(x) for x in given] == self._inputs

    def __call__(self, given):
        found = self._call(*given)
        return list(found) if isinstance(found, tuple) else [found]


def counted(nets, packages):
    unet = inductor.InductorUNet(nets.unet, {key: Counted(each) for key, each in packages.items()}, nets.aside)
    return dataclasses.replace(nets, unet=unet)


@torch.inference_mode()
def compare(plain, fast, wanted):
    """Every structure is computed by its package, as by eager."""
    for structure in wanted:
        x, t, cond = asked(plain, structure.rows)
        guidance = torch.tensor(3.0) if plain.takes_guidance else None
        count = len(plain.residuals) if structure.part != "outer" else plain.outer.residuals
        adds = [torch.randn(structure.rows, *shape) for shape in plain.residuals[:count]] if structure.adds else ()
        found = []
        for nets in (plain, fast):
            deep = None
            if structure.part != "whole":
                kept = torch.ones(structure.rows, *plain.outer.state)
                deep = Deep(kept, fresh=structure.part == "deep")
            found.append((nets.unet(x, t, cond, guidance, adds, None, deep), deep.kept if deep else x))
        assert fast.unet.packages[structure].runs == 1, structure
        for one, other in zip(*found, strict=True):
            assert (one - other).abs().max() <= CLOSE, structure
