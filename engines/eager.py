"""The engine that runs everywhere: PyTorch as it is, on CPU, CUDA or MPS.

Loads an ordinary diffusers folder with diffusers' and transformers' own classes, from this machine alone, safetensors
alone. Those imports take seconds, so that they happen in `load`, and only of the modules that hold the classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from engines import device as devices
from engines import lora
from engines.base import Build, Nets, NetSpec, TensorSpec
from engines.control import ControlLoader, residual_shapes
from engines.eagernet import EagerNet, EagerUNet, Floats
from engines.errors import ModelError, first_line
from engines.fold import fold_codec
from engines.ipadapter import AdapterLoader
from engines.outer import outer_of
from engines.text import ClipText
from engines.weights import check_folder, check_net, read_json
from engines.window import EagerWindow, Painters, grid_of


class EagerEngine:
    """Implements engines.base.Engine."""

    @torch.inference_mode()
    def load(self, folder: Path, build: Build) -> Nets:
        """Networks of the model in `folder`. Raises ModelError with a sentence."""
        checked = check_folder(folder)
        device = devices.choose_device(build.device)
        dtype = devices.choose_dtype(build.dtype, device)
        with sentences(folder):
            return _load(folder, build, checked.variants, device, dtype)


@contextmanager
def sentences(folder: Path) -> Iterator[None]:
    """Inside, what diffusers, transformers and safetensors raise for configs and weights that do not fit together
    becomes a ModelError."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"{folder.name} can't be loaded: {first_line(error, 300)}") from error


class Modules(NamedTuple):
    """A model's networks as torch has them, for whoever makes something else of them."""

    unet: Any
    """UNet2DConditionModel, its LoRAs fused."""
    vae: Any
    """AutoencoderTiny or AutoencoderKL."""
    kind: str
    """What to call the autoencoder."""
    latent: tuple[int, int, int]


def load_modules(
    folder: Path, build: Build, variants: dict[str, str], device: torch.device, dtype: torch.dtype
) -> Modules:
    """The UNet and the autoencoder, on the device. Raises as those who load them do: see `sentences`."""
    with without("peft", "scipy"):
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
        from diffusers.utils import logging

    logging.set_verbosity_error()
    unet = _network(UNet2DConditionModel, folder / "unet", variants["unet"], dtype)
    lora.fuse(unet, build.loras)
    unet = _place(unet, device)
    vae, kind = _autoencoder(folder, build, variants["vae"], device, dtype)
    return Modules(unet, vae, kind, _latent(unet, vae, build))


def _load(folder: Path, build: Build, variants: dict[str, str], device: torch.device, dtype: torch.dtype) -> Nets:
    unet, vae, kind, latent = load_modules(folder, build, variants, device, dtype)
    from engines.crossattention import install

    looks = install(unet)
    text = load_text(folder, build, variants, device, dtype)
    if device.type == "cpu":
        fold_codec(vae)
    encode, decode = _codec(vae, latent, build, device)
    residuals = residual_shapes(unet.config, latent)
    denoiser = EagerUNet(unet, dtype, unet_spec(latent, text, device)).foresee(lambda: loras.unet.merges)
    loras = lora.Adapters(unet, [model for _, model in text.encoders])
    text.loras = loras
    return Nets(
        unet=denoiser,
        encode=encode,
        decode=decode,
        text=text,
        scheduler=read_json(folder / "scheduler" / "scheduler_config.json", "scheduler_config.json"),
        latent=latent,
        takes_guidance=bool(unet.config.time_cond_proj_dim),
        device=device,
        dtype=dtype,
        described=f"{device.type} {str(dtype).removeprefix('torch.')}, {kind}",
        residuals=residuals,
        outer=outer_of(unet.config, latent),
        window=_window(denoiser, encode, decode, vae, build.height // latent[1]),
        load_control=ControlLoader(latent, text.spec.outputs, residuals, device, dtype, foresees=True),
        loras=loras,
        load_image=AdapterLoader(looks, device, dtype),
    )


def _window(unet: EagerUNet, encode: EagerNet, decode: EagerNet, vae: Any, factor: int) -> EagerWindow | None:
    """`factor`: pixels along a side of a latent's. None for an autoencoder that looks across the whole picture."""
    if type(vae).__name__ != "AutoencoderTiny":
        return None
    return EagerWindow(Painters(encode, unet.surround(), decode), grid_of(unet.net.config, factor), unet.numbers)


@contextmanager
def without(*packages: str) -> Iterator[None]:
    """Let diffusers take these packages for absent while its modules load: it imports them whole for what we never use,
    which costs a quarter of the time to the first picture."""
    from diffusers.utils import import_utils

    names = [f"_{package}_available" for package in packages]
    before = {name: getattr(import_utils, name) for name in names if hasattr(import_utils, name)}
    try:
        for name in before:
            setattr(import_utils, name, False)
        yield
    finally:
        for name, value in before.items():
            setattr(import_utils, name, value)


def _network(cls: Any, folder: Path, variant: str, dtype: torch.dtype) -> Any:
    options = {"torch_dtype": dtype, "use_safetensors": True, "local_files_only": True, "variant": variant or None}
    return cls.from_pretrained(folder, **options)


def _place(net: Any, device: torch.device) -> Any:
    return net.eval().requires_grad_(False).to(device=device, memory_format=torch.channels_last)


def _autoencoder(folder: Path, build: Build, variant: str, device: torch.device, dtype: torch.dtype) -> tuple[Any, str]:
    """The autoencoder that was asked for, as far as there is one, and what to call it."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    config = read_json(folder / "vae" / "config.json", "vae/config.json")
    if config.get("_class_name") == "AutoencoderTiny":
        return _place(_network(AutoencoderTiny, folder / "vae", variant, dtype), device), "tiny autoencoder"
    if build.vae == "tiny" and build.tiny_vae is not None:
        check_net(build.tiny_vae, frozenset({"AutoencoderTiny"}))
        return _place(_network(AutoencoderTiny, build.tiny_vae, "", dtype), device), "tiny autoencoder"
    if dtype is torch.float16 and config.get("force_upcast", False):
        dtype = torch.float32  # SDXL's own autoencoder overflows in fp16
    return _place(_network(AutoencoderKL, folder / "vae", variant, dtype), device), "full autoencoder"


def _latent(unet: Any, vae: Any, build: Build) -> tuple[int, int, int]:
    if unet.config.in_channels != vae.config.latent_channels:
        raise ModelError(
            f"the UNet takes {unet.config.in_channels} channels, the autoencoder gives {vae.config.latent_channels}: "
            "inpainting and editing models are not supported"
        )
    blocks = vae.config.get("encoder_block_out_channels") or vae.config.block_out_channels
    factor = 2 ** (len(blocks) - 1)
    return unet.config.in_channels, build.height // factor, build.width // factor


def coders(vae: Any) -> tuple[Floats, Floats]:
    """Picture to latent as the UNet wants it, and back, in the autoencoder's own precision."""
    scale, shift = float(vae.config.scaling_factor), float(vae.config.get("shift_factor") or 0.0)
    tiny = type(vae).__name__ == "AutoencoderTiny"

    def encode(image: Tensor) -> Tensor:
        found = vae.encode(image, return_dict=False)[0]
        z: Tensor = found if tiny else found.mean
        return z if (scale, shift) == (1.0, 0.0) else (z - shift) * scale

    def decode(z: Tensor) -> Tensor:
        z = z if (scale, shift) == (1.0, 0.0) else z / scale + shift
        return vae.decode(z, return_dict=False)[0]  # type: ignore[no-any-return]

    return encode, decode


def _codec(vae: Any, latent: tuple[int, int, int], build: Build, device: torch.device) -> tuple[EagerNet, EagerNet]:
    encode, decode = coders(vae)
    picture = TensorSpec("image", (1, 3, build.height, build.width), torch.float32)
    hidden = TensorSpec("latent", (1, *latent), torch.float32)
    to, back = NetSpec((picture,), (hidden,), device), NetSpec((hidden,), (picture,), device)
    return EagerNet(encode, vae.dtype, to), EagerNet(decode, vae.dtype, back)


def load_text(
    folder: Path, build: Build, variants: dict[str, str], device: torch.device, dtype: torch.dtype
) -> ClipText:
    """The text encoders. Raises as those who load them do: see `sentences`."""
    from transformers.models.clip import modeling_clip
    from transformers.utils import logging

    logging.disable_progress_bar()
    encoders = []
    for suffix in ("", "_2"):
        if f"text_encoder{suffix}" in variants:
            cls = modeling_clip.CLIPTextModelWithProjection if suffix else modeling_clip.CLIPTextModel
            net = _transformer(cls, folder / f"text_encoder{suffix}", variants[f"text_encoder{suffix}"], dtype)
            encoders.append((_tokenizer(folder, f"tokenizer{suffix}"), net.eval().requires_grad_(False).to(device)))
    zero_empty = bool(read_json(folder / "model_index.json", "model_index.json").get("force_zeros_for_empty_prompt"))
    return ClipText(encoders, build.height, build.width, device, zero_empty, build.chunks, emphasis=build.emphasis)


def _transformer(cls: Any, folder: Path, variant: str, dtype: torch.dtype) -> Any:
    return cls.from_pretrained(
        folder,
        dtype=dtype,
        use_safetensors=True,
        local_files_only=True,
        variant=variant or None,
        trust_remote_code=False,
    )


def _tokenizer(folder: Path, name: str) -> Any:
    """The fast kind, which knows where in the text each token lies."""
    import transformers
    import transformers.models.clip as clip

    cls = transformers.PreTrainedTokenizerFast
    if read_json(folder / "model_index.json", "model_index.json")[name][1] != "PreTrainedTokenizerFast":
        cls = (
            getattr(clip, "CLIPTokenizerFast", None) or clip.CLIPTokenizer
        )  # transformers 5 has one, fast, CLIPTokenizer
    return cls.from_pretrained(folder / name, local_files_only=True, trust_remote_code=False)


def unet_spec(latent: tuple[int, int, int], text: ClipText, device: torch.device) -> NetSpec:
    """A UNet as its caller sees it."""
    x, t = TensorSpec("x", (1, *latent), torch.float32), TensorSpec("t", (), torch.float32)
    return NetSpec((x, t, *text.spec.outputs), (TensorSpec("out", (1, *latent), torch.float32),), device)
