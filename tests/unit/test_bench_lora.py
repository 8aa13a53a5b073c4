"""The two ways to have a LoRA's weight that are measured against each other: they do the same."""

from __future__ import annotations

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from engines.lora import Adapters
from pipelines.bench_lora import REACH, bench_lora, branches, make_lora, make_unet

CPU = torch.device("cpu")


@torch.inference_mode()
def test_a_branch_beside_every_layer_does_what_merging_does(model_folder):
    config = UNet2DConditionModel.load_config(model_folder() / "unet")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        unet = make_unet(config, CPU, torch.float32)
        adapters = Adapters(unet)
        lora = make_lora(adapters, 4, REACH["everything"])
        x, text = torch.randn(1, 4, 8, 8), torch.randn(1, 7, 32)

    def run() -> torch.Tensor:
        return unet(x, torch.tensor(9.0), text).sample

    plain = run()
    with branches(unet, lora.unet):
        beside = run()
    adapters.merge([(lora, 0.5)])
    merged = run()
    assert (merged - plain).abs().max() > 1e-3
    assert torch.allclose(beside, merged, atol=1e-5)


def test_both_are_timed(model_folder):
    config = UNet2DConditionModel.load_config(model_folder() / "unet")
    found = bench_lora(config, CPU, torch.float32, 64, 4, 1)
    assert found.keys() == {"unet", *(f"{what} {reach}" for what in ("branch", "merge", "share") for reach in REACH)}
    assert 0 < found["share attention"] < found["share everything"] <= 1
