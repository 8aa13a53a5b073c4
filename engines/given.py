"""What a denoiser can be given besides a latent, a step and a prompt: what steers it more, and what saves it work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor

ImageBlocks = Literal["all", "style", "layout"]


class ImagePrompt(NamedTuple):
    """A picture as the denoiser's cross attentions read it, beside the text: decoupled cross-attention."""

    layers: tuple[tuple[Tensor, Tensor] | None, ...]
    """Keys and values of each, [B, heads, tokens, d]; None where it does not look."""
    scale: Tensor
    """How strongly, 0-dim fp32."""


class Known(NamedTuple):
    """What a network makes of one step and of the prompt, whatever the picture."""

    time: Tensor
    """[1 or B, sum of the blocks' channels]."""
    text: tuple[tuple[Tensor, ...], ...]
    """Keys and values of each cross attention, [B, heads, L, d]; of a compiled network all in one, [B, L, their sum];
    empty where none reads the prompt."""


class Reads(NamedTuple):
    """What cross attentions read."""

    text: tuple[tuple[Tensor, ...], ...]
    """See Known; empty where they read the hidden states themselves."""
    image: ImagePrompt | None


class Ahead(Protocol):
    """Computes what is Known, for a network that can be given it. Its results have the engine's precision."""

    pooled: bool
    """Whether the prompt is part of the time's embedding."""
    guided: bool
    """Whether the guidance scale is."""
    version: Callable[[], int]
    """Changes when the weights do."""

    def __call__(self, t: Tensor, cond: Sequence[Tensor], guidance: Tensor | None = None, /) -> Known:
        """Of one step: t and guidance 0-dim, cond [B, ...] each."""
        ...

    def room(self, steps: int, length: int, /) -> tuple[Tensor, Tensor]:
        """Memory for what `times` and `reads` give, of so many steps, two prompts, and texts of that length."""
        ...

    def times(self, t: Tensor, cond: Sequence[Tensor], guidance: Tensor | None, /) -> Tensor:
        """t fp32 [S] to [S, 1 or B, channels]."""
        ...

    def reads(self, text: Tensor, /) -> Tensor:
        """Hidden states [B, L, D] to the keys and values of all cross attentions."""
        ...

    def views(self, reads: Tensor, /) -> tuple[tuple[Tensor, ...], ...]:
        """Of what `reads` gave, what is Known of the text."""
        ...


def ahead_of(net: object) -> Ahead | None:
    """How to compute what `net` may be given as `known`; None for a network that can't be given it."""
    found: Ahead | None = getattr(net, "ahead", None)
    return found


class Blend(NamedTuple):
    """The weighted sums before and behind a denoiser, made in it: it is run on `takes_x` x + `takes_noise` noise, and
    gives `gives_x` x + `gives_noise` noise + `gives_said` what it says of that."""

    noise: Tensor
    """fp32, as x."""
    takes_x: Tensor
    """This and all others fp32 [1]."""
    takes_noise: Tensor
    gives_x: Tensor
    gives_noise: Tensor
    gives_said: Tensor


def blends(net: object) -> bool:
    """Whether a denoiser takes `blend`, a Blend, by name; with a batch of one."""
    return bool(getattr(net, "blends", False))


class Outer(NamedTuple):
    """A denoiser's outermost level, which can be computed without those below it."""

    state: tuple[int, int, int]
    """C, h, w of what they hand to it."""
    residuals: int
    """So many it takes of a ControlNet's, the first ones."""


class Deep(NamedTuple):
    """What the levels below the outermost one say, at one step of one frame."""

    kept: Tensor
    """[B, C, h, w] in the engine's precision, as `Nets.outer` says."""
    fresh: bool
    """Whether they are computed now and what they say is left in `kept`; else it is taken from there."""


class Around(NamedTuple):
    """What a denoiser's normalisations find in a whole picture, at one step of one frame."""

    kept: Tensor
    """fp32 [B, `Window.numbers`]."""
    fresh: bool
    """Whether the picture is whole, and what they find in it is left in `kept`; else it is a part of that one, and they
    use what is there."""
