"""The component's extension: frames out and in, the bridge as a child process, parameters over OSC, and what is shown.

Everything here runs on TouchDesigner's main thread and waits for nothing. Callback DATs call the capitalised methods.
"""

import json
import shlex
import sys
import time
from collections import deque

from ll_card import Card
from ll_cardroad import CardPicture
from ll_face import show
from ll_link import Links
from ll_native import OURS, switch
from ll_pages import make
from ll_pixels import Picture
from ll_presets import Presets
from ll_process import Bridge, home
from ll_sync import SHOW_S, Sync

LOOPBACK = ("127.0.0.1", "localhost", "::1", "")


class LiveLatent:
    """`op('livelatent').ext.LiveLatent`."""

    def __init__(self, ownerComp):
        self.comp = ownerComp
        find = ownerComp.op
        self.document, self.build = json.loads(find("pages").text), json.loads(find("build").text)
        if not ownerComp.customPages:
            make(ownerComp, self.document["pages"])
        libraries = str(home() / "td" / "lib")
        if libraries not in sys.path:
            sys.path.append(libraries)  # last: TouchDesigner's own packages win
        self.input, self.mask, self.control = find("in1"), find("in2"), find("in3")
        self.screen, self.hints, self.pick = find("receive"), find("hint"), find("pick")
        self.info, self.out, self.ear = find("info"), find("oscout"), find("oscin")
        self.eight, self.proof, self.card = find("eight"), find("proof"), Card()
        self.bridge, self.picture, self.hint = Bridge(), CardPicture(self.card), Picture()
        self.sync = Sync(ownerComp, self.document, self.out.sendOSC, ParMode.CONSTANT)
        self.presets = Presets(ownerComp, find("presets"), self.sync)
        self.links = Links(self.picture, self.hint, self.card)
        self.born, self.received, self.trips = time.perf_counter_ns(), 0, deque(maxlen=64)
        self.warning, self.face, self._shown_at, self._busy = "", None, 0.0, False
        self.transport, self.asked, self._at_end = "", (False, False), False
        self.sync.figure("Component", f"{self.build['version']} component {self.build['hash']}")

    def onDestroyTD(self):
        """Before this is replaced or deleted: no thread, segment, socket or child stays behind."""
        if self.ear.valid:
            self.sync.leave(self.ear.par.port.eval())
        self.links.close()
        self.picture.close()
        self.bridge.close(2.0)

    def Begin(self):
        """With the project, and when the component is dropped into one."""
        if self.comp.par.Autostart.eval():
            self.Start()

    def Frame(self):
        """Once per frame, before TouchDesigner cooks."""
        par, now = self.comp.par, time.perf_counter()
        if self.bridge.poll():
            self.sync.forget()  # what it said last is no sign of life
        if par.Active.eval():
            if not self._busy:
                self._tune()
            self._send()
            self._receive()
            self.sync.beat(now, par.Listenport.eval())
        elif self._busy:
            self._rest()
        if now - self._shown_at > SHOW_S:
            self._shown_at = now
            show(self)

    def FrameEnd(self):
        """When TouchDesigner has cooked: a picture that stays on the card is there now, and nothing waits for it."""
        if self._at_end:
            self._at_end, now = False, time.perf_counter_ns()
            self.links.send_card(self.eight, now, now - self.born)

    def _tune(self):
        """Take ports, names and transport from the page."""
        par, self._busy = self.comp.par, True
        host = par.Host.eval().strip()
        if self.ear.par.active.eval():
            self.sync.leave(self.ear.par.port.eval())
        self.out.par.address, self.out.par.port, self.out.par.active = host, par.Oscport.eval(), True
        self.ear.par.port, self.ear.par.active = par.Listenport.eval(), True
        self.transport = par.Transport.eval()
        if self.transport == "auto":
            # Never cuda-ipc: a driver that crashes takes TouchDesigner along, and no card has run this yet.
            self.transport = "shm" if host in LOOPBACK else "zmq"
        elif self.transport == "cuda-ipc":
            self.card.try_out(self.proof)
        self.links.open(self.transport, par, host)
        names = par.Inname.eval(), par.Outname.eval()
        switch(self.comp, self.document["native"].get(self.transport, ""), names, self.received)

    def _rest(self):
        self._busy = self._at_end = False
        self.sync.leave(self.ear.par.port.eval())
        self.ear.par.active = self.out.par.active = False
        self.links.close()

    def _send(self):
        video, mask, _ = (bool(end.connections) for end in self.comp.inputConnectors)
        self.links.follow(*self.side_ways())
        now = time.perf_counter_ns()
        self._at_end = video and self.links.by_card(mask)
        if self._at_end:
            self.eight.cook()  # drawn by the end of the frame, whether anybody else looks at it or not
        elif self.links.sender is not None and video:
            source = self.input.numpyArray(delayed=True)
            if source is not None:
                shape = self.mask.numpyArray(delayed=True) if mask else None
                self.links.sender.put(source, shape, now, now - self.born)
        if self.links.control is not None:
            source = self.control.numpyArray(delayed=True)
            if source is not None:
                self.links.control.put(source, None, now, now - self.born)

    def side_ways(self):
        """Whether the third input and the second output are wired."""
        return bool(self.comp.inputConnectors[2].connections), bool(self.comp.outputConnectors[1].connections)

    def _receive(self):
        if self.links.hints is not None and self.links.hints.read(self.hint) is not None:
            self.hints.cook(force=True)
        news = self.links.reader.read(self.picture) if self.links.reader is not None else None
        if news is None:
            return
        self.received += 1
        if news[1] > 0:
            self.trips.append((time.perf_counter_ns() - self.born - news[1]) / 1e6)
        self.screen.cook(force=True)
        if self.received == 1:
            self.pick.par.index = OURS

    def Cook(self, scriptOp):
        """A Script TOP cooks: the last whole picture, whatever has become of the bridge."""
        if scriptOp.name == "proof":
            self.card.act(scriptOp)
            return
        picture = self.hint if scriptOp.name == "hint" else self.picture
        if self.warning:
            scriptOp.addWarning(self.warning)
        picture.paint(scriptOp)

    def Osc(self, address, args):
        self.sync.heard(address, args)

    def Changed(self, par):
        """A custom parameter has another value."""
        if par.name in self.sync.rows:
            self.sync.changed(par)
        elif par.page.name == "Livelatent" and not par.readOnly and par.name not in ("Active", "Autostart"):
            self._busy = False  # how to reach the bridge has changed: the next frame goes there
            self.sync.ours = bool(self.bridge.pid)
            if self.bridge.pid and par.name != "Host":
                self.Start()

    def Pulsed(self, par):
        verbs = {"Start": self.Start, "Stop": self.Stop, "Restart": self.Restart}
        presets = {"Store": self.presets.store, "Recall": self.presets.recall, "Delete": self.presets.delete}
        if par.name in verbs:
            verbs[par.name]()
        elif par.name in presets:
            self.sync.complain(presets[par.name]())

    def Start(self):
        """Start a bridge here, unless one answers already."""
        if self.sync.live and not self.bridge.pid:
            return
        par = self.comp.par
        if par.Active.eval() and not self._busy:
            self._tune()
        self.sync.ours = True
        known = self.document["control_source"], self.document["hint_sink"]
        self.asked = tuple(wired and knows for wired, knows in zip(self.side_ways(), known, strict=True))
        words = self.links.words(par, self.transport if self._busy else par.Transport.eval(), *self.asked)
        words += ["--osc-port", str(par.Oscport.eval())]
        for name, value in self.sync.structural().items():
            words += ["--set", f"{name}={value}"]
        self.bridge.start(par.Command.eval(), words + shlex.split(par.Arguments.eval()))

    def Stop(self):
        self.bridge.stop()

    def Restart(self):
        if self.bridge.pid or not self.sync.live:
            self.Start()
        else:
            self.out.sendOSC(self.document["prefix"] + "/restart", [1], asBundle=False)
