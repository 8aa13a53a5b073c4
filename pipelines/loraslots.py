"""LoRAs by parameter: the rows of one slot. No torch here: the bridge imports this."""

from __future__ import annotations

from typing import Annotated

import msgspec

from engines.modelrows import NO_LORA
from pipelines.paramspec import Row

SLOTS = 4
"""LoRA slots, numbered from 1; a prompt names as many more as it likes, up to its own bound."""


class LoraSlot(msgspec.Struct, frozen=True, kw_only=True):
    """One LoRA at work. A field is one row of the table for each slot: `lora1_weight` is the first's."""

    id: Annotated[str, Row("lora", "encode", ids="loras")] = NO_LORA
    """LoRA id from configs/models.toml or added with `livelatent models add`; loaded beside the stream, acts from then
    on. `<lora:ID:0.8>` in a prompt does the same, and fades with it."""
    weight: Annotated[float, Row("lora", "live", -2, 2)] = 1.0
    """How strongly it acts on the picture, with the next frame, and on the words, as soon as they are encoded anew; 0
    is the model without it."""
