"""What took effect in a frame, where that is not what was asked for: what is made ready beside the stream comes when it
comes. No torch: the worker says it with each picture, recordings keep it, a replay does it again.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from engines.modelrows import NO_CONTROLNET, NO_LORA
from pipelines.params import Params, PromptGrammar

MAX_BYTES = 12 * 1024
"""Of what a worker says with one picture."""


class Acting(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Of one picture."""

    engine: str = ""
    """What painted it, and on which device."""
    prompt: str | None = None
    """The prompt that was shown, where another was asked for that was not encoded yet; so the three below."""
    negative: str = ""
    grammar: PromptGrammar = "auto"
    skip: int = 1
    late: bool = False
    """Something that this prompt says at this moment was not encoded yet: what it said before stayed."""
    fade: float = 1.0
    """How far the prompt had faded in, 0..1."""
    parts: str = ""
    """The prompt's parts with their weights at this moment, where it has several."""
    controlnets: dict[int, str] = {}
    """Unit → the ControlNet that acted (`none`: none), where another is named that was not there yet."""
    waiting: tuple[int, ...] = ()
    """Units that did nothing, since the network that their preprocessor looks through was not there yet."""
    absent: tuple[str, ...] = ()
    """LoRAs in slots that were not there yet."""


def effective(params: Params, acting: Acting) -> Params:
    """The parameters that give the same picture where everything is ready: `params` as far as they took effect."""
    changes: dict[str, object] = {}
    if acting.prompt is not None:
        changes |= {"prompt": acting.prompt, "negative": acting.negative, "clip_skip": acting.skip}
        # The line that came with the frame is that of the prompt that was to come.
        changes |= {"prompt_grammar": acting.grammar, "prompt_line": None}
    changes |= {f"control{number}_model": name for number, name in acting.controlnets.items()}
    changes |= {f"control{number}_on": False for number in acting.waiting}
    for number, slot in enumerate(params.loras(), 1):
        if slot.id in acting.absent:
            changes[f"lora{number}_id"] = NO_LORA
    return msgspec.structs.replace(params, **changes) if changes else params


def differing(params: Params, using: Mapping[int, str]) -> dict[int, str]:
    """`Acting.controlnets` where the units have these in use."""
    named = {number: unit.model for number, unit in enumerate(params.units(), 1)}
    in_use = {number: using.get(number, NO_CONTROLNET) for number in named}
    return {number: name for number, name in in_use.items() if name != named[number]}
