"""What a stream is told in words: its prompt and the LoRAs that act with it, at the moment of each frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from engines.base import Nets
from pipelines.coming import NOTHING_COMES
from pipelines.loras import Loras, weights_of
from pipelines.params import Params
from pipelines.prompt import Manner, Prompter
from pipelines.spec import Moment


class Speech:
    """One stream's. Belongs to the frame's thread, but for `notes`."""

    def __init__(self, nets: Nets, params: Params, clock: Callable[[], float]) -> None:
        """`clock`, in seconds, counts for frames that come without their moment."""
        self.clock, self.moment = clock, Moment(clock(), -1)
        self.loras = Loras(nets)
        self.prompter = Prompter(
            nets.text, params.prompt, params.negative, lambda: self.moment.seconds, Manner.of(params), loras=self.loras
        )

    def ask(self, params: Params, moment: Moment | None, fade: float) -> None:
        """Before a frame: have what `params` name, and what comes next, encoded and loaded."""
        self.moment = moment or Moment(self.clock(), self.moment.frame + 1)
        slots = weights_of(params.loras())
        coming = params.coming or NOTHING_COMES
        self.loras.ask([*slots, *self.prompter.named, *coming.loras])
        self.prompter.ask(params.prompt, params.negative, fade, Manner.of(params), params.prompt_line, slots)
        if coming.texts is not None:
            self.prompter.foresee(*coming.texts, slots)

    def now(self, params: Params) -> Sequence[Tensor] | None:
        """What is said from this frame on, negative's row first; None where that is what was said before."""
        return self.prompter.now(self.values(params))

    def acting(self, params: Params) -> tuple[tuple[str, float], ...]:
        """LoRAs that act in this frame, with their weights."""
        return self.loras.choose(self.prompter.acting(), weights_of(params.loras()))

    def catch_up(self, params: Params, moment: Moment | None, fade: float) -> Sequence[Tensor] | None:
        """As `ask` and `now`, waiting until all that is encoded and loaded."""
        self.ask(params, moment, fade)
        for _ in range(3):  # a prompt has to be read to know its LoRAs, which have to be there to encode with them
            self.prompter.settle()
            self.loras.settle()
            self.ask(params, self.moment, fade)
        return self.prompter.catch_up(self.values(params))

    def took(self, params: Params) -> dict[str, object]:
        """What it made of `params`, for whoever records."""
        absent = [name for name in weights_of(params.loras()) if name not in self.loras.here]
        return {**self.prompter.took(), "absent": absent}

    def notes(self) -> dict[str, float | str]:
        """Telemetry; from any thread, waits for nothing."""
        return {**self.prompter.notes(), **self.loras.notes()}

    def close(self) -> None:
        """Stop the threads."""
        self.prompter.close()
        self.loras.close()

    def values(self, params: Params) -> dict[str, float]:
        """What mathematics in a prompt may use besides the prompt's own time."""
        own = {"f": self.moment.frame, "seed": params.seed, "s": params.seed, "strength": params.strength}
        return own | (params.live or {})
