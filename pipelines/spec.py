"""What a worker is asked to build. Torch-free: the bridge writes it, the worker reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipelines.params import Params

Engine = Literal["auto", "eager", "compiled", "openvino", "tensorrt", "fake"]
Device = Literal["auto", "cpu", "cuda", "mps", "intel"]
DType = Literal["auto", "fp32", "bf16", "fp16", "fp16-accumulate", "fp8", "int8"]
IMAGE = 0
"""The image prompt's number where pictures come to control units, which have theirs from 1."""


class StreamSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything structural: two streams with the same spec and parameters paint the same pictures."""

    model: str = "pocket"
    width: int = 256
    height: int = 256
    vae: Literal["tiny", "full"] = "tiny"
    prompt_chunks: int = 1
    engine: Engine = "eager"
    device: Device = "auto"
    dtype: DType = "auto"
    threads: int = 0
    """CPU threads for the networks; 0 leaves the choice to torch."""
    fake: dict[str, float] = {}
    """For the fake engine alone: how long it takes and how it misbehaves (see engines/fake.py)."""


def structural(spec: StreamSpec, params: Params) -> StreamSpec:
    """`spec` with the structural values of `params`."""
    return msgspec.structs.replace(
        spec,
        model=params.model,
        width=params.width,
        height=params.height,
        vae=params.vae,
        prompt_chunks=params.prompt_chunks,
    )


class Moment(NamedTuple):
    """When a frame is. Both numbers are the bridge's, so that a worker that takes over goes on where another was."""

    seconds: float
    """On the bridge's clock, when the frame was fed."""
    frame: int
    """Its number."""


class Overtaken(Exception):
    """A frame was overwritten while it was taken: there is a newer one."""


class Places(Protocol):
    """Memory that pictures can be put into, where whoever wants them finds them."""

    def open(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """For one picture, uint8 of this shape; it begins with a page of memory, and is mapped to a page's end."""
        ...

    def drop(self, pixels: NDArray[np.uint8]) -> None:
        """Nothing was put there."""
        ...


class Stream(Protocol):
    """Loaded networks with one stream's state. Built from a spec alone; holds no global."""

    def __call__(self, pixels: NDArray[np.uint8], params: Params, moment: Moment | None = None) -> NDArray[np.uint8]:
        """One frame: uint8 (h, w, 1|3|4) of any size in, uint8 (spec.height, spec.width, 3) out. The result may be
        a buffer that the next call overwrites. Without `moment` it counts time and frames for itself."""

    @property
    def depth(self) -> int:
        """How many frames may have been begun and not ended: above 1, they overlap."""

    def begin(
        self,
        pixels: NDArray[np.uint8],
        params: Params,
        moment: Moment | None = None,
        whole: Callable[[], bool] | None = None,
    ) -> None:
        """As calling it, without waiting for the picture. At most `depth` frames may be begun before `end`.

        `whole`: the pixels may be overwritten by others meanwhile, and this tells whether they still are what they
        were. They are not looked at after it was asked, and where they are not, Overtaken is raised and nothing begun.
        """

    @property
    def in_place(self) -> bool:
        """Whether it gains by pixels that lie where others may overwrite them."""

    def lend(self, places: Places | None) -> None:
        """Pictures may be put into memory of `places`, and `end` then gives what that opened. With None never again:
        before that memory goes, and after the last `end`."""

    def end(self) -> NDArray[np.uint8]:
        """The picture of the oldest frame that was begun."""

    def wait_s(self) -> float:
        """How long to wait before another frame is begun, in seconds: a later one is a newer one, and the device is
        busy until then."""

    def go_live(self) -> None:
        """From now on people watch: where a change takes time to make ready, frames go on without it until it is."""

    def show(self, number: int, pixels: NDArray[np.uint8]) -> None:
        """The newest picture of control unit `number`'s own stream, or of the image prompt's (IMAGE), uint8
        (h, w, 1|3|4) of any size; kept until the next. Between frames, on the thread that paints."""

    def hint(self) -> NDArray[np.uint8] | None:
        """What the control unit that `hint_preview` names was shown in the last frame, uint8 (spec.height, spec.width,
        3); None where it was shown nothing. May be a buffer that the next frame overwrites."""

    def tune(self, params: Params, moment: Moment | None = None, fades: bool = False) -> None:
        """Adopt what takes time (a prompt, and what it says at this moment), waiting for it: a standby must not fade in
        when it takes over. Cheap when there is nothing to adopt. With `fades`, a new prompt begins to fade in at this
        moment: before each frame of a replay, which waits for everything."""

    def version(self, params: Params) -> int:
        """After each frame was begun with `params`: the version of those that it shows, which are older while what they
        ask for is still made ready beside the frames that are painted as before."""

    def took(self, params: Params) -> Mapping[str, object]:
        """What took effect in the frame that was begun last, with `params`: fields of `pipelines.acting.Acting`."""

    def reset(self) -> None:
        """Forget the past: what one frame hands to the next."""

    def notes(self) -> dict[str, float | str]:
        """Telemetry: what the user should know of the last frame (prompt encoded, resets, warnings)."""

    def close(self) -> None:
        """Stop threads, free memory."""
