"""The custom parameters and the bridge's, kept equal over OSC in both directions. Runs on TouchDesigner's thread.

What was last told or heard is remembered per parameter, and a change is what differs from it: that holds whether
TouchDesigner calls back at once or at the end of the frame. Who starts a bridge tells it how everything stands; who
finds one running takes over its values, so that a fresh component does not reset a show.
"""

import time

import numpy as np

SILENCE_S = 1.0
RENEW_S, SUBSCRIBE_S, ASK_S = 300.0, 900.0, 0.5
SETTLE_S = 0.3
"""From the first word of a bridge until we tell it our values: it says all of its own first, and which of them
schedules move. Ours win, but what stands there already is not told again, and a schedule's is not taken in hand."""
SHOW_S, REFUSAL_S = 0.2, 5.0


def short(value):
    """The shortest decimal that is this 32-bit float: 0.7, where the wire made it 0.699999988079071."""
    return float(str(np.float32(value)))


class Sync:
    """`changed` for what the user does, `heard` for what the bridge says, `beat` once a frame."""

    def __init__(self, comp, document, send, constant):
        """`send(*address, values..., asBundle)` as the OSC Out DAT's; `constant` is ParMode.CONSTANT."""
        self._comp, self._send, self._constant = comp, send, constant
        self._prefix = document["prefix"]
        rows = [row for page in document["pages"] for row in page["pars"]]
        self.rows = {row["name"]: row for row in rows if "address" in row}
        self._by_address = {row["address"]: row for row in self.rows.values()}
        self._readings = {row["reading"]: row for row in rows if "reading" in row}
        self._known, self._figures = {}, {}
        self._theirs, self._moved, self._touched = {}, set(), set()
        """What the bridge stands at, as far as we know; addresses that schedules move; what changed out of step."""
        self._refused = "", 0.0
        self.ours = False
        """Whether what we have counts: we started the bridge, or were in step with it before."""
        self.live = self._in_step = False
        self.heard_at = self._asked_at = self._found_at = 0.0

    def figure(self, name, value):
        """A read-only parameter of ours; written when `show` comes round."""
        self._figures[name] = value

    def reading(self, address):
        """What the bridge said last under this address of its telemetry."""
        row = self._readings.get(self._prefix + address)
        return self._figures.get(row["name"]) if row else None

    def show(self):
        """Bring the figures onto the page, those that changed alone: each costs TouchDesigner a cook."""
        for name, value in self._figures.items():
            par = getattr(self._comp.par, name)
            if par.eval() != value:
                par.val = value

    def changed(self, par):
        """The user, an expression or a CHOP has moved this parameter."""
        row = self.rows.get(par.name)
        if row is None:
            return
        value = self._plain(row, par.eval())
        if self._known.get(par.name) != value:
            self._known[par.name] = value
            if not self._in_step:
                self._touched.add(par.name)
            else:
                self._theirs[par.name] = value
                self._send(row["address"], [value], asBundle=False)

    def heard(self, address, args):
        """One OSC message of the bridge."""
        self.heard_at = time.perf_counter()
        row = self._by_address.get(address)
        if row is not None and args:
            self._theirs[row["name"]] = self._plain(row, short(args[0]) if row["style"] == "Float" else args[0])
            if self._in_step or not self.ours:
                self._take(row, args[0])
        elif address == self._prefix + "/error" and len(args) == 2:
            self._refused = f"{args[0]}: {args[1]}", self.heard_at
            if args[0] in self._by_address:
                self._send(args[0], [], asBundle=False)  # how it really stands
        elif address == self._prefix + "/schedule/active" and args:
            words = str(args[0]).replace(" (held)", "(held)").split()
            self._moved = {f"{self._prefix}/{word}" for word in words}  # one in hand has another name
        elif address in self._readings and args:
            row = self._readings[address]
            kinds = {"Float": short, "Int": int, "Str": str}
            self._figures[row["name"]] = kinds[row["style"]](args[0])

    def complain(self, text):
        """Show this sentence as what the bridge would not take is shown."""
        if text:
            self._refused = text, time.perf_counter()

    def refusal(self):
        """What the bridge would not take, for as long as it takes to read."""
        text, at = self._refused
        return text if time.perf_counter() - at < REFUSAL_S else ""

    def _take(self, row, value):
        value = self._plain(row, short(value) if row["style"] == "Float" else value)
        par = getattr(self._comp.par, row["name"])
        self._known[row["name"]] = value
        if par.mode == self._constant and self._plain(row, par.eval()) != value:
            par.val = value

    @staticmethod
    def _plain(row, value):
        if row["style"] == "Float":
            return float(value)
        return int(value) if row["style"] in ("Int", "Toggle") else str(value)

    def plain(self, name):
        """What the parameter stands at, as JSON and OSC have it."""
        return self._plain(self.rows[name], getattr(self._comp.par, name).eval())

    def turn(self, values, seconds):
        """Set many parameters, {name: value}; the bridge hears of them in one bundle, so one frame takes them all.

        What can go there in `seconds` does so in the bridge; the parameter shows where it goes.
        """
        words = []
        for name, value in values.items():
            row, par = self.rows[name], getattr(self._comp.par, name)
            if par.mode != self._constant:
                continue
            before = self.plain(name)
            try:
                self._known[name] = self._plain(row, value)  # first: TouchDesigner may call back at once
                par.val = value
            except Exception as error:  # a choice that the table has no more, or what somebody wrote by hand
                self._known[name] = before
                self.complain(f"{name}: {error}")
                continue
            self._known[name] = after = self.plain(name)
            if after != before:
                self._theirs[name] = after
                words += [row["address"], [after, float(seconds)] if seconds and row.get("fades") else [after]]
        if words and self._in_step:
            self._send(*words, asBundle=True)

    def push(self):
        """Tell the bridge what differs from what it stands at, in one bundle: one frame takes it all."""
        words = []
        for name, row in self.rows.items():
            self._known[name] = value = self.plain(name)
            moves = row["address"] in self._moved and name not in self._touched
            if not moves and self._theirs.get(name) != value:
                self._theirs[name] = value
                words += [row["address"], [value]]
        self._touched.clear()
        if words:
            self._send(*words, asBundle=True)

    def structural(self):
        """{row's address: value} of what a bridge should be started with, for it would have to build it anew."""
        named = {row["address"]: name for name, row in self.rows.items() if row["kind"] == "structural"}
        cut = len(self._prefix) + 1
        return {at[cut:]: getattr(self._comp.par, name).eval() for at, name in named.items()}

    def beat(self, now, port):
        """Subscribe, renew, notice silence, and get into step with a bridge that is found."""
        was, self.live = self.live, now - self.heard_at < SILENCE_S and self.heard_at > 0
        due = RENEW_S if self.live else ASK_S
        if now - self._asked_at > due:
            self._asked_at = now
            self._send(self._prefix + "/subscribe", [port, SUBSCRIBE_S], asBundle=False)
        if self.live and not was:
            self._found_at, self._in_step = now, False
            self._send(self._prefix + "/get", [], asBundle=False)  # it may have gone on while we did not hear it
        if self.live and not self._in_step and now - self._found_at > SETTLE_S:
            if self.ours:
                self.push()
            self.ours = self._in_step = True

    def leave(self, port):
        """Say goodbye, so that the bridge does not send to a closed port."""
        self._send(self._prefix + "/unsubscribe", [port], asBundle=False)
        self.forget()

    def forget(self):
        """Whatever bridge is heard next is a new one."""
        self.heard_at, self._asked_at, self.live, self._in_step = 0.0, 0.0, False, False
        self._theirs.clear()
        self._moved = set()
