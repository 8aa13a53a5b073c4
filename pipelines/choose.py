"""Which engine `auto` means on this machine: what was measured here once, and remembered. Torch-free: doctor asks.

The measuring is done by `python -m pipelines.judge`, a process of its own, beside a show that has begun with eager.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import threading
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import msgspec

from engines import paths
from engines.base import Build
from engines.cache import name_of, weights_of
from engines.openvino_device import installed
from engines.registry import Registry
from pipelines.spec import StreamSpec

SAME = 4
"""Another number, and everything is measured again."""
PATIENCE_S = 3600.0


class Verdict(msgspec.Struct, frozen=True):
    """What came out of a measurement."""

    engine: Literal["eager", "openvino"]
    why: str
    """A sentence for people."""
    eager_ms: float = 0.0
    openvino_ms: float = 0.0
    """Processor time a frame, all threads together."""
    likeness: float = 0.0
    """SSIM between openvino's pictures and eager's in fp32."""
    distance: float = 0.0
    """How differently they look: see pipelines.gate."""
    failed: bool = False
    """Whether openvino did not get so far as to be compared."""


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
    """Why openvino is not even measured, or nothing. Whether there is a graphics card only torch knows."""
    if not installed():
        return "openvino is not installed"
    if spec.device not in ("auto", "cpu"):
        return f"--device {spec.device}"
    return ""


def place(spec: StreamSpec) -> Path:
    """Where the verdict on this model, size and machine is kept. Raises ModelError for a model that is not here."""
    folder, build = build_of(spec)
    parts = [folder / "unet", folder / "vae", *filter(None, [build.tiny_vae]), *(path for path, _ in build.loras)]
    facts: list[object] = [build.height, build.width, build.vae, build.dtype, build.threads, build.chunks]
    facts += [weight for _, weight in build.loras]
    machine = [_processor(), os.cpu_count(), *map(_version, ("torch", "diffusers", "openvino"))]
    return paths.home() / "engines" / "choice" / f"{name_of(SAME, weights_of(parts), facts, machine)}.json"


def recall(spec: StreamSpec) -> Verdict | None:
    """What was found here before, if ever."""
    try:
        return msgspec.json.decode(place(spec).read_bytes(), type=Verdict)
    except (OSError, msgspec.DecodeError):
        return None


def keep(spec: StreamSpec, verdict: Verdict) -> None:
    """Remember it. A disk that can't be written costs another measurement next time, nothing else."""
    path = place(spec)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(msgspec.json.encode(verdict))
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)


def measure(spec: StreamSpec) -> Verdict:
    """Have both engines measured, wait for it (a minute and more), and remember the result, a failure too."""
    verdict = _ask(spec)
    keep(spec, verdict)
    return verdict


def _ask(spec: StreamSpec) -> Verdict:
    path = os.pathsep.join(filter(None, (str(paths.ROOT), os.environ.get("PYTHONPATH"))))
    env = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-P", "-m", "pipelines.judge"]
    # Its stdin stays open as long as we live: when that ends, so does it.
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile() as complaint,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=complaint, env=env, bufsize=0) as judge,
    ):
        assert judge.stdin is not None
        assert judge.stdout is not None
        limit = threading.Timer(PATIENCE_S, judge.kill)
        limit.start()
        try:
            judge.stdin.write(msgspec.json.encode(spec) + b"\n")
            said = judge.stdout.read()
        except OSError as error:  # it died before it had read
            said = str(error).encode()
        complaint.seek(0)
        last = (complaint.read().decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        code = judge.wait()
        limit.cancel()
    try:
        return msgspec.json.decode(said, type=Verdict)
    except msgspec.DecodeError:
        return Verdict("eager", f"openvino ended the process that measured it ({code}: {last[:120]})", failed=True)


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
