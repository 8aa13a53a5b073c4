"""THE parameter table. OSC addresses, web controls, TOML validation and the reference are all generated from it.

A field of `Params` is a row: its annotation carries group, range, unit and curve, its default is the default, and the
string below it is its documentation. Nothing else in the tree repeats any of that (a parity test proves it).
No torch here: the bridge imports this module.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cache, lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from engines.modelrows import NO_ADAPTER
from pipelines.coming import Coming
from pipelines.loraslots import SLOTS, LoraSlot
from pipelines.paramspec import MAX_TEXT_BYTES as MAX_TEXT_BYTES
from pipelines.paramspec import ParamSpec as ParamSpec
from pipelines.paramspec import Row, docs_of
from pipelines.promptlang.timeline import Timeline
from pipelines.unitrow import UNITS, Unit

MAX_BLOB_BYTES = 16 * 1024
MAX_SEED = 2**31 - 1

Sampler = Literal["auto", "lcm", "turbo", "tcd", "ddim"]
GuidanceMode = Literal["off", "full", "self", "onetime"]
Fit = Literal["crop", "letterbox", "stretch"]
Mode = Literal["img2img", "txt2img"]
Vae = Literal["tiny", "full"]
PromptCurve = Literal["linear", "ease"]
PromptBlend = Literal["lerp", "slerp"]
PromptGrammar = Literal["auto", "a1111", "deforum"]
NoiseMode = Literal["fixed", "frame", "travel", "warp"]
FeedbackSpace = Literal["pixel", "latent"]
SmoothingMode = Literal["still", "flow"]
ImageSource = Literal["input", "stream", "still", "previous_output"]
ColourMatchMode = Literal["off", "lab", "hsv", "rgb"]
ColourMethod = Literal["statistics", "histogram"]
ColourReference = Literal["first", "input", "captured"]
ImageBlocks = Literal["all", "style", "layout"]
TempoSource = Literal["own", "midi", "link"]


_NUMBERED: dict[str, tuple[type[msgspec.Struct], int]] = {"control": (Unit, UNITS), "lora": (LoraSlot, SLOTS)}
"""Rows that there are several times, by what their addresses begin with."""


def _rows_of(prefix: str) -> Iterator[tuple[str, Any, Any]]:
    cls, count = _NUMBERED[prefix]
    hints, blank = get_type_hints(cls, include_extras=True), cls()
    for number in range(1, count + 1):
        for field in cls.__struct_fields__:
            yield f"{prefix}{number}_{field}", hints[field], getattr(blank, field)


if TYPE_CHECKING:

    class _NumberedRows(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
        """`control1_on` to `control4_mask`, `lora1_id` to `lora4_weight`."""
else:
    _NumberedRows = msgspec.defstruct(
        "_NumberedRows",
        [row for prefix in _NUMBERED for row in _rows_of(prefix)],
        frozen=True, forbid_unknown_fields=True, kw_only=True,
    )  # fmt: skip


class Params(_NumberedRows, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One frozen, consistent snapshot; travels with a frame, and its version comes back with the picture."""

    version: int = 0
    coming: Coming | None = None  # no row: what the worker may make ready meanwhile
    live: dict[str, float] | None = None  # beat, bar, phase and inputs, where the prompt asks for them
    prompt_line: Timeline | None = None  # how far the prompt has come; None: count from when it comes up
    take: int = 0  # a new number: what recurs from frame to frame begins anew, so that a recording can be replayed

    prompt: Annotated[str, Row("prompt", "encode")] = "neon"
    """What the picture becomes."""
    negative: Annotated[str, Row("prompt", "encode")] = ""
    """What it stays away from; acts with guidance only."""
    prompt_fade: Annotated[float, Row("prompt", "live", 0, 60, "s", "square")] = 0.5
    """A new prompt fades in over this time, unless the message gives its own."""
    prompt_curve: Annotated[PromptCurve, Row("prompt", "live")] = "linear"
    """How prompts fade: evenly, or slowly at both ends."""
    prompt_blend: Annotated[PromptBlend, Row("prompt", "live")] = "lerp"
    """How embeddings are mixed, in fades and in lists: straight, or along the arc between them."""
    prompt_normalize: Annotated[bool, Row("prompt", "live")] = True
    """Weights of a list are shares that add up to 1; off, they are amounts."""
    prompt_rate: Annotated[float, Row("prompt", "live", 0, 30, "1/s", "square")] = 1.0
    """Steps a second that prompt editing and alternation go by; 0 stops them."""
    prompt_span: Annotated[int, Row("prompt", "live", 1, 64, "steps", jumps=True)] = 10
    """All the steps, of which an editing point such as 0.4 is a share."""
    prompt_fps: Annotated[float, Row("prompt", "live", 0, 120, "1/s", "square")] = 15.0
    """Frames a second that t counts in a prompt's mathematics and in schedules, as in Deforum; 0 stops it."""
    prompt_grammar: Annotated[PromptGrammar, Row("prompt", "encode")] = "auto"
    """How a prompt is read; auto is a1111 with weighted lists, and deforum where a weight is mathematics."""
    clip_skip: Annotated[int, Row("prompt", "encode", 1, 12, jumps=True)] = 1
    """Which layer of the text encoder is read, counted from the end; 1 is the last."""

    strength: Annotated[float, Row("image", "live", 0, 1)] = 0.6
    """How much of the input is repainted: 0 returns it, 1 keeps only what the prompt wants."""
    steps: Annotated[int, Row("image", "live", 1, 8, jumps=True)] = 1
    """Denoising steps a frame: each costs one run of the network."""
    sampler: Annotated[Sampler, Row("image", "live")] = "auto"
    """Which solver walks the steps; auto is the model's own."""
    eta: Annotated[float, Row("image", "live", 0, 1)] = 0.3
    """Fresh noise between steps, for tcd (its gamma) and ddim (its eta)."""
    mode: Annotated[Mode, Row("image", "live")] = "img2img"
    """img2img restyles the input, txt2img ignores it."""
    mix: Annotated[float, Row("image", "live", 0, 1)] = 1.0
    """Output against fitted input: 1 shows the painted picture alone."""
    fit: Annotated[Fit, Row("image", "live")] = "crop"
    """How an input of another shape is brought to the model's size."""

    seed: Annotated[int, Row("noise", "live", 0, MAX_SEED, jumps=True)] = 1
    """Which noise; the same seed gives the same picture."""
    seed2: Annotated[int, Row("noise", "live", 0, MAX_SEED, jumps=True)] = 2
    """The other end of the walk that seed_mix takes."""
    seed_mix: Annotated[float, Row("noise", "live", 0, 1)] = 0.0
    """Spherical walk from seed (0) to seed2 (1)."""
    noise_mode: Annotated[NoiseMode, Row("noise", "live")] = "fixed"
    """fixed stands still while things move under it, frame is new for each picture, travel walks on from one noise to
    the next, warp sticks to what moves in the input."""
    noise_speed: Annotated[float, Row("noise", "live", 0, 1, "1/frame", "square")] = 0.02
    """How fast travel walks; 1 is a new noise for each frame."""

    guidance: Annotated[float, Row("guidance", "live", 0, 20)] = 1.0
    """Classifier-free guidance scale; 1 is off."""
    guidance_mode: Annotated[GuidanceMode, Row("guidance", "live")] = "off"
    """full doubles the batch; self and onetime estimate the unguided part (residual CFG) at little or no cost."""
    delta: Annotated[float, Row("guidance", "live", 0, 2)] = 1.0
    """Size of the estimated part in residual CFG."""

    feedback: Annotated[float, Row("coherence", "live", 0, 1)] = 0.0
    """How much of the last picture, moved as the input moved, is painted over again; 0 is off."""
    feedback_space: Annotated[FeedbackSpace, Row("coherence", "live")] = "pixel"
    """Where the last picture is mixed in: before the encoder, or behind it, which is softer and loses nothing there."""
    smoothing: Annotated[float, Row("coherence", "live", 0, 1)] = 0.0
    """How much of what was shown stays; 0 is off."""
    smoothing_mode: Annotated[SmoothingMode, Row("coherence", "live")] = "still"
    """Where it stays: where the input stands still, or wherever its motion can be followed, moved along."""
    colour_match: Annotated[ColourMatchMode, Row("coherence", "live")] = "off"
    """Hold the picture's colours to a reference, in this colour space."""
    colour_method: Annotated[ColourMethod, Row("coherence", "live")] = "statistics"
    """Match each channel's mean and spread, or its whole histogram."""
    colour_reference: Annotated[ColourReference, Row("coherence", "live")] = "first"
    """Whose colours: the first picture's since this was chosen or since a cut, the present input's, or those that
    colour_capture caught."""
    colour_capture: Annotated[int, Row("coherence", "live", 0, 65535, jumps=True)] = 0
    """A new number other than 0 catches the colours of the picture that is then on show."""
    colour_amount: Annotated[float, Row("coherence", "live", 0, 1)] = 1.0
    """How far the colours go to the reference's; 0 is off."""
    cut_sensitivity: Annotated[float, Row("coherence", "live", 0, 4)] = 1.0
    """To cuts in the input, after which nothing of the old scene is used: 2 cuts at half the difference, 0 never."""
    similarity_threshold: Annotated[float, Row("coherence", "live", 0, 64, "levels", "square")] = 0.0
    """An input that changed by less since it was last painted is not painted again; 0 paints every frame."""
    similarity_max_skip: Annotated[int, Row("coherence", "live", 1, 1000, "frames", jumps=True)] = 10
    """After so many frames in a row that were not painted, one is."""

    refresh_threshold: Annotated[float, Row("coherence", "live", 0, 64, "levels", "square")] = 0.0
    """Where the input changed by less, the pixels on show stay; 0 shows each picture as it is painted."""
    refresh_max_age: Annotated[int, Row("coherence", "live", 1, 10000, "frames", jumps=True)] = 120
    """After so many frames a block is shown anew, whether it moved or not."""
    reuse_deep: Annotated[int, Row("coherence", "live", 0, 30, "frames", jumps=True)] = 0
    """For so many frames what the denoiser's deep levels said is kept and its outermost level alone is computed, which
    is faster; 0 computes everything."""

    ip_on: Annotated[bool, Row("image prompt", "live")] = False
    """Let a picture be a prompt beside the text; off costs nothing, and its model stays loaded."""
    ip_model: Annotated[str, Row("image prompt", "encode", ids="ipadapters")] = NO_ADAPTER
    """IP-Adapter id from configs/models.toml; loaded beside the stream, the one before acts until it is there."""
    ip_scale: Annotated[float, Row("image prompt", "live", 0, 1.5)] = 0.6
    """How strongly the picture counts beside the text; 0 is as good as off."""
    ip_source: Annotated[ImageSource, Row("image prompt", "live")] = "input"
    """Which picture: the input, a stream of its own, the input as it was when still was chosen, or the last picture."""
    ip_rate: Annotated[float, Row("image prompt", "live", 0, 30, "1/s", "square")] = 2.0
    """How often a second a picture that moves is read anew, at most; 0 keeps what was read last."""
    ip_fade: Annotated[float, Row("image prompt", "live", 0, 60, "s", "square")] = 0.5
    """What is read of another picture fades in over this time; what moves travels from one reading to the next."""
    ip_block: Annotated[ImageBlocks, Row("image prompt", "live")] = "all"
    """What of the picture counts, in SDXL: all of it, its style alone, or its layout alone."""

    model: Annotated[str, Row("model", "structural", ids="models")] = "pocket"
    """Model id from configs/models.toml or added with `livelatent models add`."""
    width: Annotated[int, Row("model", "structural", 64, 2048, "px", step=64)] = 256
    """Width of the picture that the model paints; a multiple of 64."""
    height: Annotated[int, Row("model", "structural", 64, 2048, "px", step=64)] = 256
    """Height of the picture that the model paints; a multiple of 64."""
    vae: Annotated[Vae, Row("model", "structural")] = "tiny"
    """The small fast autoencoder, or the model's full one."""
    prompt_chunks: Annotated[int, Row("model", "structural", 1, 8)] = 1
    """How long a prompt the model has room for, in chunks of its text encoder: 75 tokens for CLIP, 30 for pocket."""

    pause: Annotated[bool, Row("show", "live")] = False
    """Hold the last picture."""
    bypass: Annotated[bool, Row("show", "live")] = False
    """Show the fitted input instead of the painted picture."""
    upgrade: Annotated[bool, Row("show", "live")] = True
    """Look for a faster engine beside the show, and build it; off calls off what is under way, and begins nothing."""
    tempo: Annotated[float, Row("show", "live", 20, 300, "bpm")] = 120.0
    """Beats a minute of schedules and cues; `/ll/tap` taps it in."""
    beats_per_bar: Annotated[int, Row("show", "live", 1, 16, jumps=True)] = 4
    """Beats in a bar."""
    tempo_source: Annotated[TempoSource, Row("show", "live")] = "own"
    """Whose beat it is: that of `tempo`, of a MIDI clock (`--midi`), or of Ableton Link (`--link`). While such a clock
    is silent, the beat goes on as it was."""
    display_rate: Annotated[int, Row("show", "live", 0, 240, "Hz", jumps=True)] = 0
    """Show so many pictures a second, 24 or more: between those that are painted, the last one moved on as the input
    moves. 0 is off and costs nothing."""
    hint_preview: Annotated[int, Row("show", "live", 0, UNITS, jumps=True)] = 0
    """The control unit whose hint is sent out beside the picture, while it acts; 0 sends none and costs nothing."""

    def units(self) -> tuple[Unit, ...]:
        """The control units' rows, the first's first. Equal values give the same object."""
        return _structs("control", _values_of["control"](self))

    def loras(self) -> tuple[LoraSlot, ...]:
        """The LoRA slots' rows, the first's first. Equal values give the same object."""
        return _structs("lora", _values_of["lora"](self))


_values_of = {prefix: attrgetter(*(name for name, _, _ in _rows_of(prefix))) for prefix in _NUMBERED}


@lru_cache(maxsize=32)
def _structs(prefix: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    cls, _ = _NUMBERED[prefix]
    names = cls.__struct_fields__
    rows = (values[at : at + len(names)] for at in range(0, len(values), len(names)))
    return tuple(cls(**dict(zip(names, row, strict=True))) for row in rows)


@cache
def table() -> dict[str, ParamSpec]:
    """Every row by name, in the order in which people see them."""
    hints: dict[str, Any] = get_type_hints(Params, include_extras=True)
    docs, blank, out = docs_of(Params), Params(), {}
    for name in Params.__struct_fields__:
        if name in docs:
            address = name.replace("ip_", "ip/") if name.startswith("ip_") else name
            out[name] = _spec(name, address, hints[name], getattr(blank, name), docs[name], "")
    for prefix, (cls, count) in _NUMBERED.items():
        docs = docs_of(cls)
        for number, field in itertools.product(range(1, count + 1), cls.__struct_fields__):
            name, address = f"{prefix}{number}_{field}", f"{prefix}/{number}/{field}"
            suffix = f" {number}" if prefix == "control" else ""
            out[name] = _spec(name, address, hints[name], getattr(blank, name), docs[field], suffix)
    return out


def _spec(name: str, address: str, hint: Any, default: Any, doc: str, suffix: str) -> ParamSpec:
    base, row = get_args(hint)[:2]
    choices = get_args(base) if get_origin(base) is Literal else row.choices
    return ParamSpec(
        name=name,
        address=address,
        group=row.group + suffix,
        type=str if choices else base,
        default=default,
        doc=" ".join(doc.split()),
        kind=row.kind,
        low=row.low,
        high=row.high,
        unit=row.unit,
        curve=row.curve,
        choices=choices,
        ids=row.ids,
        step=row.step,
        ramps=base is float or (base is int and row.kind == "live" and not row.jumps),
    )


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Params)


def pack(params: Params) -> bytes:
    """As msgpack, for the frame's slot. ValueError if it would not fit (it always does with values from `coerce`)."""
    blob = _encoder.encode(params)
    if len(blob) > MAX_BLOB_BYTES:
        raise ValueError(f"parameters take {len(blob)} bytes, more than {MAX_BLOB_BYTES}")
    return blob


def unpack(blob: bytes | memoryview) -> Params:
    """The inverse of `pack`. Raises msgspec.DecodeError on anything else."""
    if len(blob) > MAX_BLOB_BYTES:
        raise msgspec.DecodeError("parameter blob is too large")
    return _decoder.decode(blob)
