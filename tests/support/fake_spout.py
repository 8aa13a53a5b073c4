"""Stand-ins for the modules SpoutGL (0.1.1) and its native side, which do not forgive misuse.

As the real ones: a context of OpenGL belongs to the thread that made it; pictures need one; names are taken once; a
receiver is told of a new size by `isUpdated`, once, and gets no pixels before; `getSenderName` is broken.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

GL_RGBA = 0x1908
HANDLES = 156
"""After so many natives the real one crashes."""


@dataclass
class Shared:
    """A texture that a sender shares."""

    width: int
    height: int
    pixels: bytes
    frame: int = 1


@dataclass
class Machine:
    """What the Spout of this machine knows; `misuse` is checked after every test."""

    senders: dict[str, Shared] = field(default_factory=dict)
    contexts: int = 0
    natives: int = 0
    has_gl: bool = True
    same_card: bool = True
    send_works: bool = True
    misuse: list[str] = field(default_factory=list)

    def fail(self, what: str) -> None:
        self.misuse.append(what)
        raise AssertionError(what)


class _Native:
    machine: Machine

    def __init__(self) -> None:
        self._gl: int | None = None
        self.machine.natives += 1
        if self.machine.natives > HANDLES:
            self.machine.fail("crash: too many senders and receivers were made")

    def createOpenGL(self) -> bool:
        if self._gl is not None:
            self.machine.fail("a second OpenGL context")
        if self.machine.has_gl:
            self._gl = threading.get_ident()
            self.machine.contexts += 1
        return self.machine.has_gl

    def closeOpenGL(self) -> bool:
        self._need_gl("closeOpenGL")
        self._gl = None
        self.machine.contexts -= 1
        return True

    def isGLDXReady(self) -> bool:
        return self.machine.same_card

    def _need_gl(self, call: str) -> None:
        if self._gl != threading.get_ident():
            self.machine.fail(f"{call} without an OpenGL context of this thread")

    def _check(self, buffer: Any, size: int, kind: int, invert: bool) -> memoryview:
        view = memoryview(buffer)
        if not view.c_contiguous or view.nbytes < size:
            self.machine.fail("a buffer that is too small or not contiguous")
        if kind != GL_RGBA or invert:
            self.machine.fail("not RGBA with the top row first")
        return view.cast("B")


class SpoutSender(_Native):
    def __init__(self) -> None:
        super().__init__()
        self._name = ""

    def setSenderName(self, name: str) -> None:
        if name in self.machine.senders:
            self.machine.fail(f"the name {name} is taken")
        self._name = name

    def sendImage(self, buffer: Any, width: int, height: int, kind: int, invert: bool, fbo: int) -> bool:
        self._need_gl("sendImage")
        view = self._check(buffer, width * height * 4, kind, invert)
        if not self._name:
            self.machine.fail("sendImage without a name")
        if not self.machine.send_works:
            return False
        frame = self.machine.senders[self._name].frame + 1 if self._name in self.machine.senders else 1
        self.machine.senders[self._name] = Shared(width, height, bytes(view[: width * height * 4]), frame)
        return True

    def releaseSender(self) -> None:
        self._need_gl("releaseSender")
        self.machine.senders.pop(self._name, None)
        self._name = ""


class SpoutReceiver(_Native):
    def __init__(self) -> None:
        super().__init__()
        self._name, self._updated, self._new = "", False, False
        self._size, self._frame = (0, 0), 0

    def getSenderList(self) -> list[str]:
        return sorted(self.machine.senders)

    def setReceiverName(self, name: str) -> None:
        self._name, self._size, self._frame = name, (0, 0), 0

    def receiveImage(self, buffer: Any, kind: int, invert: bool, fbo: int) -> bool:
        self._need_gl("receiveImage")
        shared = self.machine.senders.get(self._name)
        self._new = False
        if shared is None:
            return False
        if (shared.width, shared.height) != self._size:
            if buffer is not None:
                self._check(buffer, self._size[0] * self._size[1] * 4, kind, invert)
            self._size, self._updated = (shared.width, shared.height), True
            return True
        if self._updated:
            self.machine.fail("receiveImage again without asking isUpdated")
        if buffer is not None:
            view = self._check(buffer, self._size[0] * self._size[1] * 4, kind, invert)
            if not isinstance(buffer, np.ndarray) or not buffer.flags.writeable:
                self.machine.fail("a buffer that can't be written")
            if shared.frame != self._frame:
                view[: len(shared.pixels)] = shared.pixels if self.machine.same_card else bytes(len(shared.pixels))
                self._frame, self._new = shared.frame, True
        return True

    def isUpdated(self) -> bool:
        updated, self._updated = self._updated, False
        return updated

    def isFrameNew(self) -> bool:
        return self._new

    def getSenderWidth(self) -> int:
        return self._size[0]

    def getSenderHeight(self) -> int:
        return self._size[1]

    def getSenderName(self) -> str:
        raise AssertionError("SpoutGL 0.1.1 answers with the width")

    def releaseReceiver(self) -> None:
        self._need_gl("releaseReceiver")
        self._name, self._size, self._frame = "", (0, 0), 0


def module() -> ModuleType:
    """To be put into sys.modules as SpoutGL."""
    made = ModuleType("SpoutGL")
    made.SpoutSender, made.SpoutReceiver = SpoutSender, SpoutReceiver  # type: ignore[attr-defined]
    return made
