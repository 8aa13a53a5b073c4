"""The eager engine: what it loads gives diffusers' own pictures, and what it can't load gets a sentence."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from engines import device as devices
from engines.base import Build
from engines.eager import EagerEngine
from engines.errors import ModelError
from pipelines.params import Params
from pipelines.stream import DiffusionStream

SIDE = 64
GREY = np.full((SIDE, SIDE, 3), 128, np.uint8)


def load(folder, **options):
    return EagerEngine().load(folder, Build(SIDE, SIDE, **{"device": "cpu", "dtype": "fp32", **options}))


def painted(nets, **values):
    params = Params(**values)
    stream = DiffusionStream(nets, (SIDE, SIDE), params)
    try:
        return stream(GREY, params).copy()
    finally:
        stream.close()


@pytest.fixture
def theirs(model_folder):
    """diffusers' own pipeline over the same folder, as a function of its arguments: uint8 (H, W, 3)."""

    def run(kind, tiny, **arguments):
        from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
        from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline

        cls = StableDiffusionXLPipeline if kind == "sdxl" else StableDiffusionPipeline
        extra = (
            {"add_watermarker": False} if kind == "sdxl" else {"safety_checker": None, "requires_safety_checker": False}
        )
        pipe = cls.from_pretrained(model_folder(kind, tiny), local_files_only=True, **extra)
        pipe.set_progress_bar_config(disable=True)
        generator = torch.Generator("cpu").manual_seed(3)
        out = pipe(height=SIDE, width=SIDE, generator=generator, output_type="np", **arguments).images[0]
        return np.round(out * 255).astype(np.uint8)

    return run


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tiny", [True, False])
@pytest.mark.parametrize("kind", ["sd15", "sd21", "sdxl"])
def test_a_picture_is_diffusers_own(kind, tiny, theirs, model_folder):
    expected = theirs(kind, tiny, prompt="neon gold", negative_prompt="ink", num_inference_steps=2, guidance_scale=4.0)
    ours = painted(
        load(model_folder(kind, tiny)),
        prompt="neon gold", negative="ink", steps=2, guidance=4.0, guidance_mode="full", mode="txt2img", seed=3,
    )  # fmt: skip
    assert expected.std() > 2
    assert np.abs(ours.astype(int) - expected).max() <= 1


def test_precisions_agree(model_folder):
    full = painted(load(model_folder())).astype(int)
    for dtype, close in (("bf16", 3.0), ("fp16", 0.5)):
        nets = load(model_folder(), dtype=dtype)
        assert nets.dtype is devices.DTYPES[dtype]
        assert 0 < np.abs(painted(nets) - full).mean() < close
        assert dtype.replace("fp", "float").replace("bf", "bfloat") in nets.described


def test_auto_takes_what_this_machine_is_good_at(monkeypatch):
    assert devices.choose_dtype("auto", torch.device("cuda")) is torch.float16
    assert devices.choose_dtype("auto", torch.device("mps")) is torch.float16
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    for native, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda native=native: native, raising=False)
        assert devices.choose_dtype("auto", torch.device("cpu")) is dtype
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert devices.choose_device("auto").type == "cpu"
    with pytest.raises(ModelError, match="no cuda"):
        devices.choose_device("cuda")


def test_a_tiny_autoencoder_from_elsewhere_takes_the_place_of_the_full_one(model_folder):
    full, tiny = model_folder("sd15", False), model_folder("sd15", True) / "vae"
    assert load(full).described.endswith("full autoencoder")
    nets = load(full, tiny_vae=tiny)
    assert nets.described.endswith("tiny autoencoder")
    z, own = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)), load(tiny.parent)
    assert torch.equal(nets.decode(z), own.decode(z))
    assert torch.equal(nets.encode(own.decode(z)), own.encode(own.decode(z)))
    assert load(full, tiny_vae=tiny, vae="full").described.endswith("full autoencoder")
    with pytest.raises(ModelError, match="AutoencoderKL"):
        load(full, tiny_vae=full / "vae")


def test_the_full_autoencoder_is_diffusers_own_and_scaled(model_folder):
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    folder = model_folder("sd15", False)
    nets, vae = load(folder), AutoencoderKL.from_pretrained(folder / "vae", local_files_only=True)
    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2)) * 2 - 1
    with torch.inference_mode():
        latent = vae.encode(image).latent_dist.mode() * vae.config.scaling_factor
        assert vae.config.scaling_factor != 1
        assert torch.allclose(nets.encode(image), latent, atol=1e-4)
        assert torch.allclose(nets.decode(latent), vae.decode(latent / vae.config.scaling_factor).sample, atol=1e-4)


def lora_file(path, unet, rank=4):
    """A LoRA over one attention layer, in the form that LCM-LoRA has, and the weight that it stands for."""
    from safetensors.torch import save_file

    layer = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    weight = dict(unet.named_parameters())[f"{layer}.weight"]
    generator = torch.Generator().manual_seed(1)
    down = torch.randn(rank, weight.shape[1], generator=generator)
    up = torch.randn(weight.shape[0], rank, generator=generator)
    name = "lora_unet_" + layer.replace(".", "_")
    tensors = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": torch.tensor(2.0)}
    save_file(tensors, path)
    return f"{layer}.weight", up @ down * (2.0 / rank)


@pytest.mark.filterwarnings("ignore")
def test_a_lora_is_added_to_the_weights(model_folder, tmp_path):
    plain = load(model_folder())
    name, delta = lora_file(tmp_path / "fast.safetensors", plain.unet.net)
    before = dict(plain.unet.net.named_parameters())[name]
    fused = load(model_folder(), loras=((tmp_path / "fast.safetensors", 0.5),))
    after = dict(fused.unet.net.named_parameters())
    assert name in after, "nothing of the adapter is left in the network"
    assert torch.allclose(after[name], before + 0.5 * delta, atol=1e-5)
    assert not np.array_equal(painted(fused), painted(plain))


@pytest.mark.filterwarnings("ignore")
def test_a_lora_that_does_not_fit_gets_a_sentence(model_folder, tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "odd.safetensors"
    save_file({"something.weight": torch.zeros(2)}, path)
    with pytest.raises(ModelError, match=r"odd\.safetensors"):
        load(model_folder(), loras=((path, 1.0),))


def edited(folder, to, file, **values):
    shutil.copytree(folder, to)
    config = json.loads((to / file).read_text())
    (to / file).write_text(json.dumps({**config, **values}))
    return to


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("file", "values", "words"),
    [
        ("unet/config.json", {"block_out_channels": [32, 96]}, "can't be loaded"),
        ("unet/config.json", {"down_block_types": ["NoSuchBlock", "DownBlock2D"]}, "can't be loaded"),
        ("text_encoder/config.json", {"hidden_size": 48}, "can't be loaded"),
        ("model_index.json", {"unet": ["mine", "UNet"]}, "code that is not in diffusers"),
    ],
)
def test_a_model_that_does_not_fit_together_gets_a_sentence(file, values, words, model_folder, tmp_path):
    with pytest.raises(ModelError, match=words) as error:
        load(edited(model_folder(), tmp_path / "model", file, **values))
    assert "\n" not in str(error.value)


def test_a_missing_or_broken_file_gets_a_sentence(model_folder, tmp_path):
    with pytest.raises(ModelError):
        load(tmp_path / "nowhere")
    broken = shutil.copytree(model_folder(), tmp_path / "broken")
    weights = broken / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError):
        load(broken)
    (broken / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights"):
        load(broken)
