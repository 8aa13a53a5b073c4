"""The single checks of `livelatent doctor`, but for torch. Each looks, touches nothing, and says how to mend it."""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from bridge.config import Config
from bridge.drivers import EXTRAS, SINKS, SOURCES, DriverSpec, at_home
from bridge.errors import DriverError
from bridge.sinks import zmq as zmq_sink
from bridge.sources import zmq as zmq_source
from engines import paths
from engines.errors import ModelError
from engines.registry import Registry
from engines.weights import check_folder
from pipelines.params import Params

Status = Literal["ok", "bad", "note"]
"""`note`: livelatent runs without it."""
SHM_BYTES = 128 << 20
"""Rings for 1080p in and 1024² out, with room for a second worker's."""
OPEN_FILES = 512
DISK_BYTES = 8 << 30
"""The largest model that `models pull` fetches, roughly."""


class Check(msgspec.Struct, frozen=True):
    """One line of the report."""

    name: str
    status: Status
    text: str
    fix: str = ""
    """What to do, as one sentence; empty when there is nothing to do."""


def python() -> Check:
    text = f"{platform.python_version()}, {sys.platform} {platform.machine()}, {sys.executable}"
    if sys.version_info >= (3, 15):
        return Check("python", "note", text, "if packages are missing for it, use Python 3.11 to 3.14")
    return Check("python", "ok", text)


def ports(config: Config) -> Iterator[Check]:
    """Whether our own ports are free on the addresses that the configuration names."""
    for name, kind, host, port, other in _wanted_ports(config):
        said = _bind_error(kind, host, port)
        text = f"{'UDP' if kind == socket.SOCK_DGRAM else 'TCP'} {host}:{port}"
        if said and name == "web":
            yield Check("port web", "note", f"{text}: {said}; the page takes the next free port")
        elif said:
            fix = f"close what uses it (another livelatent?), or take another: {other}"
            yield Check(f"port {name}", "bad", f"{text}: {said}", fix)
        else:
            yield Check(f"port {name}", "ok", f"{text} is free")


def _wanted_ports(config: Config) -> Iterator[tuple[str, socket.SocketKind, str, int, str]]:
    """Name, kind, host, port, and how to choose another."""
    yield "osc", socket.SOCK_DGRAM, config.osc.host, config.osc.port, "--osc-port N"
    if config.web.enabled:
        yield "web", socket.SOCK_STREAM, config.web.host, config.web.port, ""
    drivers = [("source", config.source, zmq_source.DEFAULT_ADDRESS)]
    drivers += [("sink", sink, zmq_sink.DEFAULT_ADDRESS) for sink in config.sinks]
    for kind, text, default in drivers:
        address = re.fullmatch(r"tcp://(.+):(\d+)", _bound_address(text, default))
        if address:
            host, port = address.groups()
            yield f"zmq {kind}", socket.SOCK_STREAM, host.strip("[]"), int(port), f"--{kind} zmq:tcp://{host}:N"


def _bound_address(text: str, default: str) -> str:
    """What a zmq driver would bind, or nothing for another driver and for one that connects."""
    spec = DriverSpec.parse(text)
    binds = spec.name == "zmq" and spec.options.get("bind", "1").lower() in ("1", "true", "yes", "on")
    return (spec.target or default) if binds else ""


def _bind_error(kind: socket.SocketKind, host: str, port: int) -> str:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=kind)[0]
        with socket.socket(family, kind) as probe:
            # A page that closed a moment ago leaves its port waiting, and the server takes it all the same.
            if kind == socket.SOCK_STREAM and sys.platform != "win32":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def shared_memory(folder: Path = Path("/dev/shm")) -> Check:  # noqa: S108
    """Room for the rings; containers often have 64 MB and no more."""
    if not folder.is_dir():
        return Check("shared memory", "ok", "the system's own, without a fixed size")
    free = shutil.disk_usage(folder).free
    text = f"{free >> 20} MiB free in {folder}"
    if free < SHM_BYTES:
        fix = f"livelatent wants {SHM_BYTES >> 20} MiB: in Docker, `--shm-size=1g`; else remove old files there"
        return Check("shared memory", "bad", text, fix)
    return Check("shared memory", "ok", text)


def models(config: Config) -> Iterator[Check]:
    """The model that a run would load, then every other that is here."""
    wanted = str(config.params.get("model", Params().model))
    try:
        registry = Registry.open()
    except ModelError as error:
        yield Check("models", "bad", str(error), "mend or remove that file")
        return
    here = [name for name in registry.ids() if name == wanted or registry.get(name).here]
    for name in sorted(here, key=lambda name: name != wanted):
        try:
            entry = registry.get(name)
            check_folder(entry.folder())
            yield Check(f"model {name}", "ok", f"{entry.title} ({entry.licence})")
        except ModelError as error:
            yield Check(f"model {name}", "bad" if name == wanted else "note", str(error))
    absent = [name for name in registry.ids() if name not in here]
    if absent:
        yield Check("more models", "note", f"known, not here: {', '.join(absent)}", "`livelatent models pull ID`")


def drivers() -> Iterator[Check]:
    """Whether every source's and sink's module and packages are there."""
    for kind, table in (("sources", SOURCES), ("sinks", SINKS)):
        usable = []
        for name, entry in table.items():
            if not at_home(name):
                continue
            try:
                module = importlib.import_module(entry.partition(":")[0])
                getattr(module, "require", lambda: None)()
                usable.append(name)
            except ImportError as error:
                missing = (error.name or "").partition(".")[0]
                extra = EXTRAS.get(missing)
                fix = f"`pip install livelatent[{extra}]`" if extra else "install livelatent again"
                yield Check(f"{kind[:-1]} {name}", "note" if extra else "bad", str(error), fix)
            except DriverError as error:
                yield Check(f"{kind[:-1]} {name}", "note", str(error))
        yield Check(kind, "ok", ", ".join(usable))


def cameras(folder: Path = Path("/dev")) -> Check:
    """What the system lists; nothing is opened, as that lights a lamp and may take the camera from someone."""
    if sys.platform != "linux":
        return Check("cameras", "note", "not listed on this system: try `livelatent run --source camera:0`")
    found = sorted(path for path in folder.glob("video*") if path.name[5:].isdecimal())
    if not found:
        return Check("cameras", "note", "none", "plug one in for the source `camera`")
    closed = [str(path) for path in found if not os.access(path, os.R_OK | os.W_OK)]
    if closed:
        return Check(
            "cameras", "note", f"no right to use {', '.join(closed)}", "join the group `video` and log in again"
        )
    return Check("cameras", "ok", ", ".join(str(path) for path in found))


def midi() -> Check:
    """Which controllers are plugged in; none is opened."""
    from bridge.midi import ports

    try:
        found = ports.inputs(ports.backend())
    except (DriverError, OSError) as error:
        return Check("midi", "note", str(error))
    if not found:
        return Check("midi", "note", "nothing is plugged in", "for controllers: plug one in, `livelatent run --midi`")
    return Check("midi", "ok", ", ".join(found))


def link() -> Check:
    """Whether Ableton Link could be joined; nothing is sent."""
    from bridge.show import ableton

    try:
        ableton.peer_module()
    except DriverError as error:
        return Check("link", "note", str(error))
    return Check("link", "ok", "Ableton Link is there: `livelatent run --link` joins it")


def files() -> Iterator[Check]:
    """Our data folder, and how many files a process may have open."""
    home = paths.home()
    nearest = next((path for path in (home, *home.parents) if path.exists()), home)
    if not os.access(nearest, os.W_OK):
        yield Check("data folder", "bad", f"{home} can't be written", "mend its rights, or set LIVELATENT_HOME")
    else:
        free = shutil.disk_usage(nearest).free
        text = f"{home}, {free / 1e9:.0f} GB free"
        yield (
            Check("data folder", "ok", text)
            if free > DISK_BYTES
            else Check("data folder", "note", text, "large models need 3 to 8 GB each")
        )
    if sys.platform != "win32":
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if 0 <= soft < OPEN_FILES:
            yield Check("open files", "bad", f"at most {soft} a process", "`ulimit -n 4096` before you start")
        else:
            yield Check("open files", "ok", f"at most {soft} a process")
