"""ControlNets: diffusers' ControlNetModel, loaded beside a running stream and checked against its UNet.

From this machine alone, safetensors alone, after `engines.weights` has judged the folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engines.base import NetSpec, TensorSpec
from engines.errors import ModelError, first_line
from engines.given import Ahead, Around, Known, Reads
from engines.idle import leave_out
from engines.outer import LAYERS, outer_control
from engines.surroundings import Held, surround
from engines.weights import CLASSES, check_net

Shape = tuple[int, int, int]
_FOREIGN = "it was made for another family of models"


class EagerControlNet:
    """A ControlNetModel. Implements engines.base.ControlNet."""

    def __init__(self, net: Any, dtype: torch.dtype, spec: NetSpec) -> None:
        self.net, self._dtype, self.spec = net, dtype, spec
        self.ahead: Ahead | None = None
        self.held: Held | None = None
        """See EagerUNet."""
        self.channels: int = net.config.conditioning_channels
        self._flip = net.config.controlnet_conditioning_channel_order == "bgr"
        self.embedding = net.controlnet_cond_embedding
        # diffusers embeds the hint at every step; it is the same for all of them
        net.controlnet_cond_embedding = torch.nn.Identity()
        net.register_to_config(controlnet_conditioning_channel_order="rgb")
        self._pooled = net.config.addition_embed_type == "text_time"
        layers = net.config.get("layers_per_block", LAYERS)
        self.shallow = 1 + (layers if isinstance(layers, int) else layers[0])
        """How many residuals it gives where those of the outermost level are enough."""
        self._outer = outer_control(net, self.shallow)

    def embed(self, hint: Tensor) -> Tensor:
        """fp32 [1, channels, H, W] in 0..1 to the network's own [1, C, h, w]."""
        hint = hint.flip(1) if self._flip else hint
        return self.embedding(hint.to(self._dtype))  # type: ignore[no-any-return]

    def foresee(self) -> EagerControlNet:
        """Have it take what is known ahead, where it is built so that it can."""
        from engines.ahead import foresee

        self.ahead = foresee(self.net)
        return self

    def surround(self) -> EagerControlNet:
        """Have it see parts of pictures, too; not where it says one thing of all of a picture."""
        self.held = None if self.net.config.global_pool_conditions else surround(self.net)
        return self

    @property
    def numbers(self) -> int:
        """That its normalisations keep of a whole picture; none where it sees whole pictures alone."""
        return self.held.numbers if self.held is not None else 0

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        cond: Sequence[Tensor],
        hint: Tensor,
        outer: bool = False,
        known: Known | None = None,
        around: Around | None = None,
    ) -> tuple[Tensor, ...]:
        """Residuals, the middle block's last: [B, C, h, w] each, in the engine's precision."""
        if around is not None:
            assert self.held is not None, "a part is shown to a network that knows of no whole"
            with self.held.around(around):
                return self(x, t, cond, hint, outer, known)
        if known is None and self.ahead is not None:
            known = self.ahead(t, cond)
        net = self._outer if outer else self.net
        down, middle = net(
            x.to(self._dtype),
            t,
            cond[0],
            hint,
            timestep_cond=known.time if known is not None else None,
            cross_attention_kwargs={"ip_hidden_states": Reads(known.text, None)} if known is not None else None,
            added_cond_kwargs={"text_embeds": cond[1], "time_ids": cond[2]} if self._pooled else None,
            return_dict=False,
        )
        return tuple(down) if outer else (*down, middle)


class ControlLoader:
    """Loads ControlNets for one UNet. Called on a thread of its own."""

    def __init__(
        self,
        latent: Shape,
        cond: tuple[TensorSpec, ...],
        residuals: tuple[Shape, ...],
        device: torch.device,
        dtype: torch.dtype,
        foresees: bool = False,
    ) -> None:
        """`cond`: what the text encoder gives, one row each. `residuals`: what the UNet takes. `foresees`: whether what
        it loads takes what is known ahead (engines.ahead) and sees parts of pictures (engines.surroundings); not where
        a compiler makes something else of it."""
        self._foresees = foresees
        self._latent, self._cond, self._residuals = latent, cond, residuals
        self._device, self._dtype = device, dtype

    @torch.inference_mode()
    def __call__(self, folder: Path) -> EagerControlNet:
        """Raises ModelError, a sentence, for a folder that is no ControlNet or one that does not fit."""
        variant = check_net(folder, CLASSES["controlnet"])
        try:
            net = self._load(folder, variant)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
            # what diffusers and safetensors raise for configs and weights that do not fit together
            raise ModelError(f"it can't be loaded: {first_line(error)}") from error
        try:
            found = self._try(net)
        except (ValueError, TypeError, RuntimeError, IndexError, AttributeError) as error:
            raise ModelError(f"{_FOREIGN}: {first_line(error)}") from error
        if len(found) != len(self._residuals) or not all(map(_fits, found, self._residuals)):
            raise ModelError(f"{_FOREIGN}: what it adds has other sizes than this denoiser takes")
        return net

    def _load(self, folder: Path, variant: str) -> EagerControlNet:
        from diffusers.models.controlnets.controlnet import ControlNetModel

        net = ControlNetModel.from_pretrained(
            folder,
            torch_dtype=self._dtype,
            use_safetensors=True,
            local_files_only=True,
            variant=variant or None,
        )
        leave_out(net)
        net = net.eval().requires_grad_(False).to(device=self._device, memory_format=torch.channels_last)
        control = EagerControlNet(net, self._dtype, self._spec())
        return control.foresee().surround() if self._foresees else control

    def _spec(self) -> NetSpec:
        x, t = TensorSpec("x", (1, *self._latent), torch.float32), TensorSpec("t", (), torch.float32)
        outputs = [TensorSpec(f"residual{i}", (1, *shape), self._dtype) for i, shape in enumerate(self._residuals)]
        return NetSpec((x, t, *self._cond), tuple(outputs), self._device)

    def _try(self, net: EagerControlNet) -> tuple[Tensor, ...]:
        """Run it once: finds out whether it fits, and lets its kernels be chosen before a frame needs them."""
        x = torch.zeros(1, *self._latent, device=self._device)
        cond = [torch.zeros(spec.shape, dtype=self._dtype, device=self._device) for spec in self._cond]
        hint = torch.zeros(1, net.channels, 8 * self._latent[1], 8 * self._latent[2], device=self._device)
        return net(x, x.new_zeros(()), cond, net.embed(hint))


def residual_shapes(config: Any, latent: Shape) -> tuple[Shape, ...]:
    """C, h, w of what a UNet2DConditionModel of this config keeps for its way up, and of its middle."""
    _, height, width = latent
    widths, layers = config.block_out_channels, config.layers_per_block
    layers = (layers,) * len(widths) if isinstance(layers, int) else layers
    shapes = [(widths[0], height, width)]
    for i, (channels, count) in enumerate(zip(widths, layers, strict=True)):
        shapes += [(channels, height, width)] * count
        if i < len(widths) - 1:
            height, width = -(-height // 2), -(-width // 2)
            shapes.append((channels, height, width))
    return (*shapes, (widths[-1], height, width))


def _fits(found: Tensor, wanted: Shape) -> bool:
    """The same channels and size, or one number a channel (global_pool_conditions)."""
    return found.shape[1] == wanted[0] and tuple(found.shape[2:]) in (wanted[1:], (1, 1))
