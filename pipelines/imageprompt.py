"""Pictures as prompts (IP-Adapter): which picture, when it is encoded anew, and when the result comes up.

A still is encoded once. What moves is encoded as often as `ip_rate` says, beside the stream, and the newest result is
swapped in between two frames; until there is one, the one before acts.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from engines.base import ImageAdapter
from engines.modelrows import NO_ADAPTER
from pipelines.image import ImageKnobs
from pipelines.looker import Job, looker
from pipelines.own import OwnPictures
from pipelines.params import Params
from pipelines.shelf import Shelf
from pipelines.spec import IMAGE


class ImagePrompter:
    """The image prompt of one stream. All but `notes` belongs to the frame's thread."""

    def __init__(self, knobs: ImageKnobs, load: Callable[[str], ImageAdapter], device: torch.device) -> None:
        """`load` gives the adapter of an id, or raises ModelError with a sentence."""
        self._knobs = knobs
        self.shelf = Shelf(load, device, "ll-adapter")
        self.looker = looker(device)
        self._using: tuple[str, ImageAdapter] | None = None
        """The adapter that is named, or until it is there the one before."""
        self._job: Job | None = None
        """What was given to be encoded last, while its result is wanted."""
        self._params: Params | None = None
        self._asked: tuple[object, ...] = ()
        """What was encoded last: the adapter, the source, and the picture's number."""
        self._asked_at = self._taken_at = 0.0
        self._frames = 0
        self._lacks_picture = False
        self._age = 0.0

    def follow(self, params: Params, now: float) -> None:
        """Before a frame: have the adapter that is named loaded, and bring up what has been encoded meanwhile."""
        self._params, wanted = params, params.ip_model
        self.shelf.ask(() if wanted == NO_ADAPTER else (wanted,))
        if wanted == NO_ADAPTER:
            self._using = None
            self.reset()
        elif found := self.shelf.fetch().get(wanted):
            self._using = (wanted, found)
        if not _acts(params) and params.ip_source != "still":
            self.reset()  # nothing is encoded while nothing acts, and what moved must not come back as it was
        seen = self.looker.fetch()
        if seen is not None and seen.made is not None and seen.job is self._job:
            self._knobs.take(seen.job.name, seen.job.adapter, seen.made, now, params.ip_fade)
            self._taken_at = seen.job.at
        self._knobs.travel(now, params.prompt_curve)
        self._age = (now - self._taken_at) * 1e3 if self._knobs.name and _acts(params) else 0.0

    def look(self, params: Params, own: OwnPictures, frame: Tensor, last: Tensor | None, now: float) -> None:
        """Have this frame's picture encoded if it is time. frame: uint8 [h, w, c] as it came; last: what was painted
        last, fp32 [1, 3, H, W] in [-1, 1], if anything was."""
        self._frames += 1
        if self._using is None or not _acts(params):
            return
        (name, adapter), source = self._using, params.ip_source
        picture = {"input": frame, "previous_output": last}.get(source) if source not in _OWN else own.of(IMAGE)
        self._lacks_picture = picture is None
        number = own.count(IMAGE) if source in _OWN else self._frames
        asked = (id(adapter), source, number)
        if picture is None or asked == self._asked or not self.looker.free or not self._due(asked, params, now):
            return
        self._asked, self._asked_at = asked, now
        self._job = Job(name, adapter, picture.clone(), now)
        self.looker.ask(self._job)

    def settle(self) -> None:
        """Wait until the adapter is there or has failed: for a standby, tests and offline work."""
        self.shelf.settle()

    def reset(self) -> None:
        """Forget what was read of pictures."""
        self._asked, self._job = (), None
        self._knobs.drop()

    def notes(self) -> dict[str, float | str]:
        """Telemetry; from any thread, waits for nothing."""
        params = self._params
        if params is None:
            return {"ip.state": "", "ip.error": "", "ip.age": 0.0}
        name, acting, state = self._knobs.name, _acts(params), []
        if name and acting:
            state.append(f"{name}, {params.ip_source}")
        if params.ip_model in self.shelf.pending():
            state.append(f"loading {params.ip_model}")
        elif acting and not name and self._using is not None and not self._lacks_picture:
            state.append("encoding the picture")
        return {"ip.state": ", ".join(state), "ip.error": "; ".join(self._wrong(params)), "ip.age": self._age}

    def close(self) -> None:
        self.shelf.close()
        self.looker.close()

    def _due(self, asked: tuple[object, ...], params: Params, now: float) -> bool:
        """A still at once, as the first picture of anything; what moves at its own rate."""
        if params.ip_source == "still" or asked[:2] != self._asked[:2]:
            return True
        passed = now - self._asked_at
        return params.ip_rate > 0.0 and (passed < 0.0 or passed * params.ip_rate >= 1.0 - NEARLY)

    def _wrong(self, params: Params) -> list[str]:
        wrong = self.shelf.wrong()
        said = [f"{params.ip_model}: {wrong[params.ip_model]}"] if params.ip_model in wrong else []
        if not _acts(params):
            return said
        if params.ip_model == NO_ADAPTER:
            said.append("ip is on and ip/model names no adapter")
        elif self._lacks_picture and params.ip_source == "stream":
            said.append("nothing has come from its own stream yet")
        if self.looker.wrong:
            said.append(f"the picture can't be encoded: {self.looker.wrong}")
        if not self._knobs.has(params.ip_block):
            said.append(f"this model has no {params.ip_block} block: the picture acts everywhere")
        return said


NEARLY = 1e-3
"""A frame that comes so little early, in shares of the time between two readings, is on time."""
_OWN = ("still", "stream")
"""Sources that are pictures of its own."""


def _acts(params: Params) -> bool:
    return params.ip_on and params.ip_scale > 0.0
