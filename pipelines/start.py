"""The networks that a stream begins with. With `auto` those are always eager's, which are there first."""

from __future__ import annotations

import torch

from engines import device as devices
from engines.base import Build, Nets
from engines.eager import EagerEngine
from pipelines import choose
from pipelines.choose import build_of
from pipelines.spec import StreamSpec
from pipelines.upgrade import Upgrade


def start(spec: StreamSpec) -> tuple[Nets, str, Upgrade | None]:
    """Networks for `spec`, why these, and what may replace them later. Raises ModelError with a sentence."""
    folder, build = build_of(spec)

    def openvino() -> Nets:
        from engines.openvino import OpenvinoEngine

        nets = OpenvinoEngine().load(folder, build)
        warm(nets, build)
        return nets

    if spec.engine == "openvino" or (spec.engine == "auto" and spec.device == "intel"):
        return openvino(), "", None
    if spec.engine == "auto" and not choose.unfit(spec) and devices.choose_device(spec.device).type == "cpu":
        verdict = choose.recall(spec)
        if verdict is not None and verdict.engine == "eager":
            return EagerEngine().load(folder, build), verdict.why, None
        return EagerEngine().load(folder, build), "", Upgrade(spec, openvino)
    return EagerEngine().load(folder, build), choose.unfit(spec) if spec.engine == "auto" else "", None


@torch.inference_mode()
def warm(nets: Nets, build: Build) -> None:
    """Let every network run once, so that its first frame is as quick as its second."""
    image = torch.zeros(1, 3, build.height, build.width).contiguous(memory_format=torch.channels_last)
    cond = [torch.zeros(spec.shape) for spec in nets.text.spec.outputs]
    nets.decode(nets.unet(nets.encode(image), torch.tensor(500.0), cond))
