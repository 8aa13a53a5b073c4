"""What `livelatent bench gpu` measures on a card, and its streams: real architectures, random weights, no files."""

from __future__ import annotations

import gc
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend
from torch.utils.flop_counter import FlopCounterMode

from engines import device as devices
from engines.base import KERNELS, Build, DTypeName, Nets
from engines.cache import EngineCache
from engines.compiled import check_card, compiled
from engines.eagernet import EagerUNet
from engines.errors import ModelError
from engines.machine import Machine
from engines.random_nets import Kind, random_control, random_nets
from pipelines.bench_cases import Case
from pipelines.ladder import Rung
from pipelines.lanes import Lanes
from pipelines.start import other_kernels
from pipelines.stream import DiffusionStream
from pipelines.transfer import Pixels

GIB = 1 << 30


class Bench:
    """Keeps the networks of one architecture and precision, since making them takes longer than measuring."""

    def __init__(self, size: int, device: torch.device, machine: Machine) -> None:
        self.size, self.device, self._machine = size, device, machine
        self._nets: tuple[tuple[Kind, torch.dtype], Nets, Nets] | None = None
        self._controls: dict[str, Any] = {}
        self._order: Sequence[SDPBackend] = ()
        self._flops: dict[tuple[object, ...], float] = {}
        self.found: dict[str, str] = {}
        """What has been measured besides rows."""

    def stream(self, case: Case, seconds: float = 0.0) -> DiffusionStream:
        """Painted with until every kernel is chosen and, with `compiled`, the frame is recorded. `seconds`: for
        `tensorrt`, how long it may build. Raises ModelError where it takes longer, or what it needs can't be had."""
        plain, recorded = self.networks(case)
        assert isinstance(plain.unet, EagerUNet), "random networks are eager's"
        plain.unet.attention = self._order if case.engine == "compiled" and case.attention == "measured" else ()
        nets = recorded if case.engine == "compiled" else plain
        if case.engine == "tensorrt":
            nets = built(case.kind, plain, Build(self.size, self.size, device="cuda", dtype=case.dtype), seconds)
        elif case.kernels:
            nets = other_kernels(recorded, Rung("eager", case.dtype, case.kernels), inductor)
        if case.engine != "tensorrt":
            nets = replace(nets, controlnets=self._controls_of(case, plain))
        stream = DiffusionStream(nets, (self.size, self.size), case.params(), case.sampler)
        stream.tune(case.params())
        stream.warm_up(case.params(), 4)
        return stream

    def networks(self, case: Case) -> tuple[Nets, Nets]:
        """As eager runs them, and recorded."""
        dtype = devices.choose_dtype(case.made, self.device)
        key = case.kind, dtype
        if self._nets is None or self._nets[0] != key:
            self.forget()
            plain = random_nets(case.kind, (self.size, self.size), self.device, dtype)
            self._nets = key, plain, compiled(plain, self._machine)
            assert isinstance(plain.unet, EagerUNet), "random networks are eager's"
            self._order = plain.unet.attention
            names = ", ".join(kernel.name for kernel in self._order) or "torch's own order"
            self.found[f"attention, {case.kind} {case.made}"] = names.lower().replace("_attention", "")
        return self._nets[1:]

    def forget(self) -> None:
        """Let go of all networks: of another kind's, or after one that failed."""
        self._nets, self._controls = None, {}
        gc.collect()  # what an exception held may be part of a circle
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _controls_of(self, case: Case, plain: Nets) -> dict[str, Any]:
        for number in range(1, case.controls + case.temporal + 1):
            name = f"random{number}"
            if name not in self._controls:
                self._controls[name] = random_control(plain, number)
        return dict(self._controls)

    def flops(self, case: Case, pixels: Pixels) -> float:
        """Floating point operations of a frame, two for each product; counted once, by eager."""
        key = case.kind, case.steps, case.controls, case.temporal
        if key not in self._flops:
            stream = self.stream(case._replace(engine="eager", dtype=case.made, kernels="", attention="measured"))
            with FlopCounterMode(display=False) as counter:
                stream(pixels, case.params())
            stream.close()
            self._flops[key] = float(counter.get_total_flops())
        return self._flops[key]


def unfit(case: Case, device: torch.device) -> str:
    """Why a case can't be measured here; nothing where it can."""
    if device.type != "cuda" and case.kernels:
        return f"{KERNELS[case.kernels]}: for NVIDIA's graphics cards alone"
    if case.engine != "tensorrt":
        return ""
    from engines.tensorrt_api import installed
    from engines.tensorrt_order import FROM

    if device.type != "cuda":
        return "TensorRT is for NVIDIA's graphics cards"
    if not installed():
        return "TensorRT is not installed: pip install livelatent[tensorrt]"
    have, need = torch.cuda.get_device_capability(device), FROM.get(case.dtype, (0, 0))
    return "" if have >= need else f"this card has compute capability {have[0]}.{have[1]}, {case.dtype} needs 8.9"


def built(kind: Kind, nets: Nets, build: Build, seconds: float) -> Nets:
    """`nets` as TensorRT compiles them, in a folder that goes. Raises ModelError, also where the time is over."""
    from engines.random_folder import write_random
    from engines.tensorrt import TensorrtEngine

    over = threading.Event()
    timer = threading.Timer(seconds, over.set)
    timer.start()
    try:
        with tempfile.TemporaryDirectory(prefix="livelatent-") as folder:
            cache = EngineCache("tensorrt")
            cache.folder = Path(folder) / "engines"  # nobody wants networks of noise kept
            write_random(Path(folder) / "model", kind, nets)
            return TensorrtEngine(here=True, cache=cache, cancelled=over).load(Path(folder) / "model", build)
    except ModelError as error:
        raise ModelError(
            f"no time: its build was called off after {seconds:.0f} s" if over.is_set() else str(error)
        ) from error
    finally:
        timer.cancel()


def inductor(nets: Nets) -> Nets:
    """`nets` as torch's compiler makes one row of them, in a folder that goes. Raises ModelError."""
    from engines.inductor import here
    from engines.inductor_order import FIRST

    with tempfile.TemporaryDirectory(prefix="livelatent-") as folder:
        cache = EngineCache("inductor")
        cache.folder = Path(folder)
        return here(nets, (FIRST,), cache)


def stages(stream: DiffusionStream) -> list[float]:
    """Milliseconds of each stage of the last frame; none where it was not played."""
    painter = stream.painter
    return list(painter.spans) if isinstance(painter, Lanes) else []


def failed(stream: DiffusionStream) -> str:
    """Why a frame was not recorded as it should have been."""
    return stream.painter.wrong if isinstance(stream.painter, Lanes) else stream.painter.failed


def peak(device: torch.device, dtype: DTypeName, side: int = 8192, turns: int = 20) -> float:
    """The most operations a second that multiplying two matrices gets out of this device: TFLOP/s, measured."""
    a = torch.randn(side, side, device=device, dtype=devices.choose_dtype(dtype, device))
    best = min(timed(device, lambda: a @ a) for _ in range(turns))
    return 2.0 * side**3 / best / 1e12


def timed(device: torch.device, run: Callable[[], object]) -> float:
    """Seconds, the device's work included."""
    wait(device)
    began = time.perf_counter()
    run()
    wait(device)
    return time.perf_counter() - began


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def memory(device: torch.device) -> float:
    """GiB that were in use at most since this was asked last; 0 where that is not known."""
    if device.type != "cuda":
        return 0.0
    found = torch.cuda.max_memory_allocated(device) / GIB
    torch.cuda.reset_peak_memory_stats(device)
    return found


def facts(device: torch.device) -> dict[str, str]:
    """What the figures hold for."""
    found = {"torch": str(torch.__version__), "device": "processor, emulating a card's rules: the times mean nothing"}
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        found |= {"device": card.name, "compute": f"{card.major}.{card.minor}", "cuda": str(torch.version.cuda)}
        found |= {"memory GiB": f"{card.total_memory / GIB:.0f}"}
    return found


def device(smoke: bool) -> torch.device:
    """The card; with `smoke` the processor. Raises ModelError, a sentence, where there is no card."""
    if not smoke:
        return check_card("cuda")
    torch.set_num_threads(1)  # networks this small only lose by more
    return torch.device("cpu")


def machine_of(device: torch.device) -> Machine:
    """The card, or what stands in for it on a processor."""
    if device.type == "cuda":
        from engines.cuda_machine import CudaMachine

        return CudaMachine(device)
    from engines.emulated import EmulatedMachine

    return EmulatedMachine()


def streamdiffusion(nets: Nets, kind: Kind, size: int, frames: int, folder: str) -> dict[str, float]:
    """The public StreamDiffusion in `folder` over the same UNet and autoencoder, one step, each picture waited for:
    frames per second and milliseconds. Raises whatever it raises: its needs are its own."""
    from pipelines.bench_peer import Peer

    peer = Peer(nets, kind, size, folder)
    picture = torch.rand(3, size, size, device=nets.device, dtype=nets.dtype)
    times = [timed(nets.device, lambda: peer(picture)) * 1e3 for _ in range(frames + 10)][10:]
    slowest = sorted(times)[min(frames - 1, frames * 99 // 100)]
    return {"frames/s": 1e3 / statistics.mean(times), "p50 ms": statistics.median(times), "p99 ms": slowest}
