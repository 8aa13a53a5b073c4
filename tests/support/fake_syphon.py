"""Stand-ins for the package syphon (syphon-python 0.2) and the Metal below it, which do not forgive misuse."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

BGRA8, RGBA8, RGBA16 = 80, 70, 115


@dataclass
class Machine:
    """What the Syphon of this Mac knows. `main_ran`: notices of who comes and goes arrive only after the main thread
    listened."""

    servers: dict[str, SyphonMetalServer] = field(default_factory=dict)
    known: dict[str, SyphonMetalServer] = field(default_factory=dict)
    textures: int = 0
    clients: int = 0
    directories: int = 0
    has_metal: bool = True
    misuse: list[str] = field(default_factory=list)

    def fail(self, what: str) -> None:
        self.misuse.append(what)
        raise AssertionError(what)


class Texture:
    """Of Metal. Row 0 is the top of Metal's image, and the bottom of Syphon's."""

    machine: Machine

    def __init__(self, width: int, height: int, kind: int = RGBA8) -> None:
        self._width, self._height, self._kind = width, height, kind
        self.data = bytes(width * height * 4)
        self.machine.textures += 1

    def width(self) -> int:
        return self._width

    def height(self) -> int:
        return self._height

    def pixelFormat(self) -> int:
        return self._kind


@dataclass
class Description:
    uuid: str
    name: str
    app_name: str


class SyphonMetalServer:
    machine: Machine
    _numbers = itertools.count()

    def __init__(self, name: str, app_name: str = "Python") -> None:
        if not self.machine.has_metal:
            raise RuntimeError("No Metal device is available")
        self.device = object()
        self.server_description = Description(f"id-{next(self._numbers)}", name, app_name)
        self.texture: Texture | None = None
        self.frame = 0
        self.has_clients = False
        self._stopped = False
        self.machine.servers[self.server_description.uuid] = self

    def publish_frame_texture(self, texture: Texture, is_flipped: bool = False) -> None:
        if self._stopped:
            self.machine.fail("publish after stop")
        if is_flipped:
            self.machine.fail("flipped a second time")
        self.texture = texture
        self.frame += 1

    def stop(self) -> None:
        self._stopped = True
        self.machine.servers.pop(self.server_description.uuid, None)


class SyphonMetalClient:
    machine: Machine

    def __init__(self, description: Description) -> None:
        self._uuid = description.uuid
        if self._uuid not in self.machine.servers:
            raise RuntimeError("Syphon could not create the client")
        self._frame, self._stopped = 0, False
        self.machine.clients += 1

    @property
    def _server(self) -> SyphonMetalServer | None:
        if self._stopped:
            self.machine.fail("a client used after stop")
        return self.machine.servers.get(self._uuid)

    @property
    def is_valid(self) -> bool:
        return self._server is not None

    @property
    def has_new_frame(self) -> bool:
        server = self._server
        return server is not None and server.frame > self._frame

    @property
    def new_frame_image(self) -> Texture | None:
        server = self._server
        if server is None:
            return None
        self._frame = server.frame
        return server.texture

    def stop(self) -> None:
        if not self._stopped:
            self.machine.clients -= 1
        self._stopped = True


class SyphonServerDirectory:
    machine: Machine

    def __init__(self) -> None:
        self.run_loop_interval = 1.0
        self._closed = False
        self.machine.directories += 1

    def __enter__(self) -> SyphonServerDirectory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update_run_loop(self) -> None:
        if self.run_loop_interval > 0.2:
            self.machine.fail("a run loop that takes a second")
        self.machine.known = dict(self.machine.servers)

    @property
    def servers(self) -> list[Description]:
        if self._closed:
            self.machine.fail("a directory used after close")
        self.update_run_loop()
        return [server.server_description for server in self.machine.known.values()]

    def close(self) -> None:
        if not self._closed:
            self.machine.directories -= 1
        self._closed = True


def create_mtl_texture(device: Any, width: int, height: int) -> Texture:
    return Texture(width, height)


def copy_bytes_to_mtl_texture(data: bytes, texture: Texture) -> None:
    if not isinstance(data, bytes) or len(data) != texture.width() * texture.height() * 4:
        Texture.machine.fail("bytes that do not fill the texture")
    texture.data = data


def copy_mtl_texture_to_bytes(texture: Texture) -> bytes:
    if texture.pixelFormat() not in (BGRA8, RGBA8):
        raise Exception("Not correct pixel format")
    return texture.data


def modules() -> dict[str, ModuleType]:
    """To be put into sys.modules."""
    top, utils, raw = (ModuleType(name) for name in ("syphon", "syphon.utils", "syphon.utils.raw"))
    for thing in (SyphonMetalServer, SyphonMetalClient, SyphonServerDirectory):
        setattr(top, thing.__name__, thing)
    for function in (create_mtl_texture, copy_bytes_to_mtl_texture, copy_mtl_texture_to_bytes):
        setattr(raw, function.__name__, function)
    top.utils, utils.raw = utils, raw  # type: ignore[attr-defined]
    return {"syphon": top, "syphon.utils": utils, "syphon.utils.raw": raw}
