"""What an OSC message means here. No I/O: messages in; changes, replies and complaints out, gathered in a Batch.

    /ll/<parameter> value [seconds]    change it, at once or over time
    /ll/<parameter>                    ask for it: answered with the same address and its value
    /ll/<verb> ...                     see VERBS
    /ll/<command> [pressed]            see COMMANDS; `pressed` 0 is a button's release and does nothing
    /ll/<act> ...                      looks, cues, schedules: see bridge/show/acts.py

Whatever is refused is counted, never fatal, and answered with `/ll/error <address> <sentence>`. There is no verb that
stops the program, names a file, or reaches another machine than the sender's own.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bridge.errors import ControlError, OscError, ParamError
from bridge.net import Endpoint
from bridge.osc import Bundle, Message, message, parse
from bridge.oscargs import as_typed
from bridge.sdtd import Alias, Aliases
from bridge.show.act_list import ACTS
from bridge.show.act_list import COMMANDS as SHOW_COMMANDS
from bridge.show.acts import Act, Acts
from bridge.store import ParamStore, Setting
from bridge.telemetry import NOTES, READINGS, SHOW
from pipelines.params import table

VERBS = {
    "get": "Answered with every parameter's value, in one bundle.",
    "ping": "Answered with `/pong` and the number that you sent along, if you did.",
    "subscribe": "`[port] [seconds]`: telemetry and every change go to your address, at the port that you send from or "
    "at `port`, for a minute or for `seconds` (up to an hour). Ask again before that to stay.",
    "unsubscribe": "`[port]`: no more of it.",
}
COMMANDS = {
    "restart": "Try again to start the worker after it was given up.",
    **SHOW_COMMANDS,
}
"""What the program around this module offers, with its documentation; it gives Dispatch the functions."""

SUBSCRIBE_S = 60.0
MAX_SUBSCRIBE_S = 3600.0
MAX_REPLIES = 256
MAX_COMPLAINTS = 4
MAX_ACTS = 64
"""Done in one wake: some read or write a small file."""
_OURS = ("error", "pong", "subscribed", *(row.address[1:] for row in (*READINGS, *SHOW)))


@dataclass(frozen=True, slots=True)
class Join:
    target: Endpoint
    source: Endpoint
    seconds: float


@dataclass(frozen=True, slots=True)
class Refusal:
    sender: Endpoint
    message: Message | None
    """None for a datagram that is not OSC."""
    why: str


@dataclass(frozen=True, slots=True)
class Call:
    """An act to be done, after the changes that came before it."""

    act: Act
    said: Message
    sender: Endpoint
    before: Mapping[str, Setting]


@dataclass(slots=True)
class Batch:
    """What the datagrams of one wake add up to. Bounded, whatever they were."""

    messages: int = 0
    settings: dict[str, Setting] = field(default_factory=dict)
    """The last valid one per parameter since the last of `acts`."""
    acts: list[Call] = field(default_factory=list)
    inputs: dict[str, Call] = field(default_factory=dict)
    """The last one per address, which alone counts."""
    commands: dict[str, Callable[[], None]] = field(default_factory=dict)
    joins: dict[Endpoint, Join | None] = field(default_factory=dict)
    """Who wants to be told; None for who does not any more."""
    asked: dict[tuple[Endpoint, str], None] = field(default_factory=dict)
    """Parameters to answer with, "" for all."""
    pongs: list[tuple[Endpoint, Message]] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    refusals: list[Refusal] = field(default_factory=list)
    """The first few; the rest is only counted."""

    def refuse(self, kind: str, sender: Endpoint, said: Message | None, why: str) -> None:
        self.rejected[kind] += 1
        if len(self.refusals) < MAX_COMPLAINTS:
            self.refusals.append(Refusal(sender, said, why))

    @property
    def full(self) -> bool:
        """Whether there are as many answers to give as one wake may cost."""
        return len(self.asked) + len(self.pongs) + len(self.joins) >= MAX_REPLIES


class Dispatch:
    """Turns datagrams into a Batch. `prefix` is that of every address, `/ll`."""

    def __init__(
        self,
        prefix: str,
        store: ParamStore,
        commands: Mapping[str, Callable[[], None]],
        aliases: Aliases | None = None,
        acts: Acts | None = None,
    ) -> None:
        """`acts`: looks, cues, schedules. `aliases`: addresses of another program that are heard too. ValueError for a
        command that COMMANDS does not document: the reference would not have it."""
        if undocumented := commands.keys() - COMMANDS.keys():
            raise ValueError(f"{sorted(undocumented)[0]!r} has no row in bridge.dispatch.COMMANDS")
        self.prefix = prefix
        self._store = store
        self._aliases, self._acts = aliases, acts
        self._params = {f"{prefix}/{spec.address}": name for name, spec in table().items()}
        self._commands = {f"{prefix}/{name}": call for name, call in commands.items()}
        self._verbs = {f"{prefix}/{name}": getattr(self, f"_{name}") for name in VERBS}
        self._ours = {f"{prefix}/{name}" for name in _OURS}
        self._notes = tuple(f"{prefix}/{name.replace('.', '/')}" for name in NOTES)

    def take(self, data: bytes, sender: Endpoint, batch: Batch) -> None:
        """One datagram. Raises nothing, whatever it is: a remote's faults end up in `batch`."""
        try:
            packet = parse(data)
        except OscError as error:
            batch.refuse("packet", sender, None, str(error))
            return
        if isinstance(packet, Bundle):
            for inner in packet.messages():
                self._message(inner, sender, batch)
        else:
            self._message(packet, sender, batch)

    def explain(self, refusal: Refusal) -> str:
        """Why it was refused, with what may have been meant: a search that only the few who are answered get."""
        said = refusal.message
        if said is None or said.address in self._verbs or self._alias_of(said.address):
            return refusal.why
        name = self._params.get(said.address)
        if name is None and self._act_of(said.address):
            return refusal.why
        if name is None:
            acts = (f"{self.prefix}/{act}" for act in ACTS)
            known = [*self._params, *self._commands, *self._verbs, *acts]
            near = difflib.get_close_matches(said.address[:64], known, n=1)
            return refusal.why + (f"; did you mean {near[0]}?" if near else "")
        try:
            if said.args:
                self._store.check(name, said.args[0], said.args[1] if len(said.args) > 1 else None)
        except ControlError as error:
            return str(error)
        return refusal.why

    def _message(self, said: Message, sender: Endpoint, batch: Batch) -> None:
        batch.messages += 1
        address = said.address
        try:
            if (name := self._params.get(address)) is not None:
                self._param(name, said, sender, batch)
            elif (verb := self._verbs.get(address)) is not None:
                verb(said, sender, batch)
            elif (command := self._commands.get(address)) is not None:
                if _pressed(said):
                    batch.commands[address] = command
            elif (act := self._act_of(address)) is not None:
                self._act(act, said, sender, batch)
            elif (alias := self._alias_of(address)) is not None:
                self._alias(alias, said, sender, batch)
            elif address in self._ours or address.startswith(self._notes):
                # Another bridge's telemetry. An answer would be telemetry to it, and so on for ever.
                batch.rejected["address"] += 1
            else:
                batch.refuse("address", sender, said, "no such address")
        except ControlError as error:
            batch.refuse("value", sender, said, str(error))

    def _param(self, name: str, said: Message, sender: Endpoint, batch: Batch) -> None:
        args = said.args
        if not args:
            _room(batch)
            batch.asked[sender, name] = None
            return
        if len(args) > 2:
            raise ParamError(f"{name} takes a value and perhaps seconds")
        value = as_typed(args[0]) if said.tags[0] == "f" else args[0]
        setting = self._store.check(name, value, args[1] if len(args) == 2 else None, sender, hints=False)
        batch.settings[name] = setting

    def _act_of(self, address: str) -> Act | None:
        prefix = self.prefix + "/"
        return self._acts.find(address[len(prefix) :]) if self._acts and address.startswith(prefix) else None

    def _act(self, act: Act, said: Message, sender: Endpoint, batch: Batch) -> None:
        if said.address.startswith(f"{self.prefix}/in/"):
            batch.inputs[said.address] = Call(act, said, sender, {})
        elif len(batch.acts) >= MAX_ACTS:
            raise ControlError("too many at once")
        else:
            # In the order in which they came: a slider after a look is over that look.
            batch.acts.append(Call(act, said, sender, batch.settings))
            batch.settings = {}

    def _alias_of(self, address: str) -> Alias | None:
        return self._aliases.find(address) if self._aliases is not None else None

    def _alias(self, alias: Alias, said: Message, sender: Endpoint, batch: Batch) -> None:
        assert self._aliases is not None
        values = self._aliases.values(alias, said)
        settings = {}
        for name, value in values.items():
            typed = as_typed(value) if isinstance(value, float) and said.tags[:1] == "f" else value
            settings[name] = self._store.check(name, typed, None, sender, hints=False)
        batch.settings.update(settings)

    def _get(self, said: Message, sender: Endpoint, batch: Batch) -> None:
        _room(batch)
        batch.asked[sender, ""] = None

    def _ping(self, said: Message, sender: Endpoint, batch: Batch) -> None:
        _room(batch)
        small = said.args[:1] if said.tags[:1] in tuple("ifhdtTF") else ()
        batch.pongs.append((sender, Message(f"{self.prefix}/pong", said.tags[: len(small)], small)))

    def _subscribe(self, said: Message, sender: Endpoint, batch: Batch) -> None:
        _room(batch)
        target = _target(said, sender)
        seconds = said.args[1] if len(said.args) > 1 else SUBSCRIBE_S
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= MAX_SUBSCRIBE_S:
            raise ParamError(f"subscribe: the seconds must be above 0 and at most {MAX_SUBSCRIBE_S:g}")
        batch.joins[target] = Join(target, sender, float(seconds))

    def _unsubscribe(self, said: Message, sender: Endpoint, batch: Batch) -> None:
        _room(batch)
        batch.joins[_target(said, sender)] = None


def answer(prefix: str, name: str, value: bool | int | float | str) -> Message:
    """A parameter's value as it is told: a switch as 0 or 1, which every surface understands."""
    return message(f"{prefix}/{table()[name].address}", int(value) if isinstance(value, bool) else value)


def _room(batch: Batch) -> None:
    if batch.full:
        raise ControlError("too many questions at once")


def _pressed(said: Message) -> bool:
    value = said.args[0] if said.args else True
    return not isinstance(value, (bool, int, float)) or bool(value)


def _target(said: Message, sender: Endpoint) -> Endpoint:
    """The sender's own address, always: telemetry must not be turned on somebody else."""
    port = said.args[0] if said.args else 0
    if isinstance(port, float) and port.is_integer():
        port = int(port)  # control surfaces have no whole numbers
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port < 65536:
        raise ParamError("the port must be 1 to 65535, or 0 for the one you send from")
    return sender[0], port or sender[1]
