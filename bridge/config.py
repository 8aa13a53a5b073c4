"""What a run is made of. Frozen. A ConfigError names file and key of what is unknown or out of range."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from bridge.record.places import Format
from pipelines.spec import IMAGE, Device, DType, Engine

Port = Annotated[int, Meta(ge=0, le=65535)]


class OscConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    host: str = "127.0.0.1"
    port: Port = 9000
    """UDP port we listen on; 0 takes a free one."""
    prefix: Annotated[str, Meta(pattern=r"^(/[A-Za-z0-9_-]+)+$")] = "/ll"
    reply: tuple[str, ...] = ()
    """`host:port` of peers that always get telemetry, besides those who ask with /ll/subscribe."""
    rate: Annotated[float, Meta(gt=0, le=60)] = 5.0
    """Telemetry messages per second and address."""
    streamdiffusiontd: bool = False
    """Hear StreamDiffusionTD's addresses too, and tell what its component listens for: docs/streamdiffusiontd.md."""
    query: bool = True
    """Answer OSCQuery, so that other programs find every address by themselves. Runs with the page alone."""
    query_port: Port = 9090
    """TCP port that answers; 0, or one that is taken, takes a free one."""
    announce: bool = True
    """Let them find it without an address; needs the package zeroconf."""


class WebConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    enabled: bool = True
    host: str = "127.0.0.1"
    port: Port = 8210
    """0 takes a free one."""
    open_browser: bool = True


class LanConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `--lan` needs before anything binds beyond loopback."""

    enabled: bool = False
    allow: tuple[str, ...] = ()
    """Networks (CIDR) that may send OSC."""


class MidiConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    map: str = ""
    """Bindings to use: a name of `livelatent midi files`, or a new one that learning fills. Empty: no MIDI."""
    ports: tuple[str, ...] = ()
    """Parts of the names of the inputs to open; none is all of them."""
    clock: str = ""
    """Part of the name of the input whose clock counts; empty is the first that sends one."""
    feedback: bool = True
    """Tell motor faders and lights how things stand."""


class LinkConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    enabled: bool = False
    """Join Ableton Link, which speaks to the whole local network."""


class WorkerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    engine: Engine = "auto"
    device: Device = "auto"
    dtype: DType = "auto"
    threads: Annotated[int, Meta(ge=0, le=256)] = 0
    """CPU threads of the worker; 0 leaves the choice to torch."""
    standby: bool = True
    """Keep a second worker warm, so that a dead one is replaced within the second."""
    stall_s: Annotated[float, Meta(ge=0.2, le=600)] = 1.0
    """A worker that has not moved for this long is replaced (slow models get more: 8 of their own frame times)."""
    fake: dict[str, float] = {}


class RecordConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `/ll/record` and `/ll/still` do unless they are told."""

    folder: str = ""
    """Where the folders `recordings` and `stills` are; livelatent's own folder if empty."""
    format: Format = "mp4"
    """H.264, FFV1 (lossless), or a PNG for each picture."""
    input: bool = False
    """Keep the input too, lossless: `livelatent replay` needs it."""
    start: bool = False
    """Record from the first picture on."""


class ControlSources(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """By unit number: a source of the control unit's own, for its `source = "stream"`; empty for none."""

    one: str = msgspec.field(default="", name="1")
    two: str = msgspec.field(default="", name="2")
    three: str = msgspec.field(default="", name="3")
    four: str = msgspec.field(default="", name="4")

    def by_unit(self) -> dict[int, str]:
        """Those that there are."""
        texts = enumerate((self.one, self.two, self.three, self.four), 1)
        return {number: text for number, text in texts if text}


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One run."""

    source: str = "scene"
    sinks: tuple[str, ...] = ("preview", "zmq", "shm")
    hint_sinks: tuple[str, ...] = ()
    """Where the hint goes that `hint_preview` names; the page shows it anyway."""
    control_sources: ControlSources = ControlSources()
    image_source: str = ""
    """A source of the image prompt's own, for `ip/source` stream; empty for none."""
    every_frame: bool = False
    """Paint every frame of the source however long it takes, instead of keeping up with the clock. Always so when a
    movie or folder is turned into movie files and nothing else looks on."""
    stop_at_end: bool = True
    """End the run when the source says that it has ended (a movie without loop)."""
    frames: Annotated[int, Meta(ge=0)] = 0
    """Stop after this many painted frames; 0 goes on."""
    look: str = ""
    """Look to begin with; what `params` says goes before it."""
    show: str = ""
    """Cue list to begin with."""
    params: dict[str, Any] = {}
    schedule: dict[str, str] = {}
    """What moves parameters by itself, by row."""
    osc: OscConfig = OscConfig()
    web: WebConfig = WebConfig()
    record: RecordConfig = RecordConfig()
    lan: LanConfig = LanConfig()
    midi: MidiConfig = MidiConfig()
    link: LinkConfig = LinkConfig()
    worker: WorkerConfig = WorkerConfig()

    def own_sources(self) -> dict[int, str]:
        """Of control units, by number, and of the image prompt (IMAGE)."""
        image = {IMAGE: self.image_source} if self.image_source else {}
        return {**image, **self.control_sources.by_unit()}


def settled(config: Config) -> Config:
    """With `every_frame` set where it follows from source and sinks."""

    def name(text: str) -> str:
        return text.partition("?")[0].partition(":")[0]

    renders = name(config.source) in ("movie", "folder") and {name(sink) for sink in config.sinks} == {"movie"}
    return msgspec.structs.replace(config, every_frame=config.every_frame or renders)
