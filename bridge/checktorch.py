"""The checks of `livelatent doctor` on torch, cards and packages, from what `engines.probe` found out."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator

import msgspec

from bridge.checkup import Check
from engines.paths import ROOT
from pipelines import choose
from pipelines.spec import Device

PROBE_S = 120.0
NVIDIA_S = 10.0
MIN_TORCH = (2, 9)
GIB = 1 << 30
REINSTALL = "`./start install` (start.bat install) sets everything up anew"


class Card(msgspec.Struct):
    """One CUDA device; memory in bytes."""

    name: str
    capability: str
    free: int
    total: int
    error: str = ""


class Torch(msgspec.Struct):
    """torch's build and devices, or the `error` of its import."""

    version: str = ""
    cuda: str | None = None
    mps: bool = False
    cpu: str = ""
    bf16: bool = False
    threads: int = 0
    cards: list[Card] = []
    error: str = ""
    cuda_error: str = ""


class Facts(msgspec.Struct):
    """What `engines.probe` prints."""

    torch: Torch
    machine: str = ""
    broken: dict[str, str] = {}
    missing_codecs: dict[str, list[str]] = {}
    two_opencvs: bool = False


def probe() -> Facts | str:
    """Ask a process of its own; a sentence when it could not answer."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from engines.probe import main; main()"
    try:
        done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, timeout=PROBE_S, check=False)
    except subprocess.TimeoutExpired:
        return f"importing it took more than {PROBE_S:.0f} s"
    try:
        return msgspec.json.decode(done.stdout.strip().splitlines()[-1], type=Facts)
    except (IndexError, msgspec.DecodeError):
        said = done.stderr.decode(errors="replace").strip().splitlines()
        return f"importing it ended the process with status {done.returncode} ({said[-1] if said else 'no message'})"


def checks(facts: Facts | str, device: Device) -> Iterator[Check]:
    """A line for torch, the card, the processor, the packages and the codecs. `device` is what the run asks for."""
    if isinstance(facts, str):
        yield Check("torch", "bad", facts, REINSTALL)
        return
    torch = facts.torch
    if torch.error:
        yield Check("torch", "bad", torch.error, REINSTALL)
    else:
        yield _version(torch)
        yield from _cards(torch, nvidia_card(), device)
        yield _processor(torch)
    yield _packages(facts)
    yield _codecs(facts)


def graphics(facts: Facts | str) -> bool:
    """Whether torch has a graphics card to run on."""
    return not isinstance(facts, str) and bool(facts.torch.mps or any(not card.error for card in facts.torch.cards))


def card(facts: Facts | str) -> choose.Card | None:
    """The NVIDIA card that torch would run on."""
    found = [] if isinstance(facts, str) else [card for card in facts.torch.cards if not card.error]
    if not found:
        return None
    major, _, minor = found[0].capability.partition(".")
    return choose.Card(found[0].name, (int(major), int(minor)))


def nvidia_card() -> str:
    """Name and driver version of the first card that NVIDIA's driver knows of, or nothing."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    query = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=NVIDIA_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else ""


def _version(torch: Torch) -> Check:
    build = f"CUDA {torch.cuda}" if torch.cuda else "with Metal" if torch.mps else "CPU build"
    text = f"{torch.version}, {build}"
    numbers = tuple(int(part) for part in torch.version.split(".")[:2] if part.isdecimal())
    if numbers < MIN_TORCH:
        return Check("torch", "bad", text, f"livelatent needs 2.9 or newer: {REINSTALL}")
    return Check("torch", "ok", text)


def _cards(torch: Torch, nvidia: str, device: Device) -> Iterator[Check]:
    if nvidia and not torch.cuda:
        yield Check("graphics card", "bad", f"{nvidia}: this torch is not built for it", REINSTALL)
    elif torch.cuda_error or (torch.cuda and nvidia and not torch.cards):
        said = torch.cuda_error or "CUDA finds no device"
        yield Check("graphics card", "bad", f"{nvidia}: {said}", "update NVIDIA's driver, and restart the machine")
    elif torch.mps:
        yield Check("graphics card", "ok", f"Apple, Metal ({platform.machine()})")
    elif not torch.cards:
        text = "none that torch can use: models run on the processor, pocket at a live rate"
        if device == "cuda":
            yield Check("graphics card", "bad", text, "run with --device auto")
        else:
            yield Check("graphics card", "note", text)
    for card in torch.cards:
        text = f"{card.name}, compute {card.capability}, {card.free / GIB:.1f} of {card.total / GIB:.1f} GiB free"
        if card.error:
            yield Check("graphics card", "bad", f"{text}: {card.error}", f"{REINSTALL}; or update NVIDIA's driver")
        else:
            yield Check("graphics card", "ok", text + (f" ({nvidia})" if nvidia else ""))


def _processor(torch: Torch) -> Check:
    speed = "with bf16" if torch.bf16 else "without fast bf16"
    return Check("processor", "ok", f"{torch.cpu}, {speed}, {torch.threads} threads")


def _packages(facts: Facts) -> Check:
    if facts.broken:
        name, said = next(iter(facts.broken.items()))
        return Check("packages", "bad", f"{name}: {said} ({len(facts.broken)} broken)", REINSTALL)
    if facts.two_opencvs:
        fix = "`pip uninstall opencv-python opencv-python-headless`, then install livelatent again"
        return Check("packages", "bad", "opencv-python and opencv-python-headless overwrite each other", fix)
    return Check("packages", "ok", "all there")


def _codecs(facts: Facts) -> Check:
    missing = [name for names in facts.missing_codecs.values() for name in names]
    if missing:
        return Check(
            "codecs", "note", f"PyAV is built without {', '.join(missing)}", "`pip install --force-reinstall av`"
        )
    return Check("codecs", "ok", "H.264 and FFV1 written; H.264, HEVC, VP9, ProRes, MJPEG read")
