"""The settings that AUTOMATIC1111's web UI writes beside a picture, read as parameters of ours.

`prompt`, `Negative prompt: …`, then one line of `Name: value` pairs. The grammar follows the web UI's own reader: a
last line with fewer than three pairs belongs to the prompt, values with commas are JSON strings.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pipelines.params import MAX_SEED, table
from pipelines.schedule import MAX_STEPS

MAX_CHARS = 64 * 1024
MAX_LINE = 8192
"""A longer last line is no line of settings; looking for pairs takes the square of its length."""
PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
NEGATIVE = "Negative prompt:"
OURS = "Livelatent"
"""The pair that pipelines/caption.py adds: every parameter that is not at its default, as JSON."""
FEWEST = 3
"""Pairs that make a line of settings and not a line of the prompt."""
SAMPLERS = {"lcm": "lcm", "tcd": "tcd", "ddim": "ddim", "euler": "turbo", "k_euler": "turbo"}
SIDE = 64
ALWAYS = ("prompt", "negative", "seed", "strength", "steps", "model", "width", "height")
"""Said even where they are at our default: a model has defaults of its own."""


class Infotext(NamedTuple):
    """What was said, as far as we can do the same."""

    values: dict[str, Any]
    """Parameters by name; each is in its range."""
    notes: list[str]
    """A sentence for everything that is not the same here."""


def img2img_steps(steps: int, denoising: float, exact: bool) -> tuple[int, int]:
    """(length of the schedule, last index that is walked) as AUTOMATIC1111 counts them.

    `exact`: the option `img2img_fix_steps`, under which as many steps are walked as were asked for.
    """
    part = min(denoising, 0.999)
    if exact:
        return (int(steps / part) if denoising > 0 else 0), steps - 1
    return steps, int(part * steps)


def strength(steps: int, denoising: float, exact: bool = False) -> float:
    """How noisy AUTOMATIC1111 makes the input, 0..1: its first step's place on the way from clean to noise."""
    length, last = img2img_steps(steps, denoising, exact)
    return min(1.0, last / (length - 1)) if length > 1 else min(1.0, max(0.0, denoising))


def read(text: str) -> Infotext:
    """Never fails: what is no infotext is a prompt, and what can't be read goes to the notes."""
    prompt, negative, given = split(text[:MAX_CHARS])
    if OURS in given and (own := _own(given[OURS])) is not None:
        return own
    out = Infotext({"prompt": prompt, "negative": negative}, [])
    if len(text) > MAX_CHARS:
        out.notes.append(f"cut after {MAX_CHARS} characters")
    for name, value in given.items():
        take = READERS.get(name.lower())
        if take is None:
            out.notes.append(f"{name}: {value[:80]} has no counterpart here")
            continue
        try:
            take(value, given, out)
        except (ValueError, OverflowError):
            out.notes.append(f"{name}: {value[:80]!r} can't be read")
    if not given:
        out.notes.append("no settings found: all of it is taken for the prompt")
    elif "Denoising strength" not in given:
        out.values["mode"] = "txt2img"
    for name, value in list(out.values.items()):
        out.values[name] = _fitting(name, value, out)
    return out


def split(text: str) -> tuple[str, str, dict[str, str]]:
    """Prompt, negative prompt, and the settings by name."""
    lines = text.strip().splitlines()
    given: dict[str, str] = {}
    if lines:
        found = PAIR.findall(lines[-1]) if len(lines[-1]) <= MAX_LINE else []
        if len(found) >= FEWEST:
            given = {name.strip(): _unquoted(value.strip()) for name, value in found}
            lines.pop()
    said: tuple[list[str], list[str]] = ([], [])
    side = 0
    for line in lines:
        if line.startswith(NEGATIVE):
            side, line = 1, line[len(NEGATIVE) :]
        said[side].append(line.strip())
    return "\n".join(said[0]).strip(), "\n".join(said[1]).strip(), given


def _own(text: str) -> Infotext | None:
    """What we wrote ourselves, exactly; None if that can't be read."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    rows = table()
    out = Infotext({name: rows[name].default for name in ALWAYS}, [])
    for name, value in said.items():
        try:
            out.values[name] = rows[name].coerce(value)
        except KeyError:
            out.notes.append(f"{name[:80]} has no counterpart here")
        except ValueError as error:
            out.notes.append(str(error))
    return out


def _unquoted(value: str) -> str:
    if value[:1] == '"' == value[-1:] and len(value) > 1:
        try:
            return str(json.loads(value))
        except ValueError:
            return value
    return value


def _fitting(name: str, value: Any, out: Infotext) -> Any:
    """`value` within its row's range, with a note where it had to be moved."""
    row = table()[name]
    if not isinstance(value, str) and row.low is not None and row.high is not None:
        near = min(max(value, type(value)(row.low)), type(value)(row.high))
        if near != value:
            out.notes.append(f"{name} {value:g} becomes {near:g}")
            value = near
    try:
        return row.coerce(value)
    except ValueError as error:
        out.notes.append(str(error))
        return row.default


def _steps(value: str, given: Mapping[str, str], out: Infotext) -> None:
    steps = int(value)
    out.values["steps"] = min(steps, MAX_STEPS)
    if steps > MAX_STEPS:
        out.notes.append(f"{steps} steps become {MAX_STEPS}: a few-step model wants no more, and usually 1 to 4")


def _sampler(value: str, given: Mapping[str, str], out: Infotext) -> None:
    known = SAMPLERS.get(value.lower())
    out.values["sampler"] = known or "auto"
    if known is None:
        out.notes.append(f"the sampler {value[:40]} walks many steps: the model's own is taken")


def _scale(value: str, given: Mapping[str, str], out: Infotext) -> None:
    scale = _number(value)
    out.values["guidance"] = scale
    if scale > 1.0:
        out.values["guidance_mode"] = "full"
        out.notes.append(f"CFG scale {scale:g} doubles the work; few-step models want 1 to 2")


def _seed(name: str) -> Callable[[str, Mapping[str, str], Infotext], None]:
    def take(value: str, given: Mapping[str, str], out: Infotext) -> None:
        seed = int(value)
        if 0 <= seed <= MAX_SEED:
            out.values[name] = seed
        else:
            out.values[name] = seed % (MAX_SEED + 1)
            out.notes.append(f"{name} {seed} is larger than ours can be, and becomes {out.values[name]}")

    return take


def _mix(value: str, given: Mapping[str, str], out: Infotext) -> None:
    out.values["seed_mix"] = _number(value)


def _size(value: str, given: Mapping[str, str], out: Infotext) -> None:
    for name, text in zip(("width", "height"), value.lower().split("x"), strict=True):
        side = int(text)
        out.values[name] = max(SIDE, round(side / SIDE) * SIDE)
        if out.values[name] != side:
            out.notes.append(f"{name} {side} becomes {out.values[name]}, a multiple of {SIDE}")


def _denoising(value: str, given: Mapping[str, str], out: Infotext) -> None:
    try:
        steps = int(given.get("Steps", ""))
    except ValueError:
        steps = 0
    out.values["strength"] = round(strength(steps, _number(value)), 4)


def _skip(value: str, given: Mapping[str, str], out: Infotext) -> None:
    out.values["clip_skip"] = int(value)


def _known(value: str, given: Mapping[str, str], out: Infotext) -> None:
    """Says nothing that changes the picture."""


def _number(value: str) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


READERS: Mapping[str, Callable[[str, Mapping[str, str], Infotext], None]] = {
    "steps": _steps,
    "sampler": _sampler,
    "cfg scale": _scale,
    "seed": _seed("seed"),
    "variation seed": _seed("seed2"),
    "variation seed strength": _mix,
    "size": _size,
    "denoising strength": _denoising,
    "clip skip": _skip,
    "version": _known,
    "rng": _known,
}
