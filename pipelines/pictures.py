"""Pictures that a stream is given besides its input: control units' own, and those that are prompts."""

from __future__ import annotations

from torch import Tensor

from engines.base import ImageAdapter, Nets
from engines.errors import ModelError
from engines.modelentry import ModelEntry
from engines.registry import Registry
from pipelines.imageprompt import ImagePrompter
from pipelines.knobs import Knobs
from pipelines.own import OwnPictures
from pipelines.params import Params
from pipelines.transfer import Pixels


class Pictures:
    """One stream's. Belongs to the frame's thread."""

    def __init__(self, knobs: Knobs, nets: Nets, model: ModelEntry | None) -> None:
        """`nets`: those that the stream began with, which alone read pictures."""
        self._nets, self.model = nets, model
        self.own = OwnPictures(nets.device, knobs.units.own)
        self.image = ImagePrompter(knobs.image, self._load, nets.device)
        self.shown = 0
        """How many `show` was given."""

    def show(self, number: int, pixels: Pixels) -> None:
        """See DiffusionStream.show."""
        self.own.show(number, pixels)
        self.shown += 1

    def choose(self, params: Params, frame: Tensor, last: Tensor | None, now: float) -> None:
        """Before a frame: what the units look at, and the image prompt. See ImagePrompter.look."""
        self.own.choose(params.units(), frame, params.ip_source)
        self.image.look(params, self.own, frame, last, now)

    def reset(self) -> None:
        """Forget stills, and what was read of pictures."""
        self.own.reset()
        self.image.reset()

    def _load(self, name: str) -> ImageAdapter:
        """On the shelf's thread."""
        if self._nets.load_image is None:
            raise ModelError("this engine reads no pictures as prompts")
        registry = Registry.open()
        entry, model = registry.ipadapter(name), self.model
        if model is not None and entry.family not in ("other", model.family):
            made = {registry.ipadapter(each).family for each in registry.ipadapter_ids()[1:]} - {"other"}
            none = "" if model.family in made else f", and {model.id} has no image adapter"
            raise ModelError(f"it was made for {entry.family} models{none}")
        return self._nets.load_image(entry.file(), entry.encoder())
