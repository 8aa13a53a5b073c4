"""What a run is made of. Frozen. A ConfigError names file and key of what is unknown or out of range."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from pipelines.spec import Device, DType, Engine

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


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One run."""

    source: str = "scene"
    sinks: tuple[str, ...] = ("preview", "zmq", "shm")
    every_frame: bool = False
    """Paint every frame of the source however long it takes, instead of keeping up with the clock. Always so when a
    movie or folder is turned into movie files and nothing else looks on."""
    stop_at_end: bool = True
    """End the run when the source says that it has ended (a movie without loop)."""
    frames: Annotated[int, Meta(ge=0)] = 0
    """Stop after this many painted frames; 0 goes on."""
    params: dict[str, Any] = {}
    osc: OscConfig = OscConfig()
    web: WebConfig = WebConfig()
    lan: LanConfig = LanConfig()
    worker: WorkerConfig = WorkerConfig()


def settled(config: Config) -> Config:
    """With `every_frame` set where it follows from source and sinks."""

    def name(text: str) -> str:
        return text.partition("?")[0].partition(":")[0]

    renders = name(config.source) in ("movie", "folder") and {name(sink) for sink in config.sinks} == {"movie"}
    return msgspec.structs.replace(config, every_frame=config.every_frame or renders)
