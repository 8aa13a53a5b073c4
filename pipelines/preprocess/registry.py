"""The hints that a control unit can make of a picture, by name. Torch-free: the functions are imported when used.

Names, thresholds and their ranges are those that users of AUTOMATIC1111's ControlNet know, where it has the same one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from engines.modelrows import HintKind

if TYPE_CHECKING:
    from torch import Tensor

    Run = Callable[[Tensor, Tensor, Tensor], Tensor]
    HintNet = Callable[[Tensor], Tensor]


class Threshold(NamedTuple):
    """One of a preprocessor's two numbers; without a name it is not used."""

    name: str = ""
    default: float = 0.0
    minimum: float = 0.0
    maximum: float = 0.0

    def settle(self, value: float) -> float:
        """What to run with when `value` is asked for: the default for a negative one, else within the range."""
        return self.default if value < 0 else min(max(value, self.minimum), self.maximum)


UNUSED = Threshold()


@dataclass(frozen=True)
class Preprocessor:
    """A picture to a hint, on its device, without a host sync and with a fixed sequence of operations."""

    name: str
    doc: str
    where: str
    """`module:function` of (image, low, high), fp32 [1, 3, H, W] in 0..1 and two fp32 scalars, to the hint."""
    low: Threshold = UNUSED
    high: Threshold = UNUSED
    needs: HintKind | Literal[""] = ""
    """The network that looks at the picture first; empty where none does."""
    beside: bool = False
    """Whether that network runs on the host, on a thread of its own, whose answer is carried to the present frame."""
    net: HintNet | None = None

    @cached_property
    def run(self) -> Run:
        """The function behind it, which works in fp32."""
        module, _, function = self.where.partition(":")
        return cast("Run", getattr(import_module(module), function))

    def bind(self, net: HintNet) -> Preprocessor:
        """The same with its network: what `engines.hintnets` loaded, [1, 3, H, W] to [1, 1, H, W]."""
        return replace(self, net=net)

    def __call__(self, image: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """[1, 3, H, W] in 0..1 to [1, 3, H, W] in 0..1, same device and dtype. low, high: scalars on that device."""
        seen = image.float()
        if self.needs:
            if self.net is None:
                raise ValueError(f"{self.name} needs the network {self.needs}: bind it first")
            seen = self.net(seen)
        return self.finish(seen, low, high).to(image.dtype)

    def finish(self, seen: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """What is left to do with the picture, or with what its network saw in it: to the hint, fp32 [1, 3, H, W]."""
        return self.run(seen, low.float(), high.float())


_HERE = "pipelines.preprocess"

_ALL = (
    Preprocessor("none", "The picture as it is: for a source that is a hint already.", f"{_HERE}.tones:none"),
    Preprocessor("invert", "The negative: black lines on white become white on black.", f"{_HERE}.tones:invert"),
    Preprocessor(
        "canny",
        "Thin outlines of the grey picture, as cv2.Canny finds them.",
        f"{_HERE}.canny:canny",
        Threshold("low threshold", 100, 0, 255),
        Threshold("high threshold", 200, 0, 255),
    ),
    Preprocessor(
        "canny_colour",
        "Thin outlines of whichever colour channel changes most: what public Canny ControlNets were trained with.",
        f"{_HERE}.canny:canny_colour",
        Threshold("low threshold", 100, 0, 255),
        Threshold("high threshold", 200, 0, 255),
    ),
    Preprocessor(
        "softedge",
        "Soft outlines in the manner of HED, without a network: texture is held back, contours stay.",
        f"{_HERE}.lines:softedge",
        Threshold("texture suppression", 1.0, 0, 2),
        Threshold("gain", 5.0, 0.5, 20),
    ),
    Preprocessor(
        "scribble",
        "A rough white drawing on black: extended difference of Gaussians.",
        f"{_HERE}.lines:scribble",
        Threshold("threshold", 32, 1, 64),
    ),
    Preprocessor(
        "lineart",
        "White strokes on black where the picture is darker than what is around it.",
        f"{_HERE}.lines:lineart",
        Threshold("sigma", 6, 0.5, 16),
        Threshold("intensity threshold", 8, 0, 64),
    ),
    Preprocessor(
        "luminance",
        "Brightness alone, as brightness and QR-code ControlNets expect.",
        f"{_HERE}.tones:luminance",
        Threshold("gamma", 1.0, 0.1, 2),
    ),
    Preprocessor(
        "threshold",
        "White where the darkest channel is above the threshold, else black.",
        f"{_HERE}.tones:threshold",
        Threshold("threshold", 127, 0, 255),
    ),
    Preprocessor("blur", "A Gaussian blur.", f"{_HERE}.tones:blur", Threshold("sigma", 9, 0.01, 64)),
    Preprocessor(
        "tile",
        "Shrunk by a factor and brought back to size: what tile ControlNets put detail into.",
        f"{_HERE}.tones:tile",
        Threshold("down sampling", 1, 1, 8),
    ),
    Preprocessor(
        "colour",
        "A grid of mean colours, as the T2I colour adapter expects.",
        f"{_HERE}.tones:colour",
        Threshold("cell", 64, 4, 256),
    ),
    Preprocessor(
        "normal",
        "Surface normals of the picture read as a height map: bright is near. For depth maps from another stream too.",
        f"{_HERE}.normal:normal",
        Threshold("background", 0.0, 0, 1),
        Threshold("strength", 8.0, 0, 64),
    ),
)

PREPROCESSORS: dict[str, Preprocessor] = {each.name: each for each in _ALL}
"""Every preprocessor that needs no network, by name."""

_NETWORKS = (
    Preprocessor("depth", "Relative depth, near is white.", f"{_HERE}.networks:as_it_is", needs="depth"),
    Preprocessor(
        "normal_depth",
        "Surface normals from the depth network.",
        f"{_HERE}.networks:normals",
        Threshold("background", 0.4, 0, 1),
        Threshold("strength", 8.0, 0, 64),
        needs="depth",
    ),
    Preprocessor("hed", "HED's soft outlines.", f"{_HERE}.networks:as_it_is", needs="hed"),
    Preprocessor("pidinet", "PiDiNet's soft outlines.", f"{_HERE}.networks:as_it_is", needs="pidinet"),
    Preprocessor(
        "scribble_hed",
        "A rough drawing made of HED's outlines.",
        f"{_HERE}.networks:scribble",
        Threshold("threshold", 127, 0, 255),
        needs="hed",
    ),
    Preprocessor(
        "scribble_pidinet",
        "A rough drawing made of PiDiNet's outlines.",
        f"{_HERE}.networks:scribble",
        Threshold("threshold", 127, 0, 255),
        needs="pidinet",
    ),
    Preprocessor("pose", "People's skeletons in OpenPose's colours.", f"{_HERE}.tones:none", needs="pose", beside=True),
)

NETWORK_PREPROCESSORS: dict[str, Preprocessor] = {each.name: each for each in _NETWORKS}
"""Those that are to be bound to a network before they are called, by name."""

CHOICES = PREPROCESSORS | NETWORK_PREPROCESSORS
"""What a control unit may name."""
