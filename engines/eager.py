"""The engine that runs everywhere: PyTorch as it is, on CPU, CUDA or MPS.

Loads an ordinary diffusers folder with diffusers' and transformers' own classes, from this machine alone, safetensors
alone. Those imports take seconds, so that they happen in `load`, and only of the modules that hold the classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from engines import device as devices
from engines import lora
from engines.base import Ahead, Build, Deep, ImagePrompt, Known, Nets, NetSpec, Reads, TensorSpec
from engines.control import ControlLoader, residual_shapes
from engines.errors import ModelError, first_line
from engines.fold import fold_codec
from engines.guidancescale import GuidanceScale
from engines.ipadapter import AdapterLoader
from engines.outer import Ear, outer_of, outer_unet
from engines.text import ClipText
from engines.weights import check_folder, check_net, read_json

Floats = Callable[[Tensor], Tensor]


class EagerNet:
    """encode or decode: fp32 outside, the engine's precision inside. Implements engines.base.Net."""

    def __init__(self, run: Floats, dtype: torch.dtype, spec: NetSpec) -> None:
        self._run, self._dtype, self.spec = run, dtype, spec

    def __call__(self, x: Tensor, /) -> Tensor:
        return self._run(x.to(self._dtype)).float()


class EagerUNet:
    """A UNet2DConditionModel. Implements engines.base.UNet; with `foresee`, takes what is known ahead."""

    def __init__(self, net: Any, dtype: torch.dtype, spec: NetSpec) -> None:
        self.net, self.dtype, self.spec = net, dtype, spec
        self.ahead: Ahead | None = None
        self.attention: Sequence[SDPBackend] = ()
        """torch's attention kernels, the best first; empty for torch's own order."""
        self.outer: Any = None
        """Its outermost level, over the same weights; None where it has none that can be told apart."""
        self.cut()
        self._nothing = torch.zeros((), dtype=dtype, device=spec.device)
        self.guidance_dim: int | None = net.config.time_cond_proj_dim
        self._guidance = GuidanceScale(self.guidance_dim, dtype, spec.device)

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        cond: Sequence[Tensor],
        guidance: Tensor | None = None,
        residuals: Sequence[Tensor] = (),
        image: ImagePrompt | None = None,
        deep: Deep | None = None,
        known: Known | None = None,
    ) -> Tensor:
        if deep is None:
            return self._run(self.net, x, t, cond, guidance, residuals, image, known)
        if not deep.fresh:
            return self.from_deep(deep.kept, x, t, cond, guidance, residuals, image, known)
        out, state = self.with_deep(x, t, cond, guidance, residuals, image, known)
        deep.kept.copy_(state)
        return out

    def cut(self) -> None:
        """Make the outermost level of what `net` is now: again, where parts of that have been exchanged."""
        self.outer = outer_unet(self.net) if outer_of(self.net.config, (0, 0, 0)) else None

    def parts(self) -> list[Any]:
        """The networks that it calls."""
        return [net for net in (self.net, self.outer) if net is not None]

    def with_deep(self, *inputs: Any) -> tuple[Tensor, Tensor]:
        """As a call, and what the outermost level is handed on its way, [B, C, h, w]."""
        with Ear(self.net) as ear:
            out = self._run(self.net, *inputs)
        return out, ear.heard

    def from_deep(
        self, state: Tensor, x: Tensor, t: Tensor, cond: Sequence[Tensor], guidance: Tensor | None = None,
        residuals: Sequence[Tensor] = (), image: ImagePrompt | None = None, known: Known | None = None,
    ) -> Tensor:  # fmt: skip
        """As a call, by the outermost level alone, which is handed `state`."""
        self.outer.mid_block.state = state
        return self._run(
            self.outer, x, t, cond, guidance, (*residuals, self._nothing) if residuals else (), image, known
        )

    def _run(
        self, net: Any, x: Tensor, t: Tensor, cond: Sequence[Tensor], guidance: Tensor | None = None,
        residuals: Sequence[Tensor] = (), image: ImagePrompt | None = None, known: Known | None = None,
    ) -> Tensor:  # fmt: skip
        if known is None and self.ahead is not None:
            known = self.ahead(t, cond, guidance)
        told = known.time if known is not None else self._guidance(guidance)
        reads = Reads(known.text if known is not None else (), image)
        added = {"text_embeds": cond[1], "time_ids": cond[2]} if len(cond) == 3 else None
        with sdpa_kernel(list(self.attention), set_priority=True) if self.attention else nullcontext():
            out = net(
                x.to(self.dtype),
                t,
                cond[0],
                timestep_cond=told,
                added_cond_kwargs=added,
                cross_attention_kwargs={"ip_hidden_states": reads} if any(reads) else None,
                down_block_additional_residuals=tuple(r.to(self.dtype) for r in residuals[:-1]) or None,
                mid_block_additional_residual=residuals[-1].to(self.dtype) if residuals else None,
                return_dict=False,
            )[0]
        return out.float()  # type: ignore[no-any-return]

    def foresee(self, version: Callable[[], int] = int) -> EagerUNet:
        """Have it take what is known ahead, where it is built so that it can. `version` changes with its weights."""
        from engines.ahead import foresee

        self.ahead = foresee(self.net, version, self._guidance)
        return self


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
    loras = lora.Adapters(unet, [model for _, model in text.encoders])
    text.loras = loras
    return Nets(
        unet=EagerUNet(unet, dtype, unet_spec(latent, text, device)).foresee(lambda: loras.unet.merges),
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
        load_control=ControlLoader(latent, text.spec.outputs, residuals, device, dtype, foresees=True),
        loras=loras,
        load_image=AdapterLoader(looks, device, dtype),
    )


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
