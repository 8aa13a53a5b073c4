"""The OSC addresses of StreamDiffusionTD, in terms of our parameters: for sets that were built for it.

One table, ALIASES: what an address does here, or why it does nothing. No I/O; `Dispatch` asks `Aliases`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from bridge.errors import ParamError
from bridge.osc import Bundle, Message, bundle, message
from pipelines.params import table

Values = dict[str, object]
"""Parameter → value."""

SCHEDULE = 50
"""StreamDiffusion's own number of timesteps, to which `/t_list` points."""
SECTION = "streamdiffusiontd"


@dataclass(frozen=True, slots=True)
class Alias:
    """One row. `does` is for people: what happens, or why nothing can."""

    address: str
    takes: str
    does: str
    read: Callable[[Message, Aliases], Values] | None = None
    """None: refused with `does`."""


class Aliases:
    """The table with the little that it has to remember: how many timesteps the sender counts."""

    def __init__(self) -> None:
        self.schedule = SCHEDULE
        self._indices: tuple[int, ...] = ()

    def find(self, address: str) -> Alias | None:
        return _BY_ADDRESS.get("/fx/" if address.startswith("/fx/") else address)

    def values(self, alias: Alias, said: Message) -> Values:
        """What the message changes. ParamError for what has no meaning here or is malformed."""
        if alias.read is None:
            raise ParamError(alias.does)
        return alias.read(said, self)

    def choose_steps(self, indices: tuple[int, ...] | None = None, schedule: int | None = None) -> Values:
        """The first index tells how noisy the input becomes, their number how many steps are run."""
        self._indices = self._indices if indices is None else indices
        self.schedule = self.schedule if schedule is None else schedule
        if not self._indices:
            return {}
        strength = 1 - self._indices[0] / self.schedule
        return {"steps": len(self._indices), "strength": round(min(1.0, max(0.0, strength)), 4)}


def telemetry(seen: Mapping[str, float | str]) -> Bundle:
    """What StreamDiffusionTD's component listens for, from `Metrics.snapshot()`."""
    state = str(seen.get("state", ""))
    fps, frames = seen.get("frame.rate", 0.0), seen.get("source.fed", 0)
    return bundle(
        message("/server_active", 1),
        message("/streaming_status", int(state == "running")),
        message("/stream-info/state", state[:40]),
        message("/stream-info/fps", float(fps) if isinstance(fps, (int, float)) else 0.0),
        message("/stream-info/error", str(seen.get("error", ""))[:200].replace("\0", "")),
        message("/framecount", int(frames) % 2**31 if isinstance(frames, (int, float)) else 0),
    )


def markdown(prefix: str) -> str:
    """The table for docs/streamdiffusiontd.md."""
    lines = ["| address | takes | here |", "|---|---|---|"]
    lines += [f"| `{a.address}` | {a.takes} | {a.does.replace('/ll', prefix)} |" for a in ALIASES]
    return "\n".join(lines) + "\n"


def _one(said: Message, what: str) -> object:
    if len(said.args) != 1:
        raise ParamError(f"{said.address} takes {what}")
    return said.args[0]


def _to(name: str) -> Callable[[Message, Aliases], Values]:
    """Handed on as it is; the parameter's own check says what is wrong with it."""
    return lambda said, _: {name: _one(said, "one value")}


def _hold(paused: bool) -> Callable[[Message, Aliases], Values]:
    def read(said: Message, _: Aliases) -> Values:
        # A button's release is no second press.
        return {} if said.args and said.args[0] in (0, False) else {"pause": paused}

    return read


def _nothing(said: Message, _: Aliases) -> Values:
    return {}


def _whole(value: object, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or value % 1:
        raise ParamError(f"{what} must be a whole number")
    return int(value)


def _schedule(said: Message, aliases: Aliases) -> Values:
    steps = _whole(_one(said, "one number"), "the number of timesteps")
    if not 1 <= steps <= 1000:
        raise ParamError("the number of timesteps must be 1 to 1000")
    return aliases.choose_steps(schedule=steps)


def _t_list(said: Message, aliases: Aliases) -> Values:
    indices = tuple(_whole(value, "a timestep's index") for value in said.args)
    most = int(table()["steps"].high or 1)
    if not 1 <= len(indices) <= most:
        raise ParamError(f"/t_list takes 1 to {most} indices")
    if list(indices) != sorted(set(indices)) or not 0 <= indices[0] <= indices[-1] < aliases.schedule:
        raise ParamError(f"/t_list takes growing indices from 0 to {aliases.schedule - 1}")
    return aliases.choose_steps(indices=indices)


def _seed(said: Message, _: Aliases) -> Values:
    return {"seed": _seed_of(_one(said, "one number")), "seed_mix": 0.0}


def _seed_of(value: object) -> int:
    seed = _whole(value, "a seed")
    if seed == -1:
        raise ParamError("a new seed for every frame would only flicker: give one of 0 or more")
    return seed


_PAIRS = {kind: msgspec.json.Decoder(list[tuple[kind, float]]) for kind in (str, float)}  # type: ignore[valid-type]


def _pairs(said: Message, kind: type[str] | type[float], what: str) -> list[tuple[object, float]]:
    text = _one(said, f"a JSON list of [{what}, weight]")
    try:
        pairs = _PAIRS[kind].decode(text if isinstance(text, str) else "")
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ParamError(f"{said.address} takes a JSON list of [{what}, weight]: {error}") from error
    found = [(value, weight) for value, weight in pairs if weight > 0]
    if not found:
        raise ParamError(f"{said.address}: nothing in it has a weight above 0")
    return found


def _prompt_list(said: Message, _: Aliases) -> Values:
    pairs = _pairs(said, str, "text")
    if len(pairs) == 1:
        return {"prompt": pairs[0][0]}
    # A | would part it, and a number behind a last colon would be its weight (docs/prompts.md).
    texts = (re.sub(r":(\s*[\d.]+\s*)$", r"\\:\1", str(text).replace("|", ",")) for text, _ in pairs)
    return {"prompt": " | ".join(f"{text}:{weight:g}" for text, (_, weight) in zip(texts, pairs, strict=True))}


def _seed_list(said: Message, _: Aliases) -> Values:
    pairs = _pairs(said, float, "seed")
    if len(pairs) > 2:
        raise ParamError("/seed_list: livelatent walks between two seeds, not more")
    first, last = _seed_of(pairs[0][0]), _seed_of(pairs[-1][0])
    mix = pairs[1][1] / (pairs[0][1] + pairs[1][1]) if len(pairs) == 2 else 0.0
    return {"seed": first, "seed2": last, "seed_mix": mix} if len(pairs) == 2 else {"seed": first, "seed_mix": 0.0}


_PROMPTS = "always by shares of the embeddings; set the fade's time with /ll/prompt_fade"
ALIASES = (
    Alias("/prompt", "text", "`/ll/prompt`", _to("prompt")),
    Alias("/negative_prompt", "text", "`/ll/negative`", _to("negative")),
    Alias("/prompt_list", "JSON `[[text, weight], ...]`", "`/ll/prompt` as a blend", _prompt_list),
    Alias("/prompt_interpolation_method", "text", _PROMPTS),
    Alias("/guidance_scale", "number", "`/ll/guidance`; acts when `/ll/guidance_mode` is not `off`", _to("guidance")),
    Alias("/delta", "number", "`/ll/delta`", _to("delta")),
    Alias(
        "/t_list",
        "indices",
        "`/ll/steps` is their number, `/ll/strength` is 1 - first / number of timesteps; the others are spaced evenly",
        _t_list,
    ),
    Alias("/num_inference_steps", "number", f"to what `/t_list` points, {SCHEDULE} at first", _schedule),
    Alias("/seed", "number", "`/ll/seed`", _seed),
    Alias(
        "/seed_list",
        "JSON `[[seed, weight], ...]`",
        "`/ll/seed`, `/ll/seed2` and `/ll/seed_mix`; two at most",
        _seed_list,
    ),
    Alias("/seed_interpolation_method", "text", "the walk between seeds is always spherical"),
    Alias("/sdmode", "`img2img` or `txt2img`", "`/ll/mode`", _to("mode")),
    Alias("/use_controlnet", "0 or 1", "`/ll/control/1/on`", _to("control1_on")),
    Alias("/controlnets", "JSON", "control units are set with /ll/control/1/model, /ll/control/1/weight and so on"),
    Alias("/ipadapter_config", "JSON", "the image prompt is set with /ll/ip/model, /ll/ip/source and so on"),
    Alias("/ipadapter_scale", "number", "`/ll/ip/scale`", _to("ip_scale")),
    Alias("/ipadapter_enable", "0 or 1", "`/ll/ip/on`", _to("ip_on")),
    Alias(
        "/ipadapter_update", "", "what moves is read by itself; /ll/ip/source input and then still takes a new still"
    ),
    Alias("/cached_attention", "JSON", "livelatent keeps no attention between frames"),
    Alias("/latent_feedback_strength", "number", "livelatent has no latent feedback under this address"),
    Alias("/fx/", "`/fx/<processor>/<parameter>`", "StreamDiffusionTD's effects are not part of livelatent"),
    Alias("/start_streaming", "", "`/ll/pause 0`", _hold(False)),
    Alias("/play", "", "`/ll/pause 0`", _hold(False)),
    Alias("/stop_streaming", "", "`/ll/pause 1`: the last picture is held", _hold(True)),
    Alias("/pause", "", "`/ll/pause 1`: the last picture is held", _hold(True)),
    Alias("/stop", "", "nothing that comes over the network ends livelatent; /pause holds the picture"),
    Alias("/process_frame", "", "livelatent paints by itself, as soon as a frame is there"),
    Alias("/frame_ack", "", "accepted; nothing waits for it", _nothing),
    Alias(
        "/get_status",
        "",
        "accepted; `/server_active`, `/stream-info/...` and `/framecount` come by themselves",
        _nothing,
    ),
)
_BY_ADDRESS = {alias.address: alias for alias in ALIASES}
