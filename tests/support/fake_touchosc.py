"""TouchOSC as far as its manual tells: layouts, fingers, messages over real UDP, a Lua 5.1 per script.

Strict: what the manual does not name is not there, and a script's error is the test's. Read by an independent library.
hexler.net/touchosc/manual: script-functions-global, script-objects-control, editor-messages-osc, editor-control-values.
"""

from __future__ import annotations

import ctypes
import gc
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import py2tosc
from lupa.lua51 import LuaRuntime
from pythonosc.osc_bundle import OscBundle
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder

DEADLINE_S = 60.0


class Seen:
    """A control as a script sees it: the manual's fields and no others."""

    def __init__(self, control: Control, tables: dict[Control, Any]) -> None:
        object.__setattr__(self, "_at", (control, tables))
        object.__setattr__(self, "_tables", tables)

    def __getattr__(self, field: str) -> Any:
        if field.startswith("__"):
            raise AttributeError(field)  # lupa asks whether this is a list
        control, tables = self._at
        if field in ("name", "tag", "color", "values"):
            return getattr(control, field)
        if field == "parent":
            return Seen(control.parent, tables) if control.parent else None
        if field == "notify":
            return lambda me, key, value=None: me._at[0].call("onReceiveNotify", key, value)
        assert field == "children", f"the manual knows no {field}"
        return self._tables[control]

    def __setattr__(self, field: str, value: Any) -> None:
        assert field == "color", field
        self._at[0].color = value


class Values:
    """`self.values`: setting one does all that a finger's move does."""

    def __init__(self, control: Control, start: dict[str, Any]) -> None:
        self._control, self._now = control, start

    def __getitem__(self, key: str) -> Any:
        return self._now[key]

    def __setitem__(self, key: str, value: Any) -> None:
        assert key in self._now, (self._control.name, key)
        self._control.change(key, value)


class Control:
    """One node of the layout."""

    def __init__(self, app: App, node: Any, parent: Control | None) -> None:
        self._app, self.node, self._lua = app, node, None
        self.parent, self.name, self.tag = parent, node.get("name") or "", node.get("tag") or ""
        self.color: Any = tuple(node.get("color"))
        self.children = [Control(app, child, self) for child in node.children]
        start = {value.key: value.default for value in node.values}
        self.values = Values(self, {k: float(v) if k == "x" else v for k, v in start.items()})

    def walk(self) -> Iterator[Control]:
        yield self
        for child in self.children:
            yield from child.walk()

    def child(self, name: str) -> Control:
        return next(child for child in self.children if child.name == name)

    def change(self, key: str, value: Any, send: bool = True) -> None:
        """A value changes: the script hears of it, and the messages that it triggers are sent."""
        before = self.values._now[key]
        if value == before:
            return
        self.values._now[key] = value
        self.call("onValueChanged", key)
        for message in self.node.messages if send else ():
            for trigger in message.triggers if message.enabled and message.send else ():
                if trigger.var == key and (str(trigger.condition) == "ANY" or value > before):
                    self._app.send(_address(message), [self._argument(part) for part in message.arguments])

    def hear(self, message: Any, value: Any) -> None:
        """Something came at the address of one of our messages."""
        part = message.arguments[0]
        assert str(part.type) == "VALUE"
        if part.value == "text":
            value = str(value)
        else:
            share = (float(value) - part.scale_min) / (part.scale_max - part.scale_min)
            value = min(max(share, 0.0), 1.0)
        self.change(part.value, value, send=message.feedback)

    def _argument(self, part: Any) -> tuple[str, Any]:
        raw = part.value
        if str(part.type) == "VALUE":
            raw = part.scale_min + (part.scale_max - part.scale_min) * self.values[part.value]
        tag = {"FLOAT": "f", "INTEGER": "i", "STRING": "s"}[str(part.conversion)]
        return tag, {"f": float, "i": int, "s": str}[tag](raw)

    def call(self, function: str, *arguments: Any) -> None:
        """A callback of this node's script, if it has one: now, or after the one that is running."""
        if self.node.get("script"):
            self._app.queue.append((self, function, arguments))
            self._app.run()

    def run(self, function: str, arguments: tuple[Any, ...]) -> None:
        if self._lua is None:
            self._lua = self._app.lua(self, self.node.get("script"))
            if function != "init":
                self.run("init", ())
        if found := self._lua.globals()[function]:
            found(*(self._plain(argument) for argument in arguments))

    def _plain(self, value: Any) -> Any:
        """Lists as Lua's tables, which is what callbacks get."""
        assert self._lua is not None
        if isinstance(value, list):
            return self._lua.table_from([self._plain(item) for item in value])
        return self._lua.table_from(value) if isinstance(value, dict) else value


class App:
    """One running TouchOSC with one OSC connection. `send_to`: host and port. It listens at `port`."""

    def __init__(self, listener: socket.socket, send_to: tuple[str, int]) -> None:
        self._listener, self._sender, self._to = listener, socket.socket(socket.AF_INET, socket.SOCK_DGRAM), send_to
        self._listener.setblocking(False)
        self.sent: list[tuple[str, list[Any]]] = []
        self._heard: dict[str, list[tuple[Control, Any]]] = {}
        self.queue: deque[tuple[Control, str, tuple[Any, ...]]] = deque()
        self._running = False
        self._start = time.monotonic()
        # Lua runs without Python's lock, and another thread's garbage collection must not free what it is using.
        gc.disable()

    def open(self, layout: py2tosc.Document) -> None:
        self.root = Control(self, layout.root, None)
        for control in self.root.walk():
            for message in control.node.messages:
                if message.enabled and message.receive:
                    self._heard.setdefault(_address(message), []).append((control, message))
        self.root.call("init")

    def run(self) -> None:
        """All callbacks that wait, one after another: what a script sets off comes after it."""
        if self._running:
            return
        self._running = True
        try:
            while self.queue:
                control, function, arguments = self.queue.popleft()
                control.run(function, arguments)
        finally:
            self._running = False

    def close(self) -> None:
        """The listener stays: it is its owner's."""
        self._sender.close()
        self.__dict__.pop("root", None)
        self._heard.clear()
        gc.collect()
        gc.enable()

    def lua(self, control: Control, script: str) -> LuaRuntime:
        """A context of its own with the globals of the manual alone, as far as our scripts may want them."""
        runtime = LuaRuntime(register_eval=False, register_builtins=False)
        own = runtime.globals()
        for name in ("io", "os", "package", "require", "dofile", "loadfile", "debug", "python", "module"):
            own[name] = None
        tables: dict[Control, Any] = {}
        near = control.walk() if control.parent is None else (control, *control.children, control.parent)
        for one in {*near, *(control.parent.children if control.parent else ())}:
            # Before the script runs: lupa has no room for a table in the middle of a callback.
            seen = [Seen(child, tables) for child in one.children]
            by_name = {child._at[0].name: child for child in reversed(seen)}  # the first of a name counts
            tables[one] = runtime.table_from({**by_name, **dict(enumerate(seen, 1))})
        own["self"], own["getMillis"], own["sendOSC"] = Seen(control, tables), self._millis, self._send_table
        own["Color"] = lambda *parts: parts
        own["math"]["clamp"] = lambda value, low, high: min(max(value, low), high)
        # For ever: a Lua that garbage collection closes before the last of its objects takes the process with it.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(runtime))
        # lupa finds the Lua side of a Python object by a slot that Lua's collection may have given to another object.
        runtime.execute('collectgarbage("stop")')
        runtime.execute(script)
        return runtime

    def _millis(self) -> float:
        return (time.monotonic() - self._start) * 1000

    def _send_table(self, said: Any) -> None:
        self.send(said[1], [(part["tag"], part["value"]) for part in said[2].values()])

    def send(self, address: str, arguments: list[tuple[str, Any]]) -> None:
        builder = OscMessageBuilder(address)
        for tag, value in arguments:
            builder.add_arg(int(value) if tag == "i" else value, tag)
        self.sent.append((address, [value for _, value in arguments]))
        self._sender.sendto(builder.build().dgram, self._to)

    def frame(self) -> None:
        """One frame of the app: everything that came, then `update`."""
        while True:
            try:
                data = self._listener.recv(65536)
            except BlockingIOError:
                break
            for message in _messages(data):
                told = [{"tag": _tag(value), "value": value} for value in message.params]
                self.root.call("onReceiveOSC", [message.address, told])
                for control, heard in self._heard.get(message.address, ()) if told else ():
                    control.hear(heard, message.params[0])
        self.root.call("update")

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, self.sent[-3:]
            self.frame()
            time.sleep(0.005)

    def row(self, address: str) -> Control:
        return next(control for control in self.root.walk() if control.tag == address)

    def press(self, button: Control) -> None:
        button.change("touch", True)
        button.change("x", 1.0)
        if int(button.node.get("buttonType")) == 0:  # momentary
            button.change("x", 0.0)
        button.change("touch", False)

    def slide(self, fader: Control, x: float) -> None:
        fader.change("touch", True)
        fader.change("x", x)
        fader.change("touch", False)


def _address(message: Any) -> str:
    assert all(str(part.type) == "CONSTANT" for part in message.path)
    return "".join(part.value for part in message.path)


def _tag(value: object) -> str:
    return {int: "i", float: "f", str: "s"}[type(value)]


def _messages(data: bytes) -> Iterator[OscMessage]:
    if not OscBundle.dgram_is_bundle(data):
        yield OscMessage(data)
        return
    for part in OscBundle(data):
        yield from [part] if isinstance(part, OscMessage) else _messages(part.dgram)
