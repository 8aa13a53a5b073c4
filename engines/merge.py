"""Patches added to a network's weights in place, and taken out again bit for bit.

The weights keep their addresses, so that a captured graph shows the change without a new capture, and a frame costs
what it always costs. What is paid is one product of two thin matrices a layer, when a weight changes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from weakref import WeakSet, finalize

import torch
from torch import Tensor, nn


class Factors(NamedTuple):
    """What is added to one weight as a matrix: up [m, r] @ down [r, n], scaled; in the weight's own order and type."""

    up: Tensor
    down: Tensor


class Patch:
    """What one LoRA adds to one network, by the path of the layer."""

    def __init__(self, factors: Mapping[str, Factors]) -> None:
        self.factors = factors

    def __bool__(self) -> bool:
        return bool(self.factors)


_Recipe = tuple[tuple[Factors, float], ...]
_NOTHING = torch.empty(0)
_UNKNOWN: _Recipe = ((Factors(_NOTHING, _NOTHING), float("nan")),)
"""What a weight holds while it is written: like no other recipe, itself included."""


class Merger:
    """The weights of one network. `merge` belongs to the thread that runs it, between two runs; `keep` to any."""

    def __init__(self, net: nn.Module) -> None:
        self.layers: dict[str, Tensor] = {
            path: layer.weight
            for path, layer in net.named_modules()
            if isinstance(layer, (nn.Linear, nn.Conv2d)) and layer.weight.is_floating_point()
        }
        """What a patch may touch: the weights of linear layers and convolutions, by path."""
        self.merges = 0
        """How often weights were written."""
        self._bases: dict[str, Tensor] = {}
        self._applied: dict[str, _Recipe] = {}
        self._now: tuple[tuple[Patch, float], ...] | None = ()
        """What was merged last; None if that failed."""
        self._patches: WeakSet[Patch] = WeakSet()
        self._stale = threading.Event()
        self._change = threading.Lock()

    @property
    def patched(self) -> Iterable[str]:
        """Paths of the layers that are not as they were loaded."""
        return self._applied.keys()

    @torch.inference_mode()
    def keep(self, patch: Patch) -> None:
        """Be ready for `patch`: copy the weights that it will touch, as long as it lives. Takes its time."""
        with self._change:
            self._patches.add(patch)
        finalize(patch, self._stale.set).atexit = False
        for path in patch.factors:
            with self._change:  # one that has no copy is as it was loaded
                if path not in self._bases:
                    self._bases[path] = self.layers[path].clone()

    @torch.inference_mode()
    def merge(self, wanted: Sequence[tuple[Patch, float]]) -> bool:
        """Make the weights base + sum of weight * patch, in this order; what was kept must be. Whether any changed.

        A weight of 0 is as if the patch were not there: where nothing else acts, the base comes back bit for bit.
        """
        self._clean()
        now = tuple((patch, weight) for patch, weight in wanted if weight != 0.0)
        if now == self._now:
            return False
        recipes: dict[str, list[tuple[Factors, float]]] = {}
        for patch, weight in now:
            for path, factors in patch.factors.items():
                recipes.setdefault(path, []).append((factors, weight))
        self._now = None
        for path in {**self._applied, **recipes}:
            recipe = tuple(recipes.get(path, ()))
            if not _same(recipe, self._applied.get(path, ())):
                self._write(path, recipe)
        self._now = now
        self.merges += 1
        return True

    def _write(self, path: str, recipe: _Recipe) -> None:
        weight, base = self.layers[path], self._bases[path]
        self._applied[path] = _UNKNOWN
        if not recipe:
            weight.copy_(base)
            del self._applied[path]
            return
        out = matrix(weight)
        factors, scale = recipe[0]
        torch.addmm(matrix(base), factors.up, factors.down, alpha=scale, out=out)
        for factors, scale in recipe[1:]:
            out.addmm_(factors.up, factors.down, alpha=scale)
        self._applied[path] = recipe

    def _clean(self) -> None:
        """Let go of copies that no patch needs any more. At the beginning of `merge`: by then the device is done with
        the run before, so that nobody still reads a copy or waits for it to be written back."""
        if not self._stale.is_set() or not self._change.acquire(blocking=False):
            return
        try:
            self._stale.clear()
            needed = {path for patch in self._patches for path in patch.factors} | self._applied.keys()
            for path in self._bases.keys() - needed:
                del self._bases[path]
        finally:
            self._change.release()


def matrix(weight: Tensor) -> Tensor:
    """[m, n] over the same memory, in whichever order the weight lies in it."""
    return in_order(weight, weight).view(len(weight), -1)


def in_order(tensor: Tensor, weight: Tensor) -> Tensor:
    """A tensor of a weight's axes with the channels last where the weight has them last in memory."""
    last = weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last)
    return tensor.permute(0, 2, 3, 1) if last else tensor


def _same(one: _Recipe, other: _Recipe) -> bool:
    return len(one) == len(other) and all(a is b and x == y for (a, x), (b, y) in zip(one, other, strict=True))
