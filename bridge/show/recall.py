"""From where the parameters are to a look: what changes at once, what moves, what is set when the move is over.

And what the worker may make ready before it begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bridge.ramp import RampCurve
from bridge.store import ParamStore, Setting, Value
from engines.modelrows import NO_CONTROLNET, NO_LORA
from pipelines.coming import Coming
from pipelines.loraslots import SLOTS
from pipelines.unitrow import UNITS

SEEDS = frozenset({"seed", "seed2", "seed_mix"})


class Move(NamedTuple):
    """A recall that has passed every check."""

    now: tuple[Setting, ...]
    """In this order: a row may be set and then sent on its way."""
    walking: Mapping[str, Value]
    """Where the seeds' rows are meant to stay until `then`; empty if they do not walk."""
    then: tuple[Setting, ...]
    """What ends the walk: the same noise, under its own number."""


def plan(
    store: ParamStore, values: Mapping[str, Value], seconds: float | None, curve: RampCurve, origin: object = None
) -> Move:
    """Towards `values` in `seconds`; None is at once, and a prompt then fades as long as it does by itself.

    Raises ParamError, and then nothing has changed.
    """
    # Numbers that can't be between two others, switches and choices change with the first frame of the move.
    now = store.check_many(values, seconds, origin, curve)
    here = store.values()
    pair = here["seed"], here["seed2"]
    if not seconds or "seed" not in values or pair == (values["seed"], values.get("seed2", pair[1])):
        return Move(tuple(now), {}, ())
    then = [s._replace(over_s=None) for s in now if s.name in SEEDS]
    if "seed_mix" not in values:
        then.append(store.check("seed_mix", 0.0, None, origin))
    walking = _walk(here, values["seed"])
    # To another pair of seeds the noise walks from the end that is nearest: seed_mix goes all the way from 0 to 1.
    begin = {} if (walking["seed"], walking["seed2"]) == pair else {**walking, "seed_mix": 0.0}
    walk = store.check_many(begin, None, origin)
    walk.append(store.check("seed_mix", walking["seed_mix"], seconds, origin)._replace(curve=curve))
    return Move((*(s for s in now if s.name not in SEEDS), *walk), walking, tuple(then))


def coming(upcoming: Mapping[str, Value], here: Mapping[str, Value]) -> Coming | None:
    """Of what the next cue sets, what takes time: its texts, and the ControlNets and LoRAs that are not named yet."""
    texts = tuple(str(upcoming.get(name, here[name])) for name in ("prompt", "negative"))
    new = (texts[0], texts[1]) if texts != (here["prompt"], here["negative"]) else None
    nets = _new_ids([f"control{number}_model" for number in range(1, UNITS + 1)], upcoming, here, NO_CONTROLNET)
    loras = _new_ids([f"lora{number}_id" for number in range(1, SLOTS + 1)], upcoming, here, NO_LORA)
    return Coming(new, nets, loras) if new or nets or loras else None


def _new_ids(
    rows: Sequence[str], upcoming: Mapping[str, Value], here: Mapping[str, Value], nothing: str
) -> tuple[str, ...]:
    wanted = {str(upcoming[name]) for name in rows if name in upcoming}
    return tuple(sorted(wanted - {nothing} - {str(here[name]) for name in rows}))


def _walk(here: Mapping[str, Value], seed: Value) -> dict[str, Value]:
    """Two seeds, and the end of seed_mix at which `seed` is."""
    if seed in (here["seed"], here["seed2"]):
        return {"seed": here["seed"], "seed2": here["seed2"], "seed_mix": 0.0 if seed == here["seed"] else 1.0}
    return {"seed": here["seed" if float(here["seed_mix"]) < 0.5 else "seed2"], "seed2": seed, "seed_mix": 1.0}
