"""OSC over real UDP, with python-osc's client and liblo's oscsend and oscdump at the other end."""

from __future__ import annotations

import logging
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message_builder import OscMessageBuilder
from pythonosc.udp_client import SimpleUDPClient
from support.ports import free_port

from bridge.clock import NS
from bridge.config import LanConfig, OscConfig
from bridge.control import Control
from bridge.errors import ConfigError, WorkerError
from bridge.grumble import ERRORS_PER_S
from bridge.metrics import Metrics
from bridge.osc import Bundle, Message, build, bundle, message, parse
from bridge.store import ParamStore
from bridge.telemetry import READINGS, SHOW
from pipelines.params import Params, table

pytestmark = pytest.mark.usefixtures("nothing_left")

liblo = pytest.mark.skipif(
    not (shutil.which("oscsend") and shutil.which("oscdump") and shutil.which("stdbuf")),
    reason="needs oscsend and oscdump: apt-get install liblo-tools",
)
DEADLINE_S = 60.0
LAST = f"/ll/{list(table().values())[-1].address}"
"""The last row of those that a new subscriber is told."""


class Rig:
    """A running Control with all that it hangs on."""

    def __init__(self, osc: OscConfig | None = None, lan: LanConfig | None = None) -> None:
        self.metrics = Metrics()
        ids = {
            "models": ("pocket", "sd-turbo"),
            "controlnets": ("none", "pocket-edge"),
            "loras": ("none", "ink"),
            "ipadapters": ("none", "ip"),
        }
        self.store = ParamStore(Params(), {kind: lambda kind=kind: ids[kind] for kind in ids})
        self.restarts = 0
        self.control = Control(
            osc or OscConfig(port=0, rate=20), lan or LanConfig(), self.store, self.metrics, {"restart": self._restart}
        )

    def _restart(self) -> None:
        self.restarts += 1
        if self.restarts > 1:
            raise WorkerError("once is enough")

    def sees(self, name: str, value: object) -> bool:
        return bool(getattr(self.store.snapshot(), name) == value)


@contextmanager
def running(osc: OscConfig | None = None, lan: LanConfig | None = None) -> Iterator[Rig]:
    rig = Rig(osc, lan)
    rig.control.start()
    try:
        yield rig
    finally:
        rig.control.stop()


@pytest.fixture
def rig() -> Iterator[Rig]:
    with running() as rig:
        yield rig


class Peer:
    """A plain UDP socket that speaks OSC."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.connect((host, port))
        self.socket.settimeout(DEADLINE_S)

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    def say(self, *packets: Message | Bundle) -> None:
        for packet in packets:
            self.socket.send(build(packet))

    def hear(self) -> Message | Bundle:
        return parse(self.socket.recv(65_536))

    def hear_message(self, address: str) -> Message:
        """The next one of this address, single or in a bundle; others are skipped."""
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            packet = self.hear()
            for said in packet.messages() if isinstance(packet, Bundle) else [packet]:
                if said.address == address:
                    return said
        raise AssertionError(f"{address} did not come")

    def hears_nothing_but(self, *addresses: str) -> bool:
        """Whether, once a ping has come back, only these were heard before."""
        self.say(message("/ll/ping", 4711))
        while True:
            packet = self.hear()
            for said in packet.messages() if isinstance(packet, Bundle) else [packet]:
                if said == message("/ll/pong", 4711):
                    return True
                if said.address not in addresses:
                    return False


Join = Callable[[Rig], Peer]


@pytest.fixture
def join() -> Iterator[Join]:
    """Makes peers of a rig, and closes them when the test ends."""
    joined: list[Peer] = []

    def make(rig: Rig) -> Peer:
        joined.append(Peer(rig.control.port, rig.control._host.replace("0.0.0.0", "127.0.0.1")))
        return joined[-1]

    yield make
    for peer in joined:
        peer.socket.close()


@pytest.fixture
def peer(rig: Rig, join: Join) -> Peer:
    return join(rig)


def eventually(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.002)
    return False


# Changing and asking


def test_python_osc_steers_every_row(rig: Rig) -> None:
    client = SimpleUDPClient("127.0.0.1", rig.control.port)
    wanted: dict[str, object] = {}
    for name, spec in table().items():
        if spec.ids:
            known = {"models": "sd-turbo", "controlnets": "pocket-edge", "loras": "ink", "ipadapters": "ip"}
            value: bool | int | float | str = known[spec.ids]
        elif spec.choices:
            value = spec.choices[-1]
        elif spec.type is bool:
            value = True
        elif spec.type is str:
            value = "ein Glasgarten 🌿"
        else:
            assert spec.high is not None
            value = spec.type(spec.high)
        client.send_message(f"/ll/{spec.address}", value)
        wanted[name] = value
    client._sock.close()
    assert eventually(lambda: rig.store.values() == wanted)
    assert rig.metrics.get("osc.messages") == len(table())
    assert rig.metrics.get("osc.rejected") == 0


def test_a_bundle_of_python_osc_arrives_in_one_snapshot(rig: Rig) -> None:
    builder = OscBundleBuilder(IMMEDIATELY)
    for name, value in (("width", 512), ("height", 320), ("strength", 0.25)):
        inner = OscMessageBuilder(f"/ll/{name}")
        inner.add_arg(value)
        builder.add_content(inner.build())
    before = rig.store.snapshot()
    client = SimpleUDPClient("127.0.0.1", rig.control.port)
    client.send(builder.build())
    client._sock.close()
    assert eventually(lambda: rig.store.snapshot() is not before)
    after = rig.store.snapshot()
    assert (after.width, after.height, after.strength) == (512, 320, 0.25)
    assert after.version == before.version + 1


def test_seconds_make_a_ramp(rig: Rig, peer: Peer) -> None:
    peer.say(message("/ll/strength", 0.0))
    assert eventually(lambda: rig.sees("strength", 0.0))
    peer.say(message("/ll/strength", 1.0, 100.0))
    assert eventually(lambda: rig.store.values()["strength"] == 1.0)
    assert rig.store.snapshot().strength < 0.5
    assert rig.store.snapshot(10**18 * 9).strength == 1.0


def test_a_question_behind_a_change_gets_the_new_value(peer: Peer) -> None:
    peer.say(message("/ll/strength", 0.25), message("/ll/strength"), message("/ll/pause"), message("/ll/prompt"))
    assert peer.hear() == message("/ll/strength", 0.25)
    assert peer.hear() == message("/ll/pause", 0)
    assert peer.hear() == message("/ll/prompt", Params().prompt)


def test_get_answers_with_everything(rig: Rig, peer: Peer) -> None:
    peer.say(message("/ll/get"))
    packet = peer.hear()
    assert isinstance(packet, Bundle)
    assert [said.address for said in packet.elements if isinstance(said, Message)] == [
        f"/ll/{spec.address}" for spec in table().values()
    ]
    # What was answered can be sent back as it is.
    before = rig.store.snapshot()
    peer.say(packet, message("/ll/ping"))
    peer.hear_message("/ll/pong")
    assert rig.store.snapshot() == before
    assert rig.metrics.get("osc.rejected") == 0


def test_errors_go_back_in_measure_and_are_counted(rig: Rig, peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "livelatent.osc")
    peer.say(message("/ll/strenght", 1.0))
    assert peer.hear() == message("/ll/error", "/ll/strenght", "no such address; did you mean /ll/strength?")
    for _ in range(300):
        peer.say(message("/ll/strength", 7.0))
    peer.say(message("/ll/ping", 1))
    answers = 0
    while (said := peer.hear()) != message("/ll/pong", 1):
        assert said == message("/ll/error", "/ll/strength", "strength takes 0 to 1, not 7")
        answers += 1
    assert answers <= 3 * ERRORS_PER_S
    assert rig.metrics.get("osc.rejected") == rig.metrics.get("osc.rejected.value") + 1 == 301
    assert rig.sees("strength", Params().strength)
    assert 1 <= len(caplog.records) <= 5


def test_bytes_that_are_not_osc_are_counted_and_not_answered(rig: Rig, peer: Peer) -> None:
    for junk in (b"", b"x", b"#bundle\0" + bytes(8) + b"\xff\xff\xff\xfc", bytes(60_000), b"/ll/strength\0\0\0\0"):
        peer.socket.send(junk)
    assert peer.hears_nothing_but()
    assert rig.metrics.get("osc.rejected.packet") == 5


def test_a_bundle_dated_tomorrow_acts_now_and_holds_nothing_up(rig: Rig, peer: Peer) -> None:
    tomorrow = int(time.time() + 2_208_988_800 + 86_400) << 32
    peer.say(bundle(message("/ll/steps", 4), timetag=tomorrow), message("/ll/seed", 99))
    assert eventually(lambda: rig.sees("seed", 99))
    assert rig.sees("steps", 4)


def test_a_command_is_called_and_may_refuse(rig: Rig, peer: Peer) -> None:
    peer.say(message("/ll/restart", 1.0), message("/ll/restart", 0.0), message("/ll/ping"))
    peer.hear_message("/ll/pong")
    assert rig.restarts == 1
    peer.say(message("/ll/restart"), message("/ll/ping"))
    peer.hear_message("/ll/pong")
    assert rig.restarts == 2


# Telling


def test_a_subscriber_gets_everything_then_changes_and_telemetry(rig: Rig, peer: Peer) -> None:
    rig.metrics.gauge("state", "running")
    peer.say(message("/ll/subscribe", 0, 30))
    assert peer.hear() == message("/ll/subscribed", peer.port, 30.0)
    assert peer.hear_message("/ll/prompt").args == (Params().prompt,)
    assert peer.hear_message("/ll/state").args == ("running",)
    rig.store.set("seed", 1234)
    assert peer.hear_message("/ll/seed").args == (1234,)
    for rows in (READINGS, SHOW):
        while not isinstance(packet := peer.hear(), Bundle):
            pass
        assert {m.address for m in packet.messages()} == {f"/ll{row.address}" for row in rows}
    peer.say(message("/ll/unsubscribe"))
    peer.say(message("/ll/ping", 1))
    peer.hear_message("/ll/pong")
    rig.store.set("seed", 4321)
    assert peer.hears_nothing_but()


def test_two_surfaces_see_each_others_moves_and_not_their_own(rig: Rig, join: Join) -> None:
    one, other = join(rig), join(rig)
    for surface in (one, other):
        surface.say(message("/ll/subscribe"))
        surface.hear_message(LAST)  # the last of what a new subscriber is told
    one.say(message("/ll/strength", 0.125))
    assert other.hear_message("/ll/strength").args == (0.125,)
    assert one.hears_nothing_but(*[f"/ll{row.address}" for row in (*READINGS, *SHOW)])
    other.say(message("/ll/strength", 0.25))
    assert one.hear_message("/ll/strength").args == (0.25,)


def test_a_subscription_ends_by_itself(rig: Rig, peer: Peer) -> None:
    peer.say(message("/ll/subscribe", 0, 0.2))
    peer.hear_message("/ll/subscribed")
    assert eventually(lambda: len(rig.control._peers) == 0)


def test_peers_of_the_config_are_told_without_asking(nothing_left: None) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.bind(("127.0.0.1", 0))
        ear.settimeout(DEADLINE_S)
        with running(OscConfig(port=0, rate=20, reply=(f"127.0.0.1:{ear.getsockname()[1]}",))) as rig:
            packet = parse(ear.recv(65_536))
            assert isinstance(packet, Bundle)
            assert packet.messages()[0].address == "/ll/fps"
            rig.store.set("steps", 5)
            end = time.monotonic() + DEADLINE_S
            while time.monotonic() < end and parse(ear.recv(65_536)) != message("/ll/steps", 5):
                pass
            assert time.monotonic() < end


def test_a_peer_that_has_gone_silences_nobody(rig: Rig, join: Join) -> None:
    for number in range(50):
        gone = join(rig)
        gone.say(message("/ll/subscribe", 0, 1), message("/ll/nowhere"), message("/ll/ping"))
        gone.socket.close()
        rig.store.set("seed", number + 10)
    peer = join(rig)
    peer.say(message("/ll/steps", 6), message("/ll/ping", 1))
    peer.hear_message("/ll/pong")
    assert rig.sees("steps", 6)


# Who may send


def test_a_stranger_is_counted_and_never_answered(join: Join) -> None:
    with running() as rig:
        rig.control._allow.allows = lambda host: False  # type: ignore[assignment, misc]  # no second machine here
        peer = join(rig)
        peer.say(message("/ll/strength", 0.1), message("/ll/ping"))
        assert eventually(lambda: rig.metrics.get("osc.rejected.source") == 2)
        peer.socket.settimeout(0.1)
        with pytest.raises(TimeoutError):
            peer.hear()
        assert rig.sees("strength", Params().strength)


def test_nothing_binds_or_sends_beyond_this_machine_without_lan(join: Join) -> None:
    for osc in (OscConfig(host="0.0.0.0", port=0), OscConfig(port=0, reply=("192.0.2.1:9000",))):
        with pytest.raises(ConfigError, match="--lan"):
            Rig(osc)
    with running(OscConfig(host="0.0.0.0", port=0), LanConfig(enabled=True, allow=("192.0.2.0/24",))) as rig:
        peer = join(rig)
        peer.say(message("/ll/ping"))
        assert peer.hear() == message("/ll/pong")


def test_ipv6(join: Join) -> None:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    with running(OscConfig(host="::1", port=0)) as rig:
        peer = join(rig)
        peer.say(message("/ll/subscribe"))
        assert peer.hear() == message("/ll/subscribed", peer.port, 60.0)


def test_a_taken_port_is_a_sentence(rig: Rig) -> None:
    with pytest.raises(ConfigError, match=rf"UDP port {rig.control.port} is taken"):
        Rig(OscConfig(port=rig.control.port)).control.start()


def test_a_change_is_told_at_once_and_stop_waits_for_nothing(monkeypatch: pytest.MonkeyPatch, join: Join) -> None:
    monkeypatch.setattr("bridge.control.MAX_WAIT_NS", 600 * NS)
    with running(OscConfig(port=0, rate=0.001)) as rig:
        peer = join(rig)
        peer.say(message("/ll/subscribe", 0, 3600))
        peer.hear_message(LAST)
        time.sleep(0.05)  # let the thread go to sleep
        rig.store.set("seed", 31)
        assert peer.hear_message("/ll/seed").args == (31,)
    rig.store.set("seed", 32)
    assert not rig.control._news


def test_stop_frees_everything_and_may_come_twice() -> None:
    rig = Rig()
    for _ in range(3):
        rig.control.start()
        port = rig.control.port
        rig.control.stop()
        rig.control.stop()
        assert not [t for t in threading.enumerate() if t.name == "ll-osc"]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", port))


def test_the_thread_survives_what_nobody_thought_of(rig: Rig, peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    take, broken = rig.control._dispatch.take, threading.Event()

    def break_once(*args: object) -> None:
        if not broken.is_set():
            broken.set()
            raise RuntimeError("a bug")
        take(*args)  # type: ignore[arg-type]

    rig.control._dispatch.take = break_once  # type: ignore[assignment, method-assign]
    peer.say(message("/ll/ping"))
    assert broken.wait(DEADLINE_S)
    peer.say(message("/ll/steps", 7))
    assert eventually(lambda: rig.sees("steps", 7))
    assert rig.metrics.get("osc.errors") == 1
    assert "stumbled" in caplog.text


# liblo


def oscsend(port: int, *words: str) -> None:
    subprocess.run(["oscsend", "127.0.0.1", str(port), *words], check=True, timeout=DEADLINE_S)


@liblo
def test_oscsend_steers(rig: Rig) -> None:
    oscsend(rig.control.port, "/ll/prompt", "sf", "a city of glass", "3")
    oscsend(rig.control.port, "/ll/strength", "d", "0.7")
    oscsend(rig.control.port, "/ll/seed", "h", "12345")
    oscsend(rig.control.port, "/ll/pause", "T")
    oscsend(rig.control.port, "/ll/sampler", "s", "tcd")
    assert eventually(lambda: rig.sees("sampler", "tcd"))
    params = rig.store.snapshot()
    assert (params.prompt, params.prompt_fade, params.strength) == ("a city of glass", 3.0, 0.7)
    assert (params.seed, params.pause) == (12345, True)
    assert rig.metrics.get("osc.rejected") == 0


@liblo
def test_types_of_oscsend_without_a_meaning_here_are_read_rightly(rig: Rig) -> None:
    oscsend(rig.control.port, "/ll/strength", "cSmINi", "x", "sym", "90401f00", "5")
    oscsend(rig.control.port, "/ll/steps", "i", "3")
    assert eventually(lambda: rig.sees("steps", 3))
    assert rig.metrics.get("osc.rejected.value") == 1
    assert rig.metrics.get("osc.rejected.packet") == 0


@liblo
def test_oscdump_reads_telemetry_changes_and_errors(rig: Rig, peer: Peer) -> None:
    port = free_port()
    dump = subprocess.Popen(["stdbuf", "-oL", "oscdump", str(port)], stdout=subprocess.PIPE, text=True)
    assert dump.stdout is not None
    wanted = {
        "/ll/subscribed if": False,
        '/ll/prompt s "': False,
        "/ll/fps f ": False,
        '/ll/state s "running"': False,
        "/ll/param/version i 17": False,
        "/ll/seed i 77": False,
    }
    rig.metrics.gauge("state", "running")
    rig.metrics.gauge("params.version", 17.0)
    stop = threading.Event()

    def knock() -> None:
        # oscdump says nothing before it listens: subscribe until it does.
        while not stop.wait(0.05):
            peer.say(message("/ll/unsubscribe", port), message("/ll/subscribe", port, 30))
            rig.store.set("seed", 76)
            rig.store.set("seed", 77)

    knocking = threading.Thread(target=knock)
    knocking.start()
    guard = threading.Timer(DEADLINE_S, dump.kill)
    guard.start()
    try:
        for line in dump.stdout:
            for part in wanted:
                wanted[part] |= part in line
            if all(wanted.values()):
                break
    finally:
        stop.set()
        knocking.join()
        guard.cancel()
        dump.kill()
        dump.wait()
        dump.stdout.close()
    assert all(wanted.values()), wanted
