"""Operators: naming, hierarchy, wires, DAT text and modules, COMPs with pages and extensions."""

from __future__ import annotations

import builtins
import fnmatch
import json
import re
import types
from pathlib import Path
from typing import Any

from td.fake.core import Guarded, Page, Par, ParCollection, fixed, plain, tdError
from td.fake.kinds import INPUTS, KINDS


class Connector(Guarded):
    """One end of wires: an input takes one, an output any number."""

    def __init__(self, owner: Any, index: int, is_input: bool) -> None:
        super().__init__(owner._world)
        self._owner, self._index, self._is_input = owner, index, is_input
        self._connections: list[Connector] = []

    owner, index, isInput = fixed("owner"), fixed("index"), fixed("is_input")

    @property
    def connections(self) -> list[Connector]:
        return list(self._connections)

    def connect(self, target: Any) -> None:
        if isinstance(target, OP):
            target = (target.outputConnectors if self._is_input else target.inputConnectors)[0]
        if target._is_input == self._is_input:
            raise tdError("a wire goes from an output to an input")
        if target._owner._family != self._owner._family and "COMP" not in (target._owner._family, self._owner._family):
            raise tdError(f"a {self._owner._family} can't be wired to a {target._owner._family}")
        into, out = (self, target) if self._is_input else (target, self)
        into.disconnect()
        into._connections.append(out)
        out._connections.append(into)

    def disconnect(self) -> None:
        for other in self._connections:
            other._connections.remove(self)
        self._connections.clear()


class OP(Guarded):
    def __init__(self, world: Any, kind: str, name: str, parent: Any) -> None:
        super().__init__(world)
        self._type, self._name, self._parent = kind, name, parent
        self._family = re.search(r"[A-Z]+$", kind)[0]  # type: ignore[index]
        self._pars: dict[str, Par] = {}
        for row in KINDS[kind]:
            self._pars[row[0]] = Par(self, *row)
        self._par, self._storage, self._alive, self._errors, self._warnings = ParCollection(self), {}, True, [], []
        self._nodeX = self._nodeY = 0
        self._nodeWidth, self._nodeHeight, self._viewer, self._comment, self._dock = 130, 90, False, "", None
        self._color, self._tags, self._allowCooking = (0.55, 0.55, 0.55), set(), True
        self._inputs = [Connector(self, i, True) for i in range(INPUTS.get(kind, 0))]
        self._outputs = [Connector(self, 0, False)] if self._family in ("TOP", "DAT") else []

    par, storage, valid, family, OPType = fixed("par"), fixed("storage"), fixed("alive"), fixed("family"), fixed("type")
    nodeX, nodeY, nodeWidth, nodeHeight = plain("nodeX"), plain("nodeY"), plain("nodeWidth"), plain("nodeHeight")
    viewer, comment, color, allowCooking = plain("viewer"), plain("comment"), plain("color"), plain("allowCooking")
    tags, dock = plain("tags"), plain("dock")

    @property
    def type(self) -> str:
        return str(self._type).removesuffix(self._family)

    @property
    def name(self) -> str:
        return self._name

    @name.setter
    def name(self, text: str) -> None:
        self._name = self._parent._free_name(text)

    @property
    def path(self) -> str:
        return self._path()

    def _path(self) -> str:
        return "/" if self._parent is None else self._parent._path().rstrip("/") + "/" + self._name

    @property
    def inputs(self) -> list[Any]:
        return [c._owner for end in self._ins() for c in end._connections]

    @property
    def inputConnectors(self) -> list[Connector]:
        return self._ins()

    @property
    def outputConnectors(self) -> list[Connector]:
        return self._outs()

    def _ins(self) -> list[Connector]:
        return list(self._inputs)

    def _outs(self) -> list[Connector]:
        return list(self._outputs)

    def parent(self, up: int = 1) -> Any:
        found = self
        for _ in range(up):
            found = found._parent
        return found

    def op(self, path: str) -> Any:
        return self._find(path)

    def _refer(self, path: str) -> Any:
        """As parameters and scripts of this operator name others: `x` beside it, `./x` in it, `..` around it."""
        head, _, rest = path.partition("/")
        if head in ("", "."):
            return self._find(path) if head == "" else self._find(rest) if rest else self
        at = self._parent if head == ".." else self._parent._children.get(head)
        return at if at is None or not rest else at._find(rest)

    def _find(self, path: str) -> Any:
        """As the method `op`: relative to a COMP's inside or another operator's network, None for nothing."""
        at = self._world._root if path.startswith("/") else self._inside()
        for part in filter(None, path.split("/")):
            at = at._parent if part == ".." else at if part == "." else getattr(at, "_children", {}).get(part)
            if at is None:
                return None
        return at

    def _inside(self) -> Any:
        return self._parent

    def _op_text(self, value: Any) -> str:
        return value._path() if isinstance(value, OP) else str(value)

    def _evaluate(self, text: str) -> Any:
        return eval(text, self._world._names(self))

    def store(self, key: str, value: Any) -> None:
        self._storage[key] = value

    def fetch(self, key: str, *default: Any) -> Any:
        if key in self._storage or default:
            return self._storage.get(key, *default)
        raise tdError(f"nothing is stored under {key!r}")

    def unstore(self, pattern: str) -> None:
        for key in fnmatch.filter(list(self._storage), pattern):
            del self._storage[key]

    def errors(self, recurse: bool = False) -> str:
        return "\n".join(self._errors)

    def warnings(self, recurse: bool = False) -> str:
        return "\n".join(self._warnings)

    def addScriptError(self, text: str) -> None:
        self._errors.append(text)

    def clearScriptErrors(self, recurse: bool = False, error: str = "*") -> None:
        self._errors.clear()

    def addWarning(self, text: str) -> None:
        if self._world._cooking is not self:
            raise tdError("addWarning works only while its operator cooks")
        self._warnings.append(text)

    def cook(self, force: bool = False, recurse: bool = False) -> None:
        self._cook(force)

    def _cook(self, force: bool) -> None:
        pass

    def destroy(self) -> None:
        for connector in [*self._ins(), *self._outs()]:
            connector.disconnect()
        self._gone()
        self._alive = False
        del self._parent._children[self._name]

    def _gone(self) -> None:
        pass

    def _par_moved(self, par: Par) -> None:
        pass

    def _par_pulsed(self, par: Par) -> None:
        pass


class DAT(OP):
    """Text, and the module that it is."""

    def __init__(self, *place: Any) -> None:
        super().__init__(*place)
        self._text, self._module = "", None

    @property
    def text(self) -> str:
        return self._text

    @text.setter
    def text(self, value: str) -> None:
        if not isinstance(value, str):
            raise tdError("a DAT's text is a string")
        self._text, self._module = value, None

    @property
    def module(self) -> Any:
        return self._compiled()

    def _compiled(self) -> Any:
        if self._module is None:
            module = types.ModuleType(self._name)
            module.__dict__.update(self._world._names(self))
            module.__dict__["__builtins__"] = {**vars(builtins), "__import__": self._import}
            self._module = module
            try:
                exec(compile(self._text, self._path(), "exec"), module.__dict__)
            except BaseException:
                self._module = None
                raise
        return self._module

    def _import(self, name: str, scope: Any = None, local: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        """TouchDesigner's import looks for a DAT of that name beside the importing one first."""
        sibling = self._parent._children.get(name)
        if isinstance(sibling, DAT) and not level:
            return sibling._compiled()
        return builtins.__import__(name, scope, local, fromlist, level)

    def _call(self, name: str, *args: Any) -> None:
        function = getattr(self._compiled(), name, None)
        if function is not None:
            function(*args)


class COMP(OP):
    def __init__(self, *place: Any) -> None:
        super().__init__(*place)
        self._children: dict[str, Any] = {}
        self._pages: list[Page] = []
        self._extension: Any = None
        self._ready = True
        self._seq = types.SimpleNamespace(ext=types.SimpleNamespace(numBlocks=1))

    seq, extensionsReady = fixed("seq"), fixed("ready")

    @property
    def children(self) -> list[Any]:
        return list(self._children.values())

    @property
    def customPages(self) -> list[Page]:
        return list(self._pages)

    @property
    def customPars(self) -> list[Par]:
        return [par for par in self._pars.values() if par._custom]

    @property
    def ext(self) -> Any:
        if self._extension is None:
            self._init_extension()
        if self._extension is None:
            return types.SimpleNamespace()
        return types.SimpleNamespace(
            **{self._pars["ext0name"]._value or type(self._extension).__name__: self._extension}
        )

    def _inside(self) -> Any:
        return self

    def _ins(self) -> list[Connector]:
        wanted = [op for op in self._children.values() if op._type == "inTOP"]
        while len(self._inputs) < len(wanted):
            self._inputs.append(Connector(self, len(self._inputs), True))
        return self._inputs[: len(wanted)]

    def _outs(self) -> list[Connector]:
        wanted = [op for op in self._children.values() if op._type == "outTOP"]
        while len(self._outputs) < len(wanted):
            self._outputs.append(Connector(self, len(self._outputs), False))
        return self._outputs[: len(wanted)]

    def _free_name(self, name: str) -> str:
        """TouchDesigner never refuses a name that is taken: it counts on."""
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise tdError(f"{name!r} is no name for an operator")
        stem, number = name, 1
        while name in self._children:
            name, number = f"{stem}{number}", number + 1
        return name

    def create(self, kind: Any, name: str | None = None) -> Any:
        kind = kind if isinstance(kind, str) else kind._name
        if kind not in KINDS:
            raise tdError(f"there is no operator {kind!r}")
        stem = re.sub(r"[A-Z]+$", "", kind)
        return self._world._create(kind, self._free_name(name or stem + "1"), self)

    def appendCustomPage(self, name: str) -> Page:
        self._pages.append(Page(self, name))
        return self._pages[-1]

    def sortCustomPages(self, *names: str) -> None:
        self._pages.sort(key=lambda page: names.index(page._name))

    def destroyCustomPars(self) -> None:
        for page in list(self._pages):
            page.destroy()

    def initializeExtensions(self, index: int = 0) -> None:
        self._init_extension()

    def _init_extension(self) -> None:
        self._drop_extension()
        text = self._pars["ext0object"]._value
        if text:
            if not self._ready:
                raise tdError("the extension is used while it is being made")
            self._ready = False
            try:
                self._extension = eval(text, self._world._names(self))
            finally:
                self._ready = True
            if self._extension is None:
                raise tdError(f"the extension object {text!r} gave None")
            if hasattr(self._extension, "onInitTD"):
                self._world._later.append(self._extension.onInitTD)

    def _drop_extension(self) -> None:
        old, self._extension = self._extension, None
        if old is not None and hasattr(old, "onDestroyTD"):
            old.onDestroyTD()

    def _par_pulsed(self, par: Par) -> None:
        if par._name == "reinitextensions":
            self._init_extension()

    def _gone(self) -> None:
        self._drop_extension()
        for child in list(self._children.values()):
            child.destroy()

    def save(self, path: str, createFolders: bool = False, password: str | None = None) -> str:
        """Not TouchDesigner's bytes: what it would have to hold, for tests to look at."""
        if not Path(path).parent.is_dir() and not createFolders:
            raise tdError(f"{path}: no such folder")
        Path(path).write_text(json.dumps({"fake": "tox", "nodes": sorted(self._children), "name": self._name}), "utf-8")
        return path
