"""The LoRAs of one stream: loaded beside it, and merged into its networks between two frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from engines.base import Lora, Nets
from engines.errors import ModelError
from engines.modelrows import NO_LORA
from engines.registry import Registry
from pipelines.loraslots import LoraSlot
from pipelines.promptlang import cast as casting
from pipelines.promptlang.cast import Cast, Lent, Words
from pipelines.promptlang.tags import Tag
from pipelines.shelf import Shelf


class Loras:
    """Everything here but `notes` belongs to the frame's thread."""

    def __init__(self, nets: Nets) -> None:
        self._nets = nets
        self.shelf: Shelf[Lora] = Shelf(self._load, nets.device, "ll-lora")
        self.here: Mapping[str, Lora] = {}
        """Those that are loaded, as of this frame."""
        self._times: Counter[str] = Counter()
        self._acting: tuple[tuple[str, float], ...] = ()

    def ask(self, ids: Iterable[str]) -> None:
        """Want these, and no others any more; takes notice of those that have come."""
        wanted = sorted(set(ids) - {NO_LORA})
        self.shelf.ask(wanted)
        if not (wanted or self.here):
            return
        found = self.shelf.fetch()
        self._times.update(name for name, lora in found.items() if self.here.get(name) is not lora)
        self.here = found

    def settle(self) -> bool:
        """Wait until all that is wanted is there or has failed."""
        return self.shelf.settle()

    def awaits(self, tags: Iterable[Tag]) -> bool:
        """Whether LoRAs that tags name are still to come."""
        missing = [name for name in casting.named(tags) if name not in self.here]
        return bool(missing) and not all(name in self.shelf.wrong() for name in missing)

    def cast(self, tags: Iterable[Tag]) -> Cast:
        """Who of those that tags name acts now."""
        return casting.cast(tags, self.here)

    def words(self, cast: Cast, slots: Mapping[str, float]) -> Words:
        """Who acts on the text encoder, where `slots` act besides. In hundredths: each other weight is encoded anew."""
        if not self.here:
            return ()
        weights = dict(slots)
        for role in cast:
            weights[role.id] = weights.get(role.id, 0.0) + role.te
        return tuple(
            (name, rounded, self._times[name])
            for name, lora in sorted(self.here.items())
            if lora.speaks and (rounded := round(weights.get(name, 0.0), 2))
        )

    def lend(self, words: Words) -> Lent:
        """The LoRAs themselves, for a thread that encodes with them."""
        return tuple((self.here[name], weight) for name, weight, _ in words if name in self.here)

    def choose(self, weights: Mapping[str, float], slots: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
        """Who acts on the denoiser, with the sum of both weights; 0 is nobody."""
        if not self.here:
            self._acting = ()
            return ()
        sums = ((name, weights.get(name, 0.0) + slots.get(name, 0.0)) for name in sorted(self.here))
        self._acting = tuple((name, weight) for name, weight in sums if weight)
        return self._acting

    def merge(self) -> None:
        """Give the denoiser those that `choose` named last. Does nothing where nothing has changed."""
        if self._nets.loras is not None:
            self._nets.loras.merge([(self.here[name], weight) for name, weight in self._acting])

    def notes(self) -> dict[str, float | str]:
        """Telemetry: who acts, who is on the way, and why one can't act. From any thread."""
        here, acting, wrong = self.here, self._acting, self.shelf.wrong()
        said = [f"{name} {weight:.2f}" for name, weight in acting]
        said += [f"loading {name}" for name in self.shelf.pending()]
        error = [f"{name}: {why}" for name, why in wrong.items()]
        error += [f"{name}: {lora.note}" for name, lora in here.items() if lora.note]
        return {"lora.state": ", ".join(said), "lora.error": "; ".join(error)}

    def close(self) -> None:
        self.shelf.close()

    def _load(self, name: str) -> Lora:
        """On the shelf's thread."""
        if self._nets.loras is None:
            raise ModelError("this engine takes no LoRAs while it runs")
        return self._nets.loras.load(Registry.open().lora(name).file())


def weights_of(slots: Iterable[LoraSlot]) -> dict[str, float]:
    """The rows' weights by id; one that is named twice counts twice."""
    out: dict[str, float] = {}
    for slot in slots:
        if slot.id != NO_LORA:
            out[slot.id] = out.get(slot.id, 0.0) + slot.weight
    return out
