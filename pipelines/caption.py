"""A picture's settings as AUTOMATIC1111's web UI writes them beside one, and as many programs read them: infotext.

The pairs that others know say what they can; the last one, `Livelatent`, says every parameter exactly, for ourselves.
`pipelines.infotext` reads both.
"""

from __future__ import annotations

import json

from pipelines.infotext import MAX_LINE, NEGATIVE, OURS
from pipelines.params import Params, table

SAMPLERS = {"lcm": "LCM", "tcd": "TCD", "ddim": "DDIM", "turbo": "Euler"}


def caption(params: Params, version: str) -> str:
    """`params` as they took effect; `version`: ours."""
    pairs: dict[str, object] = {"Steps": params.steps}
    if params.sampler in SAMPLERS:
        pairs["Sampler"] = SAMPLERS[params.sampler]
    pairs["CFG scale"] = f"{params.guidance:g}" if params.guidance_mode != "off" else "1"
    pairs["Seed"] = params.seed
    pairs["Size"] = f"{params.width}x{params.height}"
    pairs["Model"] = params.model
    if params.seed_mix:
        pairs["Variation seed"] = params.seed2
        pairs["Variation seed strength"] = f"{params.seed_mix:g}"
    if params.mode == "img2img":
        pairs["Denoising strength"] = f"{params.strength:g}"
    if params.clip_skip > 1:
        pairs["Clip skip"] = params.clip_skip
    pairs["Version"] = f"livelatent {version}"
    line = ", ".join(f"{name}: {_quoted(str(value))}" for name, value in pairs.items())
    exact = f"{line}, {OURS}: {json.dumps(json.dumps(_exact(params), ensure_ascii=False), ensure_ascii=False)}"
    negative = [f"{NEGATIVE} {params.negative}"] if params.negative else []
    # A line that is too long would be taken for a part of the prompt.
    return "\n".join([params.prompt, *negative, exact if len(exact) <= MAX_LINE else line])


def _exact(params: Params) -> dict[str, object]:
    """Every row that makes the picture and is not at its default, and the two texts, which lines can't hold exactly."""
    rows = {name: row for name, row in table().items() if row.group != "show"}
    values = {name: getattr(params, name) for name in rows}
    return {name: value for name, value in values.items() if value != rows[name].default}


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if any(c in value for c in ',:\n"') else value
