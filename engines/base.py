"""What an engine gives: networks as plain callables over tensors, alike whoever runs them.

Latents are scaled as the UNet wants them and fp32 at every border; inside, an engine uses what precision it likes.
Nothing here synchronises with the device, so that a whole frame can be captured as one graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from engines.aside import Aside
    from engines.given import Deep, ImageBlocks, ImagePrompt, Outer
    from engines.machine import Machine
    from engines.window import Window

from engines.modelrows import Emphasis

DeviceName = Literal["auto", "cpu", "cuda", "mps", "intel"]
"""`intel`: an Intel graphics card, for the engine openvino alone."""
DTypeName = Literal["auto", "fp32", "bf16", "fp16", "fp16-accumulate", "fp8", "int8"]
"""`fp16-accumulate`: sums of products in fp16, too; `fp8`: for the engine tensorrt alone, `int8`: for
that and openvino."""


Kernels = Literal["", "triton", "inductor"]
"""What eager's networks are run by: torch's own kernels, or with ours, or what torch's compiler makes of them."""
KERNELS: Mapping[str, str] = {"": "", "triton": "own kernels", "inductor": "inductor"}
"""For people."""


class TensorSpec(NamedTuple):
    """One input or output of a network."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype


class NetSpec(NamedTuple):
    """A network as its caller sees it."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    device: torch.device


class Net(Protocol):
    """encode: image [1, 3, H, W] in [-1, 1] to latent [1, C, h, w]; decode: back again. All fp32."""

    @property
    def spec(self) -> NetSpec: ...

    def __call__(self, x: Tensor, /) -> Tensor: ...


class Finished(NamedTuple):
    """A decoded picture and what is made of it on the way, where that costs less than afterwards."""

    image: Tensor
    """fp32 [1, 3, H, W], held to [-1, 1]; memory that nobody else uses."""
    levels: Tensor
    """uint8 [H, W, 3], rounded to nearest."""
    good: bool
    """Whether what the network said is finite."""


def finisher(decode: Net) -> Callable[[Tensor], Finished] | None:
    """How `decode` gives pictures with all that; None where it only decodes. Waits for the picture: on a processor."""
    found: Callable[[Tensor], Finished] | None = getattr(decode, "finished", None)
    return found


def takes_bytes(encode: Net) -> bool:
    """Whether `encode` may be given uint8 [1, 3, H, W], 0..255, too."""
    return bool(getattr(encode, "takes_bytes", False))


class UNet(Protocol):
    """The denoiser. B is 1, or 2 for guidance by a doubled batch."""

    @property
    def spec(self) -> NetSpec: ...

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        cond: Sequence[Tensor],
        guidance: Tensor | None = None,
        residuals: Sequence[Tensor] = (),
        image: ImagePrompt | None = None,
        deep: Deep | None = None,
    ) -> Tensor:
        """x [B, C, h, w] fp32 and t, 0-dim fp32, to [B, C, h, w] fp32 of the model's own prediction type.

        cond: what `TextNet` gave, each with B rows. guidance: 0-dim fp32, for a network that was distilled to take the
        guidance scale as an input. residuals: a ControlNet's, down blocks first, the middle block's last.
        image: what an ImageAdapter of the same model made of a picture; only given where the engine loads those.
        deep: only given where `Nets.outer` is; what is not fresh needs only as many residuals as that says.
        One that `ahead_of` knows also takes `known`, by name: what that gave for this step and these prompts. One that
        `blends` takes a Blend, so, too; what `Nets.window` has takes `around`, in the place of `deep`.
        """
        ...


class ImageAdapter(Protocol):
    """A picture as a prompt: an IP-Adapter (Ye et al. 2023) with its image encoder. Called on a thread of its own."""

    @property
    def size(self) -> int:
        """Numbers that the denoiser reads of one picture."""
        ...

    def __call__(self, image: Tensor, /) -> Tensor:
        """fp32 [1, 3, H, W] in 0..1 to [2, size] in the engine's precision: the negative side's row, which saw no
        picture, then this one's."""
        ...

    def prompt(self, rows: Tensor, scale: Tensor, blocks: ImageBlocks, /) -> ImagePrompt:
        """Views of `rows`, [B, size], whose numbers may change later."""
        ...

    def blocks(self, blocks: ImageBlocks, /) -> tuple[bool, ...]:
        """Which cross attentions that means in this denoiser."""
        ...


class ControlNet(Protocol):
    """What a ControlNet adds to the denoiser (Zhang et al. 2023). Its residuals have the engine's precision."""

    @property
    def spec(self) -> NetSpec: ...

    @property
    def channels(self) -> int:
        """Of the hint: 3 for a picture; 6 for TemporalNet2's, the previous picture and the input's flow."""
        ...

    def embed(self, hint: Tensor) -> Tensor:
        """The hint, fp32 [1, channels, H, W] in 0..1, as the network uses it: once a frame, for all its steps."""
        ...

    def __call__(
        self, x: Tensor, t: Tensor, cond: Sequence[Tensor], hint: Tensor, outer: bool = False
    ) -> tuple[Tensor, ...]:
        """x, t, cond as the denoiser gets them and `hint` from `embed`, to residuals as the denoiser takes them.

        `outer`: those that its outermost level takes are enough. `known`: as the denoiser's.
        """
        ...


HintNet = Callable[["Tensor"], "Tensor"]
"""What a preprocessor looks through: fp32 [1, 3, H, W] in 0..1 to fp32 [1, 1, H, W] in 0..1; pose to [1, 3, H, W]."""


class Lora(Protocol):
    """A LoRA that fits a loaded model and is ready to act."""

    @property
    def speaks(self) -> bool:
        """Whether it changes what a prompt means."""
        ...

    @property
    def note(self) -> str:
        """What of it is left out, a sentence, or nothing."""
        ...


class Adapters(Protocol):
    """LoRAs over one loaded model (Hu et al. 2021), whose weights change while it runs."""

    def load(self, path: Path, /) -> Lora:
        """Read one, beside the running stream. Raises ModelError, a sentence, if it does not fit."""
        ...

    def merge(self, wanted: Sequence[tuple[Any, float]], /) -> bool:
        """Give the denoiser these, each times its weight, and no others; whether that changed anything. Between two
        frames, on their thread: streams over the same networks take turns, and each asks before its frame."""
        ...


class Text(NamedTuple):
    """An encoded prompt."""

    cond: tuple[Tensor, ...]
    """Hidden states [1, L, D]; for SDXL also the pooled embedding [1, P] and the size numbers [1, 6]."""
    tokens: int
    """How many tokens the prompt takes, begin and end not counted."""
    unknown: tuple[str, ...]
    """Words that the model's vocabulary can't spell, or that did not fit."""


class TextNet(Protocol):
    """Prompt to embedding. Called on the prompt's own thread."""

    @property
    def spec(self) -> NetSpec: ...

    def __call__(self, prompt: str, /) -> Text: ...


@dataclass(frozen=True)
class Build:
    """How to load a model."""

    height: int
    width: int
    """The picture's size in pixels; multiples of 64."""
    vae: Literal["tiny", "full"] = "tiny"
    tiny_vae: Path | None = None
    """Folder of an AutoencoderTiny, for a model that has none of its own."""
    loras: tuple[tuple[Path, float], ...] = ()
    """safetensors files fused into the UNet while loading, each with its weight."""
    device: DeviceName = "auto"
    dtype: DTypeName = "auto"
    chunks: int = 1
    """Prompts get room for so many chunks of the text encoder's own length."""
    emphasis: Emphasis = "scale"
    """How words get their weights: see engines.text."""
    threads: int = 0
    """CPU threads, for engines that have their own; 0 leaves the choice to them."""


@dataclass(frozen=True)
class Nets:
    """A loaded model."""

    unet: UNet
    encode: Net
    decode: Net
    text: TextNet
    scheduler: Mapping[str, Any]
    """scheduler_config.json."""
    latent: tuple[int, int, int]
    """C, h, w."""
    takes_guidance: bool
    """Whether the UNet was distilled to take the guidance scale as an input, as LCMs are."""
    device: torch.device
    dtype: torch.dtype
    """What the networks compute in."""
    described: str
    """For people: device, precision, autoencoder."""
    residuals: tuple[tuple[int, int, int], ...] = ()
    """C, h, w of each residual that the UNet takes, the middle block's last."""
    outer: Outer | None = None
    """None where all levels are computed in every frame."""
    window: Window | None = None
    """None where pictures are painted whole."""
    load_control: Callable[[Path], ControlNet] | None = None
    """Load the ControlNet in a folder, beside the running stream. Raises ModelError if it does not fit this UNet."""
    controlnets: dict[str, ControlNet] = field(default_factory=dict)
    """Those that are loaded, by id. Changes between frames only."""
    hintnets: dict[str, HintNet] = field(default_factory=dict)
    """What preprocessors look through, by kind. Changes between frames only."""
    loras: Adapters | None = None
    threads: int = 0
    """How many threads torch should have for what is around these networks; 0 for as many as it had."""
    follow: Callable[[Adapters], bool] | None = None
    """Between two frames: take over the denoiser's weights as the LoRAs of the same model's first engine have left
    them. Whether that is how it paints now."""
    load_image: Callable[[Path, Path], ImageAdapter] | None = None
    """Load an image adapter's file and its encoder's folder, beside the running stream. Raises ModelError, too."""
    machine: Machine | None = None
    """What whole frames can be recorded on; None where each operation is done as it comes."""
    aside: Aside | None = None
    """Where ControlNets may run while the denoiser begins; it joins them itself, before it uses what they add."""


class Engine(Protocol):
    """Loads models."""

    def load(self, folder: Path, build: Build) -> Nets:
        """Networks of the diffusers model in `folder`. Raises ModelError with a sentence."""
        ...
