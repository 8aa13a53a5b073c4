"""A denoiser that torch's compiler has made beforehand, loaded: code without weights, bound to those of a network.

Loading runs no compiler and imports none: torch's own library opens the package (its AOTInductor, in C++). What is
loaded is code, so that only what was sealed comes here, and it is read where nobody else can write.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import finalize

import torch
from torch import Tensor

from engines.errors import ModelError, first_line
from engines.inductor_order import kind


class Package:
    """Tensors in, tensors out, on the stream of the caller; capturable after its first run."""

    def __init__(self, content: bytes | memoryview, notes: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        """`content`: checked, and in memory that is nobody else's. `weights`: used where they are, so that what changes
        them in place changes what this computes. Raises ModelError, a sentence."""
        self._inputs: list[Any] = notes["inputs"]
        lacking = [name for name, wanted in notes["weights"].items() if _kind(weights.get(name)) != wanted]
        if lacking:
            raise ModelError(f"what Inductor has compiled is for other weights than {lacking[0]}")
        held = {name: weights[name].detach() for name in notes["weights"]}
        self._lock = threading.Lock()
        self._loader = _opened(content)
        # torch never lets go of tensors that were handed over so: ours give their memory back themselves
        finalize(self, _let_go, list(held.values())).atexit = False
        try:
            self._loader.load_constants(held, False, True, True)
        except (RuntimeError, TypeError) as error:
            raise ModelError(f"this torch does not bind weights to what it compiled: {first_line(error)}") from error

    def fits(self, inputs: Sequence[Tensor]) -> bool:
        """Whether it was compiled for these: code that reads memory in other strides would not notice."""
        return [kind(x) for x in inputs] == self._inputs

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        with self._lock:  # without its own threads' logic, which no graph could record, one at a time may enter
            found: list[Tensor] = self._loader.boxed_run(list(inputs))
        return found


def needed(content: bytes) -> list[str]:
    """Names of the weights that a package uses."""
    return list(_opened(content).get_constant_fqns())


def _opened(content: bytes | memoryview) -> Any:
    loader = getattr(getattr(torch._C, "_aoti", None), "AOTIModelPackageLoader", None)
    if loader is None:
        raise ModelError("this torch has no AOTInductor")
    try:
        with tempfile.TemporaryDirectory(prefix="livelatent-") as folder:  # nobody else's: 0700
            path = Path(folder) / "net.pt2"
            path.write_bytes(content)
            return loader(str(path), "model", True, 1, -1)
    except (RuntimeError, OSError) as error:
        raise ModelError(f"what Inductor has compiled can't be loaded: {first_line(error)}") from error


def _kind(x: Tensor | None) -> list[Any] | None:
    return None if x is None else kind(x)


@torch.inference_mode()
def _let_go(held: list[Tensor]) -> None:
    for tensor in held:
        tensor.set_()  # type: ignore[call-overload]
