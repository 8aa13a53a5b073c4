"""Which rungs this machine has, and which `auto` means: measured once, and remembered. Torch-free: doctor asks.

The measuring is done by `python -m pipelines.judge`, a process of its own, beside a show that has begun with eager.
"""

from __future__ import annotations

import os
import platform
import sys
import threading
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import msgspec

from engines import compiler, openvino_device, paths
from engines.base import Build
from engines.cache import name_of, weights_of
from engines.errand import send
from engines.errors import ModelError
from engines.registry import Registry
from pipelines.ladder import Rung, Tried, Verdict
from pipelines.spec import StreamSpec

SAME = 8
"""Another number, and everything is measured again."""
BASE = Rung("eager")


class Card(NamedTuple):
    """A graphics card, as torch and doctor both know it."""

    name: str
    capability: tuple[int, int]
    """Compute capability: major, minor."""


class News(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of what the measuring process reports."""

    doing: str = ""
    share: float = 0.0
    """Of what it does, 0..1."""
    verdict: Verdict | None = None


Tell = Callable[[str, float], None]


def openvino() -> str:
    """OpenVINO's version, or nothing. Imports nothing."""
    return openvino_device.installed()


def tensorrt() -> str:
    """TensorRT's version, or nothing. Imports nothing."""
    for package in ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"):
        if found := _version(package):
            return found
    return ""


def triton() -> str:
    """Triton's version, or nothing: it comes with torch for NVIDIA's cards, on Linux. Imports nothing."""
    return _version("triton")


def uncompiled(cuda: bool) -> str:
    """Why torch's compiler is not tried here, or nothing. Elsewhere than on Linux nobody has tried it."""
    return compiler.missing(cuda) if sys.platform == "linux" else "it was made for Linux"


def rungs(spec: StreamSpec, card: Card | None) -> list[Rung]:
    """What is above eager on this machine, in the order in which it is tried. A precision that was asked for stays."""
    if spec.engine == "tensorrt":
        return [Rung("tensorrt", spec.dtype)]
    inductor = [] if uncompiled(card is not None) else [Rung("eager", spec.dtype, "inductor")]
    if card is None:
        if spec.device not in ("auto", "cpu"):
            return []
        eight = [Rung("openvino", "int8")] if spec.dtype == "auto" else []
        return [Rung("openvino", spec.dtype), *eight] if openvino() else inductor
    own = [Rung("eager", spec.dtype, "triton")] if triton() else []
    own = [*own, *inductor] if spec.dtype not in ("fp8", "int8") else []
    if spec.dtype != "auto":
        return [*own, *([Rung("tensorrt", spec.dtype)] if tensorrt() and spec.dtype != "fp16-accumulate" else [])]
    found = [*own, Rung("eager", "fp16-accumulate", "kept")]
    if tensorrt():
        found += [Rung("tensorrt", "fp16"), *([Rung("tensorrt", "fp8")] if card.capability >= (8, 9) else [])]
    return found


def build_of(spec: StreamSpec) -> tuple[Path, Build]:
    """The model's folder, and how it is to be loaded. Raises ModelError."""
    entry = Registry.open().get(spec.model)
    build = Build(
        height=spec.height,
        width=spec.width,
        vae=spec.vae,
        tiny_vae=entry.tiny_vae_folder(),
        loras=tuple(entry.lora_files()),
        device=spec.device,
        dtype=spec.dtype,
        chunks=spec.prompt_chunks,
        emphasis=entry.emphasis,
        threads=spec.threads,
    )
    return entry.folder(), build


def unfit(spec: StreamSpec) -> str:
    """Why a processor is left to eager, or nothing. Whether there is a graphics card only torch knows."""
    if not openvino():
        return "openvino is not installed"
    if spec.device not in ("auto", "cpu"):
        return f"--device {spec.device}"
    return ""


def place(spec: StreamSpec, card: Card | None = None) -> Path:
    """Where the verdict on this model, size and machine is kept. Raises ModelError for a model that is not here."""
    folder, build = build_of(spec)
    parts = [folder / "unet", folder / "vae", *filter(None, [build.tiny_vae]), *(path for path, _ in build.loras)]
    facts: list[object] = [build.height, build.width, build.vae, build.dtype, build.threads, build.chunks]
    facts += [*(weight for _, weight in build.loras), *([spec.engine] if spec.engine == "tensorrt" else [])]
    packages = ("torch", "diffusers", "openvino") if card is None else ("torch", "diffusers")
    machine: list[object] = (
        [_processor(), os.cpu_count()] if card is None else [card.name, list(card.capability), tensorrt(), triton()]
    )
    machine += [*map(_version, packages), uncompiled(card is not None)]
    return paths.home() / "engines" / "choice" / f"{name_of(SAME, weights_of(parts), facts, machine)}.json"


def recall(spec: StreamSpec, card: Card | None = None) -> Verdict | None:
    """What was found here before, if ever."""
    try:
        return msgspec.json.decode(place(spec, card).read_bytes(), type=Verdict)
    except (OSError, msgspec.DecodeError):
        return None


def keep(spec: StreamSpec, verdict: Verdict, card: Card | None = None) -> None:
    """Remember it. A disk that can't be written costs another measurement next time, nothing else."""
    path = place(spec, card)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(msgspec.json.encode(verdict))
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)


def measure(
    spec: StreamSpec, card: Card | None = None, tell: Tell = lambda *_: None, cancelled: threading.Event | None = None
) -> Verdict:
    """Have the rungs measured, wait for it (a minute and more), and remember the result, a failure too. Raises
    ModelError where it was called off, or could not begin."""
    off, found = cancelled or threading.Event(), list[Verdict]()

    def hear(line: bytes) -> None:
        news = msgspec.json.decode(line, type=News)
        if news.verdict is not None:
            found.append(news.verdict)
        else:
            tell(news.doing, news.share)

    ended = send("pipelines.judge", msgspec.json.encode(spec), hear, off)
    if off.is_set():
        raise ModelError("the search for a faster engine was called off")
    if not found:
        names = " and ".join(rung.name for rung in rungs(spec, card)) or "eager"
        why = f"{names} ended the process that measured it ({ended.code}: {ended.said[:120]})"
        found.append(Verdict(BASE, why, tuple(Tried(rung, why, failed=True) for rung in rungs(spec, card)[:1])))
    keep(spec, found[-1], card)
    return found[-1]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
