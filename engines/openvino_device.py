"""Where OpenVINO runs networks, and in which precision."""

from __future__ import annotations

import importlib
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from engines.base import Build, DTypeName
from engines.errors import ModelError

PRECISIONS: dict[DTypeName, str] = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
NEEDED = {"bf16": "BF16", "f16": "FP16", "f32": "FP32"}
"""What a device has to say that it can."""


def installed() -> str:
    """OpenVINO's version, or nothing where it is not installed. Imports nothing."""
    try:
        return version("openvino")
    except PackageNotFoundError:
        return ""


@cache
def openvino() -> Any:
    """The package. Raises ModelError with a sentence where it is not, or does not load."""
    # It would report its use to its maker over the network, unasked; without this module it can't.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        package = importlib.import_module("openvino")
        importlib.import_module("openvino.preprocess")
    except ImportError as error:
        why = "the engine openvino needs `pip install livelatent[openvino]`"
        raise ModelError(why if not installed() else f"OpenVINO can't be loaded: {error}") from error
    return package


class OpenvinoDevice:
    """The processor, or an Intel graphics card."""

    def __init__(self, build: Build) -> None:
        """Raises ModelError with a sentence for a device or a precision that is not here."""
        if build.device not in ("auto", "cpu", "intel"):
            raise ModelError(f"the engine openvino runs on cpu and intel, not on {build.device}")
        self.core = openvino().Core()
        self.name = "GPU" if build.device == "intel" else "CPU"
        if not any(found.partition(".")[0] == self.name for found in self.core.available_devices):
            raise ModelError("OpenVINO finds no Intel graphics card here: use --device cpu")
        self._can = set(self.core.get_property(self.name, "OPTIMIZATION_CAPABILITIES"))
        self.rounded = build.dtype == "int8"
        """Whether layers compute on 8-bit numbers, and all else in `precision`."""
        if self.rounded and "INT8" not in self._can:
            raise ModelError("this processor does not multiply int8 in hardware: use --dtype auto")
        self.precision = self._precision("auto" if self.rounded else build.dtype)
        self._threads = build.threads

    def _precision(self, wanted: DTypeName) -> str:
        if wanted == "auto":
            return next(name for name in ("bf16", "f16", "f32") if NEEDED[name] in self._can or name == "f32")
        name = PRECISIONS.get(wanted)
        if name is None:
            raise ModelError(f"the engine openvino does not compute in {wanted}: use --dtype auto")
        if NEEDED[name] not in self._can:
            raise ModelError(f"this processor does not multiply {wanted} in hardware: use --dtype auto")
        return name

    @property
    def described(self) -> str:
        """For people: what it computes in."""
        return f"int8 and {self.precision}" if self.rounded else self.precision

    def facts(self) -> list[object]:
        """What a compiled network depends on, besides the network."""
        name = self.core.get_property(self.name, "FULL_DEVICE_NAME")
        made_by = [installed(), version("torch"), version("diffusers")]
        return [self.name, str(name), sorted(map(str, self._can)), self.precision, self._threads, made_by]

    def compile(self, model: Any, precision: str) -> Any:
        """An openvino.Model, compiled. Raises RuntimeError as OpenVINO does."""
        return self.core.compile_model(model, self.name, self._settings(precision))

    def revive(self, content: memoryview, precision: str) -> Any:
        """What `compile` gave, from what it exported. Raises RuntimeError."""
        import numpy as np

        blob = openvino().Tensor(np.frombuffer(content, np.uint8), shared_memory=True)
        return self.core.import_model(blob, self.name, self._settings(precision))

    def _settings(self, precision: str) -> dict[str, Any]:
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
        if self.name == "CPU":
            # Pinned threads of several workers would meet on the same cores. OpenVINO 2026.4's code generator for
            # small fused operations (snippets) crashes on Zen 5, whatever the precision; without, 0 to 7 % are lost.
            settings |= {"ENABLE_CPU_PINNING": False, "SNIPPETS_MODE": "DISABLE"}
            if self._threads:
                settings["INFERENCE_NUM_THREADS"] = self._threads
        return settings
