"""What this machine can compute with, as one JSON line: `python -m engines.probe`.

A process of its own, because a broken torch can crash whoever imports it, and `livelatent doctor` has to say so.
"""

from __future__ import annotations

import json
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = ("numpy", "cv2", "av", "simplejpeg", "zmq", "msgspec", "safetensors", "diffusers", "transformers", "peft")
ENCODERS = ("libx264", "ffv1")
DECODERS = ("h264", "hevc", "vp9", "prores", "mjpeg")


def torch_facts() -> dict[str, Any]:
    """Version, build and devices of torch; `error` alone when it can't be imported."""
    try:
        import torch
    except Exception as error:  # whatever a broken install raises is what the user has to read
        return {"error": first_line(error)}
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    facts: dict[str, Any] = {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "mps": torch.backends.mps.is_available(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "bf16": any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")),
        "threads": torch.get_num_threads(),
        "cards": [],
    }
    if torch.version.cuda:
        try:
            facts["cards"] = [card(torch, index) for index in range(torch.cuda.device_count())]
        except RuntimeError as error:
            facts["cuda_error"] = first_line(error)
    return facts


def card(torch: Any, index: int) -> dict[str, Any]:
    """Name, memory (bytes) and whether this torch has code for it; the smallest kernel is run to be sure."""
    found = torch.cuda.get_device_properties(index)
    free, total = torch.cuda.mem_get_info(index)
    facts = {"name": found.name, "capability": f"{found.major}.{found.minor}", "free": free, "total": total}
    try:
        torch.ones(8, device=f"cuda:{index}").sum().item()
    except RuntimeError as error:
        facts["error"] = first_line(error)
    return facts


def package_facts() -> dict[str, str]:
    """Import name → why it can't be imported, for those that can't."""
    import importlib

    broken: dict[str, str] = {}
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except Exception as error:  # as above: a missing system library raises anything
            broken[name] = first_line(error)
    return broken


def codec_facts() -> dict[str, list[str]]:
    """Which of the codecs that people ask for are missing from PyAV's ffmpeg."""
    try:
        from av.codec import Codec
    except ImportError:
        return {}
    missing: dict[str, list[str]] = {"encoders": [], "decoders": []}
    for kind, mode, names in (("encoders", "w", ENCODERS), ("decoders", "r", DECODERS)):
        for name in names:
            try:
                Codec(name, mode)
            except ValueError:
                missing[kind].append(name)
    return missing


def clashing() -> bool:
    """Whether both OpenCVs are installed: they overwrite each other's files."""
    try:
        return bool(version("opencv-python") and version("opencv-python-headless"))
    except PackageNotFoundError:
        return False


def first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"


def main() -> None:
    facts = {
        "machine": platform.machine(),
        "torch": torch_facts(),
        "broken": package_facts(),
        "missing_codecs": codec_facts(),
        "two_opencvs": clashing(),
    }
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
