"""StreamDiffusionTD's addresses over real UDP, as its component sends them (with python-osc)."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pythonosc.udp_client import SimpleUDPClient

from bridge.config import LanConfig, OscConfig
from bridge.control import Control
from bridge.metrics import Metrics
from bridge.osc import Bundle, Message, parse
from bridge.sdtd import ALIASES, markdown
from bridge.store import ParamStore
from pipelines.params import Params, table

pytestmark = pytest.mark.usefixtures("nothing_left")
DOC = Path(__file__).parents[2] / "docs" / "streamdiffusiontd.md"


class Component:
    """Both ends: a running Control, the client that sends to it, and the socket that it answers."""

    def __init__(self, on: bool) -> None:
        self.ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.ear.bind(("127.0.0.1", 0))
        self.ear.settimeout(30.0)
        self.metrics = Metrics()
        ids = {"models": lambda: ("pocket",), "controlnets": lambda: ("none",), "ipadapters": lambda: ("none",)}
        self.store = ParamStore(Params(), ids)
        reply = (f"127.0.0.1:{self.ear.getsockname()[1]}",)
        osc = OscConfig(port=0, rate=20, reply=reply, streamdiffusiontd=on)
        self.control = Control(osc, LanConfig(), self.store, self.metrics, {})
        self.control.start()
        self.client = SimpleUDPClient("127.0.0.1", self.control.port)

    def say(self, address: str, *args: object) -> None:
        self.client.send_message(address, list(args))

    def shows(self, **values: object) -> bool:
        seen = self.store.values()
        return all(
            seen[name] == pytest.approx(v) if isinstance(v, float) else seen[name] == v for name, v in values.items()
        )

    def told(self, wanted: str, sock: socket.socket | None = None) -> Message:
        deadline = time.monotonic() + 30.0
        while time.monotonic() < deadline:
            packet = parse((sock or self.ear).recv(65_536))
            for said in packet.messages() if isinstance(packet, Bundle) else [packet]:
                if said.address == wanted:
                    return said
        raise AssertionError(f"{wanted} did not come")

    def refused(self, address: str, *args: object) -> str:
        """The sentence that answers, sent to where the message came from."""
        self.say(address, *args)
        sock = self.client._sock
        sock.settimeout(30.0)
        said = self.told("/ll/error", sock)
        assert said.args[0] == address
        return str(said.args[1])

    def close(self) -> None:
        self.control.stop()
        self.ear.close()
        self.client._sock.close()


@pytest.fixture
def component() -> Iterator[Component]:
    made = Component(on=True)
    yield made
    made.close()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("address", "args", "values"),
    [
        ("/prompt", ("a city",), {"prompt": "a city"}),
        ("/negative_prompt", ("blurry",), {"negative": "blurry"}),
        ("/prompt_list", (json.dumps([["neon", 1.0]]),), {"prompt": "neon"}),
        (
            "/prompt_list",
            (json.dumps([["a|b", 0.7], ["gold :3", 0.3], ["x", 0]]),),
            {"prompt": "a,b:0.7 | gold \\:3:0.3"},
        ),
        ("/guidance_scale", (1.2,), {"guidance": 1.2}),
        ("/delta", (0.7,), {"delta": 0.7}),
        ("/t_list", (25,), {"steps": 1, "strength": 0.5}),
        ("/t_list", (15, 25, 40), {"steps": 3, "strength": 0.7}),
        ("/t_list", (0.0, 16.0), {"steps": 2, "strength": 1.0}),
        ("/seed", (42,), {"seed": 42, "seed_mix": 0.0}),
        ("/seed_list", (json.dumps([[3, 1], [9, 3]]),), {"seed": 3, "seed2": 9, "seed_mix": 0.75}),
        ("/seed_list", (json.dumps([[7, 1]]),), {"seed": 7, "seed_mix": 0.0}),
        ("/sdmode", ("txt2img",), {"mode": "txt2img"}),
        ("/use_controlnet", (1,), {"control1_on": True}),
        ("/ipadapter_scale", (0.4,), {"ip_scale": 0.4}),
        ("/ipadapter_enable", (1,), {"ip_on": True}),
        ("/pause", (), {"pause": True}),
        ("/stop_streaming", (1,), {"pause": True}),
    ],
)
def test_what_it_says_is_done(
    component: Component, address: str, args: tuple[object, ...], values: dict[str, object]
) -> None:
    component.say(address, *args)
    eventually(lambda: component.shows(**values))


def test_pausing_ends_and_a_release_is_no_press(component: Component) -> None:
    component.say("/pause", 1)
    eventually(lambda: component.shows(pause=True))
    component.say("/play", 0)
    component.say("/seed", 5)
    eventually(lambda: component.shows(seed=5))
    assert component.shows(pause=True)
    component.say("/start_streaming", 1)
    eventually(lambda: component.shows(pause=False))


def test_timesteps_are_counted_as_the_sender_counts_them(component: Component) -> None:
    component.say("/t_list", 10)
    eventually(lambda: component.shows(strength=0.8))
    component.say("/num_inference_steps", 20)
    eventually(lambda: component.shows(strength=0.5))


def test_what_has_no_meaning_says_so(component: Component) -> None:
    meaningless = [alias for alias in ALIASES if alias.read is None]
    assert {alias.address for alias in meaningless} >= {
        "/stop",
        "/controlnets",
        "/ipadapter_config",
        "/cached_attention",
    }
    for alias in meaningless:
        address = alias.address + "blur/amount" if alias.address == "/fx/" else alias.address
        assert component.refused(address, 1) == alias.does
    assert component.metrics.get("osc.rejected") == len(meaningless)


@pytest.mark.parametrize(
    ("address", "args", "words"),
    [
        ("/t_list", (40, 20), "growing indices from 0 to 49"),
        ("/t_list", tuple(range(9)), "1 to 8 indices"),
        ("/t_list", (60,), "growing"),
        ("/t_list", (), "indices"),
        ("/t_list", (float("nan"),), "whole number"),
        ("/num_inference_steps", (0,), "1 to 1000"),
        ("/seed", (-1,), "flicker"),
        ("/seed", (1.5,), "whole number"),
        ("/seed", ("x",), "whole number"),
        ("/seed_list", ("[[1,1],[2,1],[3,1]]",), "two seeds"),
        ("/seed_list", ("[[1,0]]",), "weight above 0"),
        ("/prompt_list", ("[[",), "JSON list"),
        ("/prompt_list", ("[" * 5000,), "JSON list"),
        ("/prompt_list", (5,), "JSON list"),
        ("/guidance_scale", (99.0,), "guidance takes 0 to 20"),
        ("/sdmode", ("video",), "img2img"),
        ("/prompt", (), "one value"),
    ],
)
def test_what_is_wrong_is_answered_and_changes_nothing(
    component: Component, address: str, args: tuple[object, ...], words: str
) -> None:
    before = component.store.values()
    assert words in component.refused(address, *args)
    assert component.store.values() == before


def test_acknowledgements_are_neither_answered_nor_refused(component: Component) -> None:
    for address in ("/frame_ack", "/get_status"):
        component.say(address, 1)
    component.say("/seed", 5)
    eventually(lambda: component.shows(seed=5))
    assert component.metrics.get("osc.rejected") == 0


def test_it_hears_what_its_component_listens_for(component: Component) -> None:
    component.metrics.gauge("state", "running")
    component.metrics.count("source.fed", 7)
    for address, args in (("/server_active", (1,)), ("/stream-info/state", ("running",)), ("/framecount", (7,))):
        assert component.told(address).args == args
    assert component.told("/ll/state").args == ("running",)


def test_it_is_off_until_it_is_switched_on() -> None:
    component = Component(on=False)
    try:
        assert "no such address" in component.refused("/prompt", "a city")
        packet = parse(component.ear.recv(65_536))
        assert isinstance(packet, Bundle)
        assert all(said.address.startswith("/ll/") for said in packet.messages())
    finally:
        component.close()


def test_every_parameter_that_the_table_names_exists() -> None:
    known = {f"/ll/{spec.address}" for spec in table().values()}
    named = {
        word
        for alias in ALIASES
        for word in alias.does.replace("`", " ").replace(",", " ").split()
        if word[:4] == "/ll/"
    }
    assert named <= known


def test_the_committed_table_is_current() -> None:
    text = DOC.read_text("utf-8")
    assert markdown("/ll") in text, "write it anew: python -c 'import bridge.sdtd as s; print(s.markdown(\"/ll\"))'"
