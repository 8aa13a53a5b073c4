"""Small untrained models in the ordinary diffusers layout, made once per run and loaded through the ordinary code."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from engines.base import Nets

SCHEDULER = {
    "_class_name": "EulerDiscreteScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "timestep_spacing": "trailing",
}
WORDS = ("neon", "ink", "gold")
LENGTH = 16
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 37,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "projection_dim": 32,
}


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """model_folder(kind="sd15" | "sd21" | "sdxl" | "lcm" | "lcmxl", tiny=True, prediction=...) -> Path. From then on
    torch has one thread: networks this small only lose by more."""
    import torch

    torch.set_num_threads(1)
    made: dict[tuple[object, ...], Path] = {}

    def make(kind: str = "sd15", tiny: bool = True, prediction: str | None = None) -> Path:
        key = (kind, tiny, prediction)
        if key not in made:
            made[key] = tmp_path_factory.mktemp("model") / kind
            write_model(made[key], kind, tiny, prediction or ("v_prediction" if kind == "sd21" else "epsilon"))
        return made[key]

    return make


@pytest.fixture
def same_key(_own_home: None) -> None:
    """What one test's engines were sealed with is this one's key too, though each has a home of its own: without it a
    cache that they share is one of broken seals, and everything is compiled again."""
    from engines import paths

    folder = paths.home() / "engines"
    folder.mkdir(parents=True)
    (folder / "key").write_bytes(bytes(range(32)))


@pytest.fixture(scope="session")
def shared_nets(model_folder: Callable[..., Path]) -> Callable[..., Nets]:
    """shared_nets(kind, (height, width), tiny=True, prediction=...) -> Nets in fp32, loaded once for all tests that
    paint with them and change no weight. ControlNets and hint networks are not among them: what comes is the test's."""
    made: dict[tuple[object, ...], Nets] = {}

    def get(
        kind: str = "sd15", size: tuple[int, int] = (64, 64), tiny: bool = True, prediction: str | None = None
    ) -> Nets:
        from engines.base import Build
        from engines.eager import EagerEngine

        key = (kind, size, tiny, prediction)
        if key not in made:
            folder = model_folder(kind, tiny, prediction)
            made[key] = EagerEngine().load(folder, Build(*size, device="cpu", dtype="fp32"))
        return dataclasses.replace(made[key], controlnets={}, hintnets={})

    return get


def write_model(folder: Path, kind: str, tiny: bool, prediction: str) -> None:
    import torch

    from engines.random_folder import write_text

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        write_unet(folder / "unet", kind)
        write_vae(folder / "vae", tiny)
        for suffix in ("", "_2") if kind.endswith("xl") else ("",):
            write_text(folder, LENGTH, WORDS, suffix, **TEXT)
    (folder / "scheduler").mkdir()
    config = {**SCHEDULER, "prediction_type": prediction}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    (folder / "model_index.json").write_text(json.dumps(index(kind, tiny)))


def index(kind: str, tiny: bool) -> dict[str, object]:
    parts: dict[str, object] = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderTiny" if tiny else "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", SCHEDULER["_class_name"]],
    }
    if kind.endswith("xl"):
        parts["text_encoder_2"] = ["transformers", "CLIPTextModelWithProjection"]
        parts["tokenizer_2"] = ["transformers", "CLIPTokenizer"]
    name = "StableDiffusionXLPipeline" if kind.endswith("xl") else "StableDiffusionPipeline"
    return {"_class_name": name, "_diffusers_version": "0.35.0", **parts}


def write_unet(folder: Path, kind: str) -> None:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    xl = {
        "attention_head_dim": (2, 4),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "transformer_layers_per_block": (1, 2),
        "projection_class_embeddings_input_dim": 6 * 8 + 32,
    }
    extra = {
        "sd15": {"attention_head_dim": 2},
        "lcm": {"attention_head_dim": 2, "time_cond_proj_dim": 32},
        "sd21": {"attention_head_dim": (2, 4), "use_linear_projection": True},
        "sdxl": xl,
        "lcmxl": {**xl, "time_cond_proj_dim": 32},
    }[kind]
    UNet2DConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=64 if kind.endswith("xl") else 32,
        norm_num_groups=8,
        **extra,
    ).save_pretrained(folder)


def write_vae(folder: Path, tiny: bool) -> None:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    four, one = (8, 8, 8, 8), (1, 1, 1, 1)
    if tiny:
        vae = AutoencoderTiny(
            encoder_block_out_channels=four,
            decoder_block_out_channels=four,
            num_encoder_blocks=one,
            num_decoder_blocks=one,
        )
        last = vae.decoder.layers[-1]  # untrained it paints black: bring it to mid-grey, with contrast
        last.weight.data.mul_(8.0)
        last.bias.data.fill_(0.5)
        vae.encoder.layers[-1].weight.data.mul_(20.0)
        vae.save_pretrained(folder)
        return
    AutoencoderKL(
        block_out_channels=four,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4,
    ).save_pretrained(folder)
