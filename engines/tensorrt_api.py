"""TensorRT's own module, what it logs, and the card it compiles for. Imported only where it is used: it takes a second.

Checked against `typings/tensorrt`, a description of the few calls that livelatent makes (TensorRT 10.1 to 11).
"""

from __future__ import annotations

import importlib.util
import logging
import threading
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from engines.errors import ModelError, first_line

if TYPE_CHECKING:
    import tensorrt as trt

log = logging.getLogger(__name__)
MAJORS = (10, 11)
NEEDS = "the engine tensorrt needs `pip install livelatent[tensorrt]` (a few gigabytes, from NVIDIA)"


class Card(NamedTuple):
    """A graphics card as far as a compiled network depends on it."""

    device: torch.device
    name: str
    capability: tuple[int, int]
    """Compute capability: major, minor."""
    driver: str

    def facts(self) -> list[object]:
        """What tells it from others, for the cache."""
        return [self.name, list(self.capability), self.driver]


def installed() -> str:
    """TensorRT's version, or nothing where it is not installed. Imports nothing."""
    if importlib.util.find_spec("tensorrt") is None:
        return ""
    for package in ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return "of unknown version"  # the distribution's own package, not pip's


def check() -> str:
    """TensorRT's version as it is loaded. Raises ModelError, a sentence, where it is not here or is too old or new."""
    try:
        import tensorrt as trt
    except (ImportError, OSError) as error:  # OSError: its own loader, for a library that is not there
        raise ModelError(NEEDS if not installed() else f"TensorRT can't be loaded: {first_line(error)}") from error
    found: str = trt.__version__
    major = int(found.partition(".")[0])
    if major not in MAJORS:
        raise ModelError(f"livelatent knows TensorRT {MAJORS[0]} and {MAJORS[1]}; {found} is installed")
    return found


def this_card() -> Card:
    """The first card. Raises ModelError where there is none."""
    if not torch.cuda.is_available():
        raise ModelError("the engine tensorrt runs on NVIDIA's graphics cards, and there is none here")
    found = torch.cuda.get_device_properties(0)
    return Card(torch.device("cuda", 0), found.name, (found.major, found.minor), _driver())


def recording(device: torch.device) -> bool:
    """Whether what is queued now becomes part of a graph."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def stream_of(device: torch.device) -> int:
    """The handle of the stream that torch uses now, so that TensorRT's work falls in with it, captured or not."""
    return int(torch.cuda.current_stream(device).cuda_stream)


_said: list[str] = []
"""Errors that TensorRT logged and nobody has asked for yet."""
_change = threading.Lock()


def last_error() -> str:
    """What went wrong since this was asked last; it is forgotten then. TensorRT raises little: it logs."""
    with _change:
        said = _said[-1] if _said else "no reason given"
        _said.clear()
    return said[:200]


@cache
def logger() -> trt.ILogger:
    """The one for everything: TensorRT keeps the first that it is given."""
    import tensorrt as trt

    severe = (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR)

    class Told(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
            """On whichever thread TensorRT likes, its builder's own among them."""
            if severity in severe:
                with _change:
                    _said.append(msg)
                log.warning("TensorRT: %s", msg)
            elif severity == trt.ILogger.Severity.WARNING:
                log.info("TensorRT: %s", msg)

    return Told()


def _driver() -> str:
    """The driver's version: the kernel's own line on Linux, else what CUDA says of it."""
    try:
        return Path("/proc/driver/nvidia/version").read_text("utf-8", "replace").splitlines()[0]
    except (OSError, IndexError):
        asked = getattr(torch._C, "_cuda_getDriverVersion", None)
        return str(asked()) if asked else ""
