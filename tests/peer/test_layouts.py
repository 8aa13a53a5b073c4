"""The layouts at work: every control's message is one that the bridge takes, and values move both ways."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import py2tosc
import pytest
from support.fake_touchosc import App, Control
from support.theatre import write_show

from bridge.config import LanConfig, OscConfig
from bridge.control import Control as OscPort
from bridge.layouts import tosc, touchosc
from bridge.layouts.cli import everything_shipped
from bridge.metrics import Metrics
from bridge.show.acts import Acts
from bridge.show.director import Director
from bridge.store import ParamStore
from bridge.tox.pages import shipped
from pipelines.params import Params, table

IDS = {kind: lambda kind=kind: (*shipped(kind), "mine") for kind in ("models", "controlnets", "loras", "ipadapters")}


class House:
    """A store, a show and the OSC port in front of them, and a TouchOSC that is connected to it."""

    def __init__(self) -> None:
        write_show("ten", "".join(f'[[cue]]\nname = "c{n}"\nparams = {{ seed = {n} }}\n' for n in range(10)))
        self.store, self.metrics = ParamStore(Params(), IDS), Metrics()
        self.director = Director(self.store, self.metrics)
        self.director.load("ten")
        acts = Acts(self.director)
        commands = {**acts.commands, "restart": lambda: self.metrics.count("restarted")}
        self.port = OscPort(OscConfig(port=0), LanConfig(), self.store, self.metrics, commands, acts)
        self.port.start()

    def connect(self, listener: socket.socket, layout: py2tosc.Document) -> None:
        self.app = App(listener, ("127.0.0.1", self.port.port))
        self.tell("prompt", "as it stands")
        self.app.open(layout)
        self.app.until(lambda: text(self.app.row("/ll/prompt")) == "as it stands")

    def close(self) -> None:
        self.app.close()
        self.port.stop()

    def values(self) -> dict[str, object]:
        return self.store.values()

    def tell(self, name: str, value: object) -> None:
        """Somebody else changes a parameter."""
        self.store.apply([self.store.check(name, value)])

    def figure(self, name: str) -> float:
        return self.metrics.snapshot().get(name, 0)


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    """Where TouchOSC listens: a layout says it, and is made once."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        yield sock


@pytest.fixture(scope="module")
def layout(listener: socket.socket, tmp_path_factory: pytest.TempPathFactory) -> py2tosc.Document:
    file = tmp_path_factory.mktemp("layout") / "livelatent.tosc"
    root = touchosc.layout(everything_shipped("/ll"), "/ll", listener.getsockname()[1])
    file.write_bytes(tosc.pack(root))
    return py2tosc.load(str(file))


@pytest.fixture
def house(listener: socket.socket, layout: py2tosc.Document) -> Iterator[House]:
    with suppress(BlockingIOError):
        while listener.recv(65536):
            pass  # what the bridge of the test before still said
    made = House()
    try:
        made.connect(listener, layout)
        yield made
    finally:
        made.close()


def text(row: Control) -> str:
    return row.child("value").values["text"]


def test_it_subscribes_by_itself_and_shows_how_everything_stands(house: House) -> None:
    house.tell("strength", 0.25)
    house.tell("prompt", "a city of glass")
    house.app.until(lambda: text(house.app.row("/ll/prompt")) == "a city of glass")
    house.app.until(lambda: text(house.app.row("/ll/strength")) == "0.250")
    assert house.app.row("/ll/strength").child("fader").values["x"] == pytest.approx(0.25)
    house.metrics.gauge("state", "running")
    shown = [c for c in house.app.root.walk() for m in c.node.messages if m.path[0].value == "/ll/state"]
    house.app.until(lambda: {control.values["text"] for control in shown} == {"running"})
    assert house.app.sent[:2] == [
        ("/ll/subscribe", [house.app._listener.getsockname()[1], 90.0]), ("/ll/get", [])
    ]  # fmt: skip


def test_a_fader_moves_its_parameter_and_is_moved_by_others(house: House) -> None:
    row = house.app.row("/ll/guidance")
    house.app.slide(row.child("fader"), 0.375)
    house.app.until(lambda: house.values()["guidance"] == 7.5)
    assert text(row) == "7.5"
    sent = len(house.app.sent)
    house.tell("guidance", 20.0)
    house.app.until(lambda: row.child("fader").values["x"] == 1.0 and text(row) == "20.0")
    assert len(house.app.sent) == sent  # what was heard is not sent back


def test_a_bent_fader_is_fine_at_its_low_end(house: House) -> None:
    row = house.app.row("/ll/noise_speed")
    house.app.slide(row.child("fader"), 0.1)
    house.app.until(lambda: house.values()["noise_speed"] == pytest.approx(0.01))
    assert text(row) == "0.010"
    sent = len(house.app.sent)
    house.tell("noise_speed", 0.25)
    house.app.until(lambda: row.child("fader").values["x"] == pytest.approx(0.5) and text(row) == "0.250")
    assert len(house.app.sent) == sent


def test_choices_light_up_whoever_chose(house: House) -> None:
    row = house.app.row("/ll/sampler")
    on, off = row.child("auto").color, row.child("tcd").color
    house.app.press(row.child("tcd"))
    house.app.until(lambda: house.values()["sampler"] == "tcd")
    assert (row.child("tcd").color[:3], row.child("auto").color[:3]) == (on[:3], off[:3])
    house.tell("sampler", "lcm")
    house.app.until(lambda: row.child("lcm").color[:3] == on[:3])
    assert row.child("tcd").color[:3] == off[:3]
    steps = house.app.row("/ll/steps")
    house.app.press(steps.child("3"))
    house.app.until(lambda: house.values()["steps"] == 3)
    house.tell("steps", 5)
    house.app.until(lambda: steps.child("5").color[:3] == on[:3])
    assert steps.child("3").color[:3] == off[:3]


def test_whole_numbers_step_within_their_range(house: House) -> None:
    row = house.app.row("/ll/width")
    house.app.press(row.child("+64"))
    house.app.until(lambda: house.values()["width"] == 320)
    house.tell("width", 2048)
    house.app.until(lambda: text(row) == "2048")
    house.app.press(row.child("+256"))
    house.app.until(lambda: house.app.sent[-1] == ("/ll/width", [2048]))
    seed = house.app.row("/ll/seed")
    house.tell("seed", 2_147_483_646)
    house.app.until(lambda: text(seed) == "2147483646")
    house.app.press(seed.child("+1"))
    house.app.until(lambda: house.values()["seed"] == 2_147_483_647)
    house.app.press(seed.child("?"))
    house.app.until(lambda: house.values()["seed"] == int(text(seed)) != 2_147_483_647)


def test_a_list_is_leafed_through_and_sent_when_set(house: House) -> None:
    row = house.app.row("/ll/control/2/model")
    names = shipped("controlnets")
    house.app.press(row.child("+1"))
    assert text(row) == f"{names[1]} ?"
    house.app.press(row.child("+1"))
    assert not [said for said in house.app.sent if said[0] == "/ll/control/2/model"]
    house.app.press(row.child("set"))
    house.app.until(lambda: house.values()["control2_model"] == names[2])
    assert text(row) == names[2]
    house.tell("control2_model", "mine")  # not in the list: of the user's own
    house.app.until(lambda: text(row) == "mine")
    house.tell("control2_model", "none")
    house.app.until(lambda: text(row) == "none")
    house.app.press(row.child("-1"))
    assert text(row) == f"{names[-1]} ?"


def test_switches_words_and_looks(house: House) -> None:
    pause = house.app.row("/ll/pause")
    switch = pause.child("pause")
    house.app.press(switch)
    house.app.until(lambda: house.values()["pause"] is True)
    house.tell("pause", False)
    house.app.until(lambda: switch.values["x"] == 0.0)
    word = next(c for c in house.app.root.walk() if c.name == "lava")
    house.app.press(word)
    house.app.until(lambda: house.values()["prompt"] == "lava")
    assert text(house.app.row("/ll/prompt")) == "lava"
    house.app.press(next(c for c in house.app.root.walk() if c.name == "crisp in 4 s"))
    house.app.until(lambda: house.metrics.snapshot().get("look") == "crisp" or house.director.tick())


def test_every_control_is_understood(house: House) -> None:
    """Pressed, switched and slid to both ends, nothing on the layout says what the bridge refuses."""
    buttons = [c for c in house.app.root.walk() if str(c.node.control_type) == "BUTTON"]
    faders = [c for c in house.app.root.walk() if str(c.node.control_type) == "FADER"]
    assert len(faders) == sum(spec.type is float for spec in table().values())
    for fader in faders:
        for x in (0.5, 1.0, 0.0):
            # No frame between: what the bridge says on a renewed subscription would move the fader under the finger,
            # and a fader that already stands where the finger goes sends nothing.
            house.app.slide(fader, x)
        house.app.frame()
        _heard(house)
    float_rows = [name for name, spec in table().items() if spec.type is float]
    low = {name: table()[name].low for name in float_rows}
    house.app.until(lambda: {name: house.values()[name] for name in float_rows} == low)
    for button in buttons:
        house.app.press(button)
        if int(button.node.get("buttonType")) == 2:
            assert button.values["x"] == 1.0
        house.app.frame()
        _heard(house)
    _heard(house)
    assert house.figure("osc.rejected") == 0, house.port._grumble.last
    assert house.figure("restarted") == 1


def _heard(house: House) -> None:
    """Until the bridge has taken all that was sent: a burst that a socket can't hold would be lost, as UDP may."""
    deadline = time.monotonic() + 20.0
    while house.figure("osc.messages") < len(house.app.sent):
        assert time.monotonic() < deadline, (house.figure("osc.messages"), len(house.app.sent))
        time.sleep(0.001)


def test_the_file_is_a_layout_of_the_current_version(layout: py2tosc.Document) -> None:
    assert layout.version == "6"
    assert [str(issue) for issue in layout.validate()] == []
