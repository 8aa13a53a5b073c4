"""Parameters, pages and the rules that hold for every object of the fake: main thread only, and no made-up names."""

from __future__ import annotations

import enum
import re
import threading
from collections.abc import Iterator
from typing import Any


class tdError(Exception):
    """What TouchDesigner raises."""


class tdAttributeError(tdError, AttributeError):
    """A name that TouchDesigner does not have."""


class ParMode(enum.Enum):
    CONSTANT = 0
    EXPRESSION = 1
    EXPORT = 2
    BIND = 3


class Guarded:
    """Public names are those of TouchDesigner, used on its thread alone; names with _ are the fake's own."""

    def __init__(self, world: Any) -> None:
        object.__setattr__(self, "_world", world)

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_"):
            world = object.__getattribute__(self, "_world")
            if threading.get_ident() != world._thread:
                raise tdError(f"{name!r} was used on a thread that is not TouchDesigner's")
            world._touches += 1
        return object.__getattribute__(self, name)

    def __getattr__(self, name: str) -> Any:
        raise tdAttributeError(f"'td.{type(self).__name__}' object has no attribute {name!r}")

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_"):
            getattr(self, name)  # raises for what is not there
            found = getattr(type(self), name, None)
            if not isinstance(found, property) or found.fset is None:
                raise tdAttributeError(f"'td.{type(self).__name__}' attribute {name!r} can't be set")
        object.__setattr__(self, name, value)


def plain(name: str) -> property:
    """A member that may be read and set."""

    def read(self: Any) -> Any:
        return getattr(self, "_" + name)

    def write(self: Any, value: Any) -> None:
        setattr(self, "_" + name, value)

    return property(read, write)


def fixed(name: str) -> property:
    return property(lambda self: getattr(self, "_" + name))


class Par(Guarded):
    """One parameter."""

    def __init__(self, owner: Any, name: str, style: str, default: Any, menu: list[str] | None = None) -> None:
        super().__init__(owner._world)
        self._owner, self._name, self._style, self._page = owner, name, style, None
        self._custom = False
        self._default, self._value = default, default
        self._menuNames, self._menuLabels = list(menu or []), list(menu or [])
        self._min, self._max, self._normMin, self._normMax = 0.0, 1.0, 0.0, 1.0
        self._clampMin = self._clampMax = self._readOnly = self._startSection = False
        self._enable, self._help, self._label, self._order = True, "", name, 0
        self._mode, self._expr, self._alive = ParMode.CONSTANT, "", True

    owner, name, style, page = fixed("owner"), fixed("name"), fixed("style"), fixed("page")
    default, min, max = plain("default"), plain("min"), plain("max")
    normMin, normMax, clampMin, clampMax = plain("normMin"), plain("normMax"), plain("clampMin"), plain("clampMax")
    readOnly, enable, startSection = plain("readOnly"), plain("enable"), plain("startSection")
    help, label, order = plain("help"), plain("label"), plain("order")
    menuNames, menuLabels = plain("menuNames"), plain("menuLabels")
    isCustom, valid, mode = fixed("custom"), fixed("alive"), plain("mode")

    @property
    def isPulse(self) -> bool:
        return self._style == "Pulse"

    @property
    def expr(self) -> str:
        return self._expr

    @expr.setter
    def expr(self, text: str) -> None:
        self._expr, self._mode = text, ParMode.EXPRESSION

    @property
    def val(self) -> Any:
        return self._value

    @val.setter
    def val(self, value: Any) -> None:
        self._set(value)

    def _set(self, value: Any) -> None:
        if not self._alive:
            raise tdError(f"parameter {self._name} is gone")
        before, self._mode = self.eval() if self._mode is ParMode.CONSTANT else None, ParMode.CONSTANT
        self._value = self._convert(value)
        if self._value != before:
            self._world._moved(self, before)
            self._owner._par_moved(self)

    def _convert(self, value: Any) -> Any:
        if self._style in ("Float", "Int"):
            if isinstance(value, str):
                raise tdError(f"{self._name} takes a number, not {value!r}")
            value = float(value) if self._style == "Float" else int(value)
            value = max(value, self._min) if self._clampMin else value
            return min(value, self._max) if self._clampMax else value
        if self._style == "Toggle":
            return bool(value)
        if self._style == "Menu":
            name = self._menuNames[int(value)] if isinstance(value, (int, float)) else str(value)
            if name not in self._menuNames:
                raise tdError(f"{self._name}: no menu item {name!r}")
            return name
        return self._owner._op_text(value) if self._style == "OP" else str(value)

    def eval(self) -> Any:
        if self._mode is ParMode.EXPRESSION:
            return self._convert(self._owner._evaluate(self._expr))
        if self._style == "OP":
            return self._owner._refer(self._value) if self._value else None
        return self._value

    def pulse(self, value: Any = 1, frames: int = 0, seconds: float = 0) -> None:
        if self._style != "Pulse":
            raise tdError(f"{self._name} is no pulse: this fake has no momentary values")
        self._world._pulsed(self)
        self._owner._par_pulsed(self)

    def destroy(self) -> None:
        if not self._custom:
            raise tdError("only custom parameters can be destroyed")
        self._alive = False
        self._page._pars.remove(self)
        del self._owner._pars[self._name]


class ParCollection(Guarded):
    """`op.par`: attribute access by name; setting one sets its value."""

    def __init__(self, owner: Any) -> None:
        super().__init__(owner._world)
        self._owner = owner

    def __getattr__(self, name: str) -> Any:
        found = self._owner._pars.get(name)
        if found is None:
            raise tdAttributeError(f"{self._owner._path()} ({self._owner._type}) has no parameter {name!r}")
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
            return
        par = getattr(self, name)
        if isinstance(value, Par):
            raise tdError("assign a parameter's value, not the parameter")
        par.val = value

    def __iter__(self) -> Iterator[Par]:
        return iter(list(self._owner._pars.values()))


class Page(Guarded):
    """A custom page. `append*` take the name alone by position."""

    def __init__(self, owner: Any, name: str) -> None:
        super().__init__(owner._world)
        self._owner, self._name = owner, name
        self._pars: list[Par] = []

    name, owner = plain("name"), fixed("owner")

    @property
    def pars(self) -> list[Par]:
        return list(self._pars)

    def _append(self, style: str, name: str, default: Any, size: int, label: str | None, replace: bool) -> tuple[Par]:
        if not re.fullmatch(r"[A-Z][a-z0-9]*", name):
            raise tdError(f"{name!r}: custom parameters have one capital, then small letters and digits")
        if size != 1:
            raise tdError("this fake makes single values alone")
        found = self._owner._pars.get(name)
        if found is not None and not replace:
            raise tdError(f"there is a parameter {name} already")
        if found is not None:
            found.destroy()
        par = Par(self._owner, name, style, default)
        par._custom, par._page, par._label = True, self, label or name
        self._pars.append(par)
        self._owner._pars[name] = par
        return (par,)

    def appendFloat(
        self, name: str, *, label: str | None = None, size: int = 1, order: Any = None, replace: bool = True
    ) -> Any:
        return self._append("Float", name, 0.0, size, label, replace)

    def appendInt(
        self, name: str, *, label: str | None = None, size: int = 1, order: Any = None, replace: bool = True
    ) -> Any:
        return self._append("Int", name, 0, size, label, replace)

    def appendToggle(self, name: str, *, label: str | None = None, order: Any = None, replace: bool = True) -> Any:
        return self._append("Toggle", name, False, 1, label, replace)

    def appendStr(self, name: str, *, label: str | None = None, order: Any = None, replace: bool = True) -> Any:
        return self._append("Str", name, "", 1, label, replace)

    def appendMenu(self, name: str, *, label: str | None = None, order: Any = None, replace: bool = True) -> Any:
        return self._append("Menu", name, "", 1, label, replace)

    def appendStrMenu(self, name: str, *, label: str | None = None, order: Any = None, replace: bool = True) -> Any:
        return self._append("StrMenu", name, "", 1, label, replace)

    def appendFile(self, name: str, *, label: str | None = None, order: Any = None, replace: bool = True) -> Any:
        return self._append("File", name, "", 1, label, replace)

    def appendPulse(self, name: str, *, label: str | None = None, order: Any = None, replace: bool = True) -> Any:
        return self._append("Pulse", name, 0, 1, label, replace)

    def destroy(self) -> None:
        for par in list(self._pars):
            par.destroy()
        self._owner._pages.remove(self)
