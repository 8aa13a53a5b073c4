"""A strict fake of TouchDesigner: what the component touches of it, with an error for everything that is not there.

It knows nothing of livelatent. Where TouchDesigner's documentation leaves open when something happens (parameter
callbacks at once or at the end of the frame), `deferred` chooses, and tests run with both.
"""

from __future__ import annotations

import fnmatch
import threading
import types
from collections.abc import Callable
from typing import Any

from td.fake.core import Par, ParMode, tdAttributeError, tdError
from td.fake.gpu import CUDAMemoryShape, Gpu
from td.fake.kinds import KINDS
from td.fake.net import oscinDAT, oscoutDAT
from td.fake.ops import COMP, DAT, OP
from td.fake.tops import TOP, scriptTOP

FAMILIES: dict[str, type[OP]] = {"COMP": COMP, "DAT": DAT, "TOP": TOP}
CLASSES: dict[str, type[OP]] = {"scriptTOP": scriptTOP, "oscinDAT": oscinDAT, "oscoutDAT": oscoutDAT}


class World:
    """One TouchDesigner. `frame()` is one frame of it; `op("/project1")` is where people work."""

    def __init__(self, deferred: bool = True, folder: str = "", gpu: Any = None) -> None:
        """`gpu`: what td.fake.gpu.Gpu needs of an NVIDIA driver; without one there is no such card."""
        self._thread, self._touches, self._stalls = threading.get_ident(), 0, 0
        self._deferred, self._cooking = deferred, None
        self._gpu = Gpu(self, gpu) if gpu is not None else None
        self._copied: list[int] = []
        self._later: list[Callable[[], None]] = []
        self._events: list[tuple[str, tuple[Any, ...]]] = []
        self._root: Any = None
        self._root = COMP(self, "baseCOMP", "", None)
        self._project, self._frame = types.SimpleNamespace(folder=folder, name="fake.1.toe"), 1
        self._root.create("baseCOMP", "project1")

    def op(self, path: str) -> Any:
        return self._root.op(path)

    def close(self) -> None:
        for child in list(self._root._children.values()):
            child.destroy()
        if self._gpu is not None:
            self._gpu.close()

    def textport(self, code: str) -> dict[str, Any]:
        """What a line in the Textport does; returns its names."""
        names = self._names(self._root)
        exec(compile(code, "textport", "exec"), names)
        return names

    def frame(self) -> None:
        """OSC is delivered, callbacks run, what is looked at cooks."""
        self._frame += 1
        for dat in self._all("oscinDAT"):
            dat._deliver()
        for dat in self._all("executeDAT"):
            if dat._pars["active"].eval() and dat._pars["framestart"].eval():
                dat._call("onFrameStart", self._frame)
        for top in self._all("outTOP"):
            top._cook(False)
        for dat in self._all("executeDAT"):
            if dat._pars["active"].eval() and dat._pars["frameend"].eval():
                dat._call("onFrameEnd", self._frame)
        events, self._events = self._events, []
        for name, args in events:
            self._tell(name, args)
        later, self._later = self._later, []
        for call in later:
            call()

    def _all(self, kind: str) -> list[Any]:
        out, rest = [], [self._root]
        while rest:
            at = rest.pop()
            rest += getattr(at, "_children", {}).values()
            out += [at] if at._type == kind else []
        return out

    def _create(self, kind: str, name: str, parent: COMP) -> OP:
        family = next(f for f in FAMILIES if kind.endswith(f))
        made = CLASSES.get(kind, FAMILIES[family])(self, kind, name, parent)
        parent._children[name] = made
        if kind in ("scriptTOP", "oscinDAT"):
            # TouchDesigner makes their callback DATs with them, filled with its own placeholders.
            callbacks = self._create("textDAT", parent._free_name(f"{name}_callbacks"), parent)
            callbacks._text, callbacks._dock = "# placeholders", made
            made._pars["callbacks"]._value = callbacks._name
        if kind == "executeDAT":
            self._later.append(lambda: self._created(made))
        return made

    @staticmethod
    def _created(dat: Any) -> None:
        if dat._alive and dat._pars["create"].eval():
            dat._call("onCreate")

    def _moved(self, par: Par, before: Any) -> None:
        self._note("onValueChange", (par, before))

    def _pulsed(self, par: Par) -> None:
        self._note("onPulse", (par,))

    def _note(self, name: str, args: tuple[Any, ...]) -> None:
        if self._deferred:
            self._events.append((name, args))
        else:
            self._tell(name, args)

    def _tell(self, name: str, args: tuple[Any, ...]) -> None:
        par = args[0]
        toggle = "valuechange" if name == "onValueChange" else "onpulse"
        for dat in self._all("parameterexecuteDAT"):
            pars = dat._pars
            kind = "custom" if par._custom else "builtin"
            if not (pars["active"].eval() and pars[toggle].eval() and pars[kind].eval()):
                continue
            wanted = pars["pars"].eval().split()
            if pars["op"].eval() is par._owner and any(fnmatch.fnmatch(par._name, text) for text in wanted):
                dat._call(name, *args)

    def _names(self, me: Any) -> dict[str, Any]:
        """What is global in TouchDesigner's Python."""
        kinds = {kind: types.SimpleNamespace(_name=kind) for kind in KINDS}
        names = {
            "me": me,
            "op": me._refer if me._parent else me._find,
            "parent": lambda up=1: me.parent(up),
            "root": self._root,
        }
        names |= {"project": self._project, "ParMode": ParMode, "tdError": tdError, "debug": lambda *_: None}
        names |= {"CUDAMemoryShape": CUDAMemoryShape}
        names |= {"tdAttributeError": tdAttributeError, "app": types.SimpleNamespace(build="2025.32460", version="099")}
        return {**kinds, **names, "__name__": getattr(me, "_name", "")}
