"""How a part of a picture is painted as the whole picture has it there: see engines.surroundings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from engines.base import Net, UNet


class Painters(NamedTuple):
    """What paints a picture or a part of it, all of one size."""

    encode: Net
    unet: UNet
    decode: Net


class Window(Protocol):
    """What an engine has for parts of pictures."""

    grid: int
    """Pixels of which a part's place and size are multiples."""
    numbers: int
    """That the denoiser's normalisations keep of a whole picture, at each step."""
    present: Sequence[object]
    """All networks that `painters` gives."""
    wrong: str
    """Why something of it can't be had, a sentence, or nothing."""
    fixed: bool
    """Whether there are networks of each size apart: then few sizes do."""

    def painters(self, size: tuple[int, int], /) -> Painters | None:
        """For parts of (height, width), or for whole pictures of which is kept what their parts need. None where they
        are not there: then they are made ready beside the stream, if they can be."""
        ...

    def settle(self) -> None:
        """Wait until what is being made ready is."""
        ...


def numbers_of(control: object) -> int:
    """What a ControlNet's normalisations keep of a whole picture; 0 for one that sees whole pictures alone. Others take
    `around` as `Window`'s denoiser does."""
    found: int = getattr(control, "numbers", 0)
    return found


class EagerWindow:
    """Implements Window with networks that take any size."""

    fixed, wrong = False, ""

    def __init__(self, painters: Painters, grid: int, numbers: int) -> None:
        self._painters, self.grid, self.numbers = painters, grid, numbers
        self.present: Sequence[object] = painters

    def painters(self, size: tuple[int, int], /) -> Painters | None:
        return self._painters

    def settle(self) -> None: ...


def grid_of(config: Mapping[str, Any], factor: int) -> int:
    """Of a UNet2DConditionModel: pixels that its innermost level sees as one. `factor`: pixels of a latent's."""
    levels: int = len(config["block_out_channels"])
    return factor << (levels - 1)
