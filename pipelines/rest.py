"""Whether a frame may rest: the host's decision, before anything is uploaded, to show the last picture once more."""

from __future__ import annotations

import msgspec

from pipelines.coherence.similar import HostSimilarity
from pipelines.params import Params
from pipelines.transfer import Pixels


class Settled:
    """Whether anything but the input's pixels decides the picture otherwise than a frame ago."""

    def __init__(self) -> None:
        self._last: tuple[object, ...] = ()

    def __call__(self, params: Params, *others: object) -> bool:
        """Whether something moved; at first it did."""
        now = (msgspec.structs.replace(params, version=0), *others)
        moved, self._last = now != self._last, now
        return moved

    def reset(self) -> bool:
        """Forget the past; whether there was any."""
        had, self._last = bool(self._last), ()
        return had


class Rest:
    """One stream's similarity filter. Decides on this frame, from its own pixels; see `HostSimilarity`."""

    def __init__(self) -> None:
        self._similar = HostSimilarity()
        self._settled = Settled()
        self.skipped = 0
        """Frames not painted since the stream was made."""

    @property
    def change(self) -> float:
        """By how much the last input differed from the one painted last, in levels: to find a threshold with."""
        return self._similar.change

    def __call__(self, pixels: Pixels, params: Params, *others: object) -> bool:
        """Whether the last picture will do. `others`: what else decides the picture; painted anew when any changed.

        Never where there is nothing to save (bypass), or where the input is not what is painted (txt2img).
        """
        if params.similarity_threshold <= 0.0 or params.bypass or params.mode == "txt2img":
            self.reset()
            return False
        moved = self._settled(params, *others)
        if self._similar(pixels, params.similarity_threshold, params.similarity_max_skip, force=moved):
            return False
        self.skipped += 1
        return True

    def reset(self) -> None:
        """Forget the past: the next frame is painted."""
        if self._settled.reset():
            self._similar.reset()
