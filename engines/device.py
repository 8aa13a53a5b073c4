"""Which device and which precision this machine runs networks best in."""

from __future__ import annotations

import torch

from engines.base import DeviceName, DTypeName
from engines.errors import ModelError

DTYPES: dict[DTypeName, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp16-accumulate": torch.float16,
}


def choose_device(name: DeviceName) -> torch.device:
    """`auto` takes a GPU where there is one. Raises ModelError for one that is not here."""
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, usable in here.items() if usable))
    if name == "intel":
        raise ModelError("torch as it is runs on no Intel graphics: use --engine openvino, or --device auto")
    if not here[name]:
        raise ModelError(f"this machine, or this build of torch, has no {name}: use --device auto or cpu")
    return torch.device(name)


def choose_dtype(name: DTypeName, device: torch.device) -> torch.dtype:
    """`auto`: fp16 on a GPU; bf16 on a CPU that multiplies it in hardware (there 1.5 to 3 times fp32); else fp32.

    How fp16's products are summed is one setting for the whole process: whoever chose last decides. Raises ModelError
    for what torch does not compute in.
    """
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_fp16_accumulation = name == "fp16-accumulate"
    elif name == "fp16-accumulate":
        raise ModelError(f"fp16-accumulate is for NVIDIA's graphics cards, not for {device.type}: use --dtype auto")
    if name in ("fp8", "int8"):
        others = "tensorrt or openvino" if name == "int8" else "tensorrt"
        raise ModelError(f"the engine eager does not compute in {name}: use --engine {others}, or --dtype auto")
    if name != "auto":
        return DTYPES[name]
    if device.type != "cpu":
        return torch.float16
    return torch.bfloat16 if _cpu_has_bf16() else torch.float32


def _cpu_has_bf16() -> bool:
    """AVX512_BF16 or AMX. Plain AVX512 only emulates bf16, and loses by it."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # private to torch: absent means no
    return any(bool(getattr(torch.cpu, probe, bool)()) for probe in probes)


def memory(device: torch.device) -> dict[str, float]:
    """What this process holds of the graphics card's memory, and all that the card has, in GiB; zeros without one.

    Torch's own book-keeping: a question to the driver would disturb a graph that is just being recorded.
    """
    if device.type != "cuda":
        return {"memory.used": 0.0, "memory.total": 0.0}
    total = torch.cuda.get_device_properties(device).total_memory
    return {"memory.used": torch.cuda.memory_reserved(device) / 2**30, "memory.total": total / 2**30}
