"""What a LoRA costs on a denoiser built like SD 1.5's, with random weights: `python -m pipelines.bench_lora --help`.

Two ways to have a weight that moves: merged into the layers' own weights when it changes, as engines/merge.py does,
and a branch beside every layer, x -> W x + s B A x with s on the device, which costs the same in every frame.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from engines import device as devices
from engines.base import DTypeName
from engines.convert import templates
from engines.lora import Adapters, Lora
from engines.merge import Factors, Patch, matrix
from engines.weights import read_json

REACH = {"attention": ("attn1", "attn2", ".ff.", "proj_in", "proj_out"), "everything": ("",)}
"""What of a layer's path a LoRA that touches it has."""


def bench_lora(
    config: Mapping[str, Any], device: torch.device, dtype: torch.dtype, side: int, rank: int, turns: int
) -> dict[str, float]:
    """Milliseconds, medians of `turns`; on a CPU the processor's time, which others that use it don't lengthen.

    `config`: a UNet2DConditionModel's. In the answer, `unet` is one run at side²; `branch <reach>`, the same with a
    branch beside each layer; `merge <reach>`, one change of a weight; `share <reach>`, how many of all weights are
    touched, 0 to 1.
    """
    unet = make_unet(config, device, dtype)
    x = torch.randn(1, 4, side // 8, side // 8, device=device, dtype=dtype)
    text = torch.randn(1, 77, unet.config.cross_attention_dim, device=device, dtype=dtype)
    t = torch.tensor(500.0, device=device)
    adapters = Adapters(unet)
    everything = sum(parameter.numel() for parameter in unet.parameters())

    def run() -> None:
        unet(x, t, text, return_dict=False)

    out = {"unet": _time(run, device, turns)}
    for reach, marks in REACH.items():
        lora = make_lora(adapters, rank, marks)
        with branches(unet, lora.unet):
            out[f"branch {reach}"] = _time(run, device, turns)
        weights = iter(0.1 + 0.01 * n for n in range(turns + 2))
        out[f"merge {reach}"] = _time(lambda: adapters.merge([(lora, next(weights))]), device, turns)  # noqa: B023
        adapters.merge([])
        out[f"share {reach}"] = sum(adapters.unet.layers[path].numel() for path in lora.unet.factors) / everything
    return out


def make_unet(config: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> Any:
    """A UNet2DConditionModel with random weights."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config)
    unet = unet.to(dtype).to_empty(device=device).eval().requires_grad_(False)
    for parameter in unet.parameters():
        parameter.normal_(std=0.02)
    return unet.to(memory_format=torch.channels_last)


def make_lora(adapters: Adapters, rank: int, marks: tuple[str, ...]) -> Lora:
    """A random one over every layer whose path has one of `marks`."""
    factors = {}
    for path, weight in adapters.unet.layers.items():
        if any(mark in path for mark in marks):
            rows, columns = matrix(weight).shape
            up, down = torch.randn(rows, rank).to(weight), 0.01 * torch.randn(rank, columns).to(weight)
            factors[path] = Factors(up, down)
    patch = Patch(factors)
    adapters.unet.keep(patch)
    return Lora(patch, ())


@contextmanager
def branches(unet: nn.Module, patch: Patch) -> Iterator[None]:
    """Inside, each layer's output has its LoRA's added, times a number on the device."""
    scale = torch.tensor(0.5)
    layers = dict(unet.named_modules())
    hooks = []
    for path, (up, down) in patch.factors.items():
        layer, s = layers[path], scale.to(up)

        def linear(_: nn.Module, args: Any, y: Tensor, up: Tensor = up, down: Tensor = down, s: Tensor = s) -> Tensor:
            return y + s * nn.functional.linear(nn.functional.linear(args[0], down), up)

        def conv(m: nn.Module, args: Any, y: Tensor, up: Tensor = up, down: Tensor = down, s: Tensor = s) -> Tensor:
            of = cast(nn.Conv2d, m)
            kernel = down.view(len(down), *of.weight.shape[2:], -1).permute(0, 3, 1, 2)
            thin = nn.functional.conv2d(args[0], kernel, stride=of.stride, padding=cast(tuple[int, int], of.padding))
            return y + s * nn.functional.conv2d(thin, up[..., None, None])

        hooks.append(layer.register_forward_hook(conv if isinstance(layer, nn.Conv2d) else linear))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.inference_mode()
def _time(run: Callable[[], object], device: torch.device, turns: int) -> float:
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    times = []
    for _ in range(turns + 1):
        began = clock()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append((clock() - began) * 1e3)
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--dtype", choices=("auto", *devices.DTYPES), default="auto")
    parser.add_argument("--size", type=int, default=512, help="side of the picture")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="processor threads; 0 leaves the choice to torch")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    device = devices.choose_device(args.device)
    dtype = devices.choose_dtype(cast(DTypeName, args.dtype), device)
    config = read_json(templates("sd15") / "unet" / "config.json", "config.json")
    with torch.inference_mode():
        for name, value in bench_lora(config, device, dtype, args.size, args.rank, args.turns).items():
            print(f"{name:20} {value:10.3f}")


if __name__ == "__main__":
    main()
