"""What a stream saves itself: frames that may rest, deep levels that are kept, pixels that stand still."""

from __future__ import annotations

from engines.base import Nets
from pipelines.knobs import Mode
from pipelines.params import Params
from pipelines.rest import Rest, Settled
from pipelines.reuse import Reuse, told
from pipelines.state import StreamState
from pipelines.transfer import Pixels
from pipelines.windows import Windows


class Thrift:
    """One stream's. Belongs to the frame's thread, but for `notes`."""

    def __init__(self) -> None:
        self.rest, self.reuse, self.windows, self._settled = Rest(), Reuse(), Windows(), Settled()

    def plan(
        self, mode: Mode, pixels: Pixels, params: Params, nets: Nets, state: StreamState, seen: object, *others: object
    ) -> Mode:
        """`mode` with what the next frame does about its deep levels and how much of the picture it paints, and room
        for what that keeps. `others`: see Reuse. `seen`: what else decides the picture besides its input."""
        planned = self.reuse.planned(mode, pixels, params, nets, *others)
        planned = self.windows.planned(planned, pixels, params, nets, seen, *others)
        state.deep.make(nets, planned)
        state.surroundings.make(nets, planned)
        return planned

    def missed(self, mode: Mode) -> None:
        """The frame that was planned as `mode` is painted in another one, and all of it."""
        self.reuse.missed(mode)
        self.windows.missed(mode)

    def stir(self, params: Params, mode: Mode, state: StreamState, *others: object) -> None:
        """Before a frame in `mode` is painted: what people steer is to be seen at once, everywhere. `others`: what else
        decides the picture besides its input."""
        stirred = params.refresh_threshold > 0.0 and self._settled(params, told(mode), *others)
        if stirred and state.refresh is not None:
            state.refresh.forget()

    def forget(self) -> None:
        """The next frame is painted, and all of it."""
        self.reuse.forget()
        self.windows.forget()
        self.rest.reset()

    def notes(self) -> dict[str, float | str]:
        """Telemetry; from any thread."""
        return {
            "coherence.skipped": float(self.rest.skipped),
            "coherence.change": self.rest.change,
            "coherence.painted": self.windows.share,
        }
