"""The engine `compiled`: eager's networks on an NVIDIA card, each frame recorded as graphs and played again.

The networks are eager's own, so LoRAs, image prompts and ControlNets are what they are there. What is added: `machine`,
by which the pipeline records whole frames (pipelines.lanes); ControlNets on a stream beside the denoiser's way down,
where their results are not needed yet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend

from engines import device as devices
from engines import sdpa
from engines.aside import Aside
from engines.base import Build, DeviceName, Nets
from engines.cuda_machine import CudaMachine
from engines.eager import EagerEngine
from engines.eagernet import EagerUNet
from engines.errors import ModelError
from engines.machine import Machine


class CompiledEngine:
    """Implements engines.base.Engine."""

    def __init__(self, machine: Machine | None = None) -> None:
        """`machine`: an emulation to run on; the card if None."""
        self._machine = machine

    def load(self, folder: Path, build: Build) -> Nets:
        """Networks of the diffusers model in `folder`. Raises ModelError with a sentence."""
        machine = self._machine or CudaMachine(check_card(build.device))
        return compiled(EagerEngine().load(folder, build), machine)


def check_card(name: DeviceName) -> torch.device:
    """The card that `name` means. Raises ModelError, a sentence, for anything else."""
    device = devices.choose_device(name)
    if device.type != "cuda":
        raise ModelError(f"the engine compiled records frames on NVIDIA's graphics cards, not on {device.type}")
    return device


def compiled(nets: Nets, machine: Machine) -> Nets:
    """Eager's networks, ready to be recorded on `machine`; they stay usable as they were."""
    assert isinstance(nets.unet, EagerUNet), "only eager's own networks are recorded"
    aside = Aside(machine)
    if nets.device.type == "cuda":
        tune_card()
        nets.unet.attention = fastest(nets)
    for net in nets.unet.parts():
        joins(net, aside)
    return replace(nets, machine=machine, aside=aside, described=f"{nets.described}, recorded")


def fastest(nets: Nets, cost: Callable[[SDPBackend, sdpa.Attention], float] = sdpa.timed) -> list[SDPBackend]:
    """The attention kernels in the order in which this denoiser is fastest with them here."""
    x, t = torch.zeros(1, *nets.latent, device=nets.device), torch.zeros((), device=nets.device)
    cond = [torch.zeros(spec.shape, dtype=nets.dtype, device=nets.device) for spec in nets.text.spec.outputs]
    found, why = sdpa.order(sdpa.attentions(lambda: nets.unet(x, t, cond)), cost)
    logging.getLogger(__name__).info(why)
    return found


def joins(unet: Any, aside: Aside) -> None:
    """Have a UNet2DConditionModel wait for what ControlNets add as late as it can: at the end of its way down."""

    def join(*_: Any) -> None:
        aside.join()

    unet.down_blocks[-1].register_forward_hook(join)


def tune_card() -> None:
    """What makes a card's kernels faster and no picture worse: cuDNN tries them out, fp32 sums may use TF32."""
    torch.backends.cudnn.benchmark = True
    # once it has tried them torch would give all free memory back, for which the card stands still; and where another
    # thread records a frame meanwhile, torch's allocator refuses
    keep = getattr(torch._C, "_cudnn_set_conv_benchmark_empty_cache", None)  # private, and only in builds with CUDA
    if keep is not None:
        keep(False)
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
